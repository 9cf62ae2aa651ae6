//! `redis.flush`.

use std::time::Instant;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use serde_json::Value;

use super::epoch::{self, When};
use super::{Role, role};
use crate::actions::{CHANGE, LOOK, until};
use crate::clients::Failure;
use crate::clients::redis::{connect, query};
use crate::config::action::{FlushScope, RedisFlush};
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// How long the mark of a flush stays: longer than a run lasts.
const MARK_SECONDS: u32 = 24 * 60 * 60;

/// Empties a store.
pub(super) struct Flush {
    params: RedisFlush,
}

/// How the store stands.
struct Seen {
    /// Our mark is in it: it was emptied by this step of this run.
    marked: bool,
    keys: u64,
}

impl Seen {
    fn is_done(&self) -> bool {
        self.marked || self.keys == 0
    }

    fn told(&self) -> String {
        match self {
            Self { marked: true, keys } => {
                format!("it was emptied by this step; {} keys since", keys.saturating_sub(1))
            }
            Self { keys, .. } => format!("{keys} keys"),
        }
    }
}

impl Flush {
    pub(super) fn new(params: RedisFlush) -> Self {
        Self { params }
    }

    /// The mark of this step of this run, set in the same transaction.
    fn mark(context: &ActionContext) -> String {
        let run = context.run.as_ref().map_or("dry-run", |run| run.as_str());
        format!("failoverd:flush:{run}/{}", context.step)
    }

    async fn look(&self, context: &ActionContext, until: Instant) -> Result<(MultiplexedConnection, Seen), Failure> {
        let mut connection = connect(&self.params.url, until).await?;
        if let Role::Replica { host, port, .. } = role(&mut connection, until).await? {
            return Err(Failure::refused(format!("it is a replica of {host}:{port}; empty its master")));
        }
        let marked: u32 = query(&mut connection, cmd("EXISTS").arg(Self::mark(context)), until).await?;
        let keys = match self.params.scope {
            FlushScope::Database => query::<u64>(&mut connection, &cmd("DBSIZE"), until).await?,
            FlushScope::All => {
                let info: String = query(&mut connection, cmd("INFO").arg("keyspace"), until).await?;
                all_keys(&info)
            }
        };
        // Our own key is none of the owner's.
        let own: u64 = query(&mut connection, cmd("EXISTS").arg(epoch::KEY), until).await.unwrap_or_default();
        Ok((connection, Seen { marked: marked > 0, keys: keys.saturating_sub(own) }))
    }
}

/// The keys of all databases: `db0:keys=3,expires=0,…`.
pub(super) fn all_keys(info: &str) -> u64 {
    info.lines()
        .filter_map(|line| {
            line.trim().strip_prefix("db")?.split_once(":keys=")?.1.split(',').next()?.parse::<u64>().ok()
        })
        .fold(0, u64::saturating_add)
}

#[async_trait]
impl Action for Flush {
    async fn observe(&self, context: &ActionContext) -> Observed {
        match self.look(context, until(context, LOOK)).await {
            Ok((_, seen)) if seen.is_done() => Observed::Done { evidence: seen.told() },
            Ok((_, seen)) => Observed::NotDone { evidence: seen.told(), before: Value::Null },
            Err(failure) => failure.observed(),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let mut connection = match self.look(context, until).await {
            Ok((_, seen)) if seen.is_done() => {
                return Ok(Applied::Refused { reason: format!("nothing to empty: {}", seen.told()), again: true });
            }
            Ok((connection, _)) => connection,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let command = match self.params.scope {
            FlushScope::Database => "FLUSHDB",
            FlushScope::All => "FLUSHALL",
        };
        let mut set = cmd("SET");
        set.arg(Self::mark(context)).arg(context.epoch.0).arg("EX").arg(MARK_SECONDS);
        let commands = [cmd(command).arg("ASYNC").to_owned(), set];
        let sent = epoch::change(context, &mut connection, &commands, When::After, until).await?;
        Ok(match sent {
            Ok(told) => Applied::Accepted { evidence: format!("{command} ASYNC was taken{told}") },
            Err(outcome) => outcome,
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.look(context, until(context, LOOK)).await {
            Ok((_, seen)) if seen.is_done() => Verified::yes(seen.told()),
            Ok((_, seen)) => Verified::NotYet { evidence: seen.told() },
            Err(failure) => failure.verified(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_of_all_databases_are_counted() {
        assert_eq!(all_keys("# Keyspace\r\ndb0:keys=3,expires=0,avg_ttl=0\r\ndb12:keys=40,expires=1\r\n"), 43);
        assert_eq!(all_keys("# Keyspace\r\n"), 0);
        assert_eq!(all_keys("db0:keys=18446744073709551615\r\ndb1:keys=1\r\n"), u64::MAX);
    }
}
