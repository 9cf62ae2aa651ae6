//! What leaves the daemon: routes to people, the control socket, metrics, health switches, logs; and how
//! fast.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::people::NotifyEmail;
use crate::config::secret::SecretText;
use crate::model::{Audience, HumanDuration};

/// The kinds of routes, as written in the file.
pub const NOTIFY_KINDS: [&str; 9] =
    ["sns", "webhook", "slack", "pagerduty", "opsgenie", "alertmanager", "statuspage", "email", "s3"];

/// A route to people. Exactly one of `sns`, `webhook`, `slack`, `pagerduty`, `opsgenie`, `alertmanager`,
/// `statuspage`, `email`, `s3`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyRoute {
    /// `page` (default): only what somebody has to look at now; `info`: everything.
    #[serde(default)]
    pub from: Option<NotifyFrom>,
    /// Who reads it alone, and may approve: what asks for an approval carries a link of `[links]`, by which
    /// whoever has it answers as this person.
    #[serde(default)]
    pub approver: Option<String>,
    /// For whom it is: what they are told, and in which words (default `internal`; of a status page
    /// `status-page`).
    #[serde(default)]
    pub audience: Option<Audience>,
    /// The route that is used too where this one has failed several times (`failoverd notices` lists what
    /// was not taken).
    #[serde(default)]
    pub fallback: Option<String>,
    /// An SNS topic.
    #[serde(default)]
    pub sns: Option<NotifySns>,
    /// A webhook that takes JSON.
    #[serde(default)]
    pub webhook: Option<NotifyWebhook>,
    /// A channel of Slack.
    #[serde(default)]
    pub slack: Option<NotifySlack>,
    /// A service of PagerDuty.
    #[serde(default)]
    pub pagerduty: Option<NotifyPagerduty>,
    /// Opsgenie.
    #[serde(default)]
    pub opsgenie: Option<NotifyOpsgenie>,
    /// Prometheus Alertmanager.
    #[serde(default)]
    pub alertmanager: Option<NotifyAlertmanager>,
    /// A public status page.
    #[serde(default)]
    pub statuspage: Option<NotifyStatuspage>,
    /// Mail.
    #[serde(default)]
    pub email: Option<NotifyEmail>,
    /// A bucket of S3.
    #[serde(default)]
    pub s3: Option<NotifyS3>,
}

impl NotifyRoute {
    /// For whom it is.
    pub fn audience(&self) -> Audience {
        let usual = if self.statuspage.is_some() { Audience::StatusPage } else { Audience::Internal };
        self.audience.unwrap_or(usual)
    }

    /// The kinds that are written in it; a right one has one.
    pub fn kinds(&self) -> Vec<&'static str> {
        let written = [
            self.sns.is_some(),
            self.webhook.is_some(),
            self.slack.is_some(),
            self.pagerduty.is_some(),
            self.opsgenie.is_some(),
            self.alertmanager.is_some(),
            self.statuspage.is_some(),
            self.email.is_some(),
            self.s3.is_some(),
        ];
        NOTIFY_KINDS.into_iter().zip(written).filter(|(_, written)| *written).map(|(kind, _)| kind).collect()
    }
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

/// A bucket of S3: each notice is kept there as an object of JSON. Meant for `[audit]`: nobody is told by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyS3 {
    /// Its region.
    pub region: String,
    /// The bucket; with a lock, so that nobody here can change what is kept.
    pub bucket: String,
    /// What keys begin with: `failoverd/`.
    #[serde(default)]
    pub prefix: Option<String>,
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
    /// Signs each delivery: `x-failoverd-signature: t=SECONDS,v1=HEX`, the HMAC-SHA-256 of `SECONDS.BODY`.
    #[serde(default)]
    pub secret: Option<SecretText>,
}

/// A channel of Slack: `token` and `channel` (a thread for each incident), or `webhook`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifySlack {
    /// A bot's token with the scope `chat:write`.
    #[serde(default)]
    pub token: Option<SecretText>,
    /// The channel's id (`C0123456789`); the bot has to be in it.
    #[serde(default)]
    pub channel: Option<String>,
    /// The address of an incoming webhook, instead of both.
    #[serde(default)]
    pub webhook: Option<SecretText>,
    /// Where the API is (default `https://slack.com/api`).
    #[serde(default)]
    pub url: Option<String>,
}

/// A service of PagerDuty (Events API v2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyPagerduty {
    /// The integration key of the service.
    pub routing_key: SecretText,
    /// Where the API is (default `https://events.pagerduty.com`; in the EU `https://events.eu.pagerduty.com`).
    #[serde(default)]
    pub url: Option<String>,
}

/// Opsgenie (Alert API).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyOpsgenie {
    /// The key of an API integration.
    pub key: SecretText,
    /// The names of the teams that are paged (default: those of the integration).
    #[serde(default)]
    pub teams: Vec<String>,
    /// Where the API is (default `https://api.opsgenie.com`; in the EU `https://api.eu.opsgenie.com`).
    #[serde(default)]
    pub url: Option<String>,
}

/// Prometheus Alertmanager (API v2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyAlertmanager {
    /// Its address, with the prefix where it has one: `http://alertmanager.example:9093`.
    pub url: SecretText,
    /// Headers; the values by reference where they are secret.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretText>,
    /// Labels of each alert, besides `alertname`, `daemon`, `incident`, `scenario` and `severity`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

/// A public status page (Statuspage's API). Customers read it: it says these texts and nothing else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyStatuspage {
    /// An API key.
    pub key: SecretText,
    /// The page's id.
    pub page: String,
    /// What the incident is called there: `Checkout is not available`.
    pub title: String,
    /// The ids of the components that it concerns.
    #[serde(default)]
    pub components: Vec<String>,
    /// What is said when it begins.
    #[serde(default)]
    pub investigating: Option<String>,
    /// What is said when the failover begins.
    #[serde(default)]
    pub identified: Option<String>,
    /// What is said when it has recovered.
    #[serde(default)]
    pub monitoring: Option<String>,
    /// What is said when it is over.
    #[serde(default)]
    pub resolved: Option<String>,
    /// Where the API is (default `https://api.statuspage.io`).
    #[serde(default)]
    pub url: Option<String>,
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

/// What the daemon keeps of what its brain was told, for `failoverd replay`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recording {
    /// For how long the recording of an incident is kept (default 30d); `0s` records nothing. What no
    /// incident was in is given up after some minutes.
    #[serde(default = "a_month")]
    pub keep: HumanDuration,
    /// In how much room, in MiB (default 512). Where it is not enough, the oldest is given up.
    #[serde(default = "room_for_inputs")]
    pub max_size_mib: u32,
}

fn room_for_inputs() -> u32 {
    512
}

impl Default for Recording {
    fn default() -> Self {
        Self { keep: a_month(), max_size_mib: room_for_inputs() }
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
