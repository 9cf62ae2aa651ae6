//! `kubernetes.create_job` and `delete_pods`.

use anyhow::{Result, ensure};
use failoverd::model::Observed;
use serde_json::json;

use super::super::{SOON, accepted, before, done, impossible, refused};
use super::{
    becomes, cut_off_after, deployed, failed, in_progress, kubectl, kubectl_with, not_yet, outputs, reader, shows,
    subject,
};
use crate::fleet::kube::Kube;

const JOB: &str = "kubernetes.create_job";
const DELETE: &str = "kubernetes.delete_pods";

#[tokio::test]
async fn against_the_real_api_server() -> Result<()> {
    let kube = Kube::real().await?;
    runs_a_job_once(&kube).await?;
    deletes_those_that_stood(&kube).await
}

/// Plays the container of the Job's pod.
async fn ends_as(kube: &Kube, job: &str, phase: &str) -> Result<()> {
    let deadline = std::time::Instant::now() + SOON;
    loop {
        let pod = shows(kube, &format!("-n jobs get pods -l job-name={job}"), ".items[*].metadata.name").await?;
        if !pod.is_empty() {
            kubectl(kube, &format!("-n jobs wait pod/{pod} --for=condition=Ready --timeout=30s")).await?;
            return becomes(kube, "jobs", &pod, json!({ "phase": phase })).await;
        }
        ensure!(std::time::Instant::now() < deadline, "the Job {job} made no pod");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn runs_a_job_once(kube: &Kube) -> Result<()> {
    kubectl(kube, "create namespace jobs").await?;
    // 1.20 serves CronJobs as a beta only; the step finds that out by itself.
    let cron_job = json!({
        "apiVersion": "batch/v1beta1", "kind": "CronJob",
        "metadata": { "name": "data-replay", "namespace": "jobs" },
        "spec": { "schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {
            "metadata": { "labels": { "of": "replay" } },
            "spec": { "backoffLimit": 0, "ttlSecondsAfterFinished": 1, "template": { "spec": {
                "restartPolicy": "Never", "containers": [{ "name": "main", "image": "registry.invalid/x:1" }],
            } } },
        } },
    });
    kubectl_with(kube, "create -f -", &cron_job.to_string()).await?;
    let params = json!({ "cron_job": "jobs/data-replay" });
    let run = subject(kube, JOB, "replay", params.clone());
    before(run.observe().await)?;
    not_yet(run.verify_once().await)?;
    accepted(run.apply().await)?;
    in_progress(run.observe().await)?;
    // After a crash it is seen, and not made again.
    accepted(subject(kube, JOB, "replay", params.clone()).apply().await)?;
    let names = || shows(kube, "-n jobs get jobs -l of=replay", ".items[*].metadata.name");
    let name = names().await?;
    ensure!(name.starts_with("data-replay-") && !name.contains(' '), "{name}");
    ends_as(kube, &name, "Succeeded").await?;
    run.verify().await?;
    assert_eq!(outputs(run.verify_once().await)?.get("job"), Some(&name));
    done(run.observe().await)?;
    let kept = shows(kube, &format!("-n jobs get job {name}"), ".spec.ttlSecondsAfterFinished").await?;
    assert_eq!(kept, "", "a Job that deletes itself would be made again");

    // Another step makes another one, and it fails.
    let fails = subject(kube, JOB, "fails", params.clone());
    accepted(fails.apply().await)?;
    let both = names().await?;
    let second = both.split(' ').find(|found| *found != name).unwrap_or_default().to_owned();
    ends_as(kube, &second, "Failed").await?;
    let reason = fails.verify().await.expect_err("it has failed").to_string();
    ensure!(reason.contains("BackoffLimitExceeded"), "{reason}");
    failed(fails.verify_once().await)?;
    ensure!(impossible(fails.observe().await)?.contains(&second));

    let mut other = subject(kube, JOB, "replay", params.clone());
    other.context.run = Some("RUN-20991231-001".into());
    before(other.observe().await)?;
    impossible(subject(kube, JOB, "x", json!({ "cron_job": "jobs/none" })).observe().await)?;
    refused(subject(kube, JOB, "x", json!({ "cron_job": "jobs/none" })).apply().await, false)?;
    ensure!(impossible(reader(kube, JOB, params).observe().await)?.contains("`get` on jobs.batch is needed"));
    Ok(())
}

async fn deletes_those_that_stood(kube: &Kube) -> Result<()> {
    deployed(kube, "pods", "api", 3).await?;
    deployed(kube, "pods", "other", 1).await?;
    let uids = || async {
        let text = shows(kube, "-n pods get pods -l app=api", ".items[*].metadata.uid").await?;
        anyhow::Ok(text.split(' ').map(str::to_owned).collect::<std::collections::BTreeSet<_>>())
    };
    let old = uids().await?;
    let params = json!({ "namespace": "pods", "selector": "app=api" });
    let mut delete = subject(kube, DELETE, "step", params.clone());
    let Observed::NotDone { evidence, .. } = delete.observe().await else { panic!("they stand") };
    ensure!(evidence.contains("3 of 3"), "{evidence}");
    // The list and one deletion, and then it is cut off; the replacement comes meanwhile.
    cut_off_after(&mut delete, 2).await?;
    kubectl(kube, "-n pods rollout status deployment/api --timeout=30s").await?;
    let Observed::NotDone { evidence, .. } = delete.observe().await else { panic!("two stand") };
    ensure!(evidence.contains("2 of 3"), "{evidence}");
    let replaced: Vec<String> = uids().await?.difference(&old).cloned().collect();
    assert_eq!(replaced.len(), 1);

    let delete = subject(kube, DELETE, "step", params.clone());
    delete.run().await?;
    assert_eq!(delete.permits.asked(), 2, "not the list again, and not what was replaced");
    done(delete.observe().await)?;
    let now = uids().await?;
    ensure!(now.is_disjoint(&old) && now.contains(&replaced[0]), "{now:?}");
    // Again: those that stand now were never meant.
    accepted(delete.apply().await)?;
    assert_eq!(delete.permits.asked(), 2);
    let others = shows(kube, "-n pods get pods -l app=other", ".items[*].metadata.name").await?;
    ensure!(!others.is_empty() && !others.contains(' '));

    let none = json!({ "namespace": "pods", "selector": "app=none" });
    ensure!(impossible(subject(kube, DELETE, "step2", none.clone()).observe().await)?.contains("no pod"));
    refused(subject(kube, DELETE, "step2", none).apply().await, false)?;
    ensure!(impossible(reader(kube, DELETE, params).observe().await)?.contains("`get` on configmaps is needed"));
    Ok(())
}
