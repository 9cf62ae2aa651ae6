//! `health_switch.set`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use serde_json::{Value, json};

use crate::actions::{CHANGE, LOOK, fenced, until};
use crate::clients::health_switch::{Setting, SwitchError, is_name, read, set};
use crate::clients::http::send;
use crate::clients::{Clients, Failure};
use crate::config::action::{HealthSwitchAction, HealthSwitchSet};
use crate::config::shape::HealthSwitches;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// Builds an action of the family.
pub(super) fn build(action: HealthSwitchAction, clients: Arc<Clients>) -> Result<Box<dyn Action>, String> {
    match action {
        HealthSwitchAction::Set(params) => SetSwitch::new(params, clients).map(|action| Box::new(action) as _),
    }
}

/// Sets a switch, unless a newer epoch has done so.
pub struct SetSwitch {
    params: HealthSwitchSet,
    directory: PathBuf,
    clients: Arc<Clients>,
}

impl SetSwitch {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where the name cannot be one.
    pub fn new(params: HealthSwitchSet, clients: Arc<Clients>) -> Result<Self, String> {
        if !is_name(&params.name) {
            return Err(format!("{:?} is not the name of a switch", params.name));
        }
        let directory = params.directory.clone().unwrap_or_else(|| HealthSwitches::default().directory().to_owned());
        Ok(Self { params, directory, clients })
    }

    /// How it stands, and whether a higher epoch than ours has set it.
    async fn look(
        &self,
        context: &ActionContext,
        until: Instant,
    ) -> Result<(Option<Setting>, Option<String>), Failure> {
        let (directory, name) = (self.directory.clone(), self.params.name.clone());
        let found = on_disk(until, move || read(&directory, &name)).await?.map_err(unread)?;
        let newer = found.as_ref().filter(|setting| setting.epoch > context.epoch.0 && context.run.is_some());
        let overtaken = newer.map(|setting| fenced(&self.params.name, setting.epoch, context.epoch.0));
        Ok((found, overtaken))
    }

    async fn write(&self, context: &ActionContext, on: bool) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let setting = Setting { on, epoch: context.epoch.0, run: context.run.as_ref().map(ToString::to_string) };
        let (directory, name) = (self.directory.clone(), self.params.name.clone());
        context.permit()?;
        let written = on_disk(until, move || set(&directory, &name, &setting)).await;
        Ok(match written {
            Ok(Ok(())) => Applied::Accepted { evidence: self.told(Some(on)) },
            Ok(Err(SwitchError::Fenced { theirs, ours })) => {
                Applied::Refused { reason: fenced(&self.params.name, theirs, ours), again: false }
            }
            Ok(Err(error @ SwitchError::Corrupt { .. })) => {
                Applied::Refused { reason: error.to_string(), again: false }
            }
            // It may have failed after the new file was in its place.
            Ok(Err(error @ SwitchError::File { .. })) => Applied::Unknown { reason: error.to_string() },
            Err(failure) => Applied::Unknown { reason: failure.reason },
        })
    }

    fn told(&self, on: Option<bool>) -> String {
        let how = match on {
            Some(true) => "on",
            Some(false) => "off",
            None => "not set yet",
        };
        format!("the health switch {} is {how}", self.params.name)
    }

    /// Asks the endpoint as a checker does.
    async fn ask(&self, url: &str, until: Instant) -> Verified {
        let wanted = if self.params.on { 200 } else { 503 };
        let asked = async {
            let request = self.clients.http(None)?.get(url);
            send("health switch", until, request).await
        };
        match asked.await {
            Ok(answer) if answer.status == wanted => {
                Verified::yes(format!("{}, and the endpoint answers {wanted}", self.told(Some(self.params.on))))
            }
            Ok(answer) => Verified::NotYet {
                evidence: format!(
                    "the endpoint answers {}, not {wanted}; is its directory another one?",
                    answer.status
                ),
            },
            Err(failure) => failure.verified(),
        }
    }
}

/// A disk may hang: not on a thread that serves others, and not for ever.
async fn on_disk<T: Send + 'static>(until: Instant, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    match tokio::time::timeout_at(until.into(), tokio::task::spawn_blocking(work)).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(_)) => Err(Failure::unknown("the health switch: the work on disk was broken off")),
        Err(_) => Err(Failure::unknown("the health switch: the disk did not answer in time")),
    }
}

fn unread(error: SwitchError) -> Failure {
    match error {
        SwitchError::Corrupt { .. } => Failure::refused(error.to_string()),
        SwitchError::File { .. } | SwitchError::Fenced { .. } => Failure::again(error.to_string()),
    }
}

#[async_trait]
impl Action for SetSwitch {
    async fn observe(&self, context: &ActionContext) -> Observed {
        match self.look(context, until(context, LOOK)).await {
            Err(failure) => failure.observed(),
            Ok((_, Some(reason))) => Observed::Impossible { reason },
            Ok((found, None)) => {
                let evidence = self.told(found.as_ref().map(|setting| setting.on));
                let done = found.as_ref().is_some_and(|setting| {
                    setting.on == self.params.on && (setting.epoch == context.epoch.0 || context.run.is_none())
                });
                if done {
                    Observed::Done { evidence }
                } else {
                    Observed::NotDone { evidence, before: json!({ "on": found.map(|setting| setting.on) }) }
                }
            }
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        self.write(context, self.params.on).await
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let until = until(context, LOOK);
        match self.look(context, until).await {
            Err(failure) => failure.verified(),
            Ok((_, Some(reason))) => Verified::Failed { reason },
            Ok((Some(setting), None)) if setting.on == self.params.on => match &self.params.url {
                Some(url) => self.ask(url, until).await,
                None => Verified::yes(self.told(Some(setting.on))),
            },
            Ok((found, None)) => Verified::NotYet { evidence: self.told(found.map(|setting| setting.on)) },
        }
    }

    /// A switch that was never set answers its listener's default, which is not known here: then it
    /// is set to the opposite of what the step set.
    async fn compensate(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied> {
        let Some(before) = before.get("on") else {
            return Ok(Failure::refused("it is not known what stood before").not_sent());
        };
        self.write(context, before.as_bool().unwrap_or(!self.params.on)).await
    }
}
