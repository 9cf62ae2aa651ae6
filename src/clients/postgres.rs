//! PostgreSQL: a connection to exactly one server, and what an error of it means.

use std::path::Path;
use std::time::{Duration, Instant};

use futures::TryStreamExt;
use tokio::task::JoinHandle;
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::CONNECT_TIMEOUT;
use super::failure::{Failure, FailureKind, causes, find};
use super::postgres_address::Address;
use super::tls::{Check, Trust};
use crate::config::SecretText;

/// A connection. Dropping it closes it.
pub struct Session {
    client: tokio_postgres::Client,
    cancel: CancelToken,
    tls: MakeRustlsConnect,
    driver: JoinHandle<()>,
}

/// What a statement answered: its first row, and how many there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The first row, as text.
    pub first: Option<Vec<Option<String>>>,
    /// How many rows it returned.
    pub returned: u64,
    /// How many rows it returned or changed, as the server counts.
    pub counted: u64,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connects to the one server that `url` names; how it is read is told in [`super::postgres_address`].
///
/// # Errors
/// [`Failure`], never `Unknown`: nothing was asked of the server yet. The address is not in it.
pub async fn connect(url: &SecretText, ca_file: Option<&Path>, until: Instant) -> Result<Session, Failure> {
    let text = url.read().map_err(|error| Failure::new(FailureKind::Denied, error.to_string()))?;
    let mut address =
        Address::parse(&text, ca_file).map_err(|reason| Failure::refused(format!("postgres: the address {reason}")))?;
    // Where there is no TLS nobody is asked for a certificate.
    let check = address.tls.unwrap_or(Check::Nothing);
    let tls = MakeRustlsConnect::new((*Trust::default().config(check, address.ca_file.as_deref())?).clone());
    let connecting = address.config.connect_timeout(CONNECT_TIMEOUT).connect(tls.clone());
    let (client, connection) = tokio::time::timeout_at(until.into(), connecting)
        .await
        .map_err(|_| Failure::again("postgres: cannot connect in time"))?
        .map_err(|error| not_connected(&error))?;
    let driver = tokio::spawn(async move {
        // Its end is seen by the next query.
        let _ = connection.await;
    });
    Ok(Session { cancel: client.cancel_token(), client, tls, driver })
}

impl Session {
    /// Runs one statement and returns the first row of its answer as text.
    ///
    /// # Errors
    /// [`Failure`]; `Unknown` where the time ran out or the connection broke.
    pub async fn row(&self, sql: &str, until: Instant) -> Result<Vec<Option<String>>, Failure> {
        let answer = tokio::time::timeout_at(until.into(), self.client.simple_query(sql))
            .await
            .map_err(|_| Failure::unknown("postgres: no answer in time"))?
            .map_err(|error| classify(&error))?;
        answer
            .iter()
            .find_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    Some((0..row.len()).map(|column| row.try_get(column).ok().flatten().map(str::to_owned)).collect())
                }
                _ => None,
            })
            .ok_or_else(|| Failure::unknown("postgres: an answer without a row"))
    }

    /// The first column of the first row.
    ///
    /// # Errors
    /// As [`Session::row`]; `Unknown` where it is null.
    pub async fn value(&self, sql: &str, until: Instant) -> Result<String, Failure> {
        let row = self.row(sql, until).await?;
        row.into_iter().next().flatten().ok_or_else(|| Failure::unknown("postgres: null where a value was expected"))
    }

    /// Runs a statement, or several, and tells the first row of the last answer. The rows are counted
    /// as they come, and not kept.
    ///
    /// # Errors
    /// As [`Session::row`].
    pub async fn run(&self, sql: &str, until: Instant) -> Result<Answer, Failure> {
        let asked = async {
            let mut stream = std::pin::pin!(self.client.simple_query_raw(sql).await?);
            let (mut answer, mut next) = (Answer::default(), Answer::default());
            while let Some(message) = stream.try_next().await? {
                match message {
                    SimpleQueryMessage::Row(row) => {
                        next.returned += 1;
                        if next.first.is_none() {
                            let text = |column| row.try_get(column).ok().flatten().map(str::to_owned);
                            next.first = Some((0..row.len()).map(text).collect());
                        }
                    }
                    SimpleQueryMessage::CommandComplete(counted) => {
                        next.counted = counted;
                        answer = std::mem::take(&mut next);
                    }
                    _ => {}
                }
            }
            Ok(answer)
        };
        tokio::time::timeout_at(until.into(), asked)
            .await
            .map_err(|_| Failure::unknown("postgres: no answer in time"))?
            .map_err(|error| classify(&error))
    }

    /// Lets the server read a text without running it: it refuses one that holds several statements.
    ///
    /// # Errors
    /// As [`Session::row`]; nothing was changed.
    pub async fn parse(&self, statement: &str, until: Instant) -> Result<(), Failure> {
        let parsed = tokio::time::timeout_at(until.into(), self.client.prepare(statement)).await;
        parsed.map_err(|_| Failure::again("postgres: no answer in time"))?.map(drop).map_err(|error| classify(&error))
    }

    /// Asks the server to give up what it does for this connection. A commit that waits for a
    /// synchronous standby ends, done on this server.
    pub async fn cancel(&self, within: Duration) {
        // Best effort: where it fails, the server ends the wait when it sees the connection gone.
        let _ = tokio::time::timeout(within, self.cancel.cancel_query(self.tls.clone())).await;
    }
}

/// Was the login given up for what we are or have (no or a wrong password, a way of logging in that
/// needs one), before the server said so itself? The kinds of these errors are private; their texts
/// are the only way to tell them apart.
pub fn our_credentials(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    text.starts_with("invalid configuration") || text.starts_with("authentication error")
}

fn not_connected(error: &tokio_postgres::Error) -> Failure {
    if error.code().is_none() && our_credentials(error) {
        return Failure::new(FailureKind::Denied, format!("postgres: cannot log in: {}", causes(error)));
    }
    if let Some(tls @ rustls::Error::InvalidCertificate(_)) = find::<rustls::Error>(error) {
        return Failure::refused(format!("postgres: TLS: {tls}"));
    }
    let kind = match error.code() {
        None => FailureKind::Again,
        Some(code) if code.code().starts_with("28") => FailureKind::Denied,
        Some(code) if code.code().starts_with("53") || code.code().starts_with("57") => FailureKind::Again,
        Some(_) => FailureKind::Refused,
    };
    Failure::new(kind, format!("postgres: cannot connect: {}", causes(error)))
}

/// What an error of a statement says about the server.
/// <https://www.postgresql.org/docs/current/errcodes-appendix.html>
fn classify(error: &tokio_postgres::Error) -> Failure {
    let kind = match error.code() {
        // The connection broke, or what came could not be read.
        None => FailureKind::Unknown,
        Some(code) if *code == SqlState::INSUFFICIENT_PRIVILEGE => FailureKind::Denied,
        Some(code) => match code.code().get(..2) {
            // Connection, operator intervention (shutdown, crash), system and internal errors.
            Some("08" | "57" | "58" | "XX") => FailureKind::Unknown,
            // Resources; not in the state needed.
            Some("53" | "55") => FailureKind::Again,
            _ => FailureKind::Refused,
        },
    };
    Failure::new(kind, format!("postgres: {}", causes(error))).with_code(error.code().map(SqlState::code))
}
