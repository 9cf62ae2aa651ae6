//! What persons agreed to: how many it takes, what they were shown, and for how long it counts.

use std::time::Duration;

use super::brain::Brain;
use super::event::{Answer, Command, Refusal};
use super::incident::{Answered, Incident, person};
use crate::model::{
    Epoch, HumanDuration, Importance, LossShown, MonoTime, NoticeKind, Now, PlanHash, ScenarioSettings,
};

/// An answer that nothing could follow from for so long is not valid any more.
pub(super) const VALID_FOR: Duration = Duration::from_secs(600);

/// Enough persons said yes, to what would be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Consent {
    /// Who: `ann`, `ann and bob`.
    pub(super) by: String,
    /// What all of them allowed to be lost: the least of it.
    pub(super) allow_data_loss: Option<HumanDuration>,
    /// Had any of them a number in sight?
    pub(super) loss_shown: LossShown,
}

/// What a person wants done by hand, where a second one has to want the same.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(super) struct Wanted {
    /// Word for word.
    command: Command,
    /// What it would carry out, under which epoch.
    plan_hash: PlanHash,
    epoch: Epoch,
    /// Who, and when.
    by: Vec<(String, MonoTime)>,
}

/// `ann`, `ann and bob`, `ann, bob and cid`.
fn joined(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

impl Brain {
    /// The yeses that still count: bound to the plan and the epoch as they are now, and not too old by
    /// either clock, so that no jump of the wall clock makes one last longer.
    pub(super) fn valid_approvals<'a>(
        &self,
        now: Now,
        scenario: &ScenarioSettings,
        incident: &'a Incident,
    ) -> Vec<&'a Answered> {
        let Some(hash) = self.plan_hash(scenario) else { return Vec::new() };
        let counts = |answer: &&Answered| {
            let marked = self.marks.since_answer(&incident.id, &answer.by, now.mono).unwrap_or_default();
            let bound = answer.plan_hash == *hash && answer.epoch == self.ledger.epoch.next();
            bound && marked.max(now.wall.since(answer.at)) <= VALID_FOR
        };
        incident.approvals.iter().filter(counts).collect()
    }

    /// What enough persons agreed to; `None` while one is missing.
    pub(super) fn consent(&self, now: Now, scenario: &ScenarioSettings, incident: &Incident) -> Option<Consent> {
        // The newest as many as it takes: where one is enough, it is the newest alone, as whoever gave it
        // was told.
        let needed = scenario.approvals.max(1) as usize;
        let counted = incident.approvals.len().checked_sub(needed).map(|from| &incident.approvals[from..])?;
        let valid = self.valid_approvals(now, scenario, incident);
        let yes: Vec<&Answered> = counted.iter().filter(|answer| valid.contains(answer)).collect();
        if yes.len() < needed {
            return None;
        }
        let names: Vec<&str> = yes.iter().map(|answer| answer.by.as_str()).collect();
        let known = yes.iter().any(|answer| answer.loss_shown == LossShown::Known);
        Some(Consent {
            by: joined(&names),
            // Who allowed none allowed none of it.
            allow_data_loss: yes.iter().map(|answer| answer.allow_data_loss).min().flatten(),
            loss_shown: if known { LossShown::Known } else { LossShown::Unknown },
        })
    }

    /// What is said to somebody who approved while others still have to.
    pub(super) fn still_missing(&self, now: Now, scenario: &ScenarioSettings, incident: &Incident) -> Option<String> {
        let yes = self.valid_approvals(now, scenario, incident);
        let missing = (scenario.approvals as usize).checked_sub(yes.len()).filter(|missing| *missing > 0)?;
        let names: Vec<&str> = yes.iter().map(|answer| answer.by.as_str()).collect();
        let (names, others) = (joined(&names), others(missing));
        Some(format!("{} of {} approvals ({names}): {others}", yes.len(), scenario.approvals))
    }

    /// What a person wants done by hand, where that takes more than one. `Ok(Ok(by))`: enough want it.
    ///
    /// # Errors
    /// Where this caller cannot be one of several persons.
    pub(super) fn second(
        &mut self,
        now: Now,
        by: &str,
        scenario: &ScenarioSettings,
        plan_hash: PlanHash,
        command: &Command,
    ) -> Result<Result<String, Answer>, Refusal> {
        if scenario.approvals <= 1 {
            return Ok(Ok(by.to_owned()));
        }
        if by.starts_with("signal ") {
            let message =
                format!("scenario {} takes {} persons, and a signal has no name", scenario.name, scenario.approvals);
            return Err(Refusal { code: "guard".to_owned(), message });
        }
        let epoch = self.ledger.epoch.next();
        let mut wanted = self
            .wanted
            .take()
            .filter(|known| known.command == *command && known.plan_hash == plan_hash && known.epoch == epoch)
            .unwrap_or_else(|| Wanted { command: command.clone(), plan_hash, epoch, by: Vec::new() });
        wanted.by.retain(|(who, at)| now.mono.since(*at) <= VALID_FOR && person(who) != person(by));
        wanted.by.push((by.to_owned(), now.mono));
        let names: Vec<&str> = wanted.by.iter().map(|(who, _)| who.as_str()).collect();
        let all = joined(&names);
        let missing = (scenario.approvals as usize).saturating_sub(names.len());
        if missing == 0 {
            return Ok(Ok(all));
        }
        let text = format!(
            "{} of {} persons want it ({all}): {} to give the very same command within 10 minutes",
            names.len(),
            scenario.approvals,
            others(missing)
        );
        self.wanted = Some(wanted);
        let incident = self.ledger.open_incident(&scenario.name).cloned();
        let subject = format!("{} {}: by hand: {text}", scenario.severity, scenario.name);
        self.notify(now, NoticeKind::ApprovalAsked, Importance::Page, incident.as_ref(), subject);
        Ok(Err(Answer { text, run: None }))
    }
}

fn others(missing: usize) -> String {
    match missing {
        1 => "one more person has".to_owned(),
        more => format!("{more} more persons have"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_joined_as_people_do() {
        assert_eq!(joined(&["ann"]), "ann");
        assert_eq!(joined(&["ann", "bob"]), "ann and bob");
        assert_eq!(joined(&["ann", "bob", "cid"]), "ann, bob and cid");
    }

    #[test]
    fn how_many_are_missing_is_said_as_people_do() {
        assert_eq!((others(1).as_str(), others(2).as_str()), ("one more person has", "2 more persons have"));
    }
}
