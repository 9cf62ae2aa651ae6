//! `redis.promote`, and what all actions of Redis share.

mod command;
mod epoch;
mod flush;
mod follow;

use std::time::Instant;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, Value as Reply, cmd};
use serde_json::Value;

use self::epoch::When;
use crate::actions::ready::failed;
use crate::actions::{CHANGE, Halt, LOOK, until};
use crate::clients::redis::{connect, query};
use crate::clients::{Failure, FailureKind};
use crate::config::action::{RedisAction, RedisPromote};
use crate::model::{Applied, Aspect, Finding, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied, ReadyContext};

/// Builds the action of this family.
///
/// # Errors
/// What is wrong with its parameters.
pub fn build(action: RedisAction) -> Result<Box<dyn Action>, String> {
    Ok(match action {
        RedisAction::Promote(params) => Box::new(Promote::new(params)),
        RedisAction::Command(params) => Box::new(command::Command::new(params)?),
        RedisAction::Follow(params) => Box::new(follow::Follow::new(params)),
        RedisAction::Flush(params) => Box::new(flush::Flush::new(params)),
    })
}

/// Makes a replica a master. Where Sentinel or Redis Cluster looks after it, leave it to them: they
/// would undo it.
/// <https://redis.io/docs/latest/commands/replicaof/>
pub struct Promote {
    params: RedisPromote,
}

/// What `ROLE` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Role {
    Master { replicas: usize },
    Replica { host: String, port: u16, link: String, offset: i64 },
}

/// What `INFO` tells of a replica's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Data {
    loading: bool,
    syncing: bool,
    /// Up to where it has followed its master, in bytes; 0 or 1 where it never has.
    offset: i64,
}

impl Promote {
    /// The action for these parameters.
    pub fn new(params: RedisPromote) -> Self {
        Self { params }
    }

    /// A replica whose data is not whole must not become the master: its clients would see an
    /// empty store, and the old master, once it follows, would be emptied too.
    async fn whole(&self, connection: &mut MultiplexedConnection, link: &str, until: Instant) -> Result<(), Failure> {
        let text: String = query(connection, cmd("INFO").arg("everything"), until).await?;
        let data = parse_info(&text);
        if data.loading {
            return Err(Failure::again("redis: it is loading its data from disk"));
        }
        if data.syncing || link == "sync" {
            return Err(Failure::again("redis: its first copy of the master's data is not complete"));
        }
        if link != "connected" && data.offset <= 1 {
            let keys: u64 = query(connection, &cmd("DBSIZE"), until).await?;
            if keys == 0 {
                return Err(Failure::refused("redis: it is empty and has never followed its master"));
            }
        }
        Ok(())
    }
}

async fn role(connection: &mut MultiplexedConnection, until: Instant) -> Result<Role, Failure> {
    let reply: Reply = query(connection, &cmd("ROLE"), until).await?;
    parse_role(reply).ok_or_else(|| Failure::unknown("redis: ROLE answered neither master nor slave"))
}

/// One field of what `INFO` answered.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().filter_map(|line| line.trim().split_once(':')).find_map(|(key, value)| (key == name).then_some(value))
}

fn parse_role(reply: Reply) -> Option<Role> {
    let Reply::Array(parts) = reply else { return None };
    let mut parts = parts.into_iter();
    match String::from_redis_value(parts.next()?).ok()?.as_str() {
        "master" => {
            let replicas = match parts.nth(1) {
                Some(Reply::Array(list)) => list.len(),
                _ => 0,
            };
            Some(Role::Master { replicas })
        }
        "slave" => Some(Role::Replica {
            host: String::from_redis_value(parts.next()?).ok()?,
            port: u16::from_redis_value(parts.next()?).ok()?,
            link: String::from_redis_value(parts.next()?).ok()?,
            offset: i64::from_redis_value(parts.next()?).ok()?,
        }),
        _ => None,
    }
}

fn parse_info(text: &str) -> Data {
    let field = |name| field(text, name);
    Data {
        loading: field("loading") == Some("1"),
        syncing: field("master_sync_in_progress") == Some("1"),
        offset: field("slave_repl_offset").and_then(|value| value.parse().ok()).unwrap_or_default(),
    }
}

#[async_trait]
impl Action for Promote {
    async fn ready(&self, look: &ReadyContext) -> Vec<Finding> {
        let (name, until) = ("Redis replica", until(&look.context, LOOK));
        let looked = async {
            let mut connection = connect(&self.params.url, until).await?;
            let role = role(&mut connection, until).await?;
            let whole = match &role {
                Role::Replica { link, .. } => self.whole(&mut connection, link, until).await,
                Role::Master { .. } => Ok(()),
            };
            Ok::<_, Failure>((role, whole))
        };
        let (role, whole) = match looked.await {
            Ok(seen) => seen,
            Err(failure) => return vec![failed(name, failure)],
        };
        let Role::Replica { host, port, link, offset } = role else {
            let reason = "it is a master: it was promoted already, or never was a replica";
            return vec![Finding::not_ready(name, Aspect::Matches, reason).with("replica of", "nobody")];
        };
        let stale = match whole {
            Err(failure) => Some(failure.reason),
            Ok(()) if link != "connected" => Some(format!("its link to {host}:{port} is `{link}`")),
            Ok(()) => None,
        };
        vec![
            Finding::ready(name, Aspect::Matches).with("replica of", format!("{host}:{port}")),
            Finding::judged(name, Aspect::Fresh, stale).measuring("offset", offset),
        ]
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let until = until(context, LOOK);
        let looked = async {
            let mut connection = connect(&self.params.url, until).await?;
            let role = role(&mut connection, until).await?;
            if let Role::Replica { link, .. } = &role {
                self.whole(&mut connection, link, until).await?;
                epoch::ours(context, &mut connection, until).await?;
            }
            Ok::<_, Halt>(role)
        };
        match looked.await {
            Ok(Role::Master { replicas }) => {
                Observed::Done { evidence: format!("it is master of {replicas} replicas") }
            }
            Ok(Role::Replica { host, port, link, offset }) => Observed::NotDone {
                evidence: format!("it follows {host}:{port}; link {link}, offset {offset}"),
                before: serde_json::json!({ "host": host, "port": port }),
            },
            Err(halt) => halt.observed(),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let ready = async {
            let mut connection = connect(&self.params.url, until).await?;
            match role(&mut connection, until).await? {
                Role::Master { .. } => Err(Failure::again("it is master already")),
                Role::Replica { link, .. } => {
                    self.whole(&mut connection, &link, until).await?;
                    Ok(connection)
                }
            }
        };
        let mut connection = match ready.await {
            Ok(connection) => connection,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let command = cmd("REPLICAOF").arg("NO").arg("ONE").to_owned();
        let sent = epoch::change(context, &mut connection, &[command], When::After, until).await?;
        Ok(match sent {
            Ok(told) => Applied::Accepted { evidence: format!("REPLICAOF NO ONE was taken{told}") },
            Err(outcome) => outcome,
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let until = until(context, LOOK);
        let looked = async {
            let mut connection = connect(&self.params.url, until).await?;
            let role = role(&mut connection, until).await?;
            if let Role::Replica { host, port, .. } = role {
                return Ok(Verified::NotYet { evidence: format!("it still follows {host}:{port}") });
            }
            // Deleting what does not exist changes nothing, leaves nothing and is not replicated,
            // and is refused like any write: READONLY, NOREPLICAS, MISCONF.
            let key = format!("failoverd:{}", context.step);
            match query::<i64>(&mut connection, cmd("DEL").arg(key), until).await {
                Ok(_) => Ok(Verified::yes("it is master and takes writes")),
                // Without the right nothing is proven, and traffic must not follow (S6).
                Err(failure) if failure.kind == FailureKind::Denied => Ok(Verified::NotYet {
                    evidence: format!(
                        "it is master, but our user may not try a write; grant it `+del ~failoverd:*`: {}",
                        failure.reason
                    ),
                }),
                Err(failure) => Err(failure),
            }
        };
        match looked.await {
            Ok(verified) => verified,
            Err(failure) => failure.verified(),
        }
    }
}

/// What a server answers, read as the actions read it.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn answered(data: &[u8]) {
    if let Ok(reply) = redis::parse_redis_value(data) {
        let _role = parse_role(reply);
    }
    let info = String::from_utf8_lossy(data);
    let (_data, _keys) = (parse_info(&info), flush::all_keys(&info));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Reply {
        Reply::BulkString(text.as_bytes().to_vec())
    }

    #[test]
    fn role_is_read() {
        let master = Reply::Array(vec![text("master"), Reply::Int(10), Reply::Array(vec![Reply::Array(vec![])])]);
        assert_eq!(parse_role(master), Some(Role::Master { replicas: 1 }));
        let replica =
            Reply::Array(vec![text("slave"), text("10.0.0.1"), Reply::Int(6379), text("sync"), Reply::Int(-1)]);
        let expected = Role::Replica { host: "10.0.0.1".into(), port: 6379, link: "sync".into(), offset: -1 };
        assert_eq!(parse_role(replica), Some(expected));
        assert_eq!(parse_role(Reply::Array(vec![text("sentinel"), Reply::Array(vec![])])), None);
        assert_eq!(parse_role(Reply::Array(vec![])), None);
        assert_eq!(parse_role(Reply::Nil), None);
    }

    #[test]
    fn info_is_read() {
        let data = parse_info(
            "# Persistence\r\nloading:1\r\n# Replication\r\nmaster_sync_in_progress:0\r\nslave_repl_offset:42\r\n",
        );
        assert_eq!(data, Data { loading: true, syncing: false, offset: 42 });
        assert_eq!(parse_info("nonsense"), Data::default());
    }
}
