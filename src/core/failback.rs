//! Failback: a plan of its own, only ever by hand, and not before somebody has looked at what the old
//! primary has that the new one lacks.

use super::brain::Brain;
use super::event::{Answer, Command, Refusal};
use super::loss::Comparison;
use crate::model::{Divergence, Given, HoldReason, Mode, Now, RunKind, ScenarioSettings, Trigger, Truth};

/// What the check of the divergence came to.
struct Checked {
    /// What is given up.
    discards: Vec<Divergence>,
    /// In one line, for the answer.
    told: String,
}

fn refuse(message: impl Into<String>) -> Refusal {
    Refusal { code: "guard".to_owned(), message: message.into() }
}

impl Brain {
    /// `failoverd failback`.
    ///
    /// # Errors
    /// [`Refusal`], where there is nothing to bring back, its region is not well, or the old primary has what
    /// the new one lacks and nobody gave it up.
    pub(super) fn failback(
        &mut self,
        now: Now,
        by: &str,
        scenario: &ScenarioSettings,
        discard: bool,
    ) -> Result<Answer, Refusal> {
        let name = &scenario.name;
        let plan = scenario.failback.as_ref().and_then(|plan| self.settings.plan(plan));
        let plan = plan.ok_or_else(|| refuse(format!("scenario {name} names no `failback` plan")))?;
        let plan = plan.with(&Given::new()).map_err(refuse)?;
        if self.mode_of(scenario) == Mode::AlertOnly {
            return Err(refuse("alert-only: `failoverd mode approve` first, or change the mode in the configuration"));
        }
        if self.last_failover(scenario).is_none() {
            return Err(refuse(format!("{name} has not failed over since the service was brought back last")));
        }
        if let Some(reason) = self.standing_guards(now, scenario).into_iter().find_map(failback_hold) {
            return Err(refuse(reason.to_string()));
        }
        // The old region has to be well, by the word of everybody who looks. An old primary that was made a
        // standby is no primary any more, and well all the same.
        let follows = |pair| self.compare(now, pair) == Comparison::Follows;
        let all_follow = !scenario.replication.is_empty() && scenario.replication.iter().all(follows);
        if !all_follow && self.truth_of_outage(&scenario.when, now.mono).0 == Truth::True {
            return Err(refuse(format!("what {name} waits for still holds: {}", scenario.when)));
        }
        let checked = self.check_divergence(now, scenario, discard)?;
        let command = Command::Failback { scenario: name.clone(), discard };
        let by = match self.second(now, by, scenario, plan.hash(), &command)? {
            Ok(by) => by,
            Err(waits) => return Ok(waits),
        };
        let trigger = Trigger::Failback { by, discards: checked.discards };
        match self.start_plan(now, scenario, None, trigger, plan, RunKind::Graceful) {
            Some(run) => Ok(Answer { text: format!("run {run} started; {}", checked.told), run: Some(run) }),
            None => Err(refuse("the run could not be started; see `failoverd explain`")),
        }
    }

    fn check_divergence(&self, now: Now, scenario: &ScenarioSettings, discard: bool) -> Result<Checked, Refusal> {
        let mut checked = Checked { discards: Vec::new(), told: String::new() };
        let mut told = Vec::new();
        for pair in &scenario.replication {
            let what = match self.compare(now, pair) {
                Comparison::Follows => format!("{} follows {} already", named(pair), pair.standby),
                Comparison::Apart(divergence) if divergence.is_none() => divergence.to_string(),
                Comparison::Apart(divergence) if discard => {
                    let what = format!("given up: {divergence}");
                    checked.discards.push(divergence);
                    what
                }
                Comparison::Unknown(why) if discard => format!("given up, whatever it is: {why}"),
                Comparison::Apart(divergence) => {
                    return Err(refuse(format!(
                        "{divergence}; look at it before it is overwritten (pg_waldump on the old primary shows it), \
                         then `failoverd failback {} --discard` gives it up",
                        scenario.name
                    )));
                }
                Comparison::Unknown(why) => {
                    return Err(refuse(format!(
                        "nobody can tell what the old primary has that the new one lacks: {why}; \
                         `failoverd failback {} --discard` gives it up, whatever it is",
                        scenario.name
                    )));
                }
            };
            told.push(what);
        }
        checked.told = if told.is_empty() { "no replication is named to compare".to_owned() } else { told.join("; ") };
        Ok(checked)
    }
}

/// What also holds back a failback. That the scenario itself names no plan does not.
fn failback_hold(guard: super::policy::Guard) -> Option<HoldReason> {
    guard.holds.filter(|reason| !matches!(reason, HoldReason::NoPlan))
}

fn named(pair: &crate::model::ReplicationPair) -> &str {
    pair.primary.as_ref().map_or("the primary", crate::model::ProbeName::as_str)
}
