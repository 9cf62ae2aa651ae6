//! Real time for the brain.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::model::{MonoTime, Now, WallTime};

/// The brain's clock starts at this age, so that what began before the daemon (an outage that a
/// crash interrupted) has a place on it too.
const HEAD_START: Duration = Duration::from_secs(30 * 24 * 3600);

/// A wall clock that moves against the monotonic one by more than this has jumped.
const JUMP: Duration = Duration::from_secs(2);

/// Reads both clocks.
#[derive(Debug)]
pub(super) struct Clock {
    start: Instant,
    /// What the wall clock was ahead of the monotonic one when last looked at, in milliseconds.
    ahead: i128,
}

impl Clock {
    pub(super) fn new() -> Self {
        let mut clock = Self { start: Instant::now(), ahead: 0 };
        clock.ahead = clock.wall_ahead();
        clock
    }

    pub(super) fn now(&self) -> Now {
        let now = Instant::now();
        Now { mono: self.mono(now), wall: wall() }
    }

    pub(super) fn mono(&self, at: Instant) -> MonoTime {
        MonoTime::ZERO + HEAD_START + at.saturating_duration_since(self.start)
    }

    /// The instant of a point on the brain's clock.
    pub(super) fn instant(&self, at: MonoTime) -> Instant {
        self.start + at.since(MonoTime::ZERO + HEAD_START)
    }

    /// By how much the wall clock has jumped since this was asked last.
    pub(super) fn jumped(&mut self) -> Option<Duration> {
        let ahead = self.wall_ahead();
        let by = Duration::from_millis(u64::try_from((ahead - self.ahead).unsigned_abs()).unwrap_or(u64::MAX));
        self.ahead = ahead;
        (by > JUMP).then_some(by)
    }

    fn wall_ahead(&self) -> i128 {
        let mono = i128::try_from(self.start.elapsed().as_millis()).unwrap_or(i128::MAX);
        i128::from(wall().0) - mono
    }
}

fn wall() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
