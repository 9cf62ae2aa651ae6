//! The witnesses, as the daemon asks them: one question at a time to each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::clock::Clock;
use crate::config::shape::File;
use crate::control::metrics::Metrics;
use crate::core::{Event, Juror};
use crate::model::{Settings, VantageId};
use crate::readiness::Presented;
use crate::vantage::ask::{self, Heard, Unheard};
use crate::vantage::identity::Identity;

/// A question waits for a change no longer than this, and no shorter than [`SHORTEST_WAIT`].
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// See [`LONGEST_WAIT`].
const SHORTEST_WAIT: Duration = Duration::from_millis(50);

/// Who is asked.
pub(super) struct Witnesses {
    heard: mpsc::Sender<Heard>,
    stop: CancellationToken,
    /// Ends the questions of the configuration that holds.
    asking: CancellationToken,
    /// Each witness, and why it is not heard.
    jurors: BTreeMap<VantageId, (Juror, Option<Unheard>)>,
    /// With which they are asked.
    identity: Option<Identity>,
    presented: Presented,
    metrics: Metrics,
}

impl Witnesses {
    /// Asks nobody yet.
    pub(super) fn new(heard: mpsc::Sender<Heard>, metrics: Metrics, stop: CancellationToken) -> Self {
        let asking = stop.child_token();
        Self { heard, stop, asking, jurors: BTreeMap::new(), identity: None, presented: Presented::default(), metrics }
    }

    /// The certificates under which they answer.
    pub(super) fn presented(&self) -> Presented {
        self.presented.clone()
    }

    /// Asks the witnesses of this configuration instead of all others, with the certificates as they are on
    /// disk now. What a juror knows of former answers stays: a reload lets no replay in.
    ///
    /// # Errors
    /// What cannot be used, and what to do; then everything stays as it was.
    pub(super) fn reload(&mut self, file: &File, settings: &Settings) -> Result<(), String> {
        let mut tasks = Vec::new();
        if let Some(tls) = file.vantage_tls.as_ref().filter(|_| !settings.witnesses.is_empty()) {
            let identity = Identity::load(tls).map_err(|error| error.to_string())?;
            identity.is_of(&settings.name, &settings.domain).map_err(|error| error.to_string())?;
            if let Some(before) = &self.identity {
                identity.replaces(before, UnixTime::now()).map_err(|error| error.to_string())?;
            }
            let client = Arc::new(ask::client(&identity).map_err(|error| error.to_string())?);
            for known in &settings.witnesses {
                let name = known.name.as_str();
                let Some(table) = file.witnesses.get(name).or_else(|| file.members.get(name)) else { continue };
                let url = Url::parse(&table.url).map_err(|_| format!("witnesses.{}.url: no address", known.name))?;
                let asker = settings.name.clone();
                let witness = ask::Witness { name: known.name.clone(), url, asker, wait: wait(settings) };
                tasks.push((witness, known.domain.clone(), Arc::clone(&client)));
            }
            self.identity = Some(identity);
        }
        self.asking.cancel();
        self.asking = self.stop.child_token();
        let mut known = std::mem::take(&mut self.jurors);
        for (witness, domain, client) in tasks {
            let (name, within) = (witness.name.clone(), witness.within());
            let not_yet = Some(Unheard::Silent("it was not asked yet".into()));
            let fresh = || (Juror::new(name.clone(), domain.clone(), within), not_yet);
            let (mut juror, trouble) = known.remove(&name).unwrap_or_else(fresh);
            juror.adjust(domain, within);
            self.jurors.insert(name, (juror, trouble));
            tokio::spawn(ask::keep_asking(witness, client, self.heard.clone(), self.asking.clone()));
        }
        self.presented.retain(|name| self.jurors.contains_key(name));
        self.show();
        Ok(())
    }

    /// Asks under the certificates that are on disk now; `false` where they are those that are used.
    ///
    /// # Errors
    /// See [`Self::reload`].
    pub(super) fn renew(&mut self, file: &File, settings: &Settings) -> Result<bool, String> {
        let (Some(tls), Some(before)) = (&file.vantage_tls, &self.identity) else { return Ok(false) };
        let identity = Identity::load(tls).map_err(|error| error.to_string())?;
        if !identity.replaces(before, UnixTime::now()).map_err(|error| error.to_string())? {
            return Ok(false);
        }
        self.reload(file, settings).map(|()| true)
    }

    /// Shows who is heard.
    fn show(&self) {
        let all = self.jurors.iter().map(|(name, (_, trouble))| (name.to_string(), trouble.is_none()));
        self.metrics.witnesses(all);
    }

    /// What came of a question: an event where it counts.
    pub(super) fn count(&mut self, heard: Heard, clock: &Clock, settings: &Settings) -> Option<Event> {
        let metrics = &self.metrics;
        let name = heard.witness.as_str();
        let (juror, trouble) = self.jurors.get_mut(&heard.witness)?;
        juror.ask(clock.mono(heard.asked), heard.nonce);
        if let Some(certificate) = heard.certificate {
            self.presented.note(&heard.witness, certificate);
        }
        let judged =
            heard.answer.and_then(|ballot| juror.judge(clock.now().mono, &ballot, settings).map_err(Unheard::Refused));
        let before = std::mem::replace(trouble, judged.as_ref().err().cloned());
        let event = match judged {
            Ok(counted) => {
                metrics.ballot(name, "counted");
                counted.refused.iter().for_each(|why| metrics.votes_refused(name, why.as_str()));
                if before.is_some() {
                    tracing::info!(witness = name, "the witness answers");
                }
                Some(counted.event)
            }
            Err(trouble) => {
                let result = match &trouble {
                    Unheard::Silent(_) => "silent",
                    Unheard::Refused(why) => why.as_str(),
                };
                metrics.ballot(name, result);
                // Once for each reason, not ten times a second.
                if before.as_ref() != Some(&trouble) {
                    tracing::warn!(witness = name, "the witness is not heard: {trouble}");
                }
                None
            }
        };
        if before.is_some() != event.is_none() {
            self.show();
        }
        event
    }
}

/// A vote is renewed at least as often as our own probes look.
fn wait(settings: &Settings) -> Duration {
    let shortest = settings.probes.iter().map(|probe| probe.interval.get()).min();
    shortest.unwrap_or(LONGEST_WAIT).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}
