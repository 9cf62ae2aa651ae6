//! `sns.publish`.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use serde_json::Value;

use crate::actions::{CHANGE, LOOK, until};
use crate::clients::sns::{self, Message};
use crate::clients::{Clients, aws};
use crate::config::action::SnsPublish;
use crate::model::{Applied, Finding, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied, ReadyContext};

/// Publishes a message to a topic. Delivered at least once: after an unknown outcome it is
/// published again.
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
pub struct Publish {
    params: SnsPublish,
    region: String,
    clients: Arc<Clients>,
}

impl Publish {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where the region is neither given nor in the topic's ARN.
    pub fn new(params: SnsPublish, clients: Arc<Clients>) -> Result<Self, String> {
        let region = sns::region(params.region.as_deref(), &params.topic)?;
        Ok(Self { params, region, clients })
    }
}

#[async_trait]
impl Action for Publish {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.region, Instant::now() + LOOK).await {
            region.sns();
        }
    }

    /// What it needs of IAM is asked besides; the topic itself tells nothing to who may only publish.
    async fn ready(&self, _look: &ReadyContext) -> Vec<Finding> {
        Vec::new()
    }

    async fn observe(&self, _context: &ActionContext) -> Observed {
        Observed::Unobservable
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let message =
            Message { topic: &self.params.topic, subject: self.params.subject.as_deref(), body: &self.params.message };
        let request = match sns::prepare(&self.clients, &self.region, &message, until).await {
            Ok(request) => request,
            Err(failure) => return Ok(failure.applied()),
        };
        context.permit()?;
        Ok(match aws::call(sns::WHAT, until, request.send()).await {
            Ok(answer) => {
                let id = answer.message_id().unwrap_or("unknown");
                Applied::Accepted { evidence: format!("SNS took it as message {id}") }
            }
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, _context: &ActionContext) -> Verified {
        // Called only after SNS took it; whether anybody read it cannot be asked.
        Verified::yes("SNS took it; deliveries are not looked at")
    }
}
