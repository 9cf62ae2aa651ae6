//! What one attempt of a probe saw.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::time::WallTime;

/// Three-valued health. `Unknown` means that we could not look; it never counts as `Down`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// It answered as it should.
    Up,
    /// It did not answer, or answered wrongly.
    Down,
    /// We could not look.
    Unknown,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
        })
    }
}

/// What one attempt saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observation {
    /// The target answered as it should.
    Up {
        /// From the start of the attempt to the answer.
        latency: Duration,
        /// What the target said of itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        facts: Option<Box<Facts>>,
        /// It serves, but not as well as it should: it never counts as Down.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        degraded: Option<Cause>,
    },
    /// The target did not answer, or answered wrongly.
    Down {
        /// Why.
        cause: Cause,
        /// What the target said of itself, where it said anything.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        facts: Option<Box<Facts>>,
    },
    /// We could not look: our own socket, resolver, credentials, or our own lateness.
    Unknown {
        /// Why.
        cause: Cause,
    },
}

impl Observation {
    /// Up without facts.
    pub fn up(latency: Duration) -> Self {
        Self::Up { latency, facts: None, degraded: None }
    }

    /// Up, but not as well as it should be.
    pub fn degraded(latency: Duration, kind: CauseKind, detail: impl Into<String>) -> Self {
        Self::Up { latency, facts: None, degraded: Some(Cause::new(kind, detail)) }
    }

    /// Down for a cause.
    pub fn down(kind: CauseKind, detail: impl Into<String>) -> Self {
        Self::Down { cause: Cause::new(kind, detail), facts: None }
    }

    /// Unknown for a cause.
    pub fn unknown(kind: CauseKind, detail: impl Into<String>) -> Self {
        Self::Unknown { cause: Cause::new(kind, detail) }
    }

    /// The health that this observation speaks for.
    pub fn health(&self) -> Health {
        match self {
            Self::Up { .. } => Health::Up,
            Self::Down { .. } => Health::Down,
            Self::Unknown { .. } => Health::Unknown,
        }
    }

    /// Why it is not Up, or not quite.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Up { degraded, .. } => degraded.as_ref(),
            Self::Down { cause, .. } | Self::Unknown { cause } => Some(cause),
        }
    }

    /// What the target said of itself.
    pub fn facts(&self) -> Option<&Facts> {
        match self {
            Self::Up { facts, .. } | Self::Down { facts, .. } => facts.as_deref(),
            Self::Unknown { .. } => None,
        }
    }
}

/// Why an attempt did not see Up. The detail is for people and holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The kind, for machines (a metric label).
    pub kind: CauseKind,
    /// One line for people.
    pub detail: String,
}

impl Cause {
    /// A cause with its detail; the detail is cut to 300 characters, so that a foreign answer
    /// cannot flood the journal.
    pub fn new(kind: CauseKind, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(300) {
            detail.truncate(end);
            detail.push('…');
        }
        Self { kind, detail }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.detail.is_empty() { write!(f, "{}", self.kind) } else { write!(f, "{}: {}", self.kind, self.detail) }
    }
}

macro_rules! cause_kinds {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)+) => {
        /// The kinds of causes. Each is written in `snake_case` in metrics and records.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum CauseKind {
            $($(#[$doc])* $variant,)+
        }

        impl CauseKind {
            /// As written in metrics and records.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }
    };
}

cause_kinds! {
    /// The target refused the connection.
    ConnectionRefused = "connection_refused",
    /// The connection was cut after it stood.
    ConnectionReset = "connection_reset",
    /// No route, network or host unreachable (as the network said it).
    Unreachable = "unreachable",
    /// The deadline of the attempt passed.
    Timeout = "timeout",
    /// The name does not exist.
    NameNotFound = "name_not_found",
    /// The name server failed (SERVFAIL, REFUSED).
    NameServerFailure = "name_server_failure",
    /// The name server's answer is not the expected one.
    WrongAnswer = "wrong_answer",
    /// The TLS handshake or the certificate failed.
    Tls = "tls",
    /// The HTTP status is not in the set.
    HttpStatus = "http_status",
    /// The body is not as expected.
    HttpBody = "http_body",
    /// The answer was right, but slower than `max_latency`.
    Slow = "slow",
    /// The answer could not be understood.
    Protocol = "protocol",
    /// The target refused our credentials.
    AuthenticationFailed = "authentication_failed",
    /// A primary where a replica was expected, or the other way round.
    WrongRole = "wrong_role",
    /// The replica is further behind than `max_lag`.
    LagTooHigh = "lag_too_high",
    /// The query failed.
    QueryFailed = "query_failed",
    /// The certificate ends within the days that were asked for.
    CertificateExpiring = "certificate_expiring",
    /// It says of itself that it does not serve (gRPC health, a cluster's own checks).
    NotServing = "not_serving",
    /// What was asked for does not exist there (a gRPC service, a Deployment, an instance).
    NotFound = "not_found",
    /// Its keeper says that it is not well (a cloud's status, a Deployment's conditions).
    Unhealthy = "unhealthy",
    /// Its keeper has plans with it: maintenance is pending.
    MaintenancePending = "maintenance_pending",
    /// A figure crossed its threshold.
    ThresholdCrossed = "threshold_crossed",
    /// There is no figure: an empty result, not a number, or too few datapoints.
    NoData = "no_data",
    /// The newest of them is older than it may be.
    TooOld = "too_old",
    /// A plugin said WARNING.
    PluginWarning = "plugin_warning",
    /// A plugin said CRITICAL.
    PluginCritical = "plugin_critical",
    /// A plugin said UNKNOWN, or what no plugin may say.
    PluginUnknown = "plugin_unknown",
    /// The provider tells of an event.
    ProviderEvent = "provider_event",
    /// Too many of the attempts in the window failed.
    ErrorRatio = "error_ratio",
    /// Too many of the answers in the window were slow.
    SlowWindow = "slow_window",
    /// The error budget burns too fast.
    BurnRate = "burn_rate",
    /// Our side: we may not ask (permissions).
    LocalPermission = "local_permission",
    /// Our side: we have asked too often.
    LocalThrottled = "local_throttled",
    /// Our side: no socket, no descriptor, no memory.
    LocalResource = "local_resource",
    /// Our side: the resolver did not answer.
    LocalResolver = "local_resolver",
    /// Our side: a secret could not be read.
    LocalCredentials = "local_credentials",
    /// Our side: nobody answers who would tell that it is not us who are cut off.
    Isolated = "isolated",
    /// Our side: the loop stood still while the attempt ran.
    Stalled = "stalled",
    /// The API that we ask about the target (a cloud's, a cluster's, Prometheus') does not answer:
    /// that says nothing of the target.
    ControlPlane = "control_plane",
}

impl CauseKind {
    /// Is it on our own side, or between us and the target? Then it never means Down, whatever a
    /// configuration says.
    pub fn is_ours(self) -> bool {
        matches!(
            self,
            Self::LocalResource
                | Self::LocalResolver
                | Self::LocalCredentials
                | Self::LocalPermission
                | Self::LocalThrottled
                | Self::Isolated
                | Self::Stalled
                | Self::ControlPlane
        )
    }
}

/// What a cause means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Meaning {
    /// It counts towards `fall`.
    Down,
    /// It is Up, and people are shown that it is not well. `NAME is degraded` holds.
    Degraded,
    /// It counts neither way.
    Unknown,
    /// It does not matter here.
    Up,
}

impl fmt::Display for Meaning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Down => "down",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
            Self::Up => "up",
        })
    }
}

impl Observation {
    /// What it is where the owner says what its cause means.
    #[must_use]
    pub fn meaning(self, causes: &BTreeMap<CauseKind, Meaning>) -> Self {
        let Some(meaning) = self.cause().and_then(|cause| causes.get(&cause.kind)).copied() else { return self };
        let (latency, facts, cause) = match self {
            Self::Up { latency, facts, degraded: Some(cause) } => (latency, facts, cause),
            Self::Down { cause, facts } => (Duration::ZERO, facts, cause),
            Self::Unknown { cause } => (Duration::ZERO, None, cause),
            Self::Up { .. } => return self,
        };
        match meaning {
            Meaning::Down if cause.kind.is_ours() => Self::Unknown { cause },
            Meaning::Down => Self::Down { cause, facts },
            Meaning::Degraded => Self::Up { latency, facts, degraded: Some(cause) },
            Meaning::Unknown => Self::Unknown { cause },
            Meaning::Up => Self::Up { latency, facts, degraded: None },
        }
    }
}

impl fmt::Display for CauseKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which copy of the data a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Takes writes.
    Primary,
    /// Follows a primary.
    Replica,
}

/// What a target said of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Primary or replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,
    /// How far behind its primary a replica is. `None` while it does not stream: what it has not
    /// received it cannot count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<Lag>,
    /// A replica: does it stream from its primary? A primary: does any replica stream from it?
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streaming: Option<bool>,
    /// A replica that has a stream: how long ago the newest message of its primary came, never less than
    /// it really was. Unlike `streaming`, which a replica goes on saying for a while after its primary
    /// fell silent, this is a sign of life. By the replica's own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_message: Option<Duration>,
    /// A primary: does each commit wait for a standby (`sync_state` of `sync` or `quorum`, and
    /// `synchronous_commit` at least `on`)? Then an acknowledged write is on the standby. `None`
    /// while commits would wait but no standby is there: they hang, and nothing is acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synchronous: Option<bool>,
    /// The replication position in bytes (PostgreSQL LSN, Redis offset).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// The next transaction number (PostgreSQL's `xmax` of a snapshot): what a replica has replayed up to, or
    /// a primary has given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transaction: Option<u64>,
    /// A primary that was promoted since its server was started: how far it had received its own primary's
    /// log, as `offset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted_at: Option<u64>,
    /// When the newest transaction was committed that it has, by the clock of the primary that committed it;
    /// of a primary that was promoted, the newest one that it took over. `None` where no commit times are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<WallTime>,
    /// What tells one cluster from another (PostgreSQL's system identifier, Redis' replication id).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Figures that it told (a plugin's performance data); only finite ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figure>,
}

/// A figure that a target told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Its name, in the target's words.
    pub name: String,
    /// Its value.
    pub value: f64,
    /// Its unit, in the target's words; empty where it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
}

/// Replication lag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// Age of the newest transaction that the replica has, while the primary has newer ones;
    /// zero when it has everything.
    pub time: Duration,
    /// Bytes that the replica has not applied, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}
