//! `failoverd readiness`: could each plan be carried out now?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::args::{Global, Readiness as Args};
use super::check::{load_options, load_or_tell};
use super::context::{Context, now};
use super::exit::{Exit, Failure, print, print_json};
use super::render::Style;
use super::render::readiness::render_readiness;
use super::show::unknown;
use crate::clients::Clients;
use crate::core::view::ReadinessView;
use crate::model::{PlanReadiness, Readiness};
use crate::readiness::{Evaluator, Kept, Presented, Subject, kept_path};

/// How often the daemon is asked whether it has looked.
const AGAIN: Duration = Duration::from_millis(200);

/// `failoverd readiness [PLAN]`.
///
/// # Errors
/// [`Failure`]; exit code 5 where a plan is not ready, 6 where one could not be looked at whole.
pub async fn readiness(global: &Global, args: &Args) -> Result<(), Failure> {
    let view = if args.local {
        local(global, args).await?
    } else {
        let context = Context::new(global)?;
        if args.now { looked_at_now(&context, args.within.get()).await? } else { context.client.readiness().await? }
    };
    let known = view.plans.iter().map(|plan| plan.plan.as_str());
    let plans: Vec<&PlanReadiness> = match &args.plan {
        None => view.plans.iter().collect(),
        Some(_) if view.rounds == 0 => Vec::new(),
        Some(name) => {
            let found = view.plans.iter().find(|plan| plan.plan.as_str() == name);
            vec![found.ok_or_else(|| unknown("plan", name, known))?]
        }
    };
    if global.json {
        print_json(&plans)?;
    } else if view.rounds == 0 {
        print("nothing was looked at yet; `failoverd readiness --now` has it done\n")?;
    } else {
        print(&render_readiness(&plans, now(), &Style::detect()))?;
    }
    let any = |wanted: &str| plans.iter().any(|plan| plan.verdict.name() == wanted);
    if any("not_ready") {
        Err(Failure::said(Exit::NotReady))
    } else if any("unknown") || view.rounds == 0 {
        Err(Failure::said(Exit::Unknown))
    } else {
        Ok(())
    }
}

/// Has the daemon look, and waits for what it finds.
async fn looked_at_now(context: &Context, within: Duration) -> Result<ReadinessView, Failure> {
    let until = Instant::now() + within;
    let round = context.client.look_at_readiness().await?.round;
    loop {
        let view = context.client.readiness().await?;
        if view.rounds >= round {
            return Ok(view);
        }
        if Instant::now() >= until {
            let why = "the daemon has not looked at everything in time; it looks at nothing while a run is active \
                       (`failoverd status`), and --within gives it more time";
            return Err(Failure::new(Exit::Unknown, "timeout", why));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Looks by itself, with the rights of whoever calls; what only the daemon's probes know is left out.
async fn local(global: &Global, args: &Args) -> Result<ReadinessView, Failure> {
    let loaded = load_or_tell(global, &load_options(global, true))?;
    let subject = Subject::of(&loaded);
    let evaluator = Evaluator::new(Arc::new(Clients::new(&loaded.file.limits)), Presented::default());
    let state = loaded.file.daemon.state.strip_prefix("sqlite:").map(|path| kept_path(path.as_ref()));
    // Whoever may not read it sees no diff.
    let kept = state.and_then(|path| Kept::read(&path).ok()).unwrap_or_default();
    let mut view = ReadinessView { rounds: 1, ..ReadinessView::default() };
    for plan in &subject.plans {
        if args.plan.as_ref().is_none_or(|name| plan.name.as_str() == name) {
            let good = kept.good.get(&plan.name);
            view.plans.push(evaluator.evaluate(&subject, plan, now(), None, &BTreeMap::new(), good).await);
        }
    }
    if let (Some(name), true) = (&args.plan, view.plans.is_empty()) {
        return Err(unknown("plan", name, subject.plans.iter().map(|plan| plan.name.as_str())));
    }
    Ok(view)
}

/// What a verdict is called, for people.
pub(super) fn word(verdict: &Readiness) -> &'static str {
    match verdict {
        Readiness::Ready => "ready",
        Readiness::NotReady { .. } => "NOT READY",
        Readiness::Unknown { .. } => "unknown",
    }
}
