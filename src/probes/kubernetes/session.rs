//! Questions to one API server, over a client of our own.
//!
//! The client is built anew every few minutes, beside the attempts: a credentials plugin (`aws eks
//! get-token`) that hangs or is slow is then never waited for in the middle of a question, where it would
//! look like an API server that does not answer; and a kubeconfig that was changed is found.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use kube::client::{AuthError, Body};
use serde_json::Value;
use tokio_util::task::AbortOnDropHandle;
use url::form_urlencoded::Serializer;

use crate::clients::failure::{causes, find, one_line};
use crate::clients::{Api, Clients, Failure, kubernetes};
use crate::config::action::KubernetesCluster;
use crate::model::{CauseKind, HumanDuration};
use crate::probes::classify::{self, Fault};
use crate::probes::names::Names;
use crate::probes::stage::{Stage, waiting_for};
use crate::probes::{ProbeContext, room};

/// A client is followed by another one after so long. kube would run the plugin itself a minute before its
/// token ends; the shortest ones (EKS) live for a quarter of an hour.
const FRESH: Duration = Duration::from_secs(8 * 60);

/// And is not used any more after so long.
const STALE: Duration = Duration::from_secs(12 * 60);

/// So much of an answer is read.
const BODY_LIMIT: usize = 8 << 20;

/// One cluster, as a probe asks it.
pub(super) struct Session {
    cluster: KubernetesCluster,
    clients: Arc<Clients>,
    names: Arc<Names>,
    timeout: Duration,
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Connected>,
    /// At most one is built at a time, however many attempts wait for it: a plugin that hangs must not
    /// gather a thread for each of them.
    next: Option<AbortOnDropHandle<Result<Connected, Failure>>>,
}

#[derive(Clone)]
struct Connected {
    client: kube::Client,
    /// Whom it dials; `None` where that is a proxy's business.
    host: Option<(String, u16)>,
    since: Instant,
}

/// What came back.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// A list, page by page.
pub(super) struct List<'a> {
    /// Below the server.
    pub path: &'a str,
    /// Only those with these labels.
    pub selector: Option<&'a str>,
    /// So many at once.
    pub page: usize,
    /// More than so many are an error.
    pub most: usize,
    /// The right that it needs, for people.
    pub right: &'a str,
}

impl List<'_> {
    /// Where the page is that comes after another one; after none the first.
    fn page_after(&self, more: &str) -> String {
        let mut query = Serializer::new(String::new());
        query.append_pair("limit", &self.page.to_string());
        if let Some(selector) = self.selector {
            query.append_pair("labelSelector", selector);
        }
        if !more.is_empty() {
            query.append_pair("continue", more);
        }
        format!("{}?{}", self.path, query.finish())
    }
}

impl Session {
    /// Reads nothing yet.
    pub fn new(cluster: KubernetesCluster, context: &ProbeContext) -> Self {
        Self {
            cluster,
            clients: Arc::clone(&context.clients.apis),
            names: Arc::clone(&context.clients.names),
            timeout: context.timeout,
            state: tokio::sync::Mutex::default(),
        }
    }

    /// When an attempt that begins now has to be over.
    pub fn until(&self) -> Instant {
        Instant::now() + self.timeout
    }

    async fn connected(&self) -> Result<Connected, Fault> {
        let mut guard = self.state.lock().await;
        let state = &mut *guard;
        let age = state.current.as_ref().map(|current| current.since.elapsed());
        if let (Some(current), true) = (&state.current, age.is_some_and(|age| age < FRESH)) {
            return Ok(current.clone());
        }
        let cluster = &self.cluster;
        let next = state.next.get_or_insert_with(|| AbortOnDropHandle::new(tokio::spawn(connect(cluster.clone()))));
        let usable = state.current.as_ref().filter(|_| age.is_some_and(|age| age < STALE)).cloned();
        if let (Some(current), false) = (&usable, next.is_finished()) {
            return Ok(current.clone());
        }
        let built = next.await;
        state.next = None;
        match (built, usable) {
            (Ok(Ok(connected)), _) => {
                state.current = Some(connected.clone());
                Ok(connected)
            }
            // The next attempt builds another one.
            (_, Some(current)) => Ok(current),
            (Ok(Err(failure)), _) => Err(Fault::ours(CauseKind::LocalCredentials, failure.reason)),
            (Err(_), _) => Err(Fault::ours(CauseKind::LocalCredentials, "the kubeconfig's client could not be built")),
        }
    }

    /// One question. A kept connection may have been cut since the last one: then it is asked once more.
    async fn get(&self, connected: &Connected, path: &str) -> Result<Answer, Fault> {
        match once(&connected.client, path).await {
            Err(fault) if fault.is_cut() => once(&connected.client, path).await,
            answer => answer,
        }
    }

    /// Is the API server ready? How long its answer took.
    ///
    /// # Errors
    /// [`Fault`], of the API server where that does not answer.
    pub async fn readyz(&self, max_latency: Option<HumanDuration>) -> Result<Duration, Fault> {
        let until = self.until();
        let connected = waiting_for(Stage::Secret, self.connected()).await?;
        room(&self.clients, Api::Kubernetes, until).await?;
        if let Some((host, port)) = &connected.host {
            // kube asks the system, which does not say whether the name is missing or the resolver.
            self.names.lookup_port(host, *port).await?;
        }
        let asked = Instant::now();
        let answer = self.get(&connected, "/readyz").await?;
        let latency = asked.elapsed();
        judge_readyz(&answer)?;
        match max_latency {
            Some(most) if latency > most.get() => {
                let text = format!("it took {}, more than {most}", HumanDuration(latency));
                Err(Fault::theirs(CauseKind::Slow, text))
            }
            _ => Ok(latency),
        }
    }

    /// What is at a path, as JSON.
    ///
    /// # Errors
    /// [`Fault`]: `not_found` of the target, everything else of ours.
    pub async fn object(&self, path: &str, right: &str, until: Instant) -> Result<Value, Fault> {
        let connected = waiting_for(Stage::Secret, self.connected()).await?;
        room(&self.clients, Api::Kubernetes, until).await?;
        let answer = waiting_for(Stage::ControlPlane, self.get(&connected, path)).await.map_err(not_the_target)?;
        judge_object(&answer, right)
    }

    /// Hands each object of a list to `each`.
    ///
    /// # Errors
    /// As [`Self::object`].
    pub async fn list(&self, list: &List<'_>, until: Instant, mut each: impl FnMut(Value)) -> Result<(), Fault> {
        let (mut seen, mut more) = (0, String::new());
        loop {
            let mut page = self.object(&list.page_after(&more), list.right, until).await?;
            let Value::Array(items) = page["items"].take() else {
                return Err(Fault::ours(CauseKind::ControlPlane, "the API server's answer is not a list"));
            };
            seen += items.len();
            if seen > list.most {
                let text = format!("there are more than {} of them: narrow the selector", list.most);
                return Err(Fault::ours(CauseKind::QueryFailed, text));
            }
            items.into_iter().for_each(&mut each);
            match page.pointer("/metadata/continue").and_then(Value::as_str) {
                Some(next) if !next.is_empty() => more = next.to_owned(),
                _ => return Ok(()),
            }
        }
    }
}

async fn connect(cluster: KubernetesCluster) -> Result<Connected, Failure> {
    let config = kubernetes::configuration(&cluster).await?;
    let url = &config.cluster_url;
    let port = url.port_u16().unwrap_or(if url.scheme_str() == Some("http") { 80 } else { 443 });
    let direct = config.proxy_url.is_none();
    let host = url.host().filter(|_| direct).map(|host| (host.trim_matches(['[', ']']).to_owned(), port));
    let client = kubernetes::build(config).await?;
    Ok(Connected { client, host, since: Instant::now() })
}

async fn once(client: &kube::Client, path: &str) -> Result<Answer, Fault> {
    let request = hyper::Request::get(path).header("accept", "application/json, */*").body(Body::empty());
    let request = request.map_err(|_| Fault::ours(CauseKind::QueryFailed, "the question cannot be sent"))?;
    let response = client.send(request).await.map_err(|error| fault_of(&error))?;
    let status = response.status().as_u16();
    let mut incoming = std::pin::pin!(response.into_body());
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let Ok(chunk) = frame.map_err(|error| fault_of(&error))?.into_data() else { continue };
        if chunk.len() > BODY_LIMIT - body.len() {
            return Err(Fault::ours(CauseKind::QueryFailed, "the answer is larger than 8 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, body })
}

/// Whose fault it is where nothing came back.
fn fault_of(error: &kube::Error) -> Fault {
    if matches!(error, kube::Error::Auth(_)) || find::<AuthError>(error).is_some() {
        // Its text may quote what a credentials plugin printed, and that is a token.
        let text = "the kubeconfig's credentials (plugin or token file) could not be had";
        return Fault::ours(CauseKind::LocalCredentials, text);
    }
    let text = causes(error);
    if text.contains("dns error") {
        return Fault::ours(CauseKind::LocalResolver, text);
    }
    classify::find_or(error, text)
}

/// What went wrong on the way to an API that is not the target says nothing of the target.
fn not_the_target(fault: Fault) -> Fault {
    if fault.ours {
        return fault;
    }
    Fault::ours(CauseKind::ControlPlane, format!("the API server does not answer: {}", fault.detail))
}

fn judge_readyz(answer: &Answer) -> Result<(), Fault> {
    let status = answer.status;
    match status {
        200..=299 => Ok(()),
        401 | 403 => {
            let text = format!("the API server does not let us ask for /readyz (status {status})");
            Err(Fault::ours(CauseKind::LocalPermission, text))
        }
        429 => Err(Fault::ours(CauseKind::LocalThrottled, "the API server has been asked too often (status 429)")),
        500..=599 => {
            let said = String::from_utf8_lossy(&answer.body);
            // `[-]etcd failed: reason withheld`, one line for each check.
            let failed = said.lines().filter_map(|line| line.strip_prefix("[-]")?.split_whitespace().next());
            let failed: Vec<String> = failed.take(10).map(one_line).collect();
            let failed = if failed.is_empty() { String::new() } else { format!(": {} failed", failed.join(", ")) };
            Err(Fault::theirs(CauseKind::NotServing, format!("it is not ready (status {status}){failed}")))
        }
        _ => Err(Fault::theirs(CauseKind::Protocol, format!("/readyz answers {status}: no API server does"))),
    }
}

fn judge_object(answer: &Answer, right: &str) -> Result<Value, Fault> {
    let parsed: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let said = |parsed: &Option<Value>| {
        let message = parsed.as_ref().and_then(|value| value["message"].as_str()).unwrap_or("no reason given");
        format!("{} (status {})", one_line(message), answer.status)
    };
    let from_the_server = parsed.as_ref().is_some_and(|value| value["kind"] == "Status");
    match (answer.status, parsed) {
        (200..=299, Some(value)) => Ok(value),
        (401 | 403, parsed) => {
            Err(Fault::ours(CauseKind::LocalPermission, format!("{}; {right} is needed", said(&parsed))))
        }
        (404, parsed) if from_the_server => Err(Fault::theirs(CauseKind::NotFound, said(&parsed))),
        (429, parsed) => Err(Fault::ours(CauseKind::LocalThrottled, said(&parsed))),
        (400..=499, parsed) if from_the_server => Err(Fault::ours(CauseKind::QueryFailed, said(&parsed))),
        (status, _) => {
            let text = format!("the API server answers {status}, and not with what was asked for");
            Err(Fault::ours(CauseKind::ControlPlane, text))
        }
    }
}

/// A name as a part of a path; `None` where it could be more than that.
pub(super) fn path_segment(name: &str) -> Option<&str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    (name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Health, Observation};

    #[test]
    fn what_is_not_the_api_servers_word_says_nothing_of_the_target() {
        let status = r#"{"kind":"Status","message":"why"}"#;
        for (code, body, health, kind) in [
            (404, status, Health::Down, CauseKind::NotFound),
            (404, "404 page not found", Health::Unknown, CauseKind::ControlPlane),
            (401, status, Health::Unknown, CauseKind::LocalPermission),
            (403, "<html>", Health::Unknown, CauseKind::LocalPermission),
            (429, status, Health::Unknown, CauseKind::LocalThrottled),
            (400, status, Health::Unknown, CauseKind::QueryFailed),
            (500, status, Health::Unknown, CauseKind::ControlPlane),
            (502, "<html>", Health::Unknown, CauseKind::ControlPlane),
            (200, "<html>", Health::Unknown, CauseKind::ControlPlane),
        ] {
            let answer = Answer { status: code, body: body.into() };
            let seen = Observation::from(judge_object(&answer, "a right").expect_err(body));
            assert_eq!((seen.health(), seen.cause().map(|cause| cause.kind)), (health, Some(kind)), "{code} {body}");
        }
    }

    #[test]
    fn the_failed_checks_of_an_api_server_are_named() {
        let body =
            "[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/x failed: not finished\nreadyz check failed";
        let fault = judge_readyz(&Answer { status: 500, body: body.into() }).expect_err("it is not ready");
        assert_eq!((fault.ours, fault.kind), (false, CauseKind::NotServing));
        assert!(fault.detail.contains("etcd, poststarthook/x failed"), "{fault}");
        for status in [401, 403, 429] {
            assert!(judge_readyz(&Answer { status, body: Vec::new() }).expect_err("no answer").ours, "{status}");
        }
        assert!(judge_readyz(&Answer { status: 200, body: Vec::new() }).is_ok());
    }
}
