//! The client of the API, with errors for people.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{Stream, StreamExt};
use serde::de::DeserializeOwned;

use crate::core::matrix::EvidenceView;
use crate::core::report::Report;
use crate::core::scorecard::Scorecard;
use crate::core::view::{IncidentView, NoticeView, ReadinessAsked, ReadinessView, RunView, ScenarioView, StatusView};
use crate::core::{Answer, Command, Refusal};
use crate::model::{IncidentId, RunId, ScenarioName};

/// Longer than the daemon's own bound, so that its words about the delay arrive.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The longest answer that is read.
const LONGEST: usize = 32 * 1024 * 1024;

/// How long a watcher waits; the daemon sends something every five seconds.
const SILENCE: Duration = Duration::from_secs(20);

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody is there.
    #[error(
        "no failoverd answers on {socket}: {why}\n  Is it running?    systemctl status failoverd\n  Start it:         \
         systemctl start failoverd   (or: failoverd run)\n  Another socket?   --socket PATH, or FAILOVERD_SOCKET"
    )]
    NotRunning {
        /// The socket.
        socket: PathBuf,
        /// What was found.
        why: &'static str,
    },
    /// The file system forbids it.
    #[error(
        "no permission to open {socket}: run it as root or as the daemon's user, or have the directory opened for you"
    )]
    Permission {
        /// The socket.
        socket: PathBuf,
    },
    /// The daemon said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The connection broke, or the daemon took too long.
    #[error("the daemon on {socket} did not answer: {why}")]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// How.
        why: String,
    },
    /// The answer could not be understood.
    #[error("the daemon's answer could not be understood ({why}): is it of another version than this program?")]
    Answer {
        /// How.
        why: String,
    },
}

/// A client of one daemon.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

impl Client {
    /// A client for the daemon behind this socket. Nothing is connected yet.
    ///
    /// # Errors
    /// [`ClientError::Broken`] where the HTTP client cannot be set up.
    pub fn new(socket: &Path) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .unix_socket(socket)
            // Neither a proxy from the environment nor the system's certificates matter here, and
            // a host without the latter must still be able to say `failoverd abort`.
            .no_proxy()
            .tls_certs_only([])
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| ClientError::Broken { socket: socket.into(), why: chain(&error) })?;
        Ok(Self { http, socket: socket.into() })
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Everything at a glance.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn status(&self) -> Result<StatusView, ClientError> {
        self.get("/v1/status").await
    }

    /// The scenarios with their guards; of one, or of all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn explain(&self, scenario: Option<&ScenarioName>) -> Result<Vec<ScenarioView>, ClientError> {
        let request = self.http.get(url("/v1/explain"));
        let request = match scenario {
            Some(name) => request.query(&[("scenario", name.as_str())]),
            None => request,
        };
        self.json(request).await
    }

    /// The incidents, the newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn incidents(&self) -> Result<Vec<IncidentView>, ClientError> {
        self.get("/v1/incidents").await
    }

    /// The runs, the newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn runs(&self) -> Result<Vec<RunView>, ClientError> {
        self.get("/v1/runs").await
    }

    /// The notices that have not reached their routes, the newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn notices(&self) -> Result<Vec<NoticeView>, ClientError> {
        self.get("/v1/notices").await
    }

    /// What is known of all plans: the recovery-time matrix, budgets, drills.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn evidence(&self) -> Result<EvidenceView, ClientError> {
        self.get("/v1/evidence").await
    }

    /// What alert-only mode would have done.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn scorecard(&self) -> Result<Scorecard, ClientError> {
        self.get("/v1/scorecard").await
    }

    /// One run.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn run(&self, id: &RunId) -> Result<RunView, ClientError> {
        let mut address = url::Url::parse(&url("/v1/runs")).map_err(|error| self.broken(error.to_string()))?;
        if let Ok(mut path) = address.path_segments_mut() {
            path.push(id.as_str());
        }
        self.json(self.http.get(address)).await
    }

    /// Whether each plan could be carried out, as it was last looked at.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn readiness(&self) -> Result<ReadinessView, ClientError> {
        self.get("/v1/readiness").await
    }

    /// Has every plan looked at again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn look_at_readiness(&self) -> Result<ReadinessAsked, ClientError> {
        self.json(self.http.post(url("/v1/readiness"))).await
    }

    /// The report on an incident.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn report(&self, id: &IncidentId) -> Result<Report, ClientError> {
        let mut address = url::Url::parse(&url("/v1/incidents")).map_err(|error| self.broken(error.to_string()))?;
        if let Ok(mut path) = address.path_segments_mut() {
            path.extend([id.as_str(), "report"]);
        }
        self.json(self.http.get(address)).await
    }

    /// Gives a command.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn command(&self, command: &Command) -> Result<Answer, ClientError> {
        self.json(self.http.post(url("/v1/command")).json(command)).await
    }

    /// The status at each change, until the daemon ends or is silent for too long.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn watch(&self) -> Result<impl Stream<Item = Result<StatusView, ClientError>> + use<>, ClientError> {
        let sending = self.http.get(url("/v1/watch")).send();
        let response = match tokio::time::timeout(TIMEOUT, sending).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(self.failed(&error)),
            Err(_) => return Err(self.broken("no answer in time".into())),
        };
        if !response.status().is_success() {
            let body = read(response, &self.socket).await?;
            return Err(refused(&body));
        }
        let state = Some((response.bytes_stream().boxed(), Vec::new(), self.socket.clone()));
        Ok(futures::stream::unfold(state, |state| async {
            let (mut bytes, mut buffer, socket) = state?;
            match line(&mut bytes, &mut buffer, &socket).await {
                Ok(Some(view)) => Some((Ok(view), Some((bytes, buffer, socket)))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.http.get(url(path))).await
    }

    async fn json<T: DeserializeOwned>(&self, request: reqwest::RequestBuilder) -> Result<T, ClientError> {
        let response = request.timeout(TIMEOUT).send().await.map_err(|error| self.failed(&error))?;
        let status = response.status();
        let body = read(response, &self.socket).await?;
        if !status.is_success() {
            return Err(refused(&body));
        }
        serde_json::from_slice(&body).map_err(|error| ClientError::Answer { why: error.to_string() })
    }

    fn broken(&self, why: String) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), why }
    }

    /// What a failed call means, by what the kernel said.
    fn failed(&self, error: &reqwest::Error) -> ClientError {
        let mut source = error.source();
        let mut kind = None;
        while let Some(inner) = source {
            if let Some(io) = inner.downcast_ref::<io::Error>() {
                kind = Some(io.kind());
            }
            source = inner.source();
        }
        let socket = self.socket.clone();
        match kind {
            Some(io::ErrorKind::NotFound) => ClientError::NotRunning { socket, why: "there is no such socket" },
            Some(io::ErrorKind::ConnectionRefused) => {
                ClientError::NotRunning { socket, why: "the process that made this socket is gone" }
            }
            Some(io::ErrorKind::PermissionDenied) => ClientError::Permission { socket },
            _ if error.is_timeout() => self.broken("no answer in time; its loop may be stuck".into()),
            _ => self.broken(chain(error)),
        }
    }
}

/// The host is not looked at; a Unix socket has none.
fn url(path: &str) -> String {
    format!("http://failoverd{path}")
}

async fn read(mut response: reqwest::Response, socket: &Path) -> Result<Vec<u8>, ClientError> {
    let broken = |why: String| ClientError::Broken { socket: socket.into(), why };
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(chain(&error)))? {
        if body.len() + chunk.len() > LONGEST {
            return Err(broken("the answer is too long".into()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The next line of a watch, parsed; `None` at its end.
async fn line(
    bytes: &mut (impl Stream<Item = reqwest::Result<axum::body::Bytes>> + Unpin),
    buffer: &mut Vec<u8>,
    socket: &Path,
) -> Result<Option<StatusView>, ClientError> {
    let broken = |why: String| ClientError::Broken { socket: socket.into(), why };
    loop {
        if let Some(end) = buffer.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            return serde_json::from_slice(&line)
                .map(Some)
                .map_err(|error| ClientError::Answer { why: error.to_string() });
        }
        if buffer.len() > LONGEST {
            return Err(broken("a line is too long".into()));
        }
        match tokio::time::timeout(SILENCE, bytes.next()).await {
            Ok(Some(Ok(chunk))) => buffer.extend_from_slice(&chunk),
            Ok(Some(Err(error))) => return Err(broken(chain(&error))),
            Ok(None) => return Ok(None),
            Err(_) => return Err(broken("silent for too long; its loop may be stuck".into())),
        }
    }
}

fn refused(body: &[u8]) -> ClientError {
    match serde_json::from_slice(body) {
        Ok(refusal) => ClientError::Refused(refusal),
        Err(error) => ClientError::Answer { why: error.to_string() },
    }
}

/// An error with its causes in one line; `reqwest` hides the telling part in the last one.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        source = inner.source();
    }
    text
}
