//! Looks at every plan all day, beside the loop: after the start, after a reload, when somebody asks, and
//! every few minutes. Never while a run is active, which needs the APIs for itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;
use crate::clients::Clients;
use crate::config::shape::NotifyFrom;
use crate::core::readiness::{LagHistory, Tell, next_due, tell};
use crate::core::view::{PlanReadinessView, ReadinessView, StatusView};
use crate::model::{Importance, Notice, NoticeKind, PlanName, PlanReadiness, ProbeName, Readiness};
use crate::readiness::{Evaluator, Kept, Presented, Subject};

/// The probes have looked by then, and a daemon that is started into an outage has begun its run.
const FIRST: Duration = Duration::from_secs(5);
/// The lag of the standbys is sampled this often.
const SAMPLE: Duration = Duration::from_secs(10);
/// The loop publishes what it knows more often than that.
const PUBLISHED: Duration = Duration::from_secs(2);
/// Notices that wait for the loop.
const NOTICES: usize = 64;

/// What the loop and the control API have to do with it.
#[derive(Clone)]
pub(super) struct Desk(Arc<Shared>);

struct Shared {
    subject: watch::Sender<Arc<Subject>>,
    asked: Notify,
    view: Mutex<ReadinessView>,
}

impl Desk {
    /// Begins to look. `kept` is the file of what outlives the daemon, `presented` what other vantages show. What people are to be told comes
    /// through the channel, and is the loop's to keep.
    pub(super) fn start(
        subject: Subject,
        clients: Arc<Clients>,
        status: watch::Receiver<Arc<StatusView>>,
        (kept, presented): (PathBuf, Presented),
        stop: CancellationToken,
    ) -> (Self, mpsc::Receiver<Notice>) {
        let (told, notices) = mpsc::channel(NOTICES);
        let (subject, subjects) = watch::channel(Arc::new(subject));
        let desk = Self(Arc::new(Shared { subject, asked: Notify::new(), view: Mutex::default() }));
        let all_day = AllDay {
            desk: desk.clone(),
            subjects,
            evaluator: Evaluator::new(clients, presented),
            status,
            lags: BTreeMap::new(),
            kept: Kept::default(),
            path: kept,
            told,
            clock: Clock::new(),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = all_day.run() => {}
            }
        });
        (desk, notices)
    }

    /// Other plans, from now on; they are looked at as soon as may be.
    pub(super) fn replace(&self, subject: Subject) {
        self.0.subject.send_replace(Arc::new(subject));
    }

    /// What was found.
    pub(super) fn view(&self) -> ReadinessView {
        self.0.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same in short, for the status.
    pub(super) fn lines(&self) -> Vec<PlanReadinessView> {
        let view = self.0.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.plans.iter().map(PlanReadinessView::from).collect()
    }

    /// Has everything looked at; the number of the round that will tell of it.
    pub(super) fn ask(&self) -> u64 {
        let view = self.view();
        self.0.asked.notify_one();
        // What is under way may have looked already at what somebody has mended since.
        view.rounds + if view.evaluating { 2 } else { 1 }
    }

    fn change(&self, change: impl FnOnce(&mut ReadinessView)) {
        change(&mut self.0.view.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// The task.
struct AllDay {
    desk: Desk,
    subjects: watch::Receiver<Arc<Subject>>,
    evaluator: Evaluator,
    status: watch::Receiver<Arc<StatusView>>,
    lags: BTreeMap<ProbeName, LagHistory>,
    kept: Kept,
    path: PathBuf,
    told: mpsc::Sender<Notice>,
    clock: Clock,
}

impl AllDay {
    async fn run(mut self) {
        let path = self.path.clone();
        match tokio::task::spawn_blocking(move || Kept::read(&path)).await {
            Ok(Ok(kept)) => self.kept = kept,
            Ok(Err(error)) => tracing::warn!("{error}; what drifted before this start is not known"),
            Err(_) => {}
        }
        let mut sample = tokio::time::interval(SAMPLE);
        sample.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut due = Some(Instant::now() + FIRST);
        if self.subjects.borrow().table.every.get().is_zero() {
            due = None;
        }
        for round in 0_u64.. {
            loop {
                let idle = Instant::now() + Duration::from_secs(3600);
                tokio::select! {
                    _ = sample.tick() => self.sample(),
                    () = tokio::time::sleep_until(due.unwrap_or(idle).into()), if due.is_some() => break,
                    () = self.desk.0.asked.notified() => break,
                    changed = self.subjects.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        if !self.subjects.borrow().table.every.get().is_zero() {
                            break;
                        }
                        due = None;
                    }
                }
            }
            self.look().await;
            let every = self.subjects.borrow().table.every.get();
            let salt = u64::from(std::process::id()).wrapping_mul(1_000_003).wrapping_add(round);
            let next = next_due(self.clock.now().mono, every, salt);
            due = (!every.is_zero()).then(|| self.clock.instant(next));
        }
    }

    fn sample(&mut self) {
        let status = Arc::clone(&self.status.borrow());
        let subject = Arc::clone(&self.subjects.borrow());
        let standbys = subject.scenarios.iter().flat_map(|scenario| &scenario.replication).map(|pair| &pair.standby);
        let standbys: std::collections::BTreeSet<&ProbeName> = standbys.collect();
        self.lags.retain(|name, _| standbys.contains(name));
        for name in standbys {
            let view = status.probes.iter().find(|view| view.name == *name);
            let lag = view.and_then(|view| view.facts.as_ref()).and_then(|facts| facts.lag);
            self.lags.entry(name.clone()).or_default().sample(lag);
        }
    }

    /// One round over all plans, begun anew after each run.
    async fn look(&mut self) {
        loop {
            self.until(|status| status.run.is_none()).await;
            // What the loop has published may be older than what made somebody ask.
            self.status.mark_unchanged();
            let _told_or_stuck = tokio::time::timeout(PUBLISHED, self.status.changed()).await;
            let subject = Arc::clone(&self.subjects.borrow_and_update());
            self.sample();
            self.desk.change(|view| view.evaluating = true);
            let status = self.status.clone();
            let found = tokio::select! {
                found = self.all(&subject) => Some(found),
                () = begun(status) => None,
            };
            self.desk.change(|view| view.evaluating = false);
            if let Some(found) = found {
                self.take(&subject, found).await;
                return;
            }
        }
    }

    async fn all(&self, subject: &Subject) -> Vec<PlanReadiness> {
        let mut found = Vec::new();
        for plan in &subject.plans {
            let status = Arc::clone(&self.status.borrow());
            let (at, good) = (self.clock.now().wall, self.kept.good.get(&plan.name));
            found.push(self.evaluator.evaluate(subject, plan, at, Some(&status), &self.lags, good).await);
        }
        found
    }

    async fn until(&mut self, holds: impl Fn(&StatusView) -> bool) {
        // Where the loop is gone, so is everything.
        let _ended = self.status.wait_for(|status| holds(status)).await;
    }

    async fn take(&mut self, subject: &Subject, found: Vec<PlanReadiness>) {
        let mut notices = Vec::new();
        let before = self.kept.clone();
        let is_there = |name: &PlanName| found.iter().any(|plan| plan.plan == *name);
        self.kept.good.retain(|name, _| is_there(name));
        self.kept.told.retain(is_there);
        for plan in &found {
            let told = self.kept.told.contains(&plan.plan);
            let (say, is_told) = tell(told, &plan.verdict);
            notices.extend(say.map(|say| notice(say, plan, subject.table.tell)));
            self.kept.told.retain(|name| *name != plan.plan);
            if is_told {
                self.kept.told.push(plan.plan.clone());
            }
            for drift in &plan.drift {
                let about = drift.step.as_ref().map(|step| format!("{step}: ")).unwrap_or_default();
                let (was, is) = (drift.was.as_deref().unwrap_or("-"), drift.is.as_deref().unwrap_or("-"));
                tracing::info!(plan = %plan.plan, "drift: {about}{}: {}: {was} is now {is}", drift.subject, drift.fact);
            }
            if plan.verdict == Readiness::Ready {
                self.kept.good.insert(plan.plan.clone(), PlanReadiness { drift: Vec::new(), ..plan.clone() });
            }
        }
        self.desk.change(|view| {
            view.rounds += 1;
            view.plans = found;
        });
        // First told, then kept: told twice is better than never.
        for notice in notices {
            let _ended = self.told.send(notice).await;
        }
        if self.kept != before {
            let (kept, path) = (self.kept.clone(), self.path.clone());
            if let Ok(Err(error)) = tokio::task::spawn_blocking(move || kept.write(&path)).await {
                tracing::warn!("{error}; after a restart it is not known what has drifted");
            }
        }
    }
}

/// Until a run is active.
async fn begun(mut status: watch::Receiver<Arc<StatusView>>) {
    if status.wait_for(|status| status.run.is_some()).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn notice(say: Tell, plan: &PlanReadiness, loud: NotifyFrom) -> Notice {
    let name = &plan.plan;
    let (subject, body) = match say {
        Tell::NotReady => {
            let mut body: Vec<String> = plan
                .findings()
                .filter(|(_, finding)| matches!(finding.verdict, Readiness::NotReady { .. }))
                .map(|(step, finding)| {
                    let step = step.map(|step| format!("{step}: ")).unwrap_or_default();
                    format!("{step}{}: {}", finding.subject, finding.verdict.reason())
                })
                .take(20)
                .collect();
            body.push(format!("`failoverd readiness {name}` shows everything"));
            (format!("plan {name} is not ready: {}", plan.verdict.reason()), body.join("\n"))
        }
        Tell::ReadyAgain => (format!("plan {name} is ready again"), String::new()),
    };
    let importance = match (say, loud) {
        (Tell::NotReady, NotifyFrom::Page) => Importance::Page,
        _ => Importance::Info,
    };
    Notice {
        kind: NoticeKind::Readiness,
        importance,
        at: plan.at,
        scenario: None,
        severity: None,
        incident: None,
        run: None,
        subject,
        body,
        approval: None,
        routes: None,
        situation: None,
    }
}
