//! Notices on their way to people: durably kept, delivered at least once or named as undelivered.
//!
//! Each route has a task of its own, so that one that fails delays neither the run nor the others.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::digest::{self, Parcel};
use crate::config::shape::NotifyFrom;
use crate::control::metrics::Metrics;
use crate::core::view::{NoticeState, NoticeView};
use crate::model::{Audience, Importance, IncidentId, Notice, NoticeKind};
use crate::ports::{Addressed, Delivery, JournalError, Notifier, Outbox, OutboxItem, Threads, Undelivered};

/// One attempt may take this long.
const ATTEMPT: Duration = Duration::from_secs(10);
/// The wait after a first attempt in vain; doubled after each further one.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest wait between two attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// After so many attempts (about a day) a notice is named as undelivered.
const ATTEMPTS: u32 = 1500;
/// Taken from the outbox at once.
const ROUND: u32 = 1000;
/// A storm reaches a route at this rate at most, after the first burst.
const A_SECOND: NonZeroU32 = NonZeroU32::new(2).unwrap();
const BURST: NonZeroU32 = NonZeroU32::new(20).unwrap();
/// After so many attempts in vain, of a notice or of the route, the route's fallback is used too.
const FALL_BACK: u32 = 5;
/// So many that were not delivered are shown.
const SHOWN: u32 = 500;

/// A route, ready for use.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) name: String,
    pub(super) from: NotifyFrom,
    pub(super) audience: Audience,
    pub(super) fallback: Option<String>,
    pub(super) notifier: Arc<dyn Notifier>,
}

impl Route {
    /// Is it for this route, as far as the brain names routes?
    fn is_named(&self, notice: &Notice) -> bool {
        notice.routes.as_ref().is_none_or(|routes| routes.iter().any(|route| route.as_str() == self.name))
    }

    fn takes(&self, notice: &Notice) -> bool {
        if self.audience != Audience::Internal {
            // What begins quietly may be over before anybody outside has noticed.
            let begins_quietly = notice.kind == NoticeKind::IncidentOpened && notice.importance == Importance::Info;
            return notice.incident.is_some() && self.audience.hears_of(notice.kind) && !begins_quietly;
        }
        let moves = matches!(notice.kind, NoticeKind::IncidentClosed | NoticeKind::IncidentAcknowledged);
        self.from == NotifyFrom::Info
            // It names its routes, whatever else they are for.
            || notice.kind == NoticeKind::Anchor
            || notice.importance == Importance::Page
            || (moves && self.notifier.follows_incidents())
    }
}

/// The outbox and those who empty it.
pub(super) struct Notices {
    outbox: Arc<Mutex<dyn Outbox>>,
    routes: Vec<Route>,
    kicks: BTreeMap<String, Arc<Notify>>,
    stop: CancellationToken,
}

impl Notices {
    /// Starts a task for each route.
    pub(super) fn start(outbox: Arc<Mutex<dyn Outbox>>, routes: Vec<Route>, metrics: &Metrics) -> Self {
        let stop = CancellationToken::new();
        abandon(&outbox, &routes, metrics);
        count_given_up(&outbox, metrics);
        let kicks: BTreeMap<String, Arc<Notify>> =
            routes.iter().map(|route| (route.name.clone(), Arc::default())).collect();
        let all = Arc::new(kicks.clone());
        for route in &routes {
            let threads = KeptThreads { route: route.name.clone(), outbox: Arc::clone(&outbox) };
            route.notifier.keep_threads(Arc::new(threads));
            let courier = Courier {
                route: route.name.clone(),
                is_public: route.audience.is_public(),
                fallback: route.fallback.clone(),
                notifier: Arc::clone(&route.notifier),
                outbox: Arc::clone(&outbox),
                limiter: RateLimiter::direct(Quota::per_second(A_SECOND).allow_burst(BURST)),
                metrics: metrics.clone(),
                kick: kicks.get(&route.name).cloned().unwrap_or_default(),
                kicks: Arc::clone(&all),
            };
            tokio::spawn(courier.run(stop.clone()));
        }
        Self { outbox, routes, kicks, stop }
    }

    /// The routes.
    pub(super) fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Other routes, from now on; what was kept for those that stay is delivered by their successors.
    pub(super) fn replace(&mut self, routes: Vec<Route>, metrics: &Metrics) {
        self.stop.cancel();
        *self = Self::start(Arc::clone(&self.outbox), routes, metrics);
    }

    /// Says a notice in the log, and which routes it goes to.
    pub(super) fn address(&self, notice: Notice) -> Addressed {
        match notice.importance {
            Importance::Page => tracing::warn!(kind = ?notice.kind, "{}", notice.subject),
            Importance::Info => tracing::info!(kind = ?notice.kind, "{}", notice.subject),
        }
        let takers: Vec<&Route> = self.routes.iter().filter(|route| route.takes(&notice)).collect();
        let named: Vec<&Route> = takers.iter().copied().filter(|route| route.is_named(&notice)).collect();
        // A page that none of the routes takes which it is meant for goes to all that take one.
        let reaches = named.iter().any(|route| !route.audience.is_public());
        let routes = if reaches || notice.importance == Importance::Info { named } else { takers };
        Addressed { routes: routes.into_iter().map(|route| route.name.clone()).collect(), notice }
    }

    /// What has not reached its route, the newest first.
    pub(super) fn undelivered(&self) -> Vec<NoticeView> {
        let all = lock(&self.outbox).undelivered(SHOWN).unwrap_or_else(|error| {
            tracing::error!(%error, "the outbox cannot be read");
            Vec::new()
        });
        all.into_iter().map(view).collect()
    }

    /// Where notices are kept.
    pub(super) fn outbox(&self) -> &Mutex<dyn Outbox> {
        &self.outbox
    }

    /// Sets the delivery of notices going that are in the outbox by now.
    pub(super) fn deliver(&self, notices: &[Addressed]) {
        let routes = notices.iter().flat_map(|told| &told.routes);
        routes.filter_map(|route| self.kicks.get(route)).for_each(|kick| kick.notify_one());
    }

    /// Lets the couriers have a moment for what is due, then ends them.
    pub(super) async fn finish(&self, within: Duration) {
        let empty = async {
            while lock(&self.outbox).waiting().is_ok_and(|routes| !routes.is_empty()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _what_is_left_is_delivered_after_the_next_start = tokio::time::timeout(within, empty).await;
        self.stop.cancel();
    }
}

/// Empties the outbox of one route.
struct Courier {
    route: String,
    is_public: bool,
    fallback: Option<String>,
    notifier: Arc<dyn Notifier>,
    outbox: Arc<Mutex<dyn Outbox>>,
    limiter: DefaultDirectRateLimiter,
    metrics: Metrics,
    kick: Arc<Notify>,
    /// Those of all routes, for the fallback.
    kicks: Arc<BTreeMap<String, Arc<Notify>>>,
}

impl Courier {
    async fn run(self, stop: CancellationToken) {
        let mut in_vain = 0;
        loop {
            let wait = tokio::select! {
                () = stop.cancelled() => return,
                wait = self.round(&mut in_vain) => wait,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.kick.notified() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Delivers what is there, up to the first that the route does not take; says how long to wait
    /// before the next round.
    async fn round(&self, in_vain: &mut u32) -> Duration {
        loop {
            let Some(mut waiting) = self.waiting() else { return LONGEST_WAIT };
            if waiting.is_empty() {
                return LONGEST_WAIT;
            }
            if self.limiter.check().is_err() {
                self.limiter.until_ready().await;
                // What has come meanwhile may be louder, and makes a pile of what was a few.
                match self.waiting() {
                    Some(newer) => waiting = newer,
                    None => return LONGEST_WAIT,
                }
            }
            let Some(parcel) = digest::next(&waiting, self.is_public) else { return LONGEST_WAIT };
            if !self.deliver(&parcel, *in_vain).await {
                let wait = FIRST_WAIT.saturating_mul(1 << (*in_vain).min(8)).min(LONGEST_WAIT);
                *in_vain = in_vain.saturating_add(1);
                return wait;
            }
            *in_vain = 0;
        }
    }

    fn waiting(&self) -> Option<Vec<OutboxItem>> {
        match lock(&self.outbox).pending(&self.route, ROUND) {
            Ok(waiting) => {
                self.metrics.notifications_undelivered(&self.route, waiting.len());
                Some(waiting)
            }
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be read");
                None
            }
        }
    }

    async fn deliver(&self, parcel: &Parcel<'_>, in_vain: u32) -> bool {
        let subject = &parcel.notice.subject;
        let result = match tokio::time::timeout(ATTEMPT, self.notifier.deliver(&parcel.notice)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {} s", ATTEMPT.as_secs())),
        };
        let name = match &result {
            Ok(()) => "delivered",
            Err(reason) => {
                tracing::warn!(route = %self.route, %subject, %reason, "not delivered yet");
                "failed"
            }
        };
        self.metrics.notification(&self.route, name);
        let mut over = result.is_ok();
        for item in &parcel.items {
            let settled = match &result {
                Ok(()) => Delivery::Delivered,
                Err(reason) if item.attempts + 1 >= ATTEMPTS => self.give_up(item, reason),
                Err(reason) => {
                    if item.attempts + 1 >= FALL_BACK || in_vain + 1 >= FALL_BACK {
                        self.fall_back(item, reason);
                    }
                    Delivery::Failed { reason: reason.clone() }
                }
            };
            over |= !matches!(settled, Delivery::Failed { .. });
            let written = lock(&self.outbox).settle(item.id, settled);
            if let Err(error) = written {
                tracing::error!(%error, "the outbox cannot be written");
                // Nobody could remember that it was delivered: the same page again and again. The loop
                // finds the store in doubt, and ends the daemon.
                std::future::pending::<()>().await;
            }
        }
        if result.is_err() && over {
            count_given_up(&self.outbox, &self.metrics);
        }
        over
    }

    fn give_up(&self, item: &OutboxItem, reason: &str) -> Delivery {
        tracing::error!(route = %self.route, subject = %item.notice.subject, %reason, "undelivered: given up");
        self.metrics.notification(&self.route, "given_up");
        Delivery::GivenUp { reason: reason.to_owned() }
    }

    /// Has the route's fallback tell it too. It is tried on here: whoever reads this route may miss it.
    fn fall_back(&self, item: &OutboxItem, reason: &str) {
        let Some(fallback) = &self.fallback else { return };
        let mut notice = item.notice.clone();
        notice.subject = format!("{} [for {}, which does not take it]", notice.subject, self.route);
        notice.body = format!("The route {} does not take it: {reason}\n\n{}", self.route, notice.body);
        let handed = lock(&self.outbox).hand_over(item, fallback, &notice);
        match handed {
            Ok(true) => {
                let subject = &item.notice.subject;
                tracing::warn!(route = %self.route, %fallback, %subject, "the fallback is told too");
                self.metrics.notification(&self.route, "handed_over");
                if let Some(kick) = self.kicks.get(fallback) {
                    kick.notify_one();
                }
            }
            Ok(false) => {}
            // The settling that follows finds the same, and stops this route.
            Err(error) => tracing::error!(%error, "the outbox cannot be written"),
        }
    }
}

/// Which thread of a provider is whose, beside the outbox.
struct KeptThreads {
    route: String,
    outbox: Arc<Mutex<dyn Outbox>>,
}

impl Threads for KeptThreads {
    fn thread(&self, incident: &IncidentId) -> Option<String> {
        lock(&self.outbox).thread(&self.route, incident).ok().flatten()
    }

    fn keep(&self, incident: &IncidentId, thread: &str) {
        if let Err(error) = lock(&self.outbox).keep_thread(&self.route, incident, thread) {
            tracing::warn!(%error, "a thread could not be kept: after a restart another one begins");
        }
    }
}

fn view(of: Undelivered) -> NoticeView {
    let notice = of.item.notice;
    NoticeView {
        id: of.item.id,
        route: of.item.route,
        state: match (of.given_up, of.handed_over) {
            (true, _) => NoticeState::GivenUp,
            (false, true) => NoticeState::HandedOver,
            (false, false) => NoticeState::Waiting,
        },
        at: notice.at,
        kind: notice.kind,
        importance: notice.importance,
        incident: notice.incident,
        subject: notice.subject,
        attempts: of.item.attempts,
        reason: of.reason,
    }
}

fn count_given_up(outbox: &Mutex<dyn Outbox>, metrics: &Metrics) {
    if let Ok(all) = lock(outbox).given_up() {
        all.iter().for_each(|(route, many)| metrics.notifications_given_up(route, *many));
    }
}

/// What waits for a route that the configuration does not have any more is named as undelivered.
fn abandon(outbox: &Mutex<dyn Outbox>, routes: &[Route], metrics: &Metrics) {
    let mut outbox = lock(outbox);
    let mut abandoned = || -> Result<(), JournalError> {
        for gone in outbox.waiting()?.iter().filter(|name| routes.iter().all(|route| route.name != **name)) {
            let notices = outbox.abandon(gone, "its route is not in the configuration any more")?;
            tracing::error!(route = %gone, notices, "undelivered: the route is not in the configuration any more");
            metrics.notifications_undelivered(gone, 0);
        }
        Ok(())
    };
    if let Err(error) = abandoned() {
        tracing::error!(%error, "the outbox cannot be tidied");
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "notices_tests.rs"]
mod tests;
