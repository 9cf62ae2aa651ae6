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

use crate::config::shape::NotifyFrom;
use crate::control::metrics::Metrics;
use crate::model::{Importance, Notice, NoticeKind};
use crate::ports::{Addressed, Delivery, JournalError, Notifier, Outbox, OutboxItem};

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

/// A route, ready for use.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) name: String,
    pub(super) from: NotifyFrom,
    pub(super) notifier: Arc<dyn Notifier>,
}

impl Route {
    fn takes(&self, notice: &Notice) -> bool {
        let moves = matches!(notice.kind, NoticeKind::IncidentClosed | NoticeKind::IncidentAcknowledged);
        self.from == NotifyFrom::Info
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
        let mut kicks = BTreeMap::new();
        for route in &routes {
            let kick = Arc::new(Notify::new());
            kicks.insert(route.name.clone(), Arc::clone(&kick));
            let courier = Courier {
                route: route.name.clone(),
                notifier: Arc::clone(&route.notifier),
                outbox: Arc::clone(&outbox),
                limiter: RateLimiter::direct(Quota::per_second(A_SECOND).allow_burst(BURST)),
                metrics: metrics.clone(),
                kick,
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
        let routes = self.routes.iter().filter(|route| route.takes(&notice)).map(|route| route.name.clone()).collect();
        Addressed { routes, notice }
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
    notifier: Arc<dyn Notifier>,
    outbox: Arc<Mutex<dyn Outbox>>,
    limiter: DefaultDirectRateLimiter,
    metrics: Metrics,
    kick: Arc<Notify>,
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
        let pending = match lock(&self.outbox).pending(&self.route, ROUND) {
            Ok(pending) => pending,
            Err(error) => {
                tracing::error!(%error, "the outbox cannot be read");
                return LONGEST_WAIT;
            }
        };
        self.metrics.notifications_undelivered(&self.route, pending.len());
        for item in &pending {
            self.limiter.until_ready().await;
            if !self.deliver(item).await {
                let wait = FIRST_WAIT.saturating_mul(1 << (*in_vain).min(8)).min(LONGEST_WAIT);
                *in_vain += 1;
                return wait;
            }
            *in_vain = 0;
        }
        if pending.is_empty() { LONGEST_WAIT } else { Duration::ZERO }
    }

    async fn deliver(&self, item: &OutboxItem) -> bool {
        let result = match tokio::time::timeout(ATTEMPT, self.notifier.deliver(&item.notice)).await {
            Ok(result) => result,
            Err(_) => Err(format!("no answer within {} s", ATTEMPT.as_secs())),
        };
        let (settled, name) = match result {
            Ok(()) => (Delivery::Delivered, "delivered"),
            Err(reason) if item.attempts + 1 >= ATTEMPTS => {
                tracing::error!(route = %self.route, subject = %item.notice.subject, %reason, "undelivered: given up");
                (Delivery::GivenUp { reason }, "given_up")
            }
            Err(reason) => {
                tracing::warn!(route = %self.route, subject = %item.notice.subject, %reason, "not delivered yet");
                (Delivery::Failed { reason }, "failed")
            }
        };
        let over = !matches!(settled, Delivery::Failed { .. });
        self.metrics.notification(&self.route, name);
        let written = lock(&self.outbox).settle(item.id, settled);
        if let Err(error) = written {
            tracing::error!(%error, "the outbox cannot be written");
            // Nobody could remember that it was delivered: the same page again and again. The loop
            // finds the store in doubt, and ends the daemon.
            std::future::pending::<()>().await;
        }
        over
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
