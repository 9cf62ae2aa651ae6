//! A PostgreSQL server: does it accept a session and answer, which role has it, how far behind
//! is it.
//!
//! A session that is refused for what *we* are (password, `pg_hba.conf`, no such database) comes
//! from a server that is alive: Unknown (`authentication_failed`), never Down. A server that takes
//! nobody (starting up, shutting down, no connection left) is Down.

use std::path::PathBuf;
use std::pin::pin;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::TryStreamExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, SimpleQueryRow};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::classify::{Fault, find, io_fault};
use super::dial::dial;
use super::kept::{Keeper, Kept};
use super::postgres_facts::{self, FACTS};
use super::stage::{Stage, waiting_for};
use super::{ProbeBuildError, ProbeClients, ProbeContext, read_secret};
use crate::clients::postgres::our_credentials;
use crate::clients::postgres_address::{Address, Place};
use crate::clients::tls::Check;
use crate::config::SecretText;
use crate::config::probe::PostgresProbe;
use crate::model::{CauseKind, Facts, HumanDuration, Observation, Role};
use crate::ports::Probe;

/// See [`PostgresProbe`].
pub struct Postgres {
    url: SecretText,
    expect: Option<Role>,
    query: Option<String>,
    max_lag: Option<HumanDuration>,
    max_lag_bytes: Option<u64>,
    ca_file: Option<PathBuf>,
    clients: ProbeClients,
    timeout: Duration,
    keeper: Keeper<Session>,
}

struct Session {
    client: Client,
    cluster: Option<String>,
}

impl Postgres {
    /// Checks the parameters; a URL by reference is only looked at when it is used.
    ///
    /// # Errors
    /// Names the parameter that cannot be used.
    pub fn new(config: &PostgresProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        if let SecretText::Plain(text) = &config.url {
            Address::parse(text, config.ca_file.as_deref()).map_err(|reason| ProbeBuildError::new("url", reason))?;
        }
        if let Some(path) = config.ca_file.as_deref() {
            context.clients.trust.config(Check::Chain, Some(path))?;
        }
        Ok(Self {
            url: config.url.clone(),
            expect: config.expect,
            query: config.query.clone(),
            max_lag: config.max_lag,
            max_lag_bytes: config.max_lag_bytes,
            ca_file: config.ca_file.clone(),
            clients: context.clients.clone(),
            timeout: context.timeout,
            keeper: Keeper::new(context.nudge.clone()),
        })
    }

    async fn connect(&self) -> Result<Kept<Session>, Fault> {
        let text = read_secret(&self.url).await?;
        let credentials = |reason: String| Fault::ours(CauseKind::LocalCredentials, reason);
        let target = Address::parse(&text, self.ca_file.as_deref())
            .map_err(|reason| credentials(format!("the url {reason}")))?;
        match &target.place {
            Place::Tcp { host, address, port } => {
                let stream = dial(&self.clients.names, address, *port).await?;
                match target.tls {
                    Some(check) => {
                        let tls = self
                            .clients
                            .trust
                            .config(check, target.ca_file.as_deref())
                            .map_err(|error| credentials(error.to_string()))?;
                        self.log_in(&target.config, stream, MakeRustlsConnect::new((*tls).clone()), host).await
                    }
                    None => self.log_in(&target.config, stream, NoTls, host).await,
                }
            }
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| io_fault(&error))?;
                self.log_in(&target.config, stream, NoTls, "").await
            }
        }
    }

    async fn log_in<S, T>(
        &self,
        config: &tokio_postgres::Config,
        stream: S,
        mut tls: T,
        host: &str,
    ) -> Result<Kept<Session>, Fault>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: MakeTlsConnect<S>,
        T::Stream: Send + 'static,
    {
        let tls =
            tls.make_tls_connect(host).map_err(|_| Fault::theirs(CauseKind::Tls, "the host is not a server name"))?;
        let connected = waiting_for(Stage::Handshake, config.connect_raw(stream, tls)).await;
        let (client, connection) = connected.map_err(|error| fault_of(&error))?;
        let driver = async move {
            // How it ended is seen by the query that it ended.
            let _ = connection.await;
        };
        let mut kept = self.keeper.adopt(Session { client, cluster: None }, driver);
        kept.client.cluster = cluster(&kept.client.client).await?;
        Ok(kept)
    }

    /// The look at role and lag, and the owner's query.
    async fn look(&self, session: &Session) -> Result<Facts, Fault> {
        let row = first_row(&session.client, FACTS).await.map_err(|error| {
            let fault = fault_of(&error);
            if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) {
                return Fault::ours(
                    CauseKind::AuthenticationFailed,
                    format!("{}; grant pg_monitor to it", fault.detail),
                );
            }
            fault
        })?;
        let row = row.ok_or_else(|| Fault::theirs(CauseKind::Protocol, "the look at the role gave no row"))?;
        let mut facts = postgres_facts::read(&row)?;
        facts.cluster.clone_from(&session.cluster);
        if let Some(query) = &self.query {
            // A query that outlives its attempt would pile up on the server, one per interval.
            // `SET LOCAL` in the same message ends with it, also behind a pooler.
            let limit = self.timeout.as_millis().clamp(1, i32::MAX as u128);
            let bounded = format!("SET LOCAL statement_timeout = {limit}; {query}");
            first_row(&session.client, &bounded).await.map_err(|error| fault_of(&error))?;
        }
        Ok(facts)
    }

    async fn facts(&self) -> Result<Facts, Fault> {
        if let Some(kept) = self.keeper.take() {
            match self.look(&kept.client).await {
                // Cut since the last attempt: the server may stand again, so we look afresh.
                Err(fault) if fault.is_cut() => {}
                looked => {
                    self.keeper.give_back(kept);
                    return looked;
                }
            }
        }
        let kept = self.connect().await?;
        let looked = self.look(&kept.client).await;
        if looked.is_ok() {
            self.keeper.give_back(kept);
        }
        looked
    }

    fn judge(&self, facts: &Facts) -> Result<(), Fault> {
        super::check_role(self.expect, facts.role)?;
        // Unknown lag is not high lag: a standby whose primary has just died must not be called
        // down for it. The policy refuses to promote on unknown lag by itself (S5).
        let Some(lag) = facts.lag else { return Ok(()) };
        if let Some(HumanDuration(most)) = self.max_lag
            && lag.time > most
        {
            let text = format!("{} behind, more than {}", HumanDuration(lag.time), HumanDuration(most));
            return Err(Fault::theirs(CauseKind::LagTooHigh, text));
        }
        match (self.max_lag_bytes, lag.bytes) {
            (Some(most), Some(bytes)) if bytes > most => {
                Err(Fault::theirs(CauseKind::LagTooHigh, format!("{bytes} bytes behind, more than {most}")))
            }
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Probe for Postgres {
    async fn attempt(&self) -> Observation {
        let started = Instant::now();
        match self.facts().await {
            Ok(facts) => super::with_facts(self.judge(&facts), facts, started.elapsed()),
            Err(fault) => fault.into(),
        }
    }
}

/// Which cluster it is; `None` where the server does not tell a user like ours.
async fn cluster(client: &Client) -> Result<Option<String>, Fault> {
    match first_row(client, "SELECT system_identifier FROM pg_control_system()").await {
        Ok(row) => Ok(row.and_then(|row| row.get(0).map(str::to_owned))),
        Err(error) if error.as_db_error().is_some() => Ok(None),
        Err(error) => Err(fault_of(&error)),
    }
}

/// Runs statements and keeps the first row only, however many there are.
async fn first_row(client: &Client, sql: &str) -> Result<Option<SimpleQueryRow>, tokio_postgres::Error> {
    let mut messages = pin!(client.simple_query_raw(sql).await?);
    let mut first = None;
    while let Some(message) = messages.try_next().await? {
        if let (SimpleQueryMessage::Row(row), None) = (message, &first) {
            first = Some(row);
        }
    }
    Ok(first)
}

/// The codes are those of <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn fault_of(error: &tokio_postgres::Error) -> Fault {
    if let Some(db) = error.as_db_error() {
        let code = db.code();
        let text = format!("{} ({})", db.message(), code.code());
        return match code.code() {
            // Our user, password, address (pg_hba.conf) or database.
            "28000" | "28P01" | "3D000" => Fault::ours(CauseKind::AuthenticationFailed, text),
            // Shutting down, crashed: it ends sessions that stood.
            "57P01" | "57P02" => Fault::theirs(CauseKind::ConnectionReset, text),
            // Starting up, in recovery, shutting down; no connection left.
            "57P03" | "53300" => Fault::theirs(CauseKind::ConnectionRefused, text),
            "57014" => Fault::theirs(CauseKind::Timeout, text),
            _ => Fault::theirs(CauseKind::QueryFailed, text),
        };
    }
    if error.is_closed() {
        return Fault::theirs(CauseKind::ConnectionReset, "the server closed the connection");
    }
    if our_credentials(error) {
        return Fault::ours(CauseKind::AuthenticationFailed, "the login could not be completed with our credentials");
    }
    if let Some(fault) = find(error) {
        return fault;
    }
    // The kinds are private; their texts are the only way to tell them apart.
    let text = error.to_string();
    if text.starts_with("error performing TLS") {
        return Fault::theirs(CauseKind::Tls, "the server offers no TLS");
    }
    Fault::theirs(CauseKind::Protocol, text)
}
