//! Redis: an address, a login, a connection to one server, and what an error of it means.
//!
//! Probes and actions share the address, the login and the meaning of a refusal; each dials in its
//! own way.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, ServerErrorKind,
};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::CONNECT_TIMEOUT;
use super::failure::{Failure, FailureKind, find, one_line};
use super::tls::{Check, Trust};
use crate::config::SecretText;

/// How long a login may take: it is one round trip or two.
const LOGIN: Duration = CONNECT_TIMEOUT;

/// As whom the client itself logs in: see [`Address::over`].
static NOBODY: LazyLock<RedisConnectionInfo> = LazyLock::new(|| RedisConnectionInfo::default().set_skip_set_lib_name());

/// Where to connect, and as whom.
pub struct Address {
    /// The server.
    pub place: Place,
    login: RedisConnectionInfo,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A host, as a name or a literal address.
    Tcp {
        /// The name, which the certificate has to bear.
        host: String,
        /// The port.
        port: u16,
        /// TLS (`rediss://`); `None`: without.
        tls: Option<Check>,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Reads `redis://user:password@host:port/database`, `rediss://…`, `unix:…`.
    ///
    /// # Errors
    /// The reason, as the end of a sentence that begins with "the address". It never repeats any
    /// of the text: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "is not a Redis URL; write redis://host:port or rediss://host:port";
        let info = text.trim().into_connection_info().map_err(|_| FORM)?;
        let place = match info.addr() {
            ConnectionAddr::Tcp(host, port) => Place::Tcp { host: host.clone(), port: *port, tls: None },
            ConnectionAddr::TcpTls { host, port, insecure, .. } => {
                let check = if *insecure { Check::Nothing } else { Check::Full };
                Place::Tcp { host: host.clone(), port: *port, tls: Some(check) }
            }
            ConnectionAddr::Unix(path) => Place::Unix(path.clone()),
            _ => return Err(FORM),
        };
        Ok(Self { place, login: info.redis_settings().clone() })
    }

    /// A connection over a stream that stands already, and what moves its bytes. Nothing is sent
    /// yet: the client turns every answer to its AUTH into "wrong password", also "max number of
    /// clients reached". So [`Address::log_in`] asks for it.
    ///
    /// # Errors
    /// Of the client.
    pub async fn over<S>(
        &self,
        stream: S,
    ) -> Result<(MultiplexedConnection, impl Future<Output = ()> + use<S>), RedisError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // Whoever calls has a deadline; the client's would be a second, shorter one.
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        MultiplexedConnection::new_with_config(&NOBODY, stream, config).await
    }

    /// Says who we are, and which database is meant, where the address does.
    ///
    /// # Errors
    /// Of the server; [`refusal`] tells what it means.
    pub async fn log_in(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        if let Some(password) = self.login.password() {
            let mut auth = redis::cmd("AUTH");
            if let Some(user) = self.login.username() {
                auth.arg(user);
            }
            auth.arg(password).query_async::<()>(connection).await?;
        }
        if self.login.db() != 0 {
            redis::cmd("SELECT").arg(self.login.db()).query_async::<()>(connection).await?;
        }
        Ok(())
    }
}

/// What a server means that refuses us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Our user, our password, or what our user may do.
    Credentials,
    /// It has as many clients as it takes.
    Full,
    /// Something else.
    Other,
}

/// What the server's own words mean, as [`said`] gives them.
/// <https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors>
pub fn refusal(code: &str, rest: &str) -> Refusal {
    match code {
        "NOAUTH" | "WRONGPASS" | "NOPERM" => Refusal::Credentials,
        "ERR" if rest.contains("max number of clients") => Refusal::Full,
        // Before Redis 6, or where no password is set at all.
        "ERR" if rest.contains("invalid password") || rest.contains("without any password configured") => {
            Refusal::Credentials
        }
        _ => Refusal::Other,
    }
}

/// The server's own words of an error: its code and the rest. Never the client's, which could
/// repeat an argument.
pub fn said(error: &RedisError) -> Option<(String, String)> {
    let errors = error.clone().into_server_errors()?;
    let (_, first) = errors.first()?;
    Some((first.code().to_owned(), first.details().unwrap_or_default().to_owned()))
}

/// Connects to the server that `url` names.
///
/// # Errors
/// [`Failure`], never `Unknown`: nothing was asked of the server yet. The address is not in it.
pub async fn connect(url: &SecretText, until: Instant) -> Result<MultiplexedConnection, Failure> {
    let text = url.read().map_err(|error| Failure::new(FailureKind::Denied, error.to_string()))?;
    let address = Address::parse(&text).map_err(|reason| Failure::refused(format!("redis: the address {reason}")))?;
    tokio::time::timeout_at(until.into(), open(&address))
        .await
        .unwrap_or_else(|_| Err(Failure::again("redis: cannot connect in time")))
}

async fn open(address: &Address) -> Result<MultiplexedConnection, Failure> {
    match &address.place {
        Place::Tcp { host, port, tls: None } => {
            let stream = dial(host, *port).await.map_err(|error| not_connected(&error))?;
            session(address, stream).await
        }
        Place::Tcp { host, port, tls: Some(check) } => {
            let tls = Trust::default().config(*check, None)?;
            let name = ServerName::try_from(host.clone())
                .map_err(|_| Failure::refused("redis: the host of the address is no name for a certificate"))?;
            let stream = dial(host, *port).await.map_err(|error| not_connected(&error))?;
            let stream = TlsConnector::from(tls).connect(name, stream).await.map_err(|error| not_connected(&error))?;
            session(address, stream).await
        }
        Place::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|error| not_connected(&error))?;
            session(address, stream).await
        }
    }
}

/// Each address of the host has a time of its own, so that one that drops packets hides no other.
async fn dial(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")),
        }
    }
    Err(last)
}

async fn session<S>(address: &Address, stream: S) -> Result<MultiplexedConnection, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut connection, driver) = address.over(stream).await.map_err(|error| not_logged_in(&error))?;
    // Ends with the last copy of the connection.
    tokio::spawn(driver);
    let login = tokio::time::timeout(LOGIN, address.log_in(&mut connection));
    login
        .await
        .map_err(|_| Failure::again("redis: connected, but the login is not answered"))?
        .map_err(|error| not_logged_in(&error))?;
    Ok(connection)
}

fn not_connected(error: &io::Error) -> Failure {
    match find::<rustls::Error>(error) {
        Some(tls @ rustls::Error::InvalidCertificate(_)) => Failure::refused(format!("redis: TLS: {tls}")),
        _ => Failure::again(format!("redis: cannot connect: {error}")),
    }
}

/// Only what is about our credentials stays as it is; a server that is full, loads or shuts down
/// may take us a moment later.
fn not_logged_in(error: &RedisError) -> Failure {
    let Some((code, rest)) = said(error) else {
        return Failure::again(format!("redis: cannot log in: {}", one_line(error.category())));
    };
    let kind = match refusal(&code, &rest) {
        Refusal::Credentials => FailureKind::Denied,
        Refusal::Full | Refusal::Other => FailureKind::Again,
    };
    Failure::new(kind, format!("redis: cannot log in: {code} {rest}")).with_code(Some(&code))
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

/// What an error of a command says about the server.
fn classify(error: &RedisError) -> Failure {
    let refused = said(error).map(|(code, rest)| refusal(&code, &rest));
    let kind = match (refused, error.kind()) {
        // Answered, and with an error: the command was not carried out.
        (Some(Refusal::Credentials), _) => FailureKind::Denied,
        (Some(Refusal::Full), _) => FailureKind::Again,
        (
            _,
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown,
            ),
        ) => FailureKind::Again,
        (_, ErrorKind::Server(_) | ErrorKind::Extension) if error.code() == Some("BUSY") => FailureKind::Again,
        (_, ErrorKind::Server(_) | ErrorKind::Extension) => FailureKind::Refused,
        _ => FailureKind::Unknown,
    };
    Failure::new(kind, format!("redis: {}", one_line(&error.to_string()))).with_code(error.code())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn only_credentials_are_about_us() {
        for (code, rest, expected) in [
            ("NOAUTH", "Authentication required.", Refusal::Credentials),
            ("WRONGPASS", "invalid username-password pair or user is disabled.", Refusal::Credentials),
            ("NOPERM", "User x has no permissions to run the 'role' command", Refusal::Credentials),
            ("ERR", "invalid password", Refusal::Credentials),
            (
                "ERR",
                "AUTH <password> called without any password configured for the default user.",
                Refusal::Credentials,
            ),
            ("ERR", "max number of clients reached", Refusal::Full),
            ("ERR", "max number of clients + cluster connections reached", Refusal::Full),
            ("LOADING", "Redis is loading the dataset in memory", Refusal::Other),
            ("ERR", "something new", Refusal::Other),
        ] {
            assert_eq!(refusal(code, rest), expected, "{code} {rest}");
        }
    }

    #[test]
    fn an_address_is_read_without_being_repeated() {
        let place = |text: &str| Address::parse(text).map(|address| address.place);
        let tcp = |tls| Ok(Place::Tcp { host: "h".into(), port: 6380, tls });
        assert_eq!(place("redis://u:p@h:6380/1\n"), tcp(None));
        assert_eq!(place("rediss://h:6380"), tcp(Some(Check::Full)));
        assert_eq!(place("rediss://h:6380/#insecure"), tcp(Some(Check::Nothing)));
        assert_eq!(place("unix:///run/redis.sock"), Ok(Place::Unix("/run/redis.sock".into())));
        for text in ["redis//:hunter2@h", "http://hunter2@h", "hunter2 hunter2"] {
            assert!(place(text).is_err_and(|reason| !reason.contains("hunter2")), "{text}");
        }
    }
    /// A server that answers whatever it is sent with the same words.
    async fn saying(words: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {
                    let _ = stream.write_all(format!("-{words}\r\n").as_bytes()).await;
                }
            }
        });
        address
    }

    #[tokio::test]
    async fn only_credentials_make_a_login_or_a_look_hopeless() {
        use FailureKind::{Again, Denied};
        for (words, kind) in [
            ("ERR max number of clients reached", Again),
            ("LOADING Redis is loading the dataset in memory", Again),
            ("BUSY Redis is busy running a script", Again),
            ("WRONGPASS invalid username-password pair or user is disabled.", Denied),
            ("NOAUTH Authentication required.", Denied),
            ("NOPERM this user has no permissions", Denied),
        ] {
            let address = saying(words).await;
            let until = Instant::now() + Duration::from_secs(10);
            let login = SecretText::Plain(format!("redis://:canary-pw@{address}"));
            let failure = connect(&login, until).await.expect_err(words);
            assert_eq!((failure.kind, failure.reason.contains("canary")), (kind, false), "{failure}");
            let nobody = SecretText::Plain(format!("redis://{address}"));
            let mut connection = connect(&nobody, until).await.expect("nothing is sent yet");
            let failure = query::<i64>(&mut connection, &redis::cmd("DBSIZE"), until).await.expect_err(words);
            assert_eq!(failure.kind, kind, "{failure}");
        }
        let database = SecretText::Plain(format!("redis://{}/3", saying("NOPERM no SELECT").await));
        let failure = connect(&database, Instant::now() + Duration::from_secs(10)).await.err();
        assert_eq!(failure.map(|failure| failure.kind), Some(Denied), "the database is asked for");
    }
}
