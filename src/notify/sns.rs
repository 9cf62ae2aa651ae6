//! An Amazon SNS topic.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use super::DELIVERY;
use crate::clients::sns::{self, Message};
use crate::clients::{Clients, aws};
use crate::config::shape::NotifySns;
use crate::model::Notice;
use crate::ports::Notifier;

/// Publishes each notice: its subject as the subject (ASCII, at most 100 characters), subject and
/// body as the text.
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
pub struct Topic {
    topic: String,
    region: String,
    clients: Arc<Clients>,
}

impl Topic {
    /// The route for these parameters.
    ///
    /// # Errors
    /// Where the region is neither given nor in the topic's ARN.
    pub fn new(params: NotifySns, clients: Arc<Clients>) -> Result<Self, String> {
        let region = sns::region(params.region.as_deref(), &params.topic)?;
        Ok(Self { topic: params.topic, region, clients })
    }
}

#[async_trait]
impl Notifier for Topic {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.region, Instant::now() + DELIVERY).await {
            region.sns();
        }
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let until = Instant::now() + DELIVERY;
        // A text message shows the body only, and the subject may have lost letters.
        let body = format!("{}\n\n{}", notice.subject, notice.body);
        let message = Message { topic: &self.topic, subject: Some(&notice.subject), body: body.trim_end() };
        let sent = async {
            let request = sns::prepare(&self.clients, &self.region, &message, until).await?;
            aws::call(sns::WHAT, until, request.send()).await
        };
        sent.await.map(drop).map_err(|failure| failure.reason)
    }
}
