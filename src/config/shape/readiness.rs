//! `[readiness]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::outputs::NotifyFrom;
use crate::model::HumanDuration;

/// How plans are looked at all day, without anything being changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Readiness {
    /// How often each plan is looked at (default 5m); besides, after the start and after a reload.
    /// `0s`: only when somebody asks.
    #[serde(default = "five_minutes")]
    pub every: HumanDuration,
    /// How long the look at one step may take (default 30s); what is not known then is unknown.
    #[serde(default = "half_a_minute")]
    pub step_timeout: HumanDuration,
    /// A certificate that ends within so many days is not ready (default 14).
    #[serde(default = "two_weeks")]
    pub certificate_days: u32,
    /// A backup or snapshot that is older is not ready, where its step has no `max_age` (default 26h).
    #[serde(default = "a_day_and_more")]
    pub backup_age: HumanDuration,
    /// The ports at which the targets of records have to serve; one of them is enough (default
    /// `[443, 80]`). At 443 the certificate is checked too.
    #[serde(default = "web")]
    pub ports: Vec<u16>,
    /// Ask IAM whether it would permit what the steps want (default true)? Needs
    /// `iam:SimulatePrincipalPolicy` on our own role or user; `iam:GetRole` where the role has a path.
    #[serde(default = "yes")]
    pub iam_simulation: bool,
    /// How loud people are told that a plan is not ready, once: `info` (default) or `page`.
    #[serde(default = "info")]
    pub tell: NotifyFrom,
    /// Where hosts are that do not say so by their name: a region of `[regions]`, or `anywhere` for what
    /// no single region takes along. A name stands for all below it, too.
    #[serde(default)]
    pub places: BTreeMap<String, String>,
    /// What the plans may hang on although it is in the region that would be lost: names of the
    /// dependency proof, for example `route53.amazonaws.com`.
    #[serde(default)]
    pub accepts: Vec<String>,
}

/// No single region takes it along.
pub const ANYWHERE: &str = "anywhere";

fn five_minutes() -> HumanDuration {
    HumanDuration::secs(300)
}

fn half_a_minute() -> HumanDuration {
    HumanDuration::secs(30)
}

fn two_weeks() -> u32 {
    14
}

fn a_day_and_more() -> HumanDuration {
    HumanDuration::secs(26 * 3600)
}

fn web() -> Vec<u16> {
    vec![443, 80]
}

fn yes() -> bool {
    true
}

fn info() -> NotifyFrom {
    NotifyFrom::Info
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            every: five_minutes(),
            step_timeout: half_a_minute(),
            certificate_days: two_weeks(),
            backup_age: a_day_and_more(),
            ports: web(),
            iam_simulation: true,
            tell: info(),
            places: BTreeMap::new(),
            accepts: Vec::new(),
        }
    }
}
