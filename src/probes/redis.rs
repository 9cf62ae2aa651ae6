//! A Redis server: does it answer PING, which role has it, does its link to the primary live.
//!
//! Commands: <https://redis.io/docs/latest/commands/role/>,
//! <https://redis.io/docs/latest/commands/info/> (section `replication`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_rustls::TlsConnector;

use super::classify::{Fault, find, io_fault};
use super::dial::dial;
use super::kept::{Keeper, Kept};
use super::stage::{Stage, waiting_for};
use super::{ProbeBuildError, ProbeClients, ProbeContext, read_secret};
use crate::clients::redis::{Address, Place, Refusal, refusal, said};
use crate::config::SecretText;
use crate::config::probe::RedisProbe;
use crate::model::{CauseKind, Facts, HumanDuration, Lag, Observation, Role};
use crate::ports::Probe;

/// A primary says something every 10 s (`repl-ping-replica-period`), and a replica holds on to its
/// link for 60 s (`repl-timeout`). After this long the stream has ended, whatever the replica says.
const SILENT: Duration = Duration::from_secs(15);

/// See [`RedisProbe`].
pub struct Redis {
    url: SecretText,
    expect: Option<Role>,
    max_lag: Option<HumanDuration>,
    clients: ProbeClients,
    keeper: Keeper<MultiplexedConnection>,
}

impl Redis {
    /// Checks the parameters; a URL by reference is only looked at when it is used.
    ///
    /// # Errors
    /// Names the parameter that cannot be used.
    pub fn new(config: &RedisProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        if let SecretText::Plain(text) = &config.url {
            Address::parse(text).map_err(|reason| ProbeBuildError::new("url", reason))?;
        }
        Ok(Self {
            url: config.url.clone(),
            expect: config.expect,
            max_lag: config.max_lag,
            clients: context.clients.clone(),
            keeper: Keeper::new(context.nudge.clone()),
        })
    }

    async fn connect(&self) -> Result<Kept<MultiplexedConnection>, Fault> {
        let text = read_secret(&self.url).await?;
        let credentials = |reason: String| Fault::ours(CauseKind::LocalCredentials, reason);
        let address = Address::parse(&text).map_err(|reason| credentials(format!("the url {reason}")))?;
        match &address.place {
            Place::Tcp { host, port, tls: None } => {
                let stream = dial(&self.clients.names, host, *port).await?;
                self.log_in(&address, stream).await
            }
            Place::Tcp { host, port, tls: Some(check) } => {
                let tls = self.clients.trust.config(*check, None).map_err(|error| credentials(error.to_string()))?;
                let name = ServerName::try_from(host.clone())
                    .map_err(|_| Fault::theirs(CauseKind::Tls, "the host is not a server name"))?;
                let stream = dial(&self.clients.names, host, *port).await?;
                let stream = waiting_for(Stage::Handshake, TlsConnector::from(tls).connect(name, stream)).await;
                self.log_in(&address, stream.map_err(|error| io_fault(&error))?).await
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| io_fault(&error))?;
                self.log_in(&address, stream).await
            }
        }
    }

    async fn log_in<S>(&self, address: &Address, stream: S) -> Result<Kept<MultiplexedConnection>, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (client, driver) = address.over(stream).await.map_err(|error| fault_of(&error))?;
        let mut kept = self.keeper.adopt(client, driver);
        waiting_for(Stage::Handshake, address.log_in(&mut kept.client)).await.map_err(|error| login_fault(&error))?;
        Ok(kept)
    }

    async fn facts(&self) -> Result<Facts, Fault> {
        if let Some(mut kept) = self.keeper.take() {
            match look(&mut kept.client).await {
                // Cut since the last attempt: the server may stand again, so we look afresh.
                Err(fault) if fault.is_cut() => {}
                looked => {
                    self.keeper.give_back(kept);
                    return looked;
                }
            }
        }
        let mut kept = self.connect().await?;
        let looked = look(&mut kept.client).await;
        if looked.is_ok() {
            self.keeper.give_back(kept);
        }
        looked
    }

    fn judge(&self, facts: &Facts) -> Result<(), Fault> {
        super::check_role(self.expect, facts.role)?;
        match (self.max_lag, facts.lag) {
            (Some(HumanDuration(most)), Some(lag)) if lag.time > most => {
                let text = format!(
                    "its primary was silent for {}, more than {}",
                    HumanDuration(lag.time),
                    HumanDuration(most)
                );
                Err(Fault::theirs(CauseKind::LagTooHigh, text))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Probe for Redis {
    async fn attempt(&self) -> Observation {
        let started = Instant::now();
        match self.facts().await {
            Ok(facts) => super::with_facts(self.judge(&facts), facts, started.elapsed()),
            Err(fault) => fault.into(),
        }
    }
}

/// PING, ROLE and INFO in one round trip.
async fn look(connection: &mut MultiplexedConnection) -> Result<Facts, Fault> {
    let mut pipe = redis::pipe();
    pipe.cmd("PING").ignore().cmd("ROLE").cmd("INFO").arg("replication");
    let answer: Result<(redis::Value, String), RedisError> = pipe.query_async(connection).await;
    let (role, info) = answer.map_err(|error| fault_of(&error))?;
    let role = match &role {
        redis::Value::Array(parts) => parts.first().and_then(word),
        _ => None,
    };
    let role = match role.as_deref() {
        Some("master") => Role::Primary,
        Some("slave") => Role::Replica,
        // A sentinel holds no data.
        Some(other) => return Err(Fault::theirs(CauseKind::WrongRole, format!("it is a {}", short(other)))),
        None => return Err(Fault::theirs(CauseKind::Protocol, "ROLE gave no role")),
    };
    Ok(facts(role, &info))
}

fn word(value: &redis::Value) -> Option<String> {
    match value {
        redis::Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        redis::Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Reads `INFO replication`.
fn facts(role: Role, info: &str) -> Facts {
    let fields: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let number = |name: &str| fields.get(name).and_then(|text| text.parse::<u64>().ok());
    let mut facts =
        Facts { role: Some(role), cluster: fields.get("master_replid").map(|text| short(text)), ..Facts::default() };
    match role {
        Role::Primary => {
            facts.offset = number("master_repl_offset");
            // `slave0:ip=…,port=…,state=online,offset=…,lag=…`
            facts.streaming = Some(fields.iter().any(|(name, value)| {
                name.strip_prefix("slave").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                    && value.split(',').any(|part| part == "state=online")
            }));
            // Replication is asynchronous, whatever `min-replicas-to-write` says of the past.
            facts.synchronous = Some(false);
        }
        Role::Replica => {
            facts.offset = number("slave_repl_offset");
            // `-1` would mean that it never spoke.
            let silence = number("master_last_io_seconds_ago").map(Duration::from_secs);
            // Whole seconds, cut off: it may be almost one more.
            let age = silence.map(|silence| silence.saturating_add(Duration::from_secs(1)));
            let linked = fields.get("master_link_status") == Some(&"up");
            let streaming = linked && silence.is_none_or(|silence| silence <= SILENT);
            facts.streaming = Some(streaming);
            facts.last_message = age.filter(|_| linked);
            // While nothing comes nobody here knows what was not received.
            if streaming {
                // What was written before the primary last spoke is here.
                facts.lag = silence.map(|time| Lag {
                    time,
                    // Read from the link, not applied yet (since Redis 7).
                    bytes: number("slave_read_repl_offset")
                        .zip(facts.offset)
                        .map(|(read, done)| read.saturating_sub(done)),
                });
            }
        }
    }
    facts
}

/// What the server's refusal of a login means. Where it is not full, it is alive, and does not
/// take what we sent.
fn login_fault(error: &RedisError) -> Fault {
    let fault = fault_of(error);
    if fault.kind == CauseKind::QueryFailed && said(error).is_some_and(|(code, _)| code == "ERR") {
        return Fault::ours(CauseKind::AuthenticationFailed, fault.detail);
    }
    fault
}

fn fault_of(error: &RedisError) -> Fault {
    if let Some((code, rest)) = said(error) {
        let text = format!("{code} {rest}");
        return match refusal(&code, &rest) {
            Refusal::Credentials => Fault::ours(CauseKind::AuthenticationFailed, text),
            Refusal::Full => Fault::theirs(CauseKind::ConnectionRefused, text),
            Refusal::Other => Fault::theirs(CauseKind::QueryFailed, text),
        };
    }
    match (error.kind(), find(error)) {
        (_, Some(fault)) => fault,
        (ErrorKind::Io, None) => Fault::theirs(CauseKind::ConnectionReset, "the server closed the connection"),
        (_, None) => Fault::theirs(CauseKind::Protocol, error.category().to_owned()),
    }
}

/// What a server says of its replication, in each role.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn told(text: &str) {
    for role in [Role::Primary, Role::Replica] {
        let _facts = facts(role, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_with_its_link_up_has_a_bounded_lag() {
        let info = "# Replication\r\nrole:slave\r\nmaster_link_status:up\r\nmaster_last_io_seconds_ago:3\r\n\
                    slave_read_repl_offset:120\r\nslave_repl_offset:100\r\nmaster_replid:abc\r\n";
        let facts = facts(Role::Replica, info);
        assert_eq!(facts.lag, Some(Lag { time: Duration::from_secs(3), bytes: Some(20) }));
        assert_eq!((facts.streaming, facts.offset, facts.cluster.as_deref()), (Some(true), Some(100), Some("abc")));
        // The seconds are cut off.
        assert_eq!(facts.last_message, Some(Duration::from_secs(4)));
    }

    #[test]
    fn a_replica_without_its_link_has_unknown_lag() {
        let info = "master_link_status:down\r\nmaster_last_io_seconds_ago:-1\r\nslave_repl_offset:100\r\n";
        let facts = facts(Role::Replica, info);
        assert_eq!((facts.lag, facts.streaming, facts.last_message), (None, Some(false), None));
    }

    #[test]
    fn a_primary_that_hangs_leaves_a_replica_with_unknown_lag() {
        for (silence, streaming) in [(15, true), (16, false), (59, false)] {
            let info =
                format!("master_link_status:up\r\nmaster_last_io_seconds_ago:{silence}\r\nslave_repl_offset:1\r\n");
            let facts = facts(Role::Replica, &info);
            assert_eq!((facts.streaming, facts.lag.is_some()), (Some(streaming), streaming), "{silence}");
        }
    }

    #[test]
    fn a_primary_streams_while_a_replica_is_online() {
        let online = "slave0:ip=127.0.0.1,port=1,state=online,offset=1,lag=0\r\nmaster_repl_offset:9";
        assert_eq!(facts(Role::Primary, online).streaming, Some(true));
        assert_eq!(facts(Role::Primary, "slave_priority:100\r\n").streaming, Some(false));
    }
}
