//! Actions that only look: what they wait for is so, or is not so yet.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;

use super::cluster::Cluster;
use crate::actions::{LOOK, until};
use crate::clients::Failure;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// What an action that only looks sees.
#[async_trait]
pub trait Looks: Send + Sync {
    /// Where it looks.
    fn cluster(&self) -> &Cluster;

    /// One look.
    async fn look(&self, until: Instant) -> Result<Verified, Failure>;
}

/// Such an action. A look that finds it otherwise is never [`Observed::NotDone`], so that nothing is
/// ever applied.
pub struct LooksOnly<L>(pub L);

#[async_trait]
impl<L: Looks> Action for LooksOnly<L> {
    async fn warm(&self) {
        self.0.cluster().warm().await;
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        match self.0.look(until(context, LOOK)).await {
            Ok(Verified::Yes { evidence, .. }) => Observed::Done { evidence },
            Ok(Verified::NotYet { evidence }) => Observed::InProgress { evidence },
            Ok(Verified::Failed { reason }) => Observed::Impossible { reason },
            Err(failure) => failure.observed(),
        }
    }

    async fn apply(&self, _context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        Ok(Applied::Refused { reason: "this action only looks: there is nothing to apply".into(), again: false })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        self.0.look(until(context, LOOK)).await.unwrap_or_else(Failure::verified)
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}
