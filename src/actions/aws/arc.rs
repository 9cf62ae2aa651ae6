//! `arc.routing_control`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use aws_sdk_route53recoverycluster::Client;
use aws_sdk_route53recoverycluster::types::{RoutingControlState, UpdateRoutingControlStateEntry};
use serde_json::Value;

use crate::actions::{CHANGE, LOOK, until};
use crate::clients::{Api, Clients, Failure, FailureKind, aws};
use crate::config::action::{ArcRoutingControl, ArcState, control_name};
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// How long one endpoint may take before the next one is asked: one that is lost must not use up the
/// time of the other four.
const ENDPOINT: Duration = Duration::from_secs(3);

/// Sets routing controls, all in one call.
///
/// The endpoints are asked in turn; the first that answers a look is the one that the change is sent
/// to. Where the change's outcome is unknown, it is looked at through any of them before it is sent
/// again: setting a state twice would be harmless, and S8 holds all the same.
/// <https://docs.aws.amazon.com/r53recovery/latest/dg/routing-control.update.api.html>
pub struct SetRoutingControls {
    params: ArcRoutingControl,
    clients: Arc<Clients>,
}

type States = BTreeMap<String, ArcState>;

impl SetRoutingControls {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where there is no endpoint, or too few or too many controls.
    pub fn new(params: ArcRoutingControl, clients: Arc<Clients>) -> Result<Self, String> {
        if params.endpoints.is_empty() {
            return Err("no endpoint is named".into());
        }
        if params.states.is_empty() || params.states.len() > 10 {
            return Err("one to ten routing controls can be set at once".into());
        }
        Ok(Self { params, clients })
    }

    /// The states as the first endpoint that answers tells them, and that endpoint.
    async fn look(&self, until: Instant) -> Result<(States, Client), Failure> {
        let mut last = Failure::again("no endpoint was asked");
        for endpoint in &self.params.endpoints {
            if Instant::now() >= until {
                break;
            }
            let patience = until.min(Instant::now() + ENDPOINT);
            let region = self.clients.aws(&endpoint.region, patience).await?;
            let client = region.routing_control(&endpoint.url);
            match self.ask(&client, patience).await {
                Ok(states) => return Ok((states, client)),
                // Which answers are of the cluster, and the same from all of its endpoints?
                Err(failure)
                    if matches!(failure.kind, FailureKind::Denied | FailureKind::Missing | FailureKind::Refused) =>
                {
                    return Err(failure);
                }
                Err(failure) => {
                    last = Failure { reason: format!("{}: {}", endpoint.region, failure.reason), ..failure }
                }
            }
        }
        Err(Failure { reason: format!("no endpoint of the cluster answered; the last: {}", last.reason), ..last })
    }

    async fn ask(&self, client: &Client, until: Instant) -> Result<States, Failure> {
        let mut states = States::new();
        for arn in self.params.states.keys() {
            self.clients.pace(Api::Aws, until).await?;
            let request = client.get_routing_control_state().routing_control_arn(arn);
            let answer = aws::call("arc GetRoutingControlState", until, request.send()).await?;
            let state = match answer.routing_control_state() {
                RoutingControlState::On => ArcState::On,
                RoutingControlState::Off => ArcState::Off,
                other => return Err(Failure::unknown(format!("arc: {} is {}", control_name(arn), other.as_str()))),
            };
            states.insert(arn.clone(), state);
        }
        Ok(states)
    }

    async fn set(
        &self,
        context: &ActionContext,
        states: &States,
        client: &Client,
        until: Instant,
    ) -> Result<Applied, Denied> {
        let entries = states.iter().map(|(arn, state)| {
            let state = match state {
                ArcState::On => RoutingControlState::On,
                ArcState::Off => RoutingControlState::Off,
            };
            UpdateRoutingControlStateEntry::builder().routing_control_arn(arn).routing_control_state(state).build()
        });
        let entries: Vec<_> = match entries.collect() {
            Ok(entries) => entries,
            Err(error) => return Ok(Failure::refused(format!("not sent: {error}")).not_sent()),
        };
        if let Err(failure) = self.clients.pace(Api::Aws, until).await {
            return Ok(failure.not_sent());
        }
        let overrides = &self.params.overrides;
        let request = client
            .update_routing_control_states()
            .set_update_routing_control_state_entries(Some(entries))
            .set_safety_rules_to_override((!overrides.is_empty()).then(|| overrides.clone()));
        context.permit()?;
        Ok(match aws::call("arc UpdateRoutingControlStates", until, request.send()).await {
            Ok(_) => Applied::Accepted { evidence: format!("ARC took it: {}", told(states)) },
            Err(failure) => failure.applied(),
        })
    }
}

/// The states, for people.
fn told(states: &States) -> String {
    let each = states.iter().map(|(arn, state)| format!("{} is {state:?}", control_name(arn)));
    each.collect::<Vec<_>>().join(", ")
}

#[async_trait]
impl Action for SetRoutingControls {
    async fn warm(&self) {
        for endpoint in &self.params.endpoints {
            if let Ok(region) = self.clients.aws(&endpoint.region, Instant::now() + LOOK).await {
                region.routing_control(&endpoint.url);
            }
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        match self.look(until(context, CHANGE)).await {
            Ok((states, _)) if states == self.params.states => Observed::Done { evidence: told(&states) },
            Ok((states, _)) => {
                Observed::NotDone { evidence: told(&states), before: serde_json::json!({ "states": states }) }
            }
            Err(failure) => failure.observed(),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        match self.look(until).await {
            Ok((_, client)) => self.set(context, &self.params.states, &client, until).await,
            Err(failure) => Ok(failure.not_sent()),
        }
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.look(until(context, CHANGE)).await {
            Ok((states, _)) if states == self.params.states => Verified::yes(told(&states)),
            Ok((states, _)) => Verified::NotYet { evidence: told(&states) },
            Err(failure) => failure.verified(),
        }
    }

    async fn compensate(&self, context: &ActionContext, before: &Value) -> Result<Applied, Denied> {
        let states = before.get("states").and_then(|states| serde_json::from_value::<States>(states.clone()).ok());
        let Some(states) = states.filter(|states| !states.is_empty()) else {
            return Ok(Failure::refused("it is not known what the routing controls were before").not_sent());
        };
        let until = until(context, CHANGE);
        match self.look(until).await {
            Ok((now, _)) if now == states => Ok(Applied::Accepted { evidence: format!("{}, as before", told(&now)) }),
            Ok((now, _)) if now != self.params.states => {
                let reason = format!("somebody else has set them: {}; they are left alone", told(&now));
                Ok(Failure::refused(reason).not_sent())
            }
            Ok((_, client)) => self.set(context, &states, &client, until).await,
            Err(failure) => Ok(failure.not_sent()),
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}
