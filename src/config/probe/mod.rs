//! The kinds of probes and their parameters, as the file has them: `src/probes` carries them out.
//!
//! To add a kind: a struct in a file of its own with its documentation (it becomes the page of
//! `failoverd probes KIND`) and its checks, a variant of [`ProbeKind`] with what it can see (`causes.rs`), a field in `Probe` of `shape.rs`, its
//! checks, and its builder in `src/probes`.

mod aws_health;
mod causes;
pub mod cloudwatch;
mod elasticache;
mod exec;
mod grpc;
mod http_sequence;
mod icmp;
mod kubernetes;
mod promql;
mod rds;
mod s3_age;
mod tls;
mod velero_age;
mod window;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use aws_health::AwsHealthProbe;
pub use causes::CauseRow;
pub use cloudwatch::{CloudwatchMetric, CloudwatchProbe};
pub use elasticache::ElasticacheProbe;
pub use exec::ExecProbe;
pub use grpc::GrpcProbe;
pub use http_sequence::{HttpSend, HttpSequenceProbe, HttpStep, SentText, StepText};
pub use icmp::IcmpProbe;
pub use kubernetes::{KubernetesProbe, NodesReady};
pub use promql::{PromqlProbe, Series, TargetsUp};
pub use rds::RdsProbe;
pub use s3_age::S3AgeProbe;
pub use tls::TlsProbe;
pub use velero_age::VeleroAgeProbe;
pub use window::{WindowBurnRate, WindowProbe};

use super::path::Path;
use super::report::Report;
use super::secret::SecretText;
use crate::model::{HumanDuration, Role, TargetHash};

/// What a probe asks. In the file: `http = { … }`, `tcp = { … }`, …; exactly one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeKind {
    /// An HTTP request.
    Http(HttpProbe),
    /// A TCP connection.
    Tcp(TcpProbe),
    /// A DNS query.
    Dns(DnsProbe),
    /// A PostgreSQL server.
    Postgres(PostgresProbe),
    /// A Redis server.
    Redis(RedisProbe),
    /// A Kubernetes cluster.
    Kubernetes(KubernetesProbe),
    /// What RDS says of a database.
    Rds(RdsProbe),
    /// What ElastiCache says of a cache.
    Elasticache(ElasticacheProbe),
    /// A query to Prometheus.
    Promql(PromqlProbe),
    /// A figure of CloudWatch.
    Cloudwatch(CloudwatchProbe),
    /// The age of the newest object of S3.
    S3Age(S3AgeProbe),
    /// The age of Velero's newest backup.
    VeleroAge(VeleroAgeProbe),
    /// Events of AWS Health.
    AwsHealth(AwsHealthProbe),
    /// The certificate of a TLS server.
    Tls(TlsProbe),
    /// A gRPC server's own word on its health.
    Grpc(GrpcProbe),
    /// An ICMP echo (ping).
    Icmp(IcmpProbe),
    /// A monitoring plugin, run here.
    Exec(ExecProbe),
    /// Several HTTP requests, one after the other: log in, then read.
    HttpSequence(HttpSequenceProbe),
    /// Gray failure: what other probes saw, over a window of time.
    Window(WindowProbe),
}

impl ProbeKind {
    /// The kind as written in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Http(_) => "http",
            Self::Tcp(_) => "tcp",
            Self::Dns(_) => "dns",
            Self::Postgres(_) => "postgres",
            Self::Redis(_) => "redis",
            Self::Kubernetes(_) => "kubernetes",
            Self::Rds(_) => "rds",
            Self::Elasticache(_) => "elasticache",
            Self::Promql(_) => "promql",
            Self::Cloudwatch(_) => "cloudwatch",
            Self::S3Age(_) => "s3_age",
            Self::VeleroAge(_) => "velero_age",
            Self::AwsHealth(_) => "aws_health",
            Self::Tls(_) => "tls",
            Self::Grpc(_) => "grpc",
            Self::Icmp(_) => "icmp",
            Self::Exec(_) => "exec",
            Self::HttpSequence(_) => "http_sequence",
            Self::Window(_) => "window",
        }
    }

    /// Does it ask somebody? Else the brain computes it from what other probes saw.
    pub fn asks(&self) -> bool {
        !matches!(self, Self::Window(_))
    }

    /// The key of `[limits]` under which a cloud's API is asked, and how many calls a second it lets
    /// through where nothing else is written; `None` where no cloud is asked.
    pub fn cloud_limit(&self) -> Option<(&'static str, u32)> {
        match self {
            Self::Rds(_) => Some(("rds", 10)),
            Self::Elasticache(_) | Self::Cloudwatch(_) | Self::S3Age(_) | Self::AwsHealth(_) => Some(("aws", 10)),
            _ => None,
        }
    }

    /// SHA-256 of what is asked, in hexadecimal: another target has another one. A secret goes into
    /// it by its reference, never by its value.
    pub fn fingerprint(&self) -> TargetHash {
        let json = serde_json::to_vec(self).unwrap_or_default();
        TargetHash::new(Sha256::digest(&json).iter().map(|byte| format!("{byte:02x}")).collect::<String>())
    }
}

/// An HTTP request. Redirects are never followed: a redirect is an answer like any other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// `http://…` or `https://…`, by reference where it holds a secret.
    pub url: SecretText,
    /// The method (default `GET`).
    #[serde(default = "get")]
    pub method: String,
    /// Headers; the values by reference where they are secret.
    #[serde(default)]
    pub headers: BTreeMap<String, SecretText>,
    /// The statuses that are Up (default: 200 to 299).
    #[serde(default)]
    pub status: Vec<u16>,
    /// A text that the body must contain.
    #[serde(default)]
    pub contains: Option<String>,
    /// A regular expression that must match somewhere in the body.
    #[serde(default)]
    pub matches: Option<String>,
    /// JSON pointers (RFC 6901) and the values that must stand there.
    #[serde(default)]
    pub json: BTreeMap<String, serde_json::Value>,
    /// A right answer that takes longer is Down, with the cause `slow`.
    #[serde(default)]
    pub max_latency: Option<HumanDuration>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// So many requests go over one connection (default 10; 1: each over a fresh one). A kept connection
    /// costs the target less and tells at once when it is cut, but hides a listener that is dead, a
    /// changed address and an expired certificate; so one in so many looks is fresh.
    #[serde(default = "ten", skip_serializing_if = "is_ten")]
    pub fresh_every: u32,
    /// Every address of the name is asked, each over a connection of its own (default: the first that
    /// answers). Where some answer well and some do not it is degraded; `causes` can say down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub every_address: bool,
}

fn get() -> String {
    "GET".into()
}

fn ten() -> u32 {
    10
}

// The fingerprint of a target must not change by a default that came later.
fn is_ten(value: &u32) -> bool {
    *value == 10
}

/// A TCP connection: Up when it is accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpProbe {
    /// `host:port`.
    pub address: String,
    /// Every address of the name is asked, each over a connection of its own (default: the first that
    /// answers). Where some answer well and some do not it is degraded; `causes` can say down.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub every_address: bool,
}

/// The DNS record types that can be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum DnsRecordType {
    /// IPv4 address.
    #[default]
    A,
    /// IPv6 address.
    Aaaa,
    /// Alias.
    Cname,
    /// Text.
    Txt,
    /// Mail exchanger.
    Mx,
    /// Name server.
    Ns,
    /// Start of authority.
    Soa,
    /// Service.
    Srv,
}

/// A DNS query: Up when there is an answer, and the expected ones are in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DnsProbe {
    /// The name to ask for.
    pub name: String,
    /// The record type (default `A`).
    #[serde(default)]
    pub record: DnsRecordType,
    /// Answers that must all be there, as text (`192.0.2.1`, `lb.example.`); empty: any answer.
    #[serde(default)]
    pub expect: Vec<String>,
    /// The server to ask, `address:port` (default: the system's resolvers).
    #[serde(default)]
    pub server: Option<SocketAddr>,
}

/// A PostgreSQL server: Up when it accepts the connection and answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresProbe {
    /// `postgresql://user@host:port/database?sslmode=…`, by reference where it holds a password.
    pub url: SecretText,
    /// The role that it must have; the other one is Down with the cause `wrong_role`.
    #[serde(default)]
    pub expect: Option<Role>,
    /// A query that must succeed, after the built-in look at role and lag.
    #[serde(default)]
    pub query: Option<String>,
    /// A streaming replica that is further behind is Down, with the cause `lag_too_high`.
    #[serde(default)]
    pub max_lag: Option<HumanDuration>,
    /// The same in bytes.
    #[serde(default)]
    pub max_lag_bytes: Option<u64>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// A Redis server: Up when it answers PING and ROLE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisProbe {
    /// `redis://host:port` or `rediss://…`, by reference where it holds a password.
    pub url: SecretText,
    /// The role that it must have; the other one is Down with the cause `wrong_role`.
    #[serde(default)]
    pub expect: Option<Role>,
    /// A replica whose link to its primary has been silent for longer is Down (`lag_too_high`). An
    /// idle primary speaks every 10 s; after 15 s of silence it hangs, and the lag is unknown.
    #[serde(default)]
    pub max_lag: Option<HumanDuration>,
}

/// A share of a whole: above 0, at most 1.
fn share(report: &mut Report<'_>, at: &Path, share: Option<f64>) {
    if share.is_some_and(|share| !(share > 0.0 && share <= 1.0)) {
        report.error("bad_share", at, "a share is above 0 and at most 1", "write for example 0.8");
    }
}

/// At least one threshold, and none that no figure can be compared with.
fn threshold(report: &mut Report<'_>, at: &Path, thresholds: &[(&str, Option<f64>)]) {
    let keys: Vec<_> = thresholds.iter().map(|(key, _)| format!("`{key}`")).collect();
    if thresholds.iter().all(|(_, value)| value.is_none()) {
        report.error(
            "no_threshold",
            at,
            format!("nothing says which figure is bad: there is none of {}", keys.join(", ")),
            "add one, for example `above = 5`",
        );
    }
    for (key, _) in thresholds.iter().filter(|(_, value)| value.is_some_and(f64::is_nan)) {
        report.error("not_a_number", &at.key(key), "no figure can be compared with nan", "write a number");
    }
    let of = |name: &str| thresholds.iter().find(|(key, _)| *key == name).and_then(|(_, value)| *value);
    if let (Some(above), Some(below)) = (of("above"), of("below"))
        && above < below
    {
        report.error(
            "always_crossed",
            &at.key("above"),
            format!("every figure is above {above} or below {below}"),
            "write an `above` that is not smaller than `below`",
        );
    }
}
