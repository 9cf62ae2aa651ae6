//! The executor's double: calls, what they do to the world, and what comes back.

use failoverd::core::Event;
use failoverd::model::*;

use crate::sim::{Sim, What};
use crate::trace::Violation;
use crate::world::Fate;

impl Sim {
    pub fn call(&mut self, call: Box<StepCall>) {
        match call.phase {
            Phase::Observe => self.look_at(&call),
            Phase::Verify => {
                let until = self.now + call.timeout.as_millis() as u64;
                self.after(100, What::Poll(self.life, call, until));
            }
            Phase::Apply | Phase::Compensate => self.change(call),
        }
    }

    fn answer(&mut self, wait: u64, call: CallId, outcome: CallOutcome) {
        let event = Event::Outcome { call, outcome };
        if self.rng.chance(self.faults.call / 4) {
            self.trace.count("outcome twice");
            self.after(wait + 40, What::Deliver(self.life, Box::new(event.clone())));
        }
        self.after(wait, What::Deliver(self.life, Box::new(event)));
    }

    fn look_at(&mut self, call: &StepCall) {
        let mut seen = self.world.observe(&call.spec, &call.step);
        let mut wait = self.rng.between(10, 300);
        if self.rng.chance(self.faults.call / 3) {
            match self.rng.below(4) {
                0 => {
                    self.trace.count("look: lost");
                    return;
                }
                1 => {
                    self.trace.count("look: impossible");
                    seen = Observed::Impossible { reason: "no such thing".into() };
                }
                2 => {
                    self.trace.count("look: too late");
                    wait += call.timeout.as_millis() as u64 + 6_000;
                }
                _ => {
                    self.trace.count("look: unknown");
                    seen = Observed::Unknown { reason: "503".into() };
                }
            }
        }
        self.answer(wait, call.call, CallOutcome::Observed(seen));
    }

    /// Asks again and again until the change is seen or the time is over.
    pub fn poll(&mut self, life: u64, call: Box<StepCall>, until: u64) {
        if life != self.life {
            return;
        }
        let verified = if self.rng.chance(self.faults.call / 6) {
            if self.rng.chance(500) {
                self.trace.count("verify: lost");
                return;
            }
            self.trace.count("verify: failed");
            Verified::Failed { reason: "rolled back".into() }
        } else if self.world.is_changed(&call.spec, &call.step) {
            Verified::yes("seen")
        } else if self.now >= until {
            self.trace.count("verify: not in time");
            Verified::NotYet { evidence: "not seen".into() }
        } else {
            return self.after(500, What::Poll(life, call, until));
        };
        self.answer(20, call.call, CallOutcome::Verified(verified));
    }

    fn change(&mut self, call: Box<StepCall>) {
        let fate = Fate::draw(&mut self.rng, self.faults.call);
        self.trace.count(match fate {
            Fate::Fine => "change: fine",
            Fate::UnknownDone => "change: timeout after success",
            Fate::UnknownNotDone => "change: timeout before effect",
            Fate::UnknownLate => "change: late effect",
            Fate::RefusedNow => "change: throttled",
            Fate::Refused => "change: refused",
            Fate::NotPermitted => "change: not permitted",
            Fate::SilentDone => "change: no answer, done",
            Fate::SilentNotDone => "change: no answer, not done",
            Fate::TooLate => "change: answer too late",
        });
        if let Some(outcome) = fate.outcome() {
            let late = if fate == Fate::TooLate { call.timeout.as_millis() as u64 + 5_000 } else { 0 };
            let wait = late + self.rng.between(20, 1_500);
            self.answer(wait, call.call, outcome);
        }
        if !fate.happens() {
            return;
        }
        let wait = if fate == Fate::UnknownLate {
            self.rng.between(5_000, 40_000)
        } else {
            self.world.arrives(&call);
            self.rng.between(10, 1_500)
        };
        self.on_their_way.insert((self.life, call.call), call.step.clone());
        self.after(wait, What::Happens(self.life, call));
    }

    /// A target does what it was told, unless the request never left.
    pub fn happens(&mut self, life: u64, call: &StepCall) -> Result<(), Violation> {
        let key = (life, call.call);
        self.on_their_way.remove(&key);
        if self.cancelled.remove(&key) {
            self.world.never_left(&call.step);
            return Ok(());
        }
        let taken = self.world.happens(call, self.check.was_retried(&call.step))?;
        self.trace
            .note(self.now, "happens", || format!("{:?} of {} under {}: {taken}", call.phase, call.step, call.epoch));
        self.trace.count(if taken { "change happened" } else { "change fenced off" });
        if life != self.life {
            self.trace.count("change after a crash");
        }
        Ok(())
    }
}
