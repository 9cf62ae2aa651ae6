//! What leaves the daemon: routes to people, the control socket, metrics, health switches, logs; and how
//! fast.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::secret::SecretText;
use crate::model::HumanDuration;

/// A route to people. Exactly one of `sns`, `webhook`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyRoute {
    /// `page` (default): only what somebody has to look at now; `info`: everything.
    #[serde(default)]
    pub from: Option<NotifyFrom>,
    /// An SNS topic.
    #[serde(default)]
    pub sns: Option<NotifySns>,
    /// A webhook that takes JSON.
    #[serde(default)]
    pub webhook: Option<NotifyWebhook>,
}

/// From which importance on a route is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NotifyFrom {
    /// Everything.
    Info,
    /// Pages only.
    Page,
}

/// An SNS topic.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifySns {
    /// Its region (default: the topic's).
    #[serde(default)]
    pub region: Option<String>,
    /// Its ARN.
    pub topic: String,
}

/// A webhook: POST of the notice as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyWebhook {
    /// Where to, by reference where it holds a secret.
    pub url: SecretText,
    /// Headers; the values by reference where they are secret.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretText>,
}

/// Who may use the socket for what. The user of the daemon and root may do everything.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Control {
    /// Users or groups (`"@group"`) that may look.
    #[serde(default)]
    pub viewers: Vec<String>,
    /// Users or groups that may also pause, resume, acknowledge, abort, and try a parked step again.
    #[serde(default)]
    pub operators: Vec<String>,
    /// Users or groups that may also approve, fail over, and leave out a parked step.
    #[serde(default)]
    pub approvers: Vec<String>,
}

/// `/metrics`, `/healthz`, `/readyz`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metrics {
    /// `address:port` (default `127.0.0.1:9464`); `""` switches it off.
    #[serde(default)]
    pub listen: Option<String>,
}

/// What the health checkers of a DNS provider ask: `GET /health/NAME`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthSwitches {
    /// `address:port`; `""` (default): nothing is served.
    #[serde(default)]
    pub listen: Option<String>,
    /// Where their settings are kept, on a disk that outlives the daemon (default
    /// `/var/lib/failoverd/health`).
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// The switches; a `health_switch.set` sets one of them.
    #[serde(default)]
    pub switches: BTreeMap<String, HealthSwitch>,
}

/// Where the settings of the switches are, where the file says nothing else.
const SWITCHES: &str = "/var/lib/failoverd/health";

impl HealthSwitches {
    /// The address to listen on, where anything is served.
    pub fn address(&self) -> Option<&str> {
        self.listen.as_deref().filter(|address| !address.is_empty())
    }

    /// Where their settings are kept.
    pub fn directory(&self) -> &Path {
        self.directory.as_deref().unwrap_or(Path::new(SWITCHES))
    }
}

/// A health switch.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthSwitch {
    /// What it is until a run sets it for the first time: `on` answers 200, `off` 503.
    pub initially: SwitchState,
}

/// What a health switch answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SwitchState {
    /// All is well: 200.
    On,
    /// Send the traffic elsewhere: 503.
    Off,
}

/// What the daemon keeps of what its probes saw, for `failoverd backtest --history`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// For how long (default 30d); `0s` keeps nothing.
    #[serde(default = "a_month")]
    pub keep: HumanDuration,
    /// In how much room, in MiB (default 64). Where it is not enough, the oldest is given up.
    #[serde(default = "room")]
    pub max_size_mib: u32,
}

fn a_month() -> HumanDuration {
    HumanDuration::secs(30 * 24 * 3600)
}

fn room() -> u32 {
    64
}

impl Default for History {
    fn default() -> Self {
        Self { keep: a_month(), max_size_mib: room() }
    }
}

/// Logs.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// A tracing filter: `info`, `failoverd=debug,info` (default `info`).
    #[serde(default)]
    pub filter: Option<String>,
    /// `auto` (default): for people on a terminal, journald priorities under systemd, else JSON.
    #[serde(default)]
    pub format: Option<LogFormat>,
}

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// By where they go.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
    /// With `<N>` priorities that journald understands.
    Journald,
}

/// How fast each outside API may be called, in calls a second.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Amazon Route 53 (default 4; AWS allows five a second for an account).
    #[serde(default)]
    pub route53: Option<u32>,
    /// Amazon RDS (default 10).
    #[serde(default)]
    pub rds: Option<u32>,
    /// Amazon SNS (default 10).
    #[serde(default)]
    pub sns: Option<u32>,
    /// Kubernetes (default 20).
    #[serde(default)]
    pub kubernetes: Option<u32>,
    /// The other services of AWS, all together (default 10).
    #[serde(default)]
    pub aws: Option<u32>,
}
