//! The stand-in's bad days: what a client sees, and whether the change was made all the same.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{Api, Patch, PatchParams};
use kube::core::Status;
use serde_json::json;
use tokio::time::timeout;

use crate::fleet::kube::{BACKUP_CONTEXT, Kube};
use crate::fleet::kube_standin::Fault;

const PATIENCE: Duration = Duration::from_millis(300);

struct Bench {
    kube: Kube,
    api: Api<Deployment>,
}

impl Bench {
    async fn new() -> Result<Self> {
        let kube = Kube::stand_in().await?;
        kube.create_deployment("shop", "api", 1).await?;
        kube.wait_ready("shop", "api", 1, Duration::from_secs(5)).await?;
        let api = Api::namespaced(kube.client(BACKUP_CONTEXT).await?, "shop");
        Ok(Self { kube, api })
    }

    /// Lets the next scaling fail, and tells what its client saw (`None`: no answer) and what is asked for then.
    async fn scale_under(&self, fault: Fault, replicas: i32) -> Result<(Option<kube::Result<()>>, i32)> {
        let Kube::StandIn(stand_in) = &self.kube else { bail!("not the stand-in") };
        stand_in.inject(fault.on("patch", "/scale").times(1));
        let patch = Patch::Merge(json!({ "spec": { "replicas": replicas } }));
        let params = PatchParams::default();
        let seen = timeout(PATIENCE, self.api.patch_scale("api", &params, &patch)).await.ok();
        Ok((seen.map(|result| result.map(drop)), self.kube.replicas("shop", "api").await?))
    }
}

fn status(seen: Option<kube::Result<()>>) -> Result<Status> {
    match seen.context("no answer")? {
        Err(kube::Error::Api(status)) => Ok(*status),
        other => bail!("expected a status, got {other:?}"),
    }
}

#[tokio::test]
async fn faults_before_a_change_leave_it_undone() -> Result<()> {
    let bench = Bench::new().await?;
    let (seen, replicas) = bench.scale_under(Fault::Error(503), 2).await?;
    ensure!((status(seen)?.reason.as_str(), replicas) == ("ServiceUnavailable", 1));
    let (seen, replicas) = bench.scale_under(Fault::Throttled { retry_after: 7 }, 2).await?;
    let throttled = status(seen)?;
    ensure!((throttled.code, replicas) == (429, 1));
    ensure!(throttled.details.context("no details")?.retry_after_seconds == 7);
    let (seen, replicas) = bench.scale_under(Fault::Html(502), 2).await?;
    ensure!((status(seen)?.code, replicas) == (502, 1));
    let (seen, replicas) = bench.scale_under(Fault::Hang, 2).await?;
    ensure!(seen.is_none() && replicas == 1);
    Ok(())
}

#[tokio::test]
async fn faults_after_a_change_leave_it_done() -> Result<()> {
    let bench = Bench::new().await?;
    let (seen, replicas) = bench.scale_under(Fault::HangAfterwards, 2).await?;
    ensure!(seen.is_none() && replicas == 2);
    let (seen, replicas) = bench.scale_under(Fault::ErrorAfterwards(504), 3).await?;
    ensure!((status(seen)?.code, replicas) == (504, 3));
    let (seen, replicas) = bench.scale_under(Fault::Slow(PATIENCE / 3), 4).await?;
    ensure!(seen.is_some_and(|result| result.is_ok()) && replicas == 4);
    Ok(())
}

#[tokio::test]
async fn faults_end_and_requests_are_remembered() -> Result<()> {
    let bench = Bench::new().await?;
    let Kube::StandIn(stand_in) = &bench.kube else { bail!("not the stand-in") };
    stand_in.inject(Fault::Error(500).on("", ""));
    ensure!(bench.kube.replicas("shop", "api").await.is_err());
    // The header too, for clients that do not read the body.
    stand_in.clear_faults();
    stand_in.inject(Fault::Throttled { retry_after: 3 }.on("get", "/version").times(1));
    let url = format!("{}/version", stand_in.url());
    let throttled = reqwest::get(&url).await?;
    ensure!(throttled.status() == 429 && throttled.headers()["retry-after"] == "3");
    ensure!(reqwest::get(&url).await?.status() == 200, "a fault that was to happen once happened twice");
    let patch = Patch::Merge(json!({ "spec": { "replicas": 2 } }));
    bench.api.patch_scale("api", &PatchParams::default(), &patch).await?;
    let seen = stand_in.seen();
    let last = seen.last().context("nothing seen")?;
    ensure!((last.verb, last.path.as_str()) == ("patch", "/apis/apps/v1/namespaces/shop/deployments/api/scale"));
    ensure!(last.body == json!({ "spec": { "replicas": 2 } }));
    Ok(())
}
