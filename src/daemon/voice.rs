//! What this vantage says to others: its votes, and when they have changed.

use std::sync::Arc;

use async_trait::async_trait;
use rustls::pki_types::UnixTime;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::start::StartError;
use crate::config::shape::{File, VantageTls, Witness};
use crate::control::serve::serve;
use crate::core::{Brain, Event};
use crate::model::{BallotVote, BootId, Health, Now, Settings, VantageId};
use crate::vantage::identity::{Identity, IdentityError};
use crate::vantage::serve::{BOUNDS, TlsSource, Votes, router};
use crate::vantage::wire;

/// Questions that wait for the loop.
const QUESTIONS: usize = 64;

/// A question for the votes of now.
pub(super) type Question = oneshot::Sender<Vec<BallotVote>>;

/// The loop, seen from the server.
struct Answers {
    questions: mpsc::Sender<Question>,
    changes: watch::Receiver<u64>,
}

#[async_trait]
impl Votes for Answers {
    async fn votes(&self) -> Option<Vec<BallotVote>> {
        let (question, answer) = oneshot::channel();
        self.questions.send(question).await.ok()?;
        answer.await.ok()
    }
    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

/// Answers under one certificate, and under another one where there is a new one.
struct Teller {
    listener: Arc<TcpListener>,
    answers: Arc<Answers>,
    /// Whose certificate is shown.
    shown: Arc<Identity>,
    /// Ends with the daemon.
    stop: CancellationToken,
    /// Ends with the certificate.
    telling: CancellationToken,
}

impl Teller {
    /// Answers from here on, under the certificate that is shown.
    fn tell(&mut self) -> Result<(), String> {
        let config = self.shown.server().map_err(|error| error.to_string())?;
        let boot = wire::random().map(BootId::new).ok_or("the system gives no randomness")?;
        // Each connection has the certificate with which it began, and answers are signed with its key: those
        // that stand are ended, and whoever asks comes again.
        self.telling.cancel();
        self.telling = self.stop.child_token();
        let source = TlsSource { listener: Arc::clone(&self.listener), config: watch::channel(config).1 };
        let votes: Arc<dyn Votes> = self.answers.clone();
        let routes = router(Arc::clone(&self.shown), votes, boot);
        tokio::spawn(serve(source, routes, BOUNDS, self.telling.clone()));
        Ok(())
    }
}

/// Notes when our own votes change.
pub(super) struct Voice {
    teller: Option<Teller>,
    changes: watch::Sender<u64>,
    /// What the votes were at the last change.
    said: Vec<BallotVote>,
    /// Every probe has a vote, all say that it is up and well, and a good look can change none.
    all_well: bool,
}

/// Listens for the questions of other vantages, where `table` says.
///
/// # Errors
/// [`StartError`], which says what to do.
pub(super) async fn listen(
    file: &File,
    name: &VantageId,
    (table, setting): (&Witness, &'static str),
    stop: &CancellationToken,
) -> Result<(Voice, mpsc::Receiver<Question>), StartError> {
    let wrong = |error: &dyn std::fmt::Display| StartError::Configuration(error.to_string());
    let tls = file.vantage_tls.as_ref().ok_or_else(|| wrong(&"there is no [vantage_tls]"))?;
    let shown = Arc::new(identity(tls, name, table).map_err(|error| wrong(&error))?);
    let port = url::Url::parse(&table.url).ok().and_then(|url| url.port_or_known_default()).unwrap_or(443);
    let address = table.listen.clone().unwrap_or_else(|| format!("[::]:{port}"));
    let listener = TcpListener::bind(&address).await.map_err(|source| StartError::Listen {
        address,
        what: "the questions of other vantages",
        setting,
        source,
    })?;
    let (questions_in, questions) = mpsc::channel(QUESTIONS);
    let (mut voice, changes) = Voice::new();
    let answers = Arc::new(Answers { questions: questions_in, changes });
    let (listener, stop) = (Arc::new(listener), stop.clone());
    let mut teller = Teller { listener, answers, shown, telling: stop.child_token(), stop };
    teller.tell().map_err(|error| wrong(&error))?;
    voice.teller = Some(teller);
    Ok((voice, questions))
}

/// The certificate that is on disk now, where it is this vantage's.
fn identity(tls: &VantageTls, name: &VantageId, table: &Witness) -> Result<Identity, IdentityError> {
    let identity = Identity::load(tls)?;
    identity.is_of(name, &table.domain.as_str().into())?;
    Ok(identity)
}

impl Voice {
    /// Has said nothing yet.
    pub(super) fn new() -> (Self, watch::Receiver<u64>) {
        let (changes, seen) = watch::channel(0);
        (Self { teller: None, changes, said: Vec::new(), all_well: false }, seen)
    }

    /// Answers under the certificate that is on disk now; `false` where it is the one that is shown.
    ///
    /// # Errors
    /// What cannot be used, and what to do; then everything stays as it was.
    pub(super) fn reload(&mut self, file: &File, name: &VantageId, table: &Witness) -> Result<bool, String> {
        let (Some(teller), Some(tls)) = (&mut self.teller, &file.vantage_tls) else { return Ok(false) };
        let identity = identity(tls, name, table).map_err(|error| error.to_string())?;
        if !identity.replaces(&teller.shown, UnixTime::now()).map_err(|error| error.to_string())? {
            return Ok(false);
        }
        let before = std::mem::replace(&mut teller.shown, Arc::new(identity));
        teller.tell().map(|()| true).inspect_err(|_| teller.shown = before)
    }

    /// Can this event change no vote? Asked before the brain is told.
    pub(super) fn changes_nothing(&self, event: &Event) -> bool {
        self.all_well && is_good_look(event)
    }

    /// The brain was told. To look through ten thousand votes at each of two thousand looks a second would
    /// be all that it does: not to be called where [`Self::changes_nothing`].
    pub(super) fn note(&mut self, now: Now, brain: &Brain) {
        let votes = brain.own_votes(now);
        self.all_well = is_all_well(&votes, brain.settings());
        let says = |vote: &BallotVote| (vote.probe.clone(), vote.health, vote.degraded);
        if !votes.iter().map(says).eq(self.said.iter().map(says)) {
            self.said = votes;
            self.changes.send_modify(|change| *change += 1);
        }
    }
}

fn is_good_look(event: &Event) -> bool {
    let Event::Observed { observation, .. } = event else { return false };
    observation.health() == Health::Up && observation.cause().is_none()
}

/// A window is made of good looks too: where there is one, none is without a consequence.
fn is_all_well(votes: &[BallotVote], settings: &Settings) -> bool {
    let expected = settings.probes.len() - settings.anchors.len();
    votes.len() == expected
        && votes.iter().all(|vote| vote.health == Health::Up && !vote.degraded)
        && settings.probes.iter().all(|probe| probe.window.is_none())
}
