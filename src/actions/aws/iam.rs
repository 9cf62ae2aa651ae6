//! `iam.deactivate_access_key`.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use aws_sdk_iam::types::StatusType;
use serde_json::Value;

use crate::actions::{CHANGE, LOOK, until};
use crate::clients::{Api, Clients, Failure, aws};
use crate::config::action::IamDeactivateAccessKey;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// The most pages of a user's keys; a user has two.
const PAGES: usize = 10;

/// Makes an access key work no more.
/// <https://docs.aws.amazon.com/IAM/latest/APIReference/API_UpdateAccessKey.html>
pub struct DeactivateAccessKey {
    params: IamDeactivateAccessKey,
    clients: Arc<Clients>,
}

impl DeactivateAccessKey {
    /// The action for these parameters.
    pub fn new(params: IamDeactivateAccessKey, clients: Arc<Clients>) -> Self {
        Self { params, clients }
    }

    async fn client(&self, until: Instant) -> Result<Arc<aws::Region>, Failure> {
        let region = self.params.region.as_deref().unwrap_or("us-east-1");
        let client = self.clients.aws(region, until).await?;
        self.clients.pace(Api::Aws, until).await?;
        Ok(client)
    }

    async fn look(&self, until: Instant) -> Result<StatusType, Failure> {
        let IamDeactivateAccessKey { user, access_key_id, .. } = &self.params;
        let mut marker = None;
        for _ in 0..PAGES {
            let client = self.client(until).await?;
            let request = client.iam().list_access_keys().user_name(user).set_marker(marker);
            let answer = aws::call("iam ListAccessKeys", until, request.send()).await?;
            let keys = answer.access_key_metadata();
            if let Some(key) = keys.iter().find(|key| key.access_key_id() == Some(access_key_id)) {
                return key
                    .status()
                    .cloned()
                    .ok_or_else(|| Failure::unknown("iam ListAccessKeys: a key without a status"));
            }
            marker = answer.marker().map(str::to_owned);
            if !answer.is_truncated() || marker.is_none() {
                break;
            }
        }
        Err(Failure::refused(format!("the IAM user {user} has no access key {access_key_id}")))
    }

    fn name(&self) -> String {
        format!("the access key {} of {}", self.params.access_key_id, self.params.user)
    }
}

#[async_trait]
impl Action for DeactivateAccessKey {
    async fn warm(&self) {
        let region = self.params.region.as_deref().unwrap_or("us-east-1");
        if let Ok(region) = self.clients.aws(region, Instant::now() + LOOK).await {
            region.iam();
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        match self.look(until(context, LOOK)).await {
            Ok(StatusType::Inactive) => Observed::Done { evidence: format!("{} is inactive", self.name()) },
            Ok(status) => {
                Observed::NotDone { evidence: format!("{} is {}", self.name(), status.as_str()), before: Value::Null }
            }
            Err(failure) => failure.observed(),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let client = match self.client(until).await {
            Ok(client) => client,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let request = client
            .iam()
            .update_access_key()
            .user_name(&self.params.user)
            .access_key_id(&self.params.access_key_id)
            .status(StatusType::Inactive);
        context.permit()?;
        Ok(match aws::call("iam UpdateAccessKey", until, request.send()).await {
            Ok(_) => Applied::Accepted { evidence: format!("IAM took it: {} is to be inactive", self.name()) },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.look(until(context, LOOK)).await {
            Ok(StatusType::Inactive) => Verified::yes(format!("{} is inactive", self.name())),
            Ok(status) => Verified::NotYet { evidence: format!("{} is {}", self.name(), status.as_str()) },
            Err(failure) => failure.verified(),
        }
    }
}
