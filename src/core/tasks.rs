//! Jobs that people were handed by a run that has ended: none is forgotten.
//!
//! A run does not wait for the tasks after the recovery ("call the privacy officer within 72 h"): it
//! would keep the next failover from starting. They stay in the journal, are told again until
//! somebody says `failoverd step done`, and are overdue after their step's timeout.

use std::collections::BTreeMap;
use std::time::Duration;

use super::brain::Brain;
use super::run_ledger::RunLedger;
use super::view::TaskView;
use crate::model::{Importance, MonoTime, NoticeKind, Now, RunId, StepName, WallTime, Work};

/// A task that says nothing of it is told again so often.
const REMIND: Duration = Duration::from_secs(24 * 3600);

/// When each open task is told next, in this life.
pub(super) type Reminders = BTreeMap<(RunId, StepName), MonoTime>;

impl RunLedger {
    /// The places of the tasks that are open although the run has ended.
    pub(super) fn open_tasks(&self) -> impl Iterator<Item = usize> {
        let ended = self.ended.is_some_and(|(result, _)| result == crate::model::RunResult::Done) && !self.is_drill();
        (0..self.steps.len()).filter(move |index| ended && self.is_standing_task(*index))
    }

    /// Is this a task after the recovery that is not over, for which the run does not wait?
    pub(super) fn is_standing_task(&self, index: usize) -> bool {
        let step = &self.plan.steps[index];
        step.terms.post_recovery && matches!(step.work, Work::Task { .. }) && !self.steps[index].is_over()
    }

    /// Is all over but the tasks that the run does not wait for?
    pub(super) fn is_through(&self) -> bool {
        let over = |index: usize| self.steps[index].is_over() || (self.is_standing_task(index) && self.is_ready(index));
        (0..self.steps.len()).all(over) && self.is_recovered()
    }

    fn due(&self, index: usize) -> Option<WallTime> {
        Some(self.recovered_at()? + self.plan.steps[index].timeout.get())
    }
}

impl Brain {
    /// The open tasks, the first due first.
    pub(super) fn tasks(&self) -> Vec<TaskView> {
        let of_run = |run: &RunLedger| {
            let view = |index: usize| {
                let Work::Task { message, .. } = &run.plan.steps[index].work else { return None };
                Some(TaskView {
                    run: run.id.clone(),
                    step: run.plan.steps[index].name.clone(),
                    message: run.message(index, message).unwrap_or_else(|_| message.clone()),
                    due: run.due(index),
                })
            };
            run.open_tasks().filter_map(view).collect::<Vec<_>>()
        };
        let mut tasks: Vec<TaskView> = self.ledger.runs.values().flat_map(of_run).collect();
        tasks.sort_by_key(|task| task.due);
        tasks
    }

    /// Tells people of the tasks whose time has come.
    pub(super) fn remind(&mut self, now: Now) {
        let tasks = self.tasks();
        self.reminders.retain(|(run, step), _| tasks.iter().any(|task| task.run == *run && task.step == *step));
        for task in tasks {
            let key = (task.run.clone(), task.step.clone());
            let every = self.remind_every(&task);
            let overdue = task.due.is_some_and(|due| due <= now.wall);
            let next = match self.reminders.get(&key) {
                // In a new life, or just left by its run: told in its turn, or at once where it is late.
                None if !overdue => self.next_telling(now, &task, every),
                Some(at) if now.mono < *at => continue,
                _ => {
                    let left = match task.due {
                        Some(due) if overdue => format!("OVERDUE since {due}"),
                        Some(due) => format!("due {due}"),
                        None => "open".to_owned(),
                    };
                    let (run, step) = (&task.run, &task.step);
                    let subject =
                        format!("task of run {run}: {}, {left} (failoverd step done {step} --run {run})", task.message);
                    self.notify_run(now, NoticeKind::TaskOpen, Importance::Page, run, subject);
                    self.next_telling(now, &task, every)
                }
            };
            self.reminders.insert(key, next);
        }
    }

    fn remind_every(&self, task: &TaskView) -> Duration {
        let work = self.ledger.runs.get(&task.run).and_then(|run| run.plan.step(&task.step)).map(|step| &step.work);
        match work {
            Some(Work::Task { remind: Some(every), .. }) if !every.get().is_zero() => every.get(),
            _ => REMIND,
        }
    }

    /// The next reminder, but not later than the moment in which it is due.
    fn next_telling(&self, now: Now, task: &TaskView, every: Duration) -> MonoTime {
        let due = task.due.filter(|due| *due > now.wall).map(|due| due.since(now.wall));
        now.mono + due.map_or(every, |due| due.min(every))
    }
}
