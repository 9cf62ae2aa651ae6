//! The witnesses, as the daemon asks them: one question at a time to each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::clock::Clock;
use crate::config::shape::File;
use crate::control::metrics::Metrics;
use crate::core::{Event, Juror};
use crate::model::{Settings, VantageId};
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
    jurors: BTreeMap<VantageId, (Juror, Option<Unheard>)>,
    told: bool,
}

impl Witnesses {
    /// Asks nobody yet.
    pub(super) fn new(heard: mpsc::Sender<Heard>, stop: CancellationToken) -> Self {
        let asking = stop.child_token();
        Self { heard, stop, asking, jurors: BTreeMap::new(), told: false }
    }

    /// Asks the witnesses of this configuration instead of all others, with the certificates as they are on
    /// disk now. What a juror knows of former answers stays: a reload lets no replay in.
    ///
    /// # Errors
    /// What cannot be used, and what to do; then everything stays as it was.
    pub(super) fn reload(&mut self, file: &File, settings: &Settings) -> Result<(), String> {
        let mut tasks = Vec::new();
        if let Some(tls) = file.vantage_tls.as_ref().filter(|_| !file.witnesses.is_empty()) {
            let identity = Identity::load(tls).map_err(|error| error.to_string())?;
            if (&identity.vantage, &identity.domain) != (&settings.name, &settings.domain) {
                return Err(format!(
                    "vantage_tls.certificate_file: it is the certificate of {} in {}, and this is {} in {}: make one with `failoverd certs issue {} --domain {}`",
                    identity.vantage, identity.domain, settings.name, settings.domain, settings.name, settings.domain
                ));
            }
            let client = Arc::new(ask::client(&identity).map_err(|error| error.to_string())?);
            for witness in &settings.witnesses {
                let Some(table) = file.witnesses.get(witness.name.as_str()) else { continue };
                let url = Url::parse(&table.url).map_err(|_| format!("witnesses.{}.url: no address", witness.name))?;
                let asker = settings.name.clone();
                let witness = ask::Witness { name: witness.name.clone(), url, asker, wait: wait(settings) };
                tasks.push((witness, Arc::clone(&client)));
            }
        }
        self.asking.cancel();
        self.asking = self.stop.child_token();
        let mut known = std::mem::take(&mut self.jurors);
        for (witness, client) in tasks {
            let name = witness.name.clone();
            let domain = settings.witnesses.iter().find(|known| known.name == name).map(|known| known.domain.clone());
            let Some(domain) = domain else { continue };
            let fresh = || (Juror::new(name.clone(), domain, witness.within()), None);
            let juror = known.remove(&name).unwrap_or_else(fresh);
            self.jurors.insert(name, juror);
            tokio::spawn(ask::keep_asking(witness, client, self.heard.clone(), self.asking.clone()));
        }
        self.told = false;
        Ok(())
    }

    /// What came of a question: an event where it counts.
    pub(super) fn count(
        &mut self,
        heard: Heard,
        clock: &Clock,
        settings: &Settings,
        metrics: &Metrics,
    ) -> Option<Event> {
        let name = heard.witness.as_str();
        let (juror, trouble) = self.jurors.get_mut(&heard.witness)?;
        juror.ask(clock.mono(heard.asked), heard.nonce);
        let judged =
            heard.answer.and_then(|ballot| juror.judge(clock.now().mono, &ballot, settings).map_err(Unheard::Refused));
        let before = std::mem::replace(trouble, judged.as_ref().err().cloned());
        let event = match judged {
            Ok(counted) => {
                metrics.ballot(name, "counted");
                counted.refused.iter().for_each(|why| metrics.votes_refused(name, why.as_str()));
                if before.is_some() {
                    tracing::info!(witness = name, "the witness answers again");
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
        if !self.told || before.is_some() != event.is_none() {
            self.told = true;
            let all = self.jurors.iter().map(|(name, (_, trouble))| (name.to_string(), trouble.is_none()));
            metrics.witnesses(all);
        }
        event
    }
}

/// A vote is renewed at least as often as our own probes look.
fn wait(settings: &Settings) -> Duration {
    let shortest = settings.probes.iter().map(|probe| probe.interval.get()).min();
    shortest.unwrap_or(LONGEST_WAIT).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}
