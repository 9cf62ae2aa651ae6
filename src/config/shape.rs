//! The shape of the file: what `toml` is read into, before anything is checked across it.

mod drills;
mod links;
mod members;
mod outputs;
mod people;
mod plans;
mod policy;
mod readiness;
mod services;
mod witnesses;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::probe::{
    AwsHealthProbe, CloudwatchProbe, DnsProbe, ElasticacheProbe, ExecProbe, GrpcProbe, HttpProbe, HttpSequenceProbe,
    IcmpProbe, KubernetesProbe, PostgresProbe, PromqlProbe, RdsProbe, RedisProbe, S3AgeProbe, TcpProbe, TlsProbe,
    VeleroAgeProbe, WindowProbe,
};
pub use drills::{DrillBlocked, DrillCleanup, DrillTable};
pub use links::{Links, LinksTls};
pub use members::{Etcd, EtcdTls, EtcdUser, StateAddress};
pub use outputs::{
    Control, HealthSwitch, HealthSwitches, History, Limits, Log, LogFormat, Metrics, NOTIFY_KINDS, NotifyAlertmanager,
    NotifyFrom, NotifyOpsgenie, NotifyPagerduty, NotifyRoute, NotifyS3, NotifySlack, NotifySns, NotifyStatuspage,
    NotifyWebhook, Recording, SwitchState,
};
pub use people::{
    AudienceTemplates, DutyTable, EmailSecurity, NotifyEmail, RungTable, SeverityTable, Template, Templates,
};
pub use plans::{
    Approval, FenceNeed, Gather, ParameterTable, PlanTable, RunPlan, Scope, Step, Task, VerifyAction, VerifyProbe,
    WhenConfig, WhenParameter, WhenStep,
};
pub use policy::{FlapDampingTable, Policy, Quorum};
pub use readiness::{ANYWHERE, Readiness};
pub use services::{AuditTable, Service};
pub use witnesses::{VantageTls, Witness};

use crate::model::{CauseKind, HumanDuration, Meaning, Mode, OnNoAnswer, Retry, Severity};

/// The whole file.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// The daemon itself.
    pub daemon: Daemon,
    /// What a probe has where it says nothing else.
    #[serde(default)]
    pub defaults: Defaults,
    /// The regions.
    #[serde(default)]
    pub regions: BTreeMap<String, Region>,
    /// The probes.
    #[serde(default)]
    pub probes: BTreeMap<String, Probe>,
    /// Named conditions, to be used in `when`, `unless` and `requires` like a probe.
    #[serde(default)]
    pub groups: BTreeMap<String, ConditionTable>,
    /// Endpoints that are up unless we are cut off ourselves.
    #[serde(default)]
    pub anchors: Option<Anchors>,
    /// How many vantages must agree.
    #[serde(default)]
    pub quorum: Quorum,
    /// The other vantages.
    #[serde(default)]
    pub witnesses: BTreeMap<String, Witness>,
    /// Several daemons on one state (etcd), this one among them: one leads, and all are asked for their votes.
    #[serde(default)]
    pub members: BTreeMap<String, Witness>,
    /// How the etcd cluster is used.
    #[serde(default)]
    pub etcd: Option<Etcd>,
    /// How vantages know each other.
    #[serde(default)]
    pub vantage_tls: Option<VantageTls>,
    /// The bounds that hold for every scenario.
    #[serde(default)]
    pub policy: Policy,
    /// What each severity promises. The one that is declared first is the most severe.
    #[serde(default)]
    pub severities: BTreeMap<String, SeverityTable>,
    /// What was promised of the services.
    #[serde(default)]
    pub services: BTreeMap<String, Service>,
    /// The scenarios.
    #[serde(default)]
    pub scenarios: BTreeMap<String, Scenario>,
    /// The plans.
    #[serde(default)]
    pub plans: BTreeMap<String, PlanTable>,
    /// The routes to people.
    #[serde(default)]
    pub notify: BTreeMap<String, NotifyRoute>,
    /// Signed links by which people answer.
    #[serde(default)]
    pub links: Option<Links>,
    /// In which words each audience is told.
    #[serde(default)]
    pub templates: Templates,
    /// Who may use the socket for what.
    #[serde(default)]
    pub control: Control,
    /// `/metrics`, `/healthz`, `/readyz`.
    #[serde(default)]
    pub metrics: Metrics,
    /// What the health checkers of a DNS provider ask.
    #[serde(default)]
    pub health_switch: HealthSwitches,
    /// What is kept of what the probes saw.
    #[serde(default)]
    pub history: History,
    /// How plans are looked at all day.
    #[serde(default)]
    pub readiness: Readiness,
    /// What is kept of what the brain was told.
    #[serde(default)]
    pub recording: Recording,
    /// Anchors of the journal, sent away.
    #[serde(default)]
    pub audit: Option<AuditTable>,
    /// Logs.
    #[serde(default)]
    pub log: Log,
    /// How fast each outside API may be called.
    #[serde(default)]
    pub limits: Limits,
}

impl File {
    /// The file of this daemon: the state itself where it is alone, else its own copy of it. `None` where
    /// `daemon.state` names no state.
    pub fn local_state(&self) -> Option<PathBuf> {
        match StateAddress::parse(&self.daemon.state)? {
            StateAddress::Sqlite(path) => Some(path),
            StateAddress::Etcd { .. } => Some(self.etcd.clone().unwrap_or_default().local),
        }
    }

    /// The tables that a file can have.
    pub fn keys() -> [&'static str; 28] {
        [
            "daemon",
            "defaults",
            "regions",
            "probes",
            "groups",
            "anchors",
            "quorum",
            "witnesses",
            "members",
            "etcd",
            "vantage_tls",
            "policy",
            "severities",
            "services",
            "scenarios",
            "plans",
            "notify",
            "links",
            "templates",
            "control",
            "metrics",
            "health_switch",
            "history",
            "readiness",
            "recording",
            "audit",
            "log",
            "limits",
        ]
    }
}

/// The daemon itself.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Daemon {
    /// Its name: the vantage that its votes carry.
    pub name: String,
    /// `auto`, `approve` or `alert-only`; a scenario can only be more careful.
    pub mode: Mode,
    /// Where the journal is: `sqlite:/path/state.db`, or for several daemons
    /// `etcd://host:2379,host:2379,host:2379/prefix`.
    pub state: String,
    /// The Unix socket of the control API.
    pub socket: PathBuf,
    /// What fails together with this daemon (default: its name).
    #[serde(default)]
    pub failure_domain: Option<String>,
    /// The scenario that SIGUSR1 carries out.
    #[serde(default)]
    pub manual_scenario: Option<String>,
    /// How long SIGTERM waits for a running step before it leaves the run to the next start.
    pub shutdown_grace: HumanDuration,
}

/// Defaults.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// For every probe.
    #[serde(default)]
    pub probe: ProbeTiming,
    /// For every step.
    #[serde(default)]
    pub step: StepDefaults,
}

/// The timing of a probe; what is left out comes from `[defaults.probe]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProbeTiming {
    /// From start to start.
    #[serde(default)]
    pub interval: Option<HumanDuration>,
    /// From start to start while in doubt (default: the interval).
    #[serde(default)]
    pub fast_interval: Option<HumanDuration>,
    /// For a whole attempt; may be longer than the interval: attempts overlap.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
    /// So many bad observations in a row make it Down.
    #[serde(default)]
    pub fall: Option<u32>,
    /// So many good observations in a row make it Up.
    #[serde(default)]
    pub rise: Option<u32>,
    /// A vote that is older does not count (default: 3 intervals + timeout).
    #[serde(default)]
    pub max_age: Option<HumanDuration>,
}

/// What a step has where it says nothing else.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepDefaults {
    /// For the whole step.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
    /// Retries.
    #[serde(default)]
    pub retry: Option<Retry>,
}

/// A region.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// What it is in peace.
    pub role: RegionRole,
}

/// What a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RegionRole {
    /// Serves.
    Primary,
    /// Stands by.
    Backup,
    /// Only looks.
    Witness,
}

/// One probe. Exactly one of the kinds (`failoverd probes` lists them).
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The region of its target.
    #[serde(default)]
    pub region: Option<String>,
    /// The zone of that region, for example `us-east-1a`: what fails together within the region.
    #[serde(default)]
    pub zone: Option<String>,
    /// From start to start.
    #[serde(default)]
    pub interval: Option<HumanDuration>,
    /// From start to start while in doubt.
    #[serde(default)]
    pub fast_interval: Option<HumanDuration>,
    /// For a whole attempt.
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
    /// So many bad observations in a row make it Down.
    #[serde(default)]
    pub fall: Option<u32>,
    /// So many good observations in a row make it Up.
    #[serde(default)]
    pub rise: Option<u32>,
    /// A vote that is older does not count.
    #[serde(default)]
    pub max_age: Option<HumanDuration>,
    /// What causes mean, where that is not what the kind says (`failoverd probes KIND` lists them):
    /// `{ slow = "degraded" }`. A cause on our own side never means Down.
    #[serde(default)]
    pub causes: BTreeMap<CauseKind, Meaning>,
    /// An HTTP request.
    #[serde(default)]
    pub http: Option<HttpProbe>,
    /// A TCP connection.
    #[serde(default)]
    pub tcp: Option<TcpProbe>,
    /// A DNS query.
    #[serde(default)]
    pub dns: Option<DnsProbe>,
    /// A PostgreSQL server.
    #[serde(default)]
    pub postgres: Option<PostgresProbe>,
    /// A Redis server.
    #[serde(default)]
    pub redis: Option<RedisProbe>,
    /// A Kubernetes cluster.
    #[serde(default)]
    pub kubernetes: Option<KubernetesProbe>,
    /// What RDS says of a database.
    #[serde(default)]
    pub rds: Option<RdsProbe>,
    /// What ElastiCache says of a cache.
    #[serde(default)]
    pub elasticache: Option<ElasticacheProbe>,
    /// A query to Prometheus.
    #[serde(default)]
    pub promql: Option<PromqlProbe>,
    /// A figure of CloudWatch.
    #[serde(default)]
    pub cloudwatch: Option<CloudwatchProbe>,
    /// The age of the newest object of S3.
    #[serde(default)]
    pub s3_age: Option<S3AgeProbe>,
    /// The age of Velero's newest backup.
    #[serde(default)]
    pub velero_age: Option<VeleroAgeProbe>,
    /// Events of AWS Health.
    #[serde(default)]
    pub aws_health: Option<AwsHealthProbe>,
    /// The certificate of a TLS server.
    #[serde(default)]
    pub tls: Option<TlsProbe>,
    /// A gRPC server's own word on its health.
    #[serde(default)]
    pub grpc: Option<GrpcProbe>,
    /// An ICMP echo (ping).
    #[serde(default)]
    pub icmp: Option<IcmpProbe>,
    /// A monitoring plugin, run here.
    #[serde(default)]
    pub exec: Option<ExecProbe>,
    /// Several HTTP requests, one after the other.
    #[serde(default)]
    pub http_sequence: Option<HttpSequenceProbe>,
    /// What other probes saw, over a window of time.
    #[serde(default)]
    pub window: Option<WindowProbe>,
}

/// Endpoints that are up unless we are cut off ourselves.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Anchors {
    /// `host:port` each.
    pub tcp: Vec<String>,
    /// So many of them must be Up (default 1).
    #[serde(default = "one")]
    pub at_least: u32,
    /// From start to start (default: that of `[defaults.probe]`).
    #[serde(default)]
    pub interval: Option<HumanDuration>,
    /// For a whole attempt (default: that of `[defaults.probe]`).
    #[serde(default)]
    pub timeout: Option<HumanDuration>,
}

fn one() -> u32 {
    1
}

/// A scenario.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// How bad it is, in your words: `P0`, `SEV-1`, `critical`; one of `[severities]` where these are
    /// declared.
    pub severity: Severity,
    /// The service that it moves (default: the daemon's name).
    #[serde(default)]
    pub service: Option<String>,
    /// The mode (default: the daemon's).
    #[serde(default)]
    pub mode: Option<Mode>,
    /// What is done when nobody answers: `hold` (default) or `failover`.
    #[serde(default)]
    pub on_no_answer: Option<OnNoAnswer>,
    /// So many persons have to approve, or to ask for it by hand (default 1, at most 5).
    #[serde(default)]
    #[schemars(range(min = 1, max = 5))]
    pub approvals: Option<u32>,
    /// It trips while this holds. A probe's or group's name means that it is down.
    pub when: ConditionConfig,
    /// It does not act while one of these holds or cannot be told.
    #[serde(default)]
    pub unless: Vec<ConditionConfig>,
    /// It acts only while each of these holds. A probe's name means that it is up here.
    #[serde(default)]
    pub requires: Vec<ConditionConfig>,
    /// The condition must have held for this long.
    pub confirm_for: HumanDuration,
    /// A failover below this one that may mend the outage by itself first: Multi-AZ, Sentinel, Patroni.
    #[serde(default)]
    pub lower_layers_first: Option<LowerLayersFirst>,
    /// The recovery-time objective (default: that of its severity).
    #[serde(default)]
    pub rto: Option<HumanDuration>,
    /// The recovery-point objective; with it, `replication` tells where lag is read from (default, with
    /// `replication`: that of its severity).
    #[serde(default)]
    pub rpo: Option<HumanDuration>,
    /// Where the predicted loss is read from.
    #[serde(default)]
    pub replication: Vec<Replication>,
    /// Does a standby of `replication` that still hears from its primary veto that it is down (default
    /// true)? Not where a standby follows another standby.
    #[serde(default)]
    pub ask_replicas: Option<bool>,
    /// What is carried out; without it the scenario alerts only.
    #[serde(default)]
    pub plan: Option<String>,
    /// The plan that brings the service back, once its region is well again: only ever carried out by hand
    /// (`failoverd failback SCENARIO`).
    #[serde(default)]
    pub failback: Option<String>,
}

/// A failover below this one that may mend the outage by itself first.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LowerLayersFirst {
    /// So long from the first bad observation on nothing is done; runs beside `confirm_for`.
    pub grace: HumanDuration,
    /// What it is: `RDS Multi-AZ`, `Sentinel`, `Patroni`.
    pub layer: String,
}

/// Where the predicted loss is read from.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Replication {
    /// The probe of the standby.
    pub standby: String,
    /// The probe of its primary; it tells whether commits wait for the standby.
    #[serde(default)]
    pub primary: Option<String>,
}

/// A condition: `"api"`, `"api is down"`, `"standby is not up"`, or a table.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ConditionConfig {
    /// `NAME`, `NAME is STATE` or `NAME is not STATE`; a state is up, down or unknown.
    Text(String),
    /// `{ all = … }`, `{ any = … }`, `{ at_least = 2, of = … }`, `{ probe = …, weight = … }`.
    Table(Box<ConditionTable>),
}

impl<'de> Deserialize<'de> for ConditionConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ConditionConfig;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a condition: \"api\", \"api is down\", { all = [..] }, { any = [..] } or { at_least = 2, of = [..] }")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ConditionConfig, E> {
                Ok(ConditionConfig::Text(text.to_owned()))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<ConditionConfig, A::Error> {
                ConditionTable::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    .map(|table| ConditionConfig::Table(Box::new(table)))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A condition as a table. Exactly one of `all`, `any`, `of`, `probe`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionTable {
    /// All of these.
    #[serde(default)]
    pub all: Option<Vec<ConditionConfig>>,
    /// One of these.
    #[serde(default)]
    pub any: Option<Vec<ConditionConfig>>,
    /// With `of`: so much weight.
    #[serde(default)]
    pub at_least: Option<u32>,
    /// With `at_least`: of these.
    #[serde(default)]
    pub of: Option<Vec<ConditionConfig>>,
    /// One probe or group, as in the text form.
    #[serde(default)]
    pub probe: Option<String>,
    /// How much it counts within an `at_least` (default 1).
    #[serde(default)]
    pub weight: Option<u32>,
}
