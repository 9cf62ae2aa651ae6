//! Amazon Application Recovery Controller (ARC).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Parameters;
use crate::config::check::common::aws_region;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration};

/// `arc.routing_control`: sets routing controls, all of them at once or none. Done when each is as the
/// step wants it. The cluster has an endpoint in each of five regions; they are tried in turn, since the
/// region that fails may be the home of one. Safety rules hold, but for those that `overrides` names.
/// Undone by setting what was before, under the same rules. Needs
/// `route53-recovery-cluster:GetRoutingControlState`,
/// `route53-recovery-cluster:UpdateRoutingControlState` and
/// `route53-recovery-cluster:UpdateRoutingControlStates`.
/// <https://docs.aws.amazon.com/routing-control/latest/APIReference/API_UpdateRoutingControlStates.html>
/// <https://docs.aws.amazon.com/r53recovery/latest/dg/routing-control.update.api.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArcRoutingControl {
    /// The endpoints of the cluster, as `describe-cluster` of the recovery control configuration tells
    /// them; write them down now, since the region that tells them may be the one that fails.
    pub endpoints: Vec<ArcEndpoint>,
    /// The ARN of each routing control, and what it shall be.
    pub states: BTreeMap<String, ArcState>,
    /// The ARNs of the safety rules that do not hold for this change (default none).
    #[serde(default)]
    pub overrides: Vec<String>,
}

/// One endpoint of a cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ArcEndpoint {
    /// Its region, which its calls are signed for.
    pub region: String,
    /// Its address: `https://….route53-recovery-cluster.us-west-2.amazonaws.com/v1`.
    pub url: String,
}

/// What a routing control is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ArcState {
    /// Traffic goes there.
    On,
    /// No traffic goes there.
    Off,
}

impl Parameters for ArcRoutingControl {
    fn effect(&self) -> EffectKind {
        EffectKind::Route
    }

    fn target(&self) -> String {
        let states = self.states.iter().map(|(arn, state)| format!("{} {state:?}", control_name(arn)));
        format!("routing controls {}", states.collect::<Vec<_>>().join(", "))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(10)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        if self.endpoints.is_empty() {
            report.error("no_endpoint", &at.key("endpoints"), "no endpoint is named", "name all five of the cluster");
        } else if self.endpoints.len() < 5 {
            report.warn(
                "few_endpoints",
                &at.key("endpoints"),
                format!("only {} of the cluster's five endpoints would be tried", self.endpoints.len()),
                "name all five: any of them may be in the region that fails",
            );
        }
        for (index, endpoint) in self.endpoints.iter().enumerate() {
            let at = at.key("endpoints").index(index);
            aws_region(report, &at.key("region"), &endpoint.region);
            let well = url::Url::parse(&endpoint.url).is_ok_and(|url| {
                matches!(url.scheme(), "https" | "http") && url.has_host() && url.password().is_none()
            });
            if !well {
                report.error(
                    "bad_endpoint",
                    &at.key("url"),
                    "this is not the address of an endpoint",
                    "write `https://…`",
                );
            }
        }
        // The API takes that many at once.
        if self.states.is_empty() || self.states.len() > 10 {
            report.error(
                "how_many_controls",
                &at.key("states"),
                format!("{} routing controls are named", self.states.len()),
                "one to ten can be set at once",
            );
        }
        for arn in self.states.keys().chain(&self.overrides) {
            if !arn.starts_with("arn:aws") {
                let fix = "write `arn:aws:route53-recovery-control::ACCOUNT:controlpanel/…`";
                report.error("bad_arn", &at.key("states"), format!("{arn:?} is not an ARN"), fix);
            }
        }
    }
}

/// The last part of a routing control's ARN, for people.
pub fn control_name(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}
