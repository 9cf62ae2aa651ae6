//! What each kind of probe can see that is not Up, and what that means: the documentation
//! (`failoverd probes KIND`) and `check` read it here.

use serde::Serialize;

use super::exec::EXEC;
use super::grpc::GRPC;
use super::http_sequence::HTTP_SEQUENCE;
use super::icmp::ICMP;
use super::tls::TLS;
use super::{ProbeKind, aws_health, cloudwatch, elasticache, kubernetes, promql, rds, s3_age, velero_age, window};
use crate::model::{CauseKind, Meaning};

/// A cause that a kind of probe can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CauseRow {
    /// The cause.
    pub cause: CauseKind,
    /// What it means unless the owner says otherwise.
    pub means: Meaning,
    /// When it is seen.
    pub when: &'static str,
}

/// A row that means Down.
pub(super) const fn down(cause: CauseKind, when: &'static str) -> CauseRow {
    CauseRow { cause, means: Meaning::Down, when }
}

/// A row that means Unknown.
pub(super) const fn unknown(cause: CauseKind, when: &'static str) -> CauseRow {
    CauseRow { cause, means: Meaning::Unknown, when }
}

/// A row that means Degraded.
pub(super) const fn degraded(cause: CauseKind, when: &'static str) -> CauseRow {
    CauseRow { cause, means: Meaning::Degraded, when }
}

/// What every kind sees that opens a connection to its target.
pub(super) const CONNECTION: &[CauseRow] = &[
    down(CauseKind::ConnectionRefused, "the target refuses the connection"),
    down(CauseKind::ConnectionReset, "the connection is cut, twice in a row where it was a kept one"),
    down(CauseKind::Unreachable, "the network says that there is no way to the target"),
    down(CauseKind::Timeout, "the deadline of the attempt passes while we wait for the target"),
    down(CauseKind::NameNotFound, "the name does not exist (NXDOMAIN, or no address)"),
];

/// What every kind sees of ourselves.
pub(super) const OURS: &[CauseRow] = &[
    unknown(CauseKind::LocalResource, "no socket, descriptor, memory or route of our own"),
    unknown(CauseKind::LocalResolver, "our resolver does not answer"),
    unknown(CauseKind::LocalCredentials, "a secret cannot be read, or cannot be used"),
    unknown(CauseKind::Stalled, "we stood still while the attempt ran"),
];

/// What every kind sees that asks an API about its target.
pub(super) const CONTROL_PLANE: &[CauseRow] = &[
    unknown(CauseKind::ControlPlane, "the API that is asked does not answer, or fails by itself (5xx)"),
    unknown(CauseKind::LocalPermission, "the API does not let us ask: credentials or permissions"),
    unknown(CauseKind::LocalThrottled, "we ask too often: the API says so, or our own `limits` left no room"),
    unknown(CauseKind::QueryFailed, "the API refuses the question"),
];

const HTTP: &[CauseRow] = &[
    down(CauseKind::HttpStatus, "the status is not one of `status`"),
    down(CauseKind::HttpBody, "the body is not what `contains`, `matches` or `json` asks for"),
    down(CauseKind::Slow, "the answer was right, and took longer than `max_latency`"),
    down(CauseKind::Tls, "the handshake or the certificate failed"),
    down(CauseKind::Protocol, "the answer is not HTTP"),
    unknown(CauseKind::AuthenticationFailed, "401 or 407 to a request that carries credentials"),
];

const DNS: &[CauseRow] = &[
    down(CauseKind::NameNotFound, "the name does not exist (NXDOMAIN), or has no such record"),
    down(CauseKind::NameServerFailure, "the server that is asked answers SERVFAIL or REFUSED"),
    down(CauseKind::WrongAnswer, "one of `expect` is not in the answer"),
    down(CauseKind::Timeout, "the server that is asked does not answer"),
];

const POSTGRES: &[CauseRow] = &[
    down(CauseKind::WrongRole, "a primary where a replica was expected, or the other way round"),
    down(CauseKind::LagTooHigh, "the replica is further behind than `max_lag` or `max_lag_bytes`"),
    down(CauseKind::QueryFailed, "`query` failed, or the server shuts down or starts up"),
    down(CauseKind::Tls, "the handshake or the certificate failed"),
    down(CauseKind::Protocol, "the answer is not PostgreSQL's"),
    unknown(CauseKind::AuthenticationFailed, "the server does not take our credentials"),
];

const REDIS: &[CauseRow] = &[
    down(CauseKind::WrongRole, "a primary where a replica was expected, or the other way round"),
    down(CauseKind::LagTooHigh, "the link to the primary is down, or silent for longer than `max_lag`"),
    down(CauseKind::QueryFailed, "PING or ROLE failed, or the data is still being loaded"),
    down(CauseKind::Tls, "the handshake or the certificate failed"),
    down(CauseKind::Protocol, "the answer is not Redis's"),
    unknown(CauseKind::AuthenticationFailed, "the server does not take our credentials"),
];

macro_rules! causes {
    ($(Self::$kind:ident(_) => $parts:expr,)+) => {
        impl ProbeKind {
            /// Everything that a probe of this kind can see besides Up; the first row of a cause holds.
            pub fn causes(&self) -> Vec<CauseRow> {
                // Only where the API server itself is the target is its silence the target's.
                if let Self::Kubernetes(probe) = self
                    && !probe.readyz
                {
                    return [kubernetes::CAUSES, OURS, CONTROL_PLANE].concat();
                }
                let parts: &[&[CauseRow]] = match self {
                    $(Self::$kind(_) => $parts,)+
                };
                parts.concat()
            }

            /// The same for the kind of this name, as written in the file.
            pub fn causes_of(kind: &str) -> Vec<CauseRow> {
                // `HttpSequence` is `http_sequence`.
                let is_it = |variant: &str| {
                    let letters = |text: &str| text.replace('_', "").to_ascii_lowercase();
                    letters(variant) == letters(kind)
                };
                $(
                    if is_it(stringify!($kind)) {
                        let parts: &[&[CauseRow]] = $parts;
                        return parts.concat();
                    }
                )+
                Vec::new()
            }
        }
    };
}

causes! {
    Self::Http(_) => &[HTTP, CONNECTION, OURS],
    Self::Tcp(_) => &[CONNECTION, OURS],
    Self::Dns(_) => &[DNS, OURS],
    Self::Postgres(_) => &[POSTGRES, CONNECTION, OURS],
    Self::Redis(_) => &[REDIS, CONNECTION, OURS],
    Self::Tls(_) => &[TLS, CONNECTION, OURS],
    Self::Grpc(_) => &[GRPC, CONNECTION, OURS],
    Self::Icmp(_) => &[ICMP, OURS],
    Self::Exec(_) => &[EXEC, OURS],
    Self::HttpSequence(_) => &[HTTP_SEQUENCE, CONNECTION, OURS],
    Self::Kubernetes(_) => &[kubernetes::CAUSES, CONNECTION, OURS, CONTROL_PLANE],
    Self::Rds(_) => &[rds::CAUSES, OURS, CONTROL_PLANE],
    Self::Elasticache(_) => &[elasticache::CAUSES, OURS, CONTROL_PLANE],
    Self::Promql(_) => &[promql::CAUSES, OURS, CONTROL_PLANE],
    Self::Cloudwatch(_) => &[cloudwatch::CAUSES, OURS, CONTROL_PLANE],
    Self::S3Age(_) => &[s3_age::CAUSES, OURS, CONTROL_PLANE],
    Self::VeleroAge(_) => &[velero_age::CAUSES, OURS, CONTROL_PLANE],
    Self::AwsHealth(_) => &[aws_health::CAUSES, OURS, CONTROL_PLANE],
    Self::Window(_) => &[window::CAUSES],
}
