//! Plain HTTP: a client that follows nothing and repeats nothing, and bounded answers.

use std::path::Path;
use std::time::{Duration, Instant};

use reqwest::redirect::Policy;

use super::CONNECT_TIMEOUT;
use super::failure::{Failure, causes};

/// The longest body that is read, in bytes; the rest is not looked at.
pub const BODY_BYTES: usize = 64 * 1024;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The beginning of the body, at most [`BODY_BYTES`]; bytes that are no UTF-8 are replaced.
    pub body: String,
    /// Is that all of it? What is not in a part may be in the rest.
    pub whole: bool,
    /// After how long the server wants to be asked again, where it says so in seconds.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Builds a client. Connections are not kept: one that the server has closed in the meantime would
/// turn a request that was never read into an unknown outcome.
pub(super) fn client(ca_file: Option<&Path>) -> Result<reqwest::Client, Failure> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("failoverd/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .pool_max_idle_per_host(0)
        .connect_timeout(CONNECT_TIMEOUT);
    if let Some(path) = ca_file {
        let failed = |reason: String| Failure::refused(format!("ca_file {}: {reason}", path.display()));
        let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| failed(causes(&error)))?;
        if certificates.is_empty() {
            return Err(failed("no certificate in it".into()));
        }
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| Failure::refused(format!("no HTTP client could be built: {}", causes(&error))))
}

/// Sends a request and reads the beginning of its answer, until `until`.
///
/// # Errors
/// [`Failure`]: `Again` where no connection was made, `Refused` where the request could not be
/// built, else `Unknown`. The address is in none of them, since it may be a secret.
pub async fn send(what: &str, until: Instant, request: reqwest::RequestBuilder) -> Result<Answer, Failure> {
    // With no time left the request would still be begun, and its outcome would be unknown.
    if Instant::now() >= until {
        return Err(Failure::again(format!("{what}: not sent: no time is left")));
    }
    let no_answer = || Failure::unknown(format!("{what}: no answer in time"));
    let sent = tokio::time::timeout_at(until.into(), request.send()).await.map_err(|_| no_answer())?;
    let mut response = sent.map_err(|error| {
        let (connect, builder, timeout) = (error.is_connect(), error.is_builder(), error.is_timeout());
        let text = causes(&error.without_url());
        match (connect, builder, timeout) {
            (true, _, _) => Failure::again(format!("{what}: cannot connect: {text}")),
            (_, true, _) => Failure::refused(format!("{what}: not sent: {text}")),
            (_, _, true) => no_answer(),
            _ => Failure::unknown(format!("{what}: the connection broke: {text}")),
        }
    })?;
    let status = response.status().as_u16();
    let retry_after = response.headers().get(reqwest::header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok()).map(Duration::from_secs);
    let mut body = Vec::new();
    // The status has told what happened; a body that breaks off or drips takes nothing from it.
    let whole = loop {
        match tokio::time::timeout_at(until.into(), response.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                let room = BODY_BYTES - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    break false;
                }
            }
            Ok(Ok(None)) => break true,
            Ok(Err(_)) | Err(_) => break false,
        }
    };
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned(), whole, retry_after })
}
