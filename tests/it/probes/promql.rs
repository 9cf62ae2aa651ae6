//! Queries to a real Prometheus.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::model::{CauseKind, Health};
use failoverd::ports::Probe;
use failoverd::probes::attempt;
use serde_json::{Value, json};

use super::{LONG, SHORT, assert_saw, look, probe};
use crate::actions::{CANARY, secret};
use crate::fleet::eventually;
use crate::fleet::http_app::{Answer, LocalApp};
use crate::fleet::prometheus::Prometheus;
use crate::fleet::proxy::{Mode, Proxy};

fn metrics(text: &str) -> Option<Answer> {
    Some(Answer { status: 200, body: text.to_owned(), delay: Duration::ZERO })
}

fn asks(url: &str, more: Value) -> Arc<dyn Probe> {
    let mut config = json!({ "url": url });
    config.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
    probe(json!({ "promql": config }))
}

#[tokio::test]
async fn a_figure_is_held_against_its_threshold() -> Result<()> {
    let app = LocalApp::start("us-east-1").await?;
    let large: String = (0..1500).map(|n| format!("large{{name=\"a-rather-long-name-{n}\"}} 1\n")).collect();
    app.set_path("/metrics", metrics(&format!("figure 3\nseries{{n=\"a\"}} 1\nseries{{n=\"b\"}} 9\n{large}")));
    let prometheus = Prometheus::start(&format!("127.0.0.1:{}", app.port()), None).await?;
    prometheus.wait_for(LONG, "figure", |figure| figure == 3.0).await?;
    // A path of its own with a slash too many is what people write.
    let url = format!("{}/", prometheus.url());
    for (config, expected) in [
        (json!({ "query": "figure", "above": 3 }), (Health::Up, None)),
        (json!({ "query": "figure", "above": 2 }), (Health::Down, Some(CauseKind::ThresholdCrossed))),
        (json!({ "query": "figure", "below": 4 }), (Health::Down, Some(CauseKind::ThresholdCrossed))),
        (json!({ "query": "figure", "equals": 3 }), (Health::Down, Some(CauseKind::ThresholdCrossed))),
        (json!({ "query": "scalar(figure)", "above": 2 }), (Health::Down, Some(CauseKind::ThresholdCrossed))),
        (json!({ "query": "figure / 0", "above": 2 }), (Health::Down, Some(CauseKind::ThresholdCrossed))),
        (json!({ "query": "series", "above": 5 }), (Health::Down, Some(CauseKind::ThresholdCrossed))),
        (json!({ "query": "series", "above": 5, "series": "every" }), (Health::Up, None)),
        (
            json!({ "query": "series", "above": 0, "series": "every" }),
            (Health::Down, Some(CauseKind::ThresholdCrossed)),
        ),
        (json!({ "query": "nothing", "above": 5 }), (Health::Unknown, Some(CauseKind::NoData))),
        (json!({ "query": "0 * figure / 0", "above": 5 }), (Health::Unknown, Some(CauseKind::NoData))),
        (json!({ "query": "figure +", "above": 5 }), (Health::Unknown, Some(CauseKind::QueryFailed))),
        (json!({ "query": "figure[1m]", "above": 5 }), (Health::Unknown, Some(CauseKind::QueryFailed))),
        (json!({ "query": "large", "above": 5 }), (Health::Unknown, Some(CauseKind::QueryFailed))),
        (json!({ "query": "max(large)", "above": 5 }), (Health::Up, None)),
    ] {
        let seen = look(&asks(&url, config.clone())).await;
        assert_eq!((seen.health(), seen.cause().map(|cause| cause.kind)), expected, "{config}: {seen:?}");
    }
    let seen = look(&asks(&url, json!({ "query": "series", "above": 5 }))).await;
    let detail = &seen.cause().expect("a cause").detail;
    assert!(detail.contains("n=\"b\"") && detail.contains("9, above 5"), "{detail}");
    Ok(())
}

#[tokio::test]
async fn targets_of_a_job_are_counted() -> Result<()> {
    let app = LocalApp::start("us-east-1").await?;
    app.set_path("/metrics", metrics("figure 3\n"));
    let prometheus = Prometheus::start(&format!("127.0.0.1:{}", app.port()), None).await?;
    prometheus.wait_for(LONG, "up", |up| up == 1.0).await?;
    let url = prometheus.url();
    let of = |more: Value| {
        let mut targets = json!({ "job": "failoverd" });
        targets.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        asks(&url, json!({ "targets_up": targets }))
    };
    let (count, share) = (of(json!({ "at_least": 1 })), of(json!({ "share": 0.9 })));
    for probe in [&count, &share] {
        assert_eq!(look(probe).await.health(), Health::Up);
    }
    assert_saw(&look(&of(json!({ "at_least": 2 }))).await, Health::Down, CauseKind::ThresholdCrossed);
    let stranger = of(json!({ "job": "stranger\"}", "at_least": 1 }));
    assert_saw(&look(&stranger).await, Health::Unknown, CauseKind::NoData);
    app.set_path("/metrics", Some(Answer::status(500)));
    prometheus.wait_for(LONG, "up", |up| up == 0.0).await?;
    for probe in [&count, &share] {
        let seen = look(probe).await;
        assert_saw(&seen, Health::Down, CauseKind::ThresholdCrossed);
        assert!(seen.cause().expect("a cause").detail.contains("0 of 1 targets"), "{seen:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_prometheus_that_does_not_answer_says_nothing_of_the_target() -> Result<()> {
    let app = LocalApp::start("us-east-1").await?;
    let prometheus = Prometheus::start(&format!("127.0.0.1:{}", app.port()), None).await?;
    let port = prometheus.url().rsplit(':').next().unwrap_or_default().parse()?;
    let proxy = Proxy::to_port(port).await?;
    let probe = asks(&format!("http://127.0.0.1:{}", proxy.port()), json!({ "query": "vector(1)", "above": 5 }));
    eventually(LONG, "an answer", async || {
        let seen = look(&probe).await;
        ensure!(seen.health() == Health::Up, "{seen:?}");
        Ok(())
    })
    .await?;
    proxy.set(Mode::Blackhole).await?;
    assert_saw(&attempt(&*probe, SHORT).await, Health::Unknown, CauseKind::ControlPlane);
    proxy.set(Mode::Refuse).await?;
    assert_saw(&look(&probe).await, Health::Unknown, CauseKind::ControlPlane);
    Ok(())
}

/// What stands before Prometheus is played by an application: it lets nobody in.
#[tokio::test]
async fn a_refusal_of_our_token_is_ours_and_not_told() -> Result<()> {
    let app = LocalApp::start("us-east-1").await?;
    app.set(Some(Answer::status(403)));
    let (_file, token) = secret(&format!("Bearer {CANARY}"))?;
    let config = json!({ "query": "up", "above": 5, "headers": { "authorization": token } });
    let seen = look(&asks(&app.at("/tenant"), config)).await;
    assert_saw(&seen, Health::Unknown, CauseKind::LocalPermission);
    assert!(!format!("{seen:?}").contains(CANARY), "{seen:?}");
    let asked = app.seen().pop().expect("it was asked");
    assert_eq!(asked.path, "/tenant/api/v1/query");
    assert_eq!(asked.headers["authorization"].to_str()?, format!("Bearer {CANARY}"));
    Ok(())
}
