//! Carries out one phase of a step, under its deadline, and says what came of it.
//!
//! Nothing is decided here: every way in which a call can end becomes an outcome, and what follows
//! from it is the brain's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::actions;
use crate::clients::Clients;
use crate::model::{Applied, CallId, CallOutcome, Observed, Phase, StepCall, Verified};
use crate::ports::{Action, ActionContext, Authority};
use crate::state::crash;

/// Between two looks at what is under way.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// A finished call.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) call: CallId,
    pub(super) outcome: CallOutcome,
}

/// Carries out calls, each as a task of its own.
pub(super) struct Executor {
    clients: Arc<Clients>,
    authority: Arc<dyn Authority>,
    finished: mpsc::UnboundedSender<Finished>,
    running: HashMap<CallId, Running>,
}

struct Running {
    phase: Phase,
    abort: AbortHandle,
}

impl Executor {
    /// The channel is unbounded, but holds at most one outcome for each call that the brain made.
    pub(super) fn new(
        clients: Arc<Clients>,
        authority: Arc<dyn Authority>,
    ) -> (Self, mpsc::UnboundedReceiver<Finished>) {
        let (finished, receiver) = mpsc::unbounded_channel();
        (Self { clients, authority, finished, running: HashMap::new() }, receiver)
    }

    /// Begins a call.
    pub(super) fn begin(&mut self, call: StepCall) {
        let (id, phase) = (call.call, call.phase);
        let (clients, authority) = (Arc::clone(&self.clients), Arc::clone(&self.authority));
        tracing::debug!(run = %call.run, step = %call.step, ?phase, attempt = call.attempt, "call");
        let work = tokio::spawn(carry_out(call, clients, authority));
        let abort = work.abort_handle();
        self.running.insert(id, Running { phase, abort });
        let finished = self.finished.clone();
        tokio::spawn(async move {
            let outcome = match work.await {
                Ok(outcome) => outcome,
                // Cancelled by the brain, which does not listen any more; or a bug of an action.
                Err(error) => unknown(phase, &format!("the call itself failed: {error}")),
            };
            let _nobody_listens = finished.send(Finished { call: id, outcome });
        });
    }

    /// The outcome has been heard. Until then the call counts as out: a daemon that is ending must
    /// not leave while the outcome of a change lies in the channel, unwritten.
    pub(super) fn heard(&mut self, call: CallId) {
        self.running.remove(&call);
    }

    /// Gives up a call that only looks. One that changes something runs to its end.
    pub(super) fn cancel(&self, call: CallId) {
        if let Some(running) = self.running.get(&call).filter(|running| !changes(running.phase)) {
            running.abort.abort();
        }
    }

    /// How many calls are out that change something.
    pub(super) fn changing(&self) -> usize {
        self.running.values().filter(|running| changes(running.phase)).count()
    }
}

/// May it change something outside?
pub(super) fn changes(phase: Phase) -> bool {
    matches!(phase, Phase::Apply | Phase::Compensate)
}

fn unknown(phase: Phase, why: &str) -> CallOutcome {
    match phase {
        Phase::Observe => CallOutcome::Observed(Observed::Unknown { reason: why.to_owned() }),
        Phase::Apply | Phase::Compensate => CallOutcome::Applied(Applied::Unknown { reason: why.to_owned() }),
        Phase::Verify => CallOutcome::Verified(Verified::NotYet { evidence: why.to_owned() }),
    }
}

async fn carry_out(call: StepCall, clients: Arc<Clients>, authority: Arc<dyn Authority>) -> CallOutcome {
    let action = match actions::build(&call.spec, &clients) {
        Ok(action) => action,
        // Nothing was called, and trying again will not help.
        Err(error) => return not_built(call.phase, error.to_string()),
    };
    let deadline = Instant::now() + call.timeout;
    let context = ActionContext {
        run: Some(call.run.clone()),
        step: call.step.clone(),
        epoch: call.epoch,
        attempt: call.attempt,
        deadline,
        authority,
    };
    let outcome = match call.phase {
        Phase::Verify => CallOutcome::Verified(verify(action.as_ref(), &context, call.estimate).await),
        phase => {
            let once = once(action.as_ref(), &context, &call);
            match tokio::time::timeout_at(deadline.into(), once).await {
                Ok(outcome) => outcome,
                Err(_) => unknown(phase, &format!("no answer within {}", crate::model::HumanDuration(call.timeout))),
            }
        }
    };
    crash::point(format_args!("done:{}:{}", phase_name(call.phase), call.step));
    outcome
}

async fn once(action: &dyn Action, context: &ActionContext, call: &StepCall) -> CallOutcome {
    let applied = match call.phase {
        Phase::Observe | Phase::Verify => return CallOutcome::Observed(action.observe(context).await),
        Phase::Apply => action.apply(context, &call.before).await,
        Phase::Compensate => action.compensate(context, &call.before).await,
    };
    match applied {
        Ok(applied) => CallOutcome::Applied(applied),
        Err(denied) => CallOutcome::NotPermitted { reason: denied.to_string() },
    }
}

/// Looks again and again until it is seen, has failed, or the time is over.
async fn verify(action: &dyn Action, context: &ActionContext, estimate: Duration) -> Verified {
    let mut last = "nothing was seen yet".to_owned();
    let began = Instant::now();
    // The first looks come quickly: most changes are seen at once, and each wait is outage.
    let mut wait = SHORTEST_PAUSE;
    loop {
        match tokio::time::timeout_at(context.deadline.into(), action.verify(context)).await {
            Ok(Verified::NotYet { evidence }) => last = evidence,
            Ok(verified) => return verified,
            Err(_) => return Verified::NotYet { evidence: last },
        }
        let wake = Instant::now() + wait;
        if wake >= context.deadline {
            return Verified::NotYet { evidence: last };
        }
        tokio::time::sleep_until(wake.into()).await;
        let longest = action.verify_interval();
        let pause = if action.is_paced() { pause(estimate, began.elapsed(), longest) } else { longest };
        wait = (wait * 2).min(pause);
    }
}

/// How long to wait between two looks at a change that is under way: a fiftieth of what it takes, so
/// that its end is seen at most 2 % late, and at most `longest`.
///
/// A change that takes minutes is looked at no more often than its API bears, since `longest` is
/// shorter than a fiftieth of that. Where the estimate was too short, the waits grow with what has
/// passed: nobody hammers an API for an hour since ten seconds were expected. The rate limit of each
/// API holds besides.
fn pause(estimate: Duration, elapsed: Duration, longest: Duration) -> Duration {
    (estimate.max(elapsed) / 50).max(SHORTEST_PAUSE).min(longest)
}

fn not_built(phase: Phase, reason: String) -> CallOutcome {
    match phase {
        Phase::Observe => CallOutcome::Observed(Observed::Impossible { reason }),
        Phase::Apply | Phase::Compensate => CallOutcome::Applied(Applied::Refused { reason, again: false }),
        Phase::Verify => CallOutcome::Verified(Verified::Failed { reason }),
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Observe => "observe",
        Phase::Apply => "apply",
        Phase::Verify => "verify",
        Phase::Compensate => "compensate",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use async_trait::async_trait;
    use serde_json::Value;

    use super::*;
    use crate::model::Epoch;
    use crate::ports::Denied;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_end_is_seen_at_most_a_fiftieth_late_and_no_api_is_hammered() {
        let ms = Duration::from_millis;
        assert_eq!(pause(3 * SECOND, ms(100), SECOND), ms(60), "a fiftieth of what is expected");
        assert_eq!(pause(ms(100), ms(100), SECOND), SHORTEST_PAUSE);
        assert_eq!(pause(300 * SECOND, SECOND, SECOND), SECOND, "minutes are looked at as often as the API bears");
        assert_eq!(pause(3 * SECOND, 20 * SECOND, SECOND), ms(400), "it takes longer than was expected");
        assert_eq!(pause(3 * SECOND, 3600 * SECOND, SECOND), SECOND);
        assert_eq!(pause(SECOND, SECOND, Duration::ZERO), Duration::ZERO, "an action that wants no wait gets none");
    }

    /// Is seen done at the fiftieth look.
    struct Slow {
        looks: AtomicU32,
        paced: bool,
    }

    #[async_trait]
    impl Action for Slow {
        async fn observe(&self, _: &ActionContext) -> Observed {
            Observed::Unobservable
        }
        async fn apply(&self, _: &ActionContext, _: &Value) -> Result<Applied, Denied> {
            Ok(Applied::Refused { reason: "it only looks".into(), again: false })
        }
        async fn verify(&self, _: &ActionContext) -> Verified {
            match self.looks.fetch_add(1, Ordering::Relaxed) {
                49 => Verified::yes("the fiftieth look"),
                _ => Verified::NotYet { evidence: "not yet".into() },
            }
        }
        fn verify_interval(&self) -> Duration {
            Duration::from_secs(3600)
        }
        fn is_paced(&self) -> bool {
            self.paced
        }
    }

    struct Everything;

    impl Authority for Everything {
        fn permit(&self, _: Epoch) -> Result<(), Denied> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn what_is_soon_over_is_looked_at_more_often_where_a_rate_limit_holds() {
        let seen = async |paced, time| {
            let context = ActionContext {
                run: None,
                step: "step".into(),
                epoch: Epoch(1),
                attempt: 1,
                deadline: Instant::now() + time,
                authority: Arc::new(Everything),
            };
            verify(&Slow { looks: AtomicU32::new(0), paced }, &context, Duration::from_millis(500)).await
        };
        // Waits that doubled up to an hour would come to a dozen looks.
        let often = seen(true, 30 * SECOND).await;
        assert!(matches!(often, Verified::Yes { .. }), "{often:?}");
        // Fifty looks every ten milliseconds would have come to an end.
        let seldom = seen(false, 2 * SECOND).await;
        assert!(matches!(seldom, Verified::NotYet { .. }), "{seldom:?}");
    }
}
