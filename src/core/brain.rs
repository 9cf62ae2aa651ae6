//! The brain: events and `now` in, effects out.

use std::collections::HashMap;
use std::sync::Arc;

use super::correlate::{Kin, kin};
use super::detect::{Detector, Pace};
use super::event::{Effect, Event};
use super::extent::{Places, places};
use super::ledger::{IllegalRecord, Ledger};
use super::marks::Marks;
use super::member::{Membership, Sight};
use super::quorum::PeerVote;
use super::run::{Doing, Driver};
use super::scenario::Watch;
use crate::model::{
    CallId, Entry, Importance, IncidentId, MonoTime, Notice, NoticeKind, Now, Plan, PlanHash, PlanName, ProbeName,
    Record, ScenarioName, ScenarioSettings, Settings, Severity, VantageId, Work,
};

/// Everything that decides, as one synchronous value.
#[derive(Debug)]
pub struct Brain {
    pub(super) settings: Arc<Settings>,
    pub(super) index: HashMap<ProbeName, usize>,
    /// Of the plans in the settings: asked for with each decision, and dear.
    hashes: HashMap<PlanName, PlanHash>,
    pub(super) detectors: Vec<Detector>,
    pub(super) peers: Vec<Vec<PeerVote>>,
    pub(super) watches: Vec<Watch>,
    pub(super) kin: Vec<Kin>,
    pub(super) places: Places,
    /// The places of the windows that count what a probe sees, for each probe.
    pub(super) feeds: Vec<Vec<usize>>,
    /// The places of all windows.
    pub(super) windows: Vec<usize>,
    pub(super) ledger: Ledger,
    /// Among several daemons.
    pub(super) membership: Membership,
    /// Why the store of several daemons cannot be reached from here.
    pub(super) store_trouble: Option<String>,
    /// Of one that leads.
    pub(super) sight: Sight,
    pub(super) marks: Marks,
    /// When each other vantage last answered.
    pub(super) heard: HashMap<VantageId, MonoTime>,
    /// See `find_orphans`.
    pub(super) orphans: Vec<IncidentId>,
    pub(super) driver: Option<Driver>,
    pub(super) started: Now,
    pub(super) tilt_until: Option<MonoTime>,
    pub(super) doubt: Option<String>,
    pub(super) ending: bool,
    /// What waits for a second person.
    pub(super) wanted: Option<super::consent::Wanted>,
    /// When each open task is told next.
    pub(super) reminders: super::tasks::Reminders,
    /// When people are told of an incident next.
    pub(super) telling: super::escalation::Telling,
    pub(super) effects: Vec<Effect>,
    /// For what a person gives to a plan.
    pub(super) action_check: super::ActionCheck,
    /// When drills are due.
    pub(super) drill_clock: super::drill_clock::DrillClock,
    /// What was measured, as of the newest end of a run.
    pub(super) evidence: super::evidence::Watched,
    /// Somebody waits for each observation: an incident is open or a run is active.
    pub(super) attentive: bool,
    pub(super) next_call: u64,
    pub(super) wake: Option<MonoTime>,
}

impl Brain {
    /// A brain that knows what the journal's records say.
    ///
    /// # Errors
    /// [`IllegalRecord`] for the first record that does not follow from those before it.
    pub fn new(settings: Settings, records: &[Record], now: Now) -> Result<Self, IllegalRecord> {
        let ledger = Ledger::replay(records)?;
        let mut brain = Self {
            settings: Arc::new(settings),
            index: HashMap::new(),
            hashes: HashMap::new(),
            detectors: Vec::new(),
            peers: Vec::new(),
            watches: Vec::new(),
            kin: Vec::new(),
            places: Places::new(),
            feeds: Vec::new(),
            windows: Vec::new(),
            marks: Marks::of(&ledger, now),
            heard: HashMap::new(),
            orphans: Vec::new(),
            ledger,
            membership: Membership::Alone,
            store_trouble: None,
            sight: Sight::Never,
            driver: None,
            started: now,
            tilt_until: None,
            doubt: None,
            ending: false,
            wanted: None,
            reminders: super::tasks::Reminders::new(),
            telling: super::escalation::Telling::default(),
            effects: Vec::new(),
            action_check: super::ActionCheck::default(),
            drill_clock: super::drill_clock::DrillClock::since(records.last().map(|record| record.at)),
            evidence: super::evidence::Watched::default(),
            attentive: true,
            next_call: 0,
            wake: Some(now.mono),
        };
        brain.lay_out(None, HashMap::new());
        brain.find_orphans();
        brain.recall(now);
        Ok(brain)
    }

    /// What a person gives to a plan is looked at with this before a run begins.
    pub fn set_action_check(&mut self, check: super::ActionCheck) {
        self.action_check = check;
    }

    /// The first effects of a life: says that it began, and takes up the run that a crash left.
    #[must_use]
    pub fn begin(&mut self, now: Now, version: &str) -> Vec<Effect> {
        if self.follows() {
            self.follow(now);
            return self.told();
        }
        self.commit(now, Entry::DaemonStarted { version: version.to_owned() });
        if let Some(run) = self.ledger.active_run() {
            let id = run.id.clone();
            self.cut_off(now, &id, "the daemon ended while the call was out");
            self.take_up_run(now);
        }
        self.tell_missed(now);
        self.think(now);
        self.told()
    }

    /// Takes an event; gives what has to be done, in this order.
    #[must_use]
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Effect> {
        let think = match event {
            Event::Observed { probe, started, observation } => self.observed(now, &probe, started, observation),
            Event::PeerVote { vantage, domain, probe, health, seen, first_bad, degraded, cause } => {
                // A clock that runs ahead of ours must not make a vote that never expires.
                let seen = seen.min(now.mono);
                self.peer_vote(&probe, PeerVote { vantage, domain, health, seen, first_bad, degraded, cause })
            }
            Event::Ballot { vantage, domain, votes } => self.ballot(now, vantage, &domain, votes),
            Event::Tick => true,
            Event::Outcome { call, outcome } => {
                self.outcome(now, call, outcome);
                true
            }
            Event::Command { .. } if self.follows() => {
                self.effects.push(Effect::Reply(Err(self.not_leading())));
                false
            }
            Event::Command { by, command } => {
                let reply = self.command(now, &by, command);
                self.think(now);
                self.effects.push(Effect::Reply(reply));
                false
            }
            Event::Stalled { by } => {
                self.tilt(now, by);
                true
            }
            Event::Reload(settings) => {
                self.reload(*settings);
                true
            }
            Event::Refused { by, what } => {
                let result = "refused: not permitted".to_owned();
                self.commit(now, Entry::Command { by, command: what, result });
                false
            }
            Event::Ending => {
                self.ending = true;
                true
            }
            Event::Leads { term } => {
                self.lead(now, term);
                true
            }
            Event::Follows { leader } => {
                self.set_leader(leader);
                false
            }
            Event::Replicated { records } => {
                self.replicate(now, &records);
                true
            }
            Event::StoreReached { trouble } => {
                self.note_store(now, trouble);
                false
            }
            Event::StateInDoubt { what } => {
                self.set_doubt(now, what);
                true
            }
        };
        if think {
            self.think(now);
        }
        self.told()
    }

    /// When [`Event::Tick`] is wanted, at the latest.
    pub fn next_wake(&self) -> Option<MonoTime> {
        self.wake
    }

    /// The durable state.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The settings that hold now.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    fn think(&mut self, now: Now) {
        if self.follows() {
            return self.follow(now);
        }
        self.tilt_until = self.tilt_until.filter(|until| now.mono < *until);
        self.evaluate(now);
        self.tend_drills(now);
        // A run that ended changes what the guards say, and then another may begin. The limit of
        // failovers ends the passes; the bound guards against a mistake.
        for _ in 0..4 {
            let Some(run) = self.driver.as_ref().map(|driver| driver.run.clone()) else { break };
            self.drive(now);
            self.evaluate(now);
            if self.driver.as_ref().is_some_and(|driver| driver.run == run) {
                break;
            }
        }
        self.take_up_drill(now);
        self.remind(now);
        self.tell_people(now);
        self.watch_budgets(now);
        self.mind_sight(now);
        self.set_paces();
        self.attentive = self.driver.is_some() || self.watches.iter().any(Watch::is_attentive);
        self.wake = self.earliest_wake(now.mono);
    }

    pub(super) fn earliest_wake(&self, now: MonoTime) -> Option<MonoTime> {
        let own = self.detectors.iter().filter(|d| d.is_fresh(now)).filter_map(Detector::expires);
        // One that expires, and is given anew a moment later, has interrupted what it was part of.
        let theirs = self.detectors.iter().zip(&self.peers).flat_map(|(probe, peers)| {
            let max_age = probe.settings.max_age;
            peers.iter().filter(move |peer| peer.is_fresh(now, max_age)).map(move |peer| peer.seen + max_age.get())
        });
        let expiries = own.chain(theirs);
        // A vote counts up to and including the instant that it expires at.
        let expiries = expiries.map(|at| at + std::time::Duration::from_nanos(1));
        let watches = self.watches.iter().filter_map(|watch| watch.wake);
        let driver = self.driver.as_ref().and_then(Driver::earliest_wake);
        let reminders = self.reminders.values().copied();
        let driver = driver.into_iter().chain(reminders).chain(self.telling.wake).chain(self.drill_clock.wake);
        let driver = driver.chain(self.sight.wakes());
        expiries.chain(watches).chain(driver).chain(self.tilt_until).filter(|at| *at > now).min()
    }

    /// Takes new settings. A condition that is as it was goes on being confirmed: a reload in the
    /// middle of an outage must not cost the time that was waited already.
    fn reload(&mut self, settings: Settings) {
        let old = std::mem::replace(&mut self.settings, Arc::new(settings));
        let watches = std::mem::take(&mut self.watches);
        let votes = std::mem::take(&mut self.detectors).into_iter().zip(std::mem::take(&mut self.peers));
        self.lay_out(Some(&old), votes.map(|(own, peers)| (own.settings.name.clone(), (own, peers))).collect());
        for (was, watch) in old.scenarios.iter().zip(watches) {
            let same = self.settings.scenarios.iter().position(|new| new.name == was.name && new.when == was.when);
            if let Some(place) = same {
                self.watches[place] = watch;
            }
        }
        self.find_orphans();
        self.telling = super::escalation::Telling::default();
    }

    /// Fits detectors and watches to the settings. What was seen of a target stays, although it is
    /// looked at more often or less; what was seen of another one by the same name does not.
    fn lay_out(&mut self, was: Option<&Settings>, mut old: HashMap<ProbeName, (Detector, Vec<PeerVote>)>) {
        let votes = self.settings.probes.iter().map(|probe| match old.remove(&probe.name) {
            Some((mut own, peers)) if own.settings.target == probe.target => {
                own.adjust(probe.clone());
                (own, peers)
            }
            was => {
                let mut own = Detector::new(probe.clone());
                // The runner knows it by its name.
                own.pace = was.map_or(Pace::Usual, |(was, _)| was.pace);
                (own, Vec::new())
            }
        });
        (self.detectors, self.peers) = votes.unzip();
        self.index = self.settings.probes.iter().enumerate().map(|(i, probe)| (probe.name.clone(), i)).collect();
        self.lay_out_windows();
        let known = std::mem::take(&mut self.hashes);
        let hash = |plan: &Plan| {
            let same = was.and_then(|was| was.plan(&plan.name)).is_some_and(|was| was == plan);
            known.get(&plan.name).filter(|_| same).cloned().unwrap_or_else(|| as_given(plan).hash())
        };
        self.hashes = self.settings.plans.iter().map(|plan| (plan.name.clone(), hash(plan))).collect();
        self.watches = self.settings.scenarios.iter().map(|_| Watch::default()).collect();
        self.drill_clock.forget();
        self.note_evidence();
        self.kin = kin(&self.settings);
        self.places = places(&self.settings);
    }

    /// The hash of a scenario's plan, as it would be carried out now.
    pub(super) fn plan_hash(&self, scenario: &ScenarioSettings) -> Option<&PlanHash> {
        self.hashes.get(scenario.plan.as_ref()?)
    }

    pub(super) fn set_paces(&mut self) {
        (0..self.detectors.len()).for_each(|index| self.set_pace(index));
    }

    /// Has a probe look faster while it is in doubt or a step waits for it, and no longer: also where
    /// a tilt, a reload or the end of a run took the reason away.
    pub(super) fn set_pace(&mut self, index: usize) {
        let detector = &self.detectors[index];
        let name = &detector.settings.name;
        let wanted = detector.in_doubt() || self.driver.as_ref().is_some_and(|driver| self.is_hurried(driver, name));
        let pace = if wanted { Pace::Fast } else { Pace::Usual };
        if std::mem::replace(&mut self.detectors[index].pace, pace) != pace {
            let probe = self.detectors[index].settings.name.clone();
            self.effects.push(Effect::Pace { probe, fast: wanted });
        }
    }

    /// Does a step wait for what it says: a `verify.probe`, or a `when`?
    fn is_hurried(&self, driver: &Driver, probe: &ProbeName) -> bool {
        let Some(run) = self.ledger.runs.get(&driver.run) else { return false };
        driver.steps.iter().zip(&run.plan.steps).any(|(activity, step)| match (&activity.doing, &step.work) {
            (Doing::Unclear { .. }, _) => step.terms.probes().contains(probe),
            (Doing::Holding { .. }, Work::VerifyProbe { probe: held, .. }) => held == probe,
            _ => false,
        })
    }

    pub(super) fn set_doubt(&mut self, now: Now, what: String) {
        if self.doubt.is_none() {
            let subject = format!("state in doubt, starting nothing new: {what}");
            self.notify(now, NoticeKind::Daemon, Importance::Page, None, subject);
            self.doubt = Some(what);
        }
    }

    pub(super) fn new_call(&mut self) -> CallId {
        self.next_call += 1;
        CallId(self.next_call)
    }

    /// Applies an entry to the ledger and hands it to the journal. `false` where it does not
    /// follow: then the state is in doubt, and what was to come after the record must not.
    pub(super) fn commit(&mut self, now: Now, entry: Entry) -> bool {
        if self.follows() {
            // The leader writes. What came here was not asked first whose turn it is.
            return false;
        }
        let record = Record { seq: self.ledger.seq + 1, at: now.wall, entry };
        if let Err(illegal) = self.ledger.apply(&record) {
            self.set_doubt(now, illegal.to_string());
            return false;
        }
        self.marks.note(now, &record.entry);
        match self.effects.last_mut() {
            // One fsync for records that nothing stands between.
            Some(Effect::Journal(records)) => records.push(record),
            _ => self.effects.push(Effect::Journal(vec![record])),
        }
        true
    }

    /// Tells people.
    pub(super) fn notify(
        &mut self,
        now: Now,
        kind: NoticeKind,
        importance: Importance,
        about: Option<&super::incident::Incident>,
        subject: String,
    ) {
        // As it stands now: what is told may be its end.
        let current = about.and_then(|incident| self.ledger.incidents.get(&incident.id));
        let situation = current.map(|incident| Box::new(self.situation(now, incident)));
        let routes = current.and_then(|incident| self.routes_of(incident));
        let repeated = about.is_some_and(|incident| self.is_repeated(kind, incident));
        self.effects.push(Effect::Notify(Notice {
            kind,
            importance: if repeated { Importance::Info } else { importance },
            at: now.wall,
            scenario: about.map(|incident| incident.scenario.clone()),
            severity: about.map(|incident| incident.severity.clone()),
            incident: about.map(|incident| incident.id.clone()),
            run: about.and_then(|incident| incident.run.clone()),
            subject,
            body: about.map(body).unwrap_or_default(),
            approval: None,
            routes,
            situation,
        }));
    }

    /// Tells people of a scenario that has no incident for it: of a drill, of a plan's budget.
    pub(super) fn notify_of_scenario(
        &mut self,
        now: Now,
        kind: NoticeKind,
        importance: Importance,
        scenario: Option<(ScenarioName, Severity)>,
        subject: String,
    ) {
        self.notify(now, kind, importance, None, subject);
        if let Some(Effect::Notify(notice)) = self.effects.last_mut() {
            (notice.scenario, notice.severity) = scenario.unzip();
        }
    }
}

impl Brain {
    /// Is it the beginning or the end of one more run that did not get past its last look? The first
    /// one pages; what comes of many has a page of its own, with the reason.
    fn is_repeated(&self, kind: NoticeKind, incident: &super::incident::Incident) -> bool {
        let Some(place) = self.settings.scenarios.iter().position(|known| known.name == incident.scenario) else {
            return false;
        };
        let Some(run) = incident.run.as_ref().and_then(|run| self.ledger.runs.get(run)) else { return false };
        let vain = self.watches[place].vain;
        match kind {
            NoticeKind::RunStarted => vain > 0 && !run.trigger.is_by_hand() && !run.changed(),
            NoticeKind::RunEnded => vain > 1 && !run.counts(),
            _ => false,
        }
    }
}

/// The newest lines of an incident's timeline.
fn body(incident: &super::incident::Incident) -> String {
    let from = incident.timeline.len().saturating_sub(12);
    let lines: Vec<String> = incident.timeline[from..].iter().map(|(at, line)| format!("{at} {line}")).collect();
    lines.join("\n")
}

/// The plan as it is carried out where nobody gives it anything: with the defaults of its parameters. One
/// that has none for some can only be carried out by hand.
fn as_given(plan: &Plan) -> std::borrow::Cow<'_, Plan> {
    match plan.with(&crate::model::Given::new()) {
        Ok(given) if !plan.parameters.is_empty() => std::borrow::Cow::Owned(given),
        _ => std::borrow::Cow::Borrowed(plan),
    }
}
