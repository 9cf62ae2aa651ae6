//! Redis: a connection to one server, and what an error of it means.

use std::time::Instant;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Cmd, ErrorKind, FromRedisValue, RedisError, ServerErrorKind};

use super::CONNECT_TIMEOUT;
use super::failure::{Failure, FailureKind, one_line};
use crate::config::SecretText;

/// Connects to the server that `url` names.
///
/// # Errors
/// [`Failure`], never `Unknown`: nothing was asked of the server yet. The address is not in it.
pub async fn connect(url: &SecretText, until: Instant) -> Result<MultiplexedConnection, Failure> {
    let text = url.read().map_err(|error| Failure::new(FailureKind::Denied, error.to_string()))?;
    // The parser's own words may quote a piece of the address.
    let client = redis::Client::open(text)
        .map_err(|_| Failure::refused("redis: the address is not of the form redis://user@host:port/database"))?;
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(None);
    let connecting = client.get_multiplexed_async_connection_with_config(&config);
    match tokio::time::timeout_at(until.into(), connecting).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(not_connected(&error)),
        Err(_) => Err(Failure::again("redis: cannot connect in time")),
    }
}

/// Sends one command and waits for its answer until `until`.
///
/// # Errors
/// [`Failure`]; `Unknown` where the time ran out or the connection broke.
pub async fn query<T: FromRedisValue>(
    connection: &mut MultiplexedConnection,
    command: &Cmd,
    until: Instant,
) -> Result<T, Failure> {
    match tokio::time::timeout_at(until.into(), command.query_async(connection)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(classify(&error)),
        Err(_) => Err(Failure::unknown("redis: no answer in time")),
    }
}

fn not_connected(error: &RedisError) -> Failure {
    let kind = match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::Server(ServerErrorKind::NoPerm) => FailureKind::Denied,
        ErrorKind::InvalidClientConfig => FailureKind::Refused,
        _ if matches!(error.code(), Some("WRONGPASS" | "NOAUTH" | "NOPERM")) => FailureKind::Denied,
        _ => FailureKind::Again,
    };
    Failure::new(kind, format!("redis: cannot connect: {}", one_line(&error.to_string()))).with_code(error.code())
}

/// What an error of a command says about the server.
fn classify(error: &RedisError) -> Failure {
    let kind = match error.kind() {
        // Answered, and with an error: the command was not carried out.
        ErrorKind::Server(ServerErrorKind::NoPerm) => FailureKind::Denied,
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown,
        ) => FailureKind::Again,
        ErrorKind::Server(_) | ErrorKind::Extension if matches!(error.code(), Some("BUSY")) => FailureKind::Again,
        ErrorKind::Server(_) | ErrorKind::Extension => match error.code() {
            Some("NOAUTH" | "WRONGPASS") => FailureKind::Denied,
            _ => FailureKind::Refused,
        },
        _ => FailureKind::Unknown,
    };
    Failure::new(kind, format!("redis: {}", one_line(&error.to_string()))).with_code(error.code())
}
