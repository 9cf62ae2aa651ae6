//! Plans looked at without doing them, on real counterparts: what is missing, wrong, forbidden, stale or
//! in the wrong region is found, and nothing is changed by the looks.

mod aws;
mod databases;
mod kubernetes;
mod targets;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use failoverd::clients::Clients;
use failoverd::config::{LoadOptions, load};
use failoverd::model::{Aspect, Finding, PlanReadiness, WallTime};
use failoverd::readiness::{Evaluator, Presented, Subject};

use crate::actions::assert_no_secret;

/// Around the steps of a plan: the least that a configuration needs.
const FRAME: &str = r#"
[daemon]
name = "shop"
mode = "alert-only"
failure_domain = "us-west-2"
[probes.api]
http = { url = "http://127.0.0.1:9" }
[scenarios.outage]
severity = "P0"
when = "api is down"
confirm_for = "30s"
rto = "4h"
plan = "failover"
[notify.chat]
webhook = { url = "http://127.0.0.1:9" }
[plans.failover.steps]
"#;

/// Looks at a plan of these steps; `more` are further tables.
async fn look(steps: &str, more: &str, clients: &Arc<Clients>) -> Result<PlanReadiness> {
    look_again(steps, more, clients, None).await
}

/// The same, where it was ready before.
async fn look_again(
    steps: &str,
    more: &str,
    clients: &Arc<Clients>,
    good: Option<&PlanReadiness>,
) -> Result<PlanReadiness> {
    let file = tempfile::Builder::new().suffix(".toml").tempfile()?;
    std::fs::write(file.path(), format!("{FRAME}{steps}\n{more}"))?;
    let loaded = load(&LoadOptions::file_only(file.path())).map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let subject = Subject::of(&loaded);
    let plan = subject.plans.first().context("a plan")?;
    let evaluator = Evaluator::new(Arc::clone(clients), Presented::default());
    let found = evaluator.evaluate(&subject, plan, WallTime(0), None, &BTreeMap::new(), good).await;
    assert_no_secret(&format!("{found:?}"));
    Ok(found)
}

/// The finding of an aspect whose subject contains `of`.
fn finding<'p>(plan: &'p PlanReadiness, aspect: Aspect, of: &str) -> Result<&'p Finding> {
    let mut all = plan.findings().map(|(_, finding)| finding);
    let found = all.find(|finding| finding.aspect == aspect && finding.subject.contains(of));
    found.with_context(|| format!("nothing was found of {of} ({aspect}): {plan:#?}"))
}

/// It is so, and where it is not ready, for this reason.
fn is(plan: &PlanReadiness, aspect: Aspect, of: &str, verdict: &str, why: &str) -> Result<()> {
    let found = finding(plan, aspect, of)?;
    ensure!(found.verdict.name() == verdict && found.verdict.reason().contains(why), "{found:?}");
    Ok(())
}
