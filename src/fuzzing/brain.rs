//! What reaches the brain: commands and questions over the socket, ballots, the journal, recordings, and what
//! calls and probes bring home.

use std::cell::RefCell;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::Value;
use tokio::sync::watch;
use tower_service::Service;

use crate::clients::fuzz::text;
use crate::config::{LoadOptions, load};
use crate::control::api::{self, Handle};
use crate::control::peer::{Gate, Lists, Peer};
use crate::control::{Metrics, links};
use crate::core::matrix::EvidenceView;
use crate::core::report::{Linked, Report};
use crate::core::scorecard::Scorecard;
use crate::core::view::{IncidentView, ReadinessAsked, ReadinessView, RunView, StatusView};
use crate::core::{Answer, Brain, Command, Effect, Event, Juror, Refusal, tape};
use crate::model::{Ballot, BallotRequest, IncidentId, MonoTime, Now, ProbeName, Record, RunId, Settings, WallTime};

/// The moment at which every input begins.
pub(super) const NOW: Now = Now { mono: MonoTime(1_000_000_000_000), wall: WallTime(1_785_381_164_000) };
/// So many lines of an input are taken.
const MOST: usize = 64;
/// An HMAC's key.
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// The settings of an example.
pub(super) fn settings() -> &'static Settings {
    static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/demo.toml");
        let loaded = load(&LoadOptions::file_only(path));
        loaded.map(|loaded| loaded.settings).unwrap_or_else(|faults| panic!("the example is good: {faults}"))
    });
    &SETTINGS
}

/// A brain that has begun, where it takes the settings.
pub(super) fn brain(settings: Settings) -> Option<Brain> {
    let mut brain = Brain::new(settings, &[], NOW).ok()?;
    let _effects = brain.begin(NOW, "fuzz");
    let _effects = brain.handle(later(1), Event::Tick);
    look(&brain, later(1));
    Some(brain)
}

pub(super) fn later(milliseconds: u64) -> Now {
    let by = Duration::from_millis(milliseconds);
    Now { mono: NOW.mono + by, wall: NOW.wall + by }
}

/// Everything that is shown of it.
fn look(brain: &Brain, now: Now) {
    let status = serde_json::to_string(&brain.status(now)).unwrap_or_default();
    let _read: Option<StatusView> = serde_json::from_str(&status).ok();
    let (_incidents, _runs) = (brain.incidents(), brain.runs(now));
    let (_evidence, _scorecard) = (brain.plan_evidence(now), brain.scorecard());
}

/// The daemon behind the socket.
struct Desk(Mutex<Brain>);

impl Desk {
    fn with<T>(&self, of: impl FnOnce(&mut Brain) -> T) -> T {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[async_trait]
impl Handle for Desk {
    async fn status(&self) -> StatusView {
        self.with(|brain| brain.status(later(2)))
    }
    async fn incidents(&self) -> Vec<IncidentView> {
        self.with(|brain| brain.incidents())
    }
    async fn runs(&self) -> Vec<RunView> {
        self.with(|brain| brain.runs(later(2)))
    }
    async fn run(&self, id: &RunId) -> Option<RunView> {
        self.with(|brain| brain.run(later(2), id))
    }
    async fn evidence(&self) -> Option<EvidenceView> {
        Some(self.with(|brain| brain.plan_evidence(later(2))))
    }
    async fn scorecard(&self) -> Option<Scorecard> {
        Some(self.with(|brain| brain.scorecard()))
    }
    async fn report(&self, id: &IncidentId) -> Result<Report, Refusal> {
        Err(Refusal { code: "not_found".into(), message: format!("there is no incident {id}") })
    }
    async fn command(&self, by: String, command: Command) -> Result<Answer, Refusal> {
        let effects = self.with(|brain| brain.handle(later(2), Event::Command { by, command }));
        let reply = effects.into_iter().find_map(|effect| match effect {
            Effect::Reply(reply) => Some(reply),
            _ => None,
        });
        assert!(reply.is_some(), "a command without an answer");
        reply.unwrap_or_else(|| Err(Refusal { code: "internal".into(), message: String::new() }))
    }
    async fn readiness(&self) -> ReadinessView {
        ReadinessView::default()
    }
    async fn look_at_readiness(&self) -> ReadinessAsked {
        ReadinessAsked { round: 1 }
    }
    fn watch(&self) -> watch::Receiver<Arc<StatusView>> {
        watch::channel(Arc::new(self.with(|brain| brain.status(later(2))))).1
    }
    fn audit_refused(&self, by: String, what: String) {
        self.with(|brain| brain.handle(later(2), Event::Refused { by, what }));
    }
}

thread_local! {
    static RUNTIME: RefCell<Option<tokio::runtime::Runtime>> = const { RefCell::new(None) };
    static METRICS: RefCell<Option<Metrics>> = const { RefCell::new(None) };
}

/// `METHOD PATH`, a line break, and the body; to the socket, and to the pages of the links.
pub(super) fn api(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let head = text(&data[..end]);
    let body = data.get(end + 1..).unwrap_or_default().to_vec();
    let (method, path) = head.split_once(' ').unwrap_or(("GET", &head));
    let metrics = METRICS.with_borrow_mut(|kept| kept.get_or_insert_with(|| Metrics::new().expect("metrics")).clone());
    let Some(brain) = brain(settings().clone()) else { return };
    let desk = Arc::new(Desk(Mutex::new(brain)));
    // An approver, a viewer, a stranger.
    let (gate, _) = Gate::new(998, Lists { viewers: vec!["7".into()], ..Lists::default() });
    let uid = [998, 7, 9][body.len() % 3];
    let signer = links::Signer::new(KEY, "https://a.example").expect("a key that is long enough");
    let (_kept, signer) = watch::channel(Arc::new(signer));
    let socket = api::router(Arc::<Desk>::clone(&desk), Arc::new(gate), metrics.clone());
    let pages = links::router(desk, signer, metrics, Arc::new(|| NOW.wall));
    for mut router in [socket, pages] {
        let request = Request::builder().method(method).uri(path).body(Body::from(body.clone()));
        let Ok(mut request) = request else { return };
        request.extensions_mut().insert(Peer { uid, gid: uid });
        request.extensions_mut().insert(std::net::SocketAddr::from(([127, 0, 0, 1], 1)));
        ask(&mut router, request);
    }
}

fn ask(router: &mut Router, request: Request<Body>) {
    RUNTIME.with_borrow_mut(|kept| {
        let make = || tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let runtime = kept.get_or_insert_with(make);
        runtime.block_on(async {
            let Ok(response) = router.call(request).await;
            let status = response.status().as_u16();
            assert!(status != 500, "a handler failed");
            // A watcher would be answered for ever.
            let body = axum::body::to_bytes(response.into_body(), 1 << 20);
            let _read = tokio::time::timeout(Duration::from_millis(5), body).await;
        });
    });
}

/// A question to a witness, and its answer: to our own question, else nobody would look at it any further.
pub(super) fn witness(data: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<BallotRequest>(data) {
        let _said = serde_json::to_string(&request);
    }
    let _opened = crate::vantage::wire::open(data, Some("AAAA"), Some(data), 0);
    let _named = crate::vantage::identity::named(data);
    let Ok(mut ballot) = serde_json::from_slice::<Ballot>(data) else { return };
    let mut juror = Juror::new(ballot.vantage.clone(), ballot.domain.clone(), Duration::from_secs(5));
    juror.ask(NOW.mono, ballot.nonce.clone());
    ballot.asker = settings().name.clone();
    // Nobody guesses a hash: `=` is that of the probe.
    for vote in ballot.votes.iter_mut().filter(|vote| vote.target.as_str() == "=") {
        if let Some(probe) = settings().probe(&vote.probe) {
            vote.target = probe.target.clone();
        }
    }
    let Ok(counted) = juror.judge(later(1).mono, &ballot, settings()) else { return };
    assert!(juror.judge(later(2).mono, &ballot, settings()).is_err(), "one ballot counts twice");
    let Some(mut brain) = brain(settings().clone()) else { return };
    let _effects = brain.handle(later(2), counted.event);
    look(&brain, later(3));
}

fn lines(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|byte| *byte == b'\n').take(MOST)
}

/// Rows of the journal, one record a line; numbered anew, so that a record that was left out hides none.
pub(super) fn journal(data: &[u8]) {
    crate::state::fuzz::rows(data);
    let read = lines(data).filter_map(|line| serde_json::from_slice::<Record>(line).ok());
    let records: Vec<Record> = (1..).zip(read).map(|(seq, record)| Record { seq, ..record }).collect();
    let linked = crate::state::fuzz::linked(&records).into_iter();
    let linked: Vec<Linked> = linked.map(|(record, checksum)| Linked { record, checksum }).collect();
    for id in crate::core::report::incidents(&linked) {
        let _report = Report::of(&linked, &id);
    }
    let Ok(mut brain) = Brain::new(settings().clone(), &records, NOW) else { return };
    look(&brain, NOW);
    let _effects = brain.begin(NOW, "fuzz");
    let _effects = brain.handle(later(1), Event::Tick);
    let _effects = brain.handle(later(100_000), Event::Tick);
    look(&brain, later(100_000));
}

/// What commands, probes, witnesses and calls bring, one event a line. Our own clock is right: so the times are
/// those at which the events come, a second apart.
pub(super) fn events(data: &[u8]) {
    let Some(mut brain) = brain(settings().clone()) else { return };
    for (place, line) in (1u64..).zip(lines(data)) {
        let now = later(place * 1000);
        let Ok(event) = serde_json::from_slice::<Event>(line) else { continue };
        let event = match event {
            Event::Observed { probe, observation, .. } => Event::Observed { probe, started: now.mono, observation },
            // A witness's go through its juror; a reload through the configuration's checks.
            Event::PeerVote { .. } | Event::Ballot { .. } | Event::Reload(_) => continue,
            event => event,
        };
        for effect in brain.handle(now, event) {
            // What it wants is written down, and must be readable.
            let json = serde_json::to_string(&effect).unwrap_or_default();
            assert!(serde_json::from_str::<Value>(&json).is_ok(), "an effect without JSON: {effect:?}");
        }
    }
    look(&brain, later(100_000));
}

/// The frames of a recording; and the file that they are in.
pub(super) fn recording(data: &[u8]) {
    let name = |place: usize| settings().probes.get(place).map(|probe| -> ProbeName { probe.name.clone() });
    let _frames = tape::read(NOW, data, name);
    let _blocks = crate::state::fuzz::segment(data);
    if let Ok(checkpoint) = serde_json::from_slice::<crate::core::Checkpoint>(data) {
        let _again = serde_json::to_string(&checkpoint);
    }
}
