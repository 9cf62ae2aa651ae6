//! Redis, asked directly.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Parameters, service, shown};
use crate::config::check::secrets;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::{EffectKind, HumanDuration};

/// `redis.promote`: done when `ROLE` says `master` and a write was taken: `DEL` of a key that is not
/// there. With an ACL, the user needs `+role +info +dbsize +replicaof +del ~failoverd:*`.
///
/// The key `failoverd:fence:epoch` keeps an older epoch away: it is watched, and written in the transaction
/// that promotes. For that the user needs `+watch +get +multi +exec +discard +eval +set` too; without them
/// it promotes all the same, and its evidence says so.
/// <https://redis.io/docs/latest/commands/replicaof/>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisPromote {
    /// The replica: `redis://…`, by reference where it holds a password.
    pub url: SecretText,
    /// The name of the service for the guard "one promotion per service and epoch" (default:
    /// `redis`).
    #[serde(default)]
    pub service: Option<String>,
}

impl Parameters for RedisPromote {
    fn effect(&self) -> EffectKind {
        EffectKind::Promote
    }

    fn service(&self) -> Option<String> {
        Some(self.service.clone().unwrap_or_else(|| "redis".into()))
    }

    fn target(&self) -> String {
        format!("Redis at {}", shown(&self.url))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(1)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["redis", "rediss"]);
        service(report, at, self.service.as_deref());
    }
}

/// `redis.follow`: makes a server a replica of another (`REPLICAOF host port`), such as the old master
/// of the new one. Done when `ROLE` names that master and the link is `connected`.
///
/// All that the server holds is dropped for its new master's data. So it is refused where the master
/// is a replica itself, is the same server, or is the one that this server was promoted from: else a
/// mix-up of the two would throw away what was written since the promotion.
///
/// The password that the master asks for is the server's own setting (`masterauth`). Where Sentinel or
/// Redis Cluster looks after it, leave it to them. With an ACL, the user needs `+role +info +replicaof`,
/// and `+role +info` at the master; and for the epoch what `redis.promote` needs for it.
/// <https://redis.io/docs/latest/commands/replicaof/>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisFollow {
    /// The server that is to follow: `redis://…`, by reference where it holds a password.
    pub url: SecretText,
    /// The master: `redis://host:port`, by reference where it holds a password. Its host and port are
    /// what the server will connect to.
    pub master: SecretText,
}

impl Parameters for RedisFollow {
    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn target(&self) -> String {
        format!("Redis at {} as a replica of {}", shown(&self.url), shown(&self.master))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(10)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["redis", "rediss"]);
        secrets::address(report, &at.key("master"), &self.master, &["redis", "rediss"]);
        if self.url == self.master {
            report.error("same", &at.key("master"), "a server cannot follow itself", "name the other one");
        }
    }
}

/// `redis.flush`: empties a store (`FLUSHDB ASYNC` or `FLUSHALL ASYNC`). What was in it is lost: a step
/// that asks for an approval has to come before it.
///
/// In the same transaction a key `failoverd:flush:RUN/STEP` is set that expires after a day. Done when
/// that key is there, or the store is empty: clients may well have written again by then, and a
/// flush whose answer was lost must not be made a second time. With an ACL, the user needs `+role
/// +exists +dbsize +info +multi +exec +flushdb +flushall +set ~failoverd:*`; and for the epoch
/// `+watch +get +discard +eval`. Not for Redis Cluster.
/// <https://redis.io/docs/latest/commands/flushall/>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisFlush {
    /// The master: `redis://…`, by reference where it holds a password.
    pub url: SecretText,
    /// What is emptied: `database` (default), the one that the address names, or `all` of the server's.
    #[serde(default)]
    pub scope: FlushScope,
}

/// What is emptied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FlushScope {
    /// The database that the address names.
    #[default]
    Database,
    /// All databases of the server.
    All,
}

impl Parameters for RedisFlush {
    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn needs_approval(&self) -> bool {
        true
    }

    fn target(&self) -> String {
        let what = match self.scope {
            FlushScope::Database => "one database",
            FlushScope::All => "all databases",
        };
        format!("{what} of Redis at {}", shown(&self.url))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(1)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["redis", "rediss"]);
    }
}
