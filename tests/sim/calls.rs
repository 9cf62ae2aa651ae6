//! The executor's double: calls, what they do to the world, and what comes back.

use failoverd::core::Event;
use failoverd::model::*;

use crate::sim::{Sim, What};
use crate::trace::Violation;
use crate::world::{Fate, Taken};

impl Sim {
    pub fn call(&mut self, call: Box<StepCall>) {
        match call.phase {
            Phase::Observe => self.look_at(&call),
            Phase::Verify => {
                let until = self.now + call.timeout.as_millis() as u64;
                let life = self.nodes[self.me].life;
                self.after(100, What::Poll(life, call, until));
            }
            Phase::Apply | Phase::Compensate => {
                let life = self.nodes[self.me].life;
                let often = (self.faults.call / 4).max(self.faults.executor);
                let waits = self.rng.chance(often);
                // A rate limit, or a connection that is slow to come: at most as long as the call has time.
                let wait = if waits { self.rng.below(call.timeout.as_millis() as u64) } else { self.rng.below(20) };
                self.after(wait, What::Leave(life, call));
            }
        }
    }

    fn answer(&mut self, wait: u64, call: CallId, outcome: CallOutcome) {
        let event = Event::Outcome { call, outcome };
        let life = self.nodes[self.me].life;
        if self.rng.chance(self.faults.call / 4) {
            self.trace.count("outcome twice");
            let again = wait + if self.rng.chance(300) { 15_000 } else { 40 };
            self.after(again, What::Deliver(life, Box::new(event.clone())));
        }
        self.after(wait, What::Deliver(life, Box::new(event)));
    }

    fn look_at(&mut self, call: &StepCall) {
        let mut seen = self.world.observe(&call.spec, &call.step);
        let mut wait = self.rng.between(10, 300);
        if self.rng.chance(self.faults.call / 3) {
            match self.rng.below(5) {
                0 => {
                    self.trace.count("look: lost");
                    return;
                }
                1 => {
                    self.trace.count("look: impossible");
                    seen = Observed::Impossible { reason: "no such thing".into() };
                }
                2 => {
                    if let Some(stale) = self.world.observe_stale(&call.spec, &call.step, self.now) {
                        self.trace.count("look: stale");
                        seen = stale;
                    }
                }
                3 => {
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

    /// A change is about to leave: the permit is asked for now, and not when it was decided (S3).
    pub fn leave(&mut self, call: Box<StepCall>) -> Result<(), Violation> {
        let known = self.nodes[self.me].brain.as_ref().map(|brain| brain.ledger().epoch).unwrap_or_default();
        let lease = self.lease_holds();
        let term = lease.as_ref().and_then(|lease| lease.as_ref().ok()).copied().unwrap_or_default();
        let refused = match lease {
            Some(Err(why)) => Some(why),
            _ if call.epoch.is_overtaken_by(known) => {
                self.trace.count("permit refused: overtaken");
                Some(format!("{} was overtaken by {known}", call.epoch))
            }
            _ => None,
        };
        if let Some(reason) = refused {
            self.trace.note(self.now, "no permit", || format!("{} under {}: {reason}", call.step, call.epoch));
            self.trace.count("permit refused");
            self.answer(5, call.call, CallOutcome::NotPermitted { reason });
            return Ok(());
        }
        self.nodes[self.me].check.leaves(&call)?;
        self.check_leaders()?;
        self.change(call, term);
        Ok(())
    }

    fn change(&mut self, call: Box<StepCall>, term: Term) {
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
        let life = self.nodes[self.me].life;
        // The daemon stops dead between the permit and the call, and goes on when its lease is long over.
        let stops = if self.rng.chance(self.faults.freeze) { self.freeze("frozen between permit and call") } else { 0 };
        self.on_their_way.insert((life, call.call), call.step.clone());
        self.after(stops + wait, What::Happens(life, call, term));
    }

    /// A target does what it was told, unless the request never left.
    pub fn happens(&mut self, life: u64, call: &StepCall, term: Term) -> Result<(), Violation> {
        let key = (life, call.call);
        self.on_their_way.remove(&key);
        if self.cancelled.remove(&key) {
            self.world.never_left(&call.step);
            return Ok(());
        }
        let retried = self.nodes.iter().any(|node| node.check.was_retried(&call.step));
        let taken = self.world.happens(self.now, call, term, retried)?;
        self.trace
            .note(self.now, "happens", || format!("{:?} of {} under {}: {taken:?}", call.phase, call.step, call.epoch));
        self.trace.count(match taken {
            Taken::Yes => "change happened",
            Taken::FencedOff => "change fenced off",
            Taken::ByOneThatForgets => "overtaken change at a target that holds no epoch",
        });
        if !self.nodes.iter().any(|node| node.life == life) {
            self.trace.count("change after a crash");
        }
        Ok(())
    }
}
