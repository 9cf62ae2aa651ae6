//! PostgreSQL: a connection to exactly one server, and what an error of it means.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::{CancelToken, Config, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::CONNECT_TIMEOUT;
use super::failure::{Failure, FailureKind, causes, find};
use super::postgres_tls::{self, Trust};
use crate::config::SecretText;

/// A connection. Dropping it closes it.
pub struct Session {
    client: tokio_postgres::Client,
    cancel: CancelToken,
    tls: MakeRustlsConnect,
    driver: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connects to the one server that `url` names. `sslmode` means what it means to libpq
/// (<https://www.postgresql.org/docs/current/libpq-ssl.html>), with one addition: where `ca_file`
/// is given, `prefer` and `require` verify the chain against it.
///
/// # Errors
/// [`Failure`], never `Unknown`: nothing was asked of the server yet. The address is not in it.
pub async fn connect(url: &SecretText, ca_file: Option<&Path>, until: Instant) -> Result<Session, Failure> {
    let text = url.read().map_err(|error| Failure::new(FailureKind::Denied, error.to_string()))?;
    let address = Address::parse(&text, ca_file)?;
    let tls = MakeRustlsConnect::new(postgres_tls::config(address.trust, address.ca_file.as_deref())?);
    let connecting = address.config.connect(tls.clone());
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

    /// Asks the server to give up what it does for this connection. A commit that waits for a
    /// synchronous standby ends, done on this server.
    pub async fn cancel(&self, within: Duration) {
        // Best effort: where it fails, the server ends the wait when it sees the connection gone.
        let _ = tokio::time::timeout(within, self.cancel.cancel_query(self.tls.clone())).await;
    }
}

/// What the address says, without what tokio-postgres does not know.
struct Address {
    config: Config,
    trust: Trust,
    ca_file: Option<PathBuf>,
}

impl Address {
    fn parse(text: &str, ca_file: Option<&Path>) -> Result<Self, Failure> {
        // The parser's own words may quote a piece of the address.
        let invalid =
            || Failure::refused("postgres: the address is not of the form postgresql://user@host:port/database");
        // A password may hold a question mark; what comes after the last `@` does not.
        let host = text.rfind('@').unwrap_or(0);
        let (base, query) = match text[host..].find('?') {
            Some(at) => (&text[..host + at], &text[host + at + 1..]),
            None => (text, ""),
        };
        if !base.starts_with("postgres://") && !base.starts_with("postgresql://") {
            return Err(invalid());
        }
        let (mut mode, mut root) = (None, None);
        let mut kept = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => root = Some(value),
                _ => kept.push(pair),
            }
        }
        let joined = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
        let mut config: Config = joined.parse().map_err(|_| invalid())?;
        let ca_file = ca_file.map(PathBuf::from).or(root.filter(|root| *root != "system").map(PathBuf::from));
        let lax = if ca_file.is_some() { Trust::Chain } else { Trust::Anything };
        let (ssl_mode, trust) = match mode {
            Some("disable") => (SslMode::Disable, lax),
            None | Some("allow" | "prefer") => (SslMode::Prefer, lax),
            Some("require") => (SslMode::Require, lax),
            Some("verify-ca") => (SslMode::Require, Trust::Chain),
            Some("verify-full") => (SslMode::Require, Trust::ChainAndName),
            Some(_) => {
                return Err(Failure::refused(
                    "postgres: sslmode is one of disable, prefer, require, verify-ca, verify-full",
                ));
            }
        };
        // With several hosts it would be chance which server is promoted.
        match config.get_hosts() {
            [Host::Tcp(_)] => {}
            [_] => {
                config.ssl_mode(SslMode::Disable);
                config.connect_timeout(CONNECT_TIMEOUT).application_name("failoverd");
                return Ok(Self { config, trust, ca_file });
            }
            _ => return Err(Failure::refused("postgres: the address has to name exactly one host")),
        }
        config.ssl_mode(ssl_mode).connect_timeout(CONNECT_TIMEOUT).application_name("failoverd");
        Ok(Self { config, trust, ca_file })
    }
}

fn not_connected(error: &tokio_postgres::Error) -> Failure {
    if let Some(tls) = find::<rustls::Error>(error) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sslmode_means_what_libpq_means() {
        let table = [
            ("", false, SslMode::Prefer, Trust::Anything),
            ("?sslmode=disable", false, SslMode::Disable, Trust::Anything),
            ("?sslmode=require", false, SslMode::Require, Trust::Anything),
            ("?sslmode=require", true, SslMode::Require, Trust::Chain),
            ("?application_name=x&sslmode=verify-ca", false, SslMode::Require, Trust::Chain),
            ("?sslmode=verify-full&sslrootcert=/ca.pem", false, SslMode::Require, Trust::ChainAndName),
        ];
        for (query, ca, mode, trust) in table {
            let ca_file = ca.then_some(Path::new("/ca.pem"));
            let address =
                Address::parse(&format!("postgresql://me@db.example:5433/shop{query}"), ca_file).expect(query);
            assert_eq!((address.config.get_ssl_mode(), address.trust), (mode, trust), "{query}");
            assert_eq!(address.config.get_ports(), [5433]);
        }
    }

    #[test]
    fn an_address_that_cannot_be_used_is_refused_without_being_quoted() {
        for text in [
            "postgresql://u:canary@a.example,b.example/shop",
            "postgresql://u:canary@a.example/shop?sslmode=canary",
            "postgresql://u:canary@a.example:canary/shop",
            "host=a.example password=canary",
            "",
        ] {
            let failure = Address::parse(text, None).err().expect(text);
            assert_eq!(failure.kind, FailureKind::Refused, "{text}");
            assert!(!failure.reason.contains("canary"), "{failure}");
        }
    }

    #[test]
    fn a_password_may_hold_a_question_mark() {
        let address = Address::parse("postgresql://u:a?b@a.example/shop?sslmode=verify-full", None).expect("parsed");
        assert_eq!(address.config.get_password(), Some(&b"a?b"[..]));
        assert_eq!(address.trust, Trust::ChainAndName);
    }

    #[test]
    fn a_socket_needs_no_tls() {
        let address = Address::parse("postgresql:///shop?host=/run/postgresql&sslmode=require", None).expect("parsed");
        assert_eq!(address.config.get_ssl_mode(), SslMode::Disable);
    }
}
