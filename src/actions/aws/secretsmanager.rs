//! `secretsmanager.put`.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::secret_text::{changed, with_host};
use crate::actions::{CHANGE, LOOK, until};
use crate::clients::{Api, Clients, Failure, aws};
use crate::config::action::SecretsmanagerPut;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// The longest secret, in bytes.
/// <https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_limits.html>
const LONGEST: usize = 65_536;

/// Writes a new version of a secret.
///
/// The name of the new version follows from the run, the step and the version that it replaces. So a
/// call that is made twice makes one version, and one that somebody else overtook makes none: its name
/// would be another. Neither a value nor anything made from one is in any text of ours.
/// <https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html>
pub struct Put {
    params: SecretsmanagerPut,
    clients: Arc<Clients>,
}

/// A secret as it is now, and as it shall be.
struct Seen {
    version: String,
    is_as_wanted: bool,
    /// No `Debug`: it is the secret.
    wanted: String,
}

impl Put {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where they contradict each other.
    pub fn new(params: SecretsmanagerPut, clients: Arc<Clients>) -> Result<Self, String> {
        params.one_way()?;
        Ok(Self { params, clients })
    }

    async fn look(&self, until: Instant) -> Result<Seen, Failure> {
        let region = self.clients.aws(&self.params.region, until).await?;
        self.clients.pace(Api::Aws, until).await?;
        let request =
            region.secretsmanager().get_secret_value().secret_id(&self.params.secret).version_stage("AWSCURRENT");
        let answer = aws::call("secretsmanager GetSecretValue", until, request.send()).await?;
        let Some(current) = answer.secret_string() else {
            return Err(Failure::refused(format!(
                "the secret {} is binary; only texts are changed",
                self.params.secret
            )));
        };
        let wanted = self.wanted(current).map_err(Failure::refused)?;
        let version = answer.version_id().unwrap_or_default().to_owned();
        Ok(Seen { version, is_as_wanted: same(&wanted, current), wanted })
    }

    /// The whole text as it shall be. What is said on failure names keys, never values.
    fn wanted(&self, current: &str) -> Result<String, String> {
        let SecretsmanagerPut { secret, set, hosts, whole, host, .. } = &self.params;
        if let Some(whole) = whole {
            return whole.read().map_err(|error| error.to_string());
        }
        if let Some(host) = host {
            return with_host(current.trim(), host).map_err(|reason| format!("the secret {secret} {reason}"));
        }
        let mut values = Vec::new();
        for (key, value) in set {
            values.push((key.as_str(), value.read().map_err(|error| error.to_string())?));
        }
        let hosts = hosts.iter().map(|(key, host)| (key.as_str(), host.as_str()));
        changed(current, values, hosts).map_err(|reason| format!("the secret {secret} {reason}"))
    }

    fn token(&self, context: &ActionContext, version: &str) -> String {
        let run = context.run.as_ref().map_or("", |run| run.as_str());
        let mut hash = Sha256::new();
        for part in [run, context.step.as_str(), &self.params.secret, version] {
            hash.update(part.len().to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn name(&self) -> String {
        let keys: Vec<&str> = self.params.set.keys().chain(self.params.hosts.keys()).map(String::as_str).collect();
        match keys.as_slice() {
            [] => format!("the secret {}", self.params.secret),
            keys => format!("{} in the secret {}", keys.join(", "), self.params.secret),
        }
    }
}

/// Do two texts say the same? As JSON, order and spaces do not count.
fn same(one: &str, other: &str) -> bool {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    one == other || value(one).is_some_and(|one| value(other).is_some_and(|other| one == other))
}

#[async_trait]
impl Action for Put {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.params.region, Instant::now() + LOOK).await {
            region.secretsmanager();
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        match self.look(until(context, LOOK)).await {
            Ok(Seen { version, is_as_wanted: true, .. }) => {
                Observed::Done { evidence: format!("{} is as wanted in version {version}", self.name()) }
            }
            Ok(Seen { version, .. }) => Observed::NotDone {
                evidence: format!("{} is otherwise in version {version}", self.name()),
                before: serde_json::json!({ "version": version }),
            },
            Err(failure) => failure.observed(),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let ready = async {
            let seen = self.look(until).await?;
            if seen.wanted.len() > LONGEST {
                return Err(Failure::refused(format!("{} would be longer than {LONGEST} bytes", self.name())));
            }
            if seen.wanted.is_empty() {
                return Err(Failure::refused(format!("{} would be empty", self.name())));
            }
            let region = self.clients.aws(&self.params.region, until).await?;
            self.clients.pace(Api::Aws, until).await?;
            Ok((seen, region))
        };
        let (seen, region) = match ready.await {
            Ok(ready) => ready,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let request = region
            .secretsmanager()
            .put_secret_value()
            .secret_id(&self.params.secret)
            .client_request_token(self.token(context, &seen.version))
            .secret_string(seen.wanted);
        context.permit()?;
        Ok(match aws::call("secretsmanager PutSecretValue", until, request.send()).await {
            Ok(answer) => Applied::Accepted {
                evidence: format!(
                    "{} was written as version {}",
                    self.name(),
                    answer.version_id().unwrap_or("unknown")
                ),
            },
            Err(failure) => failure.applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.look(until(context, LOOK)).await {
            Ok(Seen { version, is_as_wanted: true, .. }) => {
                Verified::yes(format!("{} reads as wanted in version {version}", self.name()))
            }
            Ok(Seen { version, .. }) => {
                Verified::NotYet { evidence: format!("{} is otherwise in version {version}", self.name()) }
            }
            Err(failure) => failure.verified(),
        }
    }
}
