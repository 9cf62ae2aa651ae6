//! `redis.follow`.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use serde_json::Value;

use super::epoch::{self, When};
use super::{Role, field, role};
use crate::actions::{CHANGE, Halt, LOOK, until};
use crate::clients::Failure;
use crate::clients::redis::{Address, Place, connect, query};
use crate::config::action::RedisFollow;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// Makes a server a replica.
pub(super) struct Follow {
    params: RedisFollow,
}

/// What a server says of itself.
struct Itself {
    run_id: String,
    /// Which history of writes it has, and which it went on from.
    history: String,
    earlier: String,
}

impl Follow {
    pub(super) fn new(params: RedisFollow) -> Self {
        Self { params }
    }

    /// The host and port of the master, as the server will be told them.
    fn master(&self) -> Result<(String, u16), Failure> {
        let text = self.params.master.read().map_err(|error| Failure::refused(error.to_string()))?;
        match Address::parse(&text).map(|address| address.place) {
            Ok(Place::Tcp { host, port, .. }) => Ok((host, port)),
            Ok(Place::Unix(_)) => Err(Failure::refused("redis: the master's address is a socket, and has no host")),
            Err(reason) => Err(Failure::refused(format!("redis: the master's address {reason}"))),
        }
    }

    /// May the server follow this master? Its data is dropped then, so it must not be the one that
    /// was promoted.
    async fn may_follow(&self, ours: &mut MultiplexedConnection, until: Instant) -> Result<(), Failure> {
        let mut theirs = connect(&self.params.master, until).await?;
        if let Role::Replica { host, port, .. } = role(&mut theirs, until).await? {
            return Err(Failure::refused(format!("the master is itself a replica of {host}:{port}")));
        }
        let (ours, theirs) = (itself(ours, until).await?, itself(&mut theirs, until).await?);
        if ours.run_id == theirs.run_id {
            return Err(Failure::refused("both addresses lead to the same server, which cannot follow itself"));
        }
        if ours.earlier == theirs.history {
            return Err(Failure::refused(
                "this server was promoted from the one that it is to follow: what was written since would be \
                 lost; are `url` and `master` mixed up?",
            ));
        }
        Ok(())
    }

    async fn look(&self, until: Instant) -> Result<(MultiplexedConnection, Role, bool), Failure> {
        let (host, port) = self.master()?;
        let mut connection = connect(&self.params.url, until).await?;
        let role = role(&mut connection, until).await?;
        let follows = matches!(&role, Role::Replica { host: at, port: on, .. } if *at == host && *on == port);
        Ok((connection, role, follows))
    }
}

async fn itself(connection: &mut MultiplexedConnection, until: Instant) -> Result<Itself, Failure> {
    let info: String = query(connection, cmd("INFO").arg("everything"), until).await?;
    let get = |name| {
        let missing = || Failure::unknown(format!("redis: INFO does not tell {name}"));
        field(&info, name).map(str::to_owned).ok_or_else(missing)
    };
    Ok(Itself { run_id: get("run_id")?, history: get("master_replid")?, earlier: get("master_replid2")? })
}

fn told(role: &Role) -> String {
    match role {
        Role::Master { replicas } => format!("it is master of {replicas} replicas"),
        Role::Replica { host, port, link, offset } => {
            format!("it follows {host}:{port}; link {link}, offset {offset}")
        }
    }
}

#[async_trait]
impl Action for Follow {
    async fn observe(&self, context: &ActionContext) -> Observed {
        let until = until(context, LOOK);
        let looked = async {
            let (mut connection, role, follows) = self.look(until).await?;
            if !follows {
                self.may_follow(&mut connection, until).await?;
                epoch::ours(context, &mut connection, until).await?;
            }
            Ok::<_, Halt>((role, follows))
        };
        match looked.await {
            Ok((Role::Replica { link, .. }, true)) if link != "connected" => {
                Observed::InProgress { evidence: format!("it follows already; link {link}") }
            }
            Ok((role, true)) => Observed::Done { evidence: told(&role) },
            Ok((role, false)) => Observed::NotDone { evidence: told(&role), before: Value::Null },
            Err(halt) => halt.observed(),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        let until = until(context, CHANGE);
        let ready = async {
            let (mut connection, role, follows) = self.look(until).await?;
            if follows {
                return Err(Failure::again(told(&role)));
            }
            self.may_follow(&mut connection, until).await?;
            Ok((connection, self.master()?))
        };
        let (mut connection, (host, port)) = match ready.await {
            Ok(ready) => ready,
            Err(failure) => return Ok(failure.not_sent()),
        };
        let command = cmd("REPLICAOF").arg(&host).arg(port).to_owned();
        let sent = epoch::change(context, &mut connection, &[command], When::Before, until).await?;
        Ok(match sent {
            Ok(told) => Applied::Accepted { evidence: format!("REPLICAOF {host} {port} was taken{told}") },
            Err(outcome) => outcome,
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.look(until(context, LOOK)).await {
            Ok((_, role @ Role::Replica { .. }, true)) => match &role {
                Role::Replica { link, .. } if link == "connected" => Verified::yes(told(&role)),
                _ => Verified::NotYet {
                    evidence: format!("{} (a password that the master asks for is `masterauth` here)", told(&role)),
                },
            },
            Ok((_, role, _)) => Verified::NotYet { evidence: told(&role) },
            Err(failure) => failure.verified(),
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}
