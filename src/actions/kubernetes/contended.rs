//! Changes of objects that others write, too.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;

use super::cluster::Cluster;
use crate::model::{Applied, Finding, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied, ReadyContext};

/// So often a change is made in one call at most.
const TIMES: u32 = 4;
/// Before the second time; longer each time.
const PAUSE: Duration = Duration::from_millis(50);

/// An action each change of which looks first, and is made for the version that it saw.
pub trait Versioned: Action {
    /// The cluster that it changes.
    fn cluster(&self) -> &Cluster;
}

/// Such an action, which looks again and tries again where somebody else has written in between. The
/// status of a rollout, or of a node, is written every few moments: that must not use up the attempts
/// of the step.
///
/// It does not overwrite what the others wrote: each time it reads the object anew, with the epoch that
/// it carries, and each call has a permit of its own.
pub struct Contended<A>(pub A);

impl<A: Versioned> Contended<A> {
    async fn insist(&self, context: &ActionContext, before: &Value, undo: bool) -> Result<Applied, Denied> {
        let mut times = 1;
        loop {
            let _of_an_earlier_call = self.0.cluster().met_conflict();
            let applied = match undo {
                false => self.0.apply(context, before).await?,
                true => self.0.compensate(context, before).await?,
            };
            let again = matches!(applied, Applied::Refused { again: true, .. }) && self.0.cluster().met_conflict();
            let pause = PAUSE * times;
            if !again || times == TIMES || Instant::now() + 2 * pause >= context.deadline {
                return Ok(applied);
            }
            tokio::time::sleep(pause).await;
            times += 1;
        }
    }
}

#[async_trait]
impl<A: Versioned> Action for Contended<A> {
    async fn observe(&self, context: &ActionContext) -> Observed {
        self.0.observe(context).await
    }

    async fn apply(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied> {
        self.insist(context, before, false).await
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        self.0.verify(context).await
    }

    async fn compensate(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied> {
        self.insist(context, before, true).await
    }

    async fn ready(&self, look: &ReadyContext) -> Vec<Finding> {
        self.0.ready(look).await
    }

    async fn warm(&self) {
        self.0.warm().await;
    }

    fn is_paced(&self) -> bool {
        self.0.is_paced()
    }

    fn verify_interval(&self) -> Duration {
        self.0.verify_interval()
    }
}
