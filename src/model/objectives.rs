//! What an incident is measured against, and what a decision was expected to come to.

use serde::{Deserialize, Serialize};

use super::ids::{PlanName, ServiceName};
use super::slo::Slo;
use super::time::HumanDuration;

/// The objectives of a scenario as they were when its incident opened: a later change of the
/// configuration does not change what a report says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objectives {
    /// The service that it is about.
    pub service: ServiceName,
    /// The recovery-time objective.
    pub rto: HumanDuration,
    /// The recovery-point objective; `None` where no data is moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo: Option<HumanDuration>,
    /// The plan; `None` where the scenario only alerts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanName>,
    /// What was promised of the service's availability.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slo: Option<Slo>,
}

/// What carrying out the plan would have come to at the moment of a decision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outlook {
    /// The outage until then, and the plan's critical path after it: to be compared with the RTO.
    pub total: HumanDuration,
    /// The loss of data; `None` where it is unknown or no data is moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<HumanDuration>,
}
