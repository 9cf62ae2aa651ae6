//! When drills are due: begun by themselves, announced, or missed. What was missed is told and not made
//! up for: it would come at a time that nobody has agreed to.

use std::time::Duration;

use super::brain::Brain;
use crate::model::{DrillSettings, Entry, HumanDuration, Importance, MonoTime, NoticeKind, Now, WallTime};

/// A drill that comes later than this is missed: the clock was set, or the machine slept.
const LATE: Duration = Duration::from_secs(60);
/// So many missed times are counted; more are "at least".
const COUNTED: usize = 1000;

/// What is known of the due times in this life of the daemon.
#[derive(Debug, Default, Clone, serde::Serialize, serde::Deserialize)]
pub(super) struct DrillClock {
    /// Up to then the last life wrote records; what was due after that was missed.
    last_life: Option<WallTime>,
    /// For each drill of the settings; empty where it has to be found out.
    next: Vec<Due>,
    /// When the next of them is due or announced.
    pub(super) wake: Option<MonoTime>,
}

#[derive(Clone, Copy, Debug, Default, serde::Serialize, serde::Deserialize)]
struct Due {
    at: Option<WallTime>,
    is_told: bool,
}

impl DrillClock {
    pub(super) fn since(last_life: Option<WallTime>) -> Self {
        Self { last_life, ..Self::default() }
    }

    /// The settings are others.
    pub(super) fn forget(&mut self) {
        self.next.clear();
    }
}

fn next(drill: &DrillSettings, after: WallTime) -> Option<WallTime> {
    drill.schedule.as_ref()?.next_after(after, &drill.blocked)
}

impl Brain {
    /// Begins what is due, and tells people what will be.
    pub(super) fn tend_drills(&mut self, now: Now) {
        let settings = std::sync::Arc::clone(&self.settings);
        let drills = &settings.drills.all;
        if self.ending || drills.iter().all(|drill| drill.schedule.is_none()) {
            self.drill_clock.wake = None;
            return;
        }
        if self.drill_clock.next.len() != drills.len() {
            let due = |drill: &DrillSettings| Due { at: next(drill, now.wall), is_told: false };
            self.drill_clock.next = drills.iter().map(due).collect();
        }
        for (index, drill) in drills.iter().enumerate() {
            let due = self.drill_clock.next[index];
            let Some(at) = due.at else { continue };
            if at <= now.wall {
                self.drill_clock.next[index] = Due { at: next(drill, now.wall), is_told: false };
                self.begin_due(now, drill, at);
            } else if !due.is_told && !drill.announce.get().is_zero() && at.minus(drill.announce.get()) <= now.wall {
                self.drill_clock.next[index].is_told = true;
                let takes = HumanDuration(super::drill::expected(drill));
                let subject = format!(
                    "a drill of {} on {} begins at {at}, and is expected to take {takes}",
                    drill.plan.name, drill.terms.target
                );
                self.notify_of_drill(now, drill, Importance::Info, subject);
            }
        }
        let wakes = drills.iter().zip(&self.drill_clock.next).filter_map(|(drill, due)| {
            let at = due.at?;
            let announced = at.minus(drill.announce.get());
            Some(if due.is_told || announced <= now.wall { at } else { announced })
        });
        self.drill_clock.wake = wakes.min().map(|at| now.mono_of(at));
    }

    fn begin_due(&mut self, now: Now, drill: &DrillSettings, due: WallTime) {
        let late = now.wall.since(due);
        let why = if late > LATE {
            format!("it was seen {} late: the clock was set, or the daemon stood still", HumanDuration(late))
        } else {
            match self.start_drill(now, "schedule", drill) {
                Ok(_) => return,
                Err(refusal) => refusal.message,
            }
        };
        self.miss(now, drill, due, why);
    }

    fn miss(&mut self, now: Now, drill: &DrillSettings, due: WallTime, why: String) {
        let (plan, target) = (drill.plan.name.clone(), drill.terms.target.clone());
        let subject = format!("the drill of {plan} on {target} that was due at {due} was not begun: {why}");
        if self.commit(now, Entry::DrillMissed { plan, target, due, why }) {
            self.notify_of_drill(now, drill, Importance::Info, subject);
        }
    }

    /// What was due while no daemon was there.
    pub(super) fn tell_missed(&mut self, now: Now) {
        let Some(since) = self.drill_clock.last_life.take() else { return };
        let settings = std::sync::Arc::clone(&self.settings);
        for drill in &settings.drills.all {
            let (mut count, mut last) = (0, None);
            let mut at = since;
            while let Some(due) = next(drill, at).filter(|due| *due <= now.wall && count < COUNTED) {
                (count, last, at) = (count + 1, Some(due), due);
            }
            let Some(last) = last else { continue };
            let others = match count {
                1 => String::new(),
                COUNTED => format!(", as at least {} before it", COUNTED - 1),
                _ => format!(", as {} before it", count - 1),
            };
            self.miss(now, drill, last, format!("the daemon was not there{others}; it is not made up for"));
        }
    }

    fn notify_of_drill(&mut self, now: Now, drill: &DrillSettings, importance: Importance, subject: String) {
        let scenario = self.settings.scenario_of_plan(&drill.plan.name);
        let named = scenario.map(|scenario| (scenario.name.clone(), scenario.severity.clone()));
        self.notify_of_scenario(now, NoticeKind::Drill, importance, named, subject);
    }
}
