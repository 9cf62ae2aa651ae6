//! One connection that is kept between the attempts of a probe.
//!
//! A fresh connection per attempt costs the target a process (PostgreSQL) and a handshake; a kept
//! one hides a dead listener, a changed address and a changed password. So it is kept, but for a
//! bounded number of attempts; and when it is cut between two attempts, the runner is nudged to
//! look at once instead of at the next interval. A web server that closes idle connections costs
//! one more look in each interval by that, and its death is seen as soon as it cuts.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::AbortOnDropHandle;

use super::runner::Nudge;

/// A connection serves so many attempts.
const ATTEMPTS_PER_CONNECTION: u32 = 5;

/// The place where a probe keeps its connection. Attempts that overlap open their own.
pub struct Keeper<C> {
    kept: Mutex<Option<Kept<C>>>,
    nudge: Option<Nudge>,
}

/// A connection, the task that drives it, and its age. Dropping it ends both.
pub struct Kept<C> {
    /// The client's half.
    pub client: C,
    used: u32,
    ended: Arc<AtomicBool>,
    idle: Arc<AtomicBool>,
    _driver: AbortOnDropHandle<()>,
}

impl<C> Keeper<C> {
    /// Keeps nothing yet.
    pub fn new(nudge: Option<Nudge>) -> Self {
        Self { kept: Mutex::new(None), nudge }
    }

    /// The kept connection, where there is one that still stands.
    pub fn take(&self) -> Option<Kept<C>> {
        let kept = self.lock().take()?;
        kept.idle.store(false, Ordering::SeqCst);
        (!kept.ended.load(Ordering::SeqCst)).then_some(kept)
    }

    /// A new connection: `driver` moves its bytes until it ends.
    pub fn adopt(&self, client: C, driver: impl Future<Output = ()> + Send + 'static) -> Kept<C> {
        let (ended, idle) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (our_ended, our_idle, nudge) = (Arc::clone(&ended), Arc::clone(&idle), self.nudge.clone());
        let driver = tokio::spawn(async move {
            driver.await;
            our_ended.store(true, Ordering::SeqCst);
            // During an attempt, the attempt itself sees the cut.
            if our_idle.load(Ordering::SeqCst)
                && let Some(nudge) = nudge
            {
                nudge.now();
            }
        });
        Kept { client, used: 0, ended, idle, _driver: AbortOnDropHandle::new(driver) }
    }

    /// Keeps a connection that has just served an attempt well, unless it is old.
    pub fn give_back(&self, mut kept: Kept<C>) {
        kept.used += 1;
        if kept.used < ATTEMPTS_PER_CONNECTION {
            kept.idle.store(true, Ordering::SeqCst);
            *self.lock() = Some(kept);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Kept<C>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
