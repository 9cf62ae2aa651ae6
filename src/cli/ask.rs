//! The verbs that change something. What weighs heavily is shown before it is asked for.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};

use super::args::{Approve, Execute, Failback, Failover, StepVerb};
use super::context::{Context, confirm, now};
use super::exit::{Exit, Failure, print, print_json};
use super::render::incident::render_incident;
use super::render::style::{Style, Tone, clean};
use super::render::time::{moment, span};
use super::show::unknown;
use super::watch::Until;
use crate::core::view::{IncidentView, ScenarioView};
use crate::core::{Answer, Command};
use crate::model::{HumanDuration, IncidentId, RunKind, ScenarioName, Truth, WallTime};

impl Context {
    /// Gives a command and shows the answer.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn give(&self, command: Command) -> Result<Answer, Failure> {
        let answer = self.client.command(&command).await?;
        if self.json {
            print_json(&answer)?;
        } else {
            print(&format!("{}\n", clean(&answer.text)))?;
        }
        Ok(answer)
    }

    /// `failoverd approve`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn approve(&self, args: &Approve) -> Result<(), Failure> {
        if let Some([run, step]) = args.step.as_deref() {
            let command = Command::StepApprove { run: Some(run.as_str().into()), step: step.as_str().into() };
            return self.give(command).await.map(drop);
        }
        let incidents = self.client.incidents().await?;
        let asks = |incident: &IncidentView| incident.closed.is_none() && incident.approval.is_some();
        let incident = one(&incidents, args.incident.as_deref(), "waits for approval", asks)?;
        let scenario = self.client.explain(Some(&incident.scenario)).await?.pop();
        let text = format!(
            "{}{}",
            render_incident(incident, now(), &self.style),
            scenario.as_ref().map_or(String::new(), |scenario| stakes(
                scenario,
                args.allow_data_loss,
                now(),
                &self.style
            ))
        );
        tell(&text);
        // Also what was denied, or is held back by the loss that it would cost, can be approved by its
        // name: what becomes of it is for the daemon to say. It is bound to the plan as it is shown now.
        let asked = incident.approval.as_ref().map(|approval| approval.plan_hash.clone());
        let plan_hash = asked.or_else(|| scenario.and_then(|scenario| scenario.plan_hash));
        // Without a terminal the verb and the incident's name are the answer; the plan's hash binds it.
        if !args.yes && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
            let plan = plan_hash.as_ref().map_or(String::new(), |hash| format!(" by plan {}", hash.short()));
            confirm(&format!("Fail over{plan} now?"))?;
        }
        let epoch = incident.approval.as_ref().map(|approval| approval.epoch);
        let command =
            Command::Approve { incident: incident.id.clone(), plan_hash, epoch, allow_data_loss: args.allow_data_loss };
        let answer = self.give(command).await?;
        if args.watch { self.watch(Until::after(answer.run)).await } else { Ok(()) }
    }

    /// `failoverd deny`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn deny(&self, incident: Option<&str>) -> Result<(), Failure> {
        let incident = self.incident(incident, "waits for approval", |one| one.approval.is_some()).await?;
        self.give(Command::Deny { incident }).await.map(drop)
    }

    /// `failoverd ack`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ack(&self, incident: Option<&str>) -> Result<(), Failure> {
        let incident = self.incident(incident, "is open", |_| true).await?;
        self.give(Command::Ack { incident }).await.map(drop)
    }

    /// `failoverd failover`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn failover(&self, args: &Failover) -> Result<(), Failure> {
        let name = ScenarioName::from(args.scenario.as_str());
        let view = self.client.status().await?;
        let scenario = view.scenarios.iter().find(|scenario| scenario.name == name).ok_or_else(|| {
            unknown("scenario", &args.scenario, view.scenarios.iter().map(|scenario| scenario.name.as_str()))
        })?;
        tell(&stakes(scenario, args.allow_data_loss, now(), &self.style));
        if !args.yes {
            confirm(&format!("Fail over {name} now?"))?;
        }
        let command = Command::Failover { scenario: name, allow_data_loss: args.allow_data_loss };
        let answer = self.give(command).await?;
        if args.watch { self.watch(Until::after(answer.run)).await } else { Ok(()) }
    }

    /// `failoverd failback`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn failback(&self, args: &Failback) -> Result<(), Failure> {
        let name = ScenarioName::from(args.scenario.as_str());
        if !args.yes {
            let discard = if args.discard { ", and give up what only the old primary has" } else { "" };
            confirm(&format!("Bring {name} back now{discard}?"))?;
        }
        let answer = self.give(Command::Failback { scenario: name, discard: args.discard }).await?;
        if args.watch { self.watch(Until::after(answer.run)).await } else { Ok(()) }
    }

    /// `failoverd execute`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn execute(&self, args: &Execute) -> Result<(), Failure> {
        let kind = if args.graceful { RunKind::Graceful } else { RunKind::Ungraceful };
        if !args.yes {
            let with: Vec<String> = args.set.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            let with = if with.is_empty() { String::new() } else { format!(" with {}", with.join(", ")) };
            confirm(&format!("Carry out plan {}{with} now ({kind})?", args.plan))?;
        }
        let parameters = args.set.iter().map(|(name, value)| (name.clone(), value.as_str().into())).collect();
        let command = Command::Execute {
            plan: args.plan.as_str().into(),
            parameters,
            kind,
            allow_data_loss: args.allow_data_loss,
        };
        let answer = self.give(command).await?;
        if args.watch { self.watch(Until::after(answer.run)).await } else { Ok(()) }
    }

    /// `failoverd step`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn step(&self, verb: &StepVerb) -> Result<(), Failure> {
        let (StepVerb::Retry(of) | StepVerb::Skip(of) | StepVerb::Approve(of) | StepVerb::Done { of, .. }) = verb;
        let (run, step) = (of.run.as_deref().map(Into::into), of.step.as_str().into());
        let command = match verb {
            StepVerb::Retry(_) => Command::StepRetry { run, step },
            StepVerb::Skip(_) => Command::StepSkip { run, step },
            StepVerb::Approve(_) => Command::StepApprove { run, step },
            StepVerb::Done { note, .. } => Command::StepDone { run, step, note: note.clone() },
        };
        self.give(command).await.map(drop)
    }

    /// The incident that was named, or the only one it can be.
    async fn incident(
        &self,
        named: Option<&str>,
        what: &str,
        fits: impl Fn(&IncidentView) -> bool,
    ) -> Result<IncidentId, Failure> {
        match named {
            // Not looked up: the daemon's own word on it is the better one.
            Some(id) => Ok(id.into()),
            None => {
                let all = self.client.incidents().await?;
                one(&all, None, what, |incident| incident.closed.is_none() && fits(incident)).map(|one| one.id.clone())
            }
        }
    }
}

/// The incident of this name, or the only one that fits.
fn one<'a>(
    all: &'a [IncidentView],
    named: Option<&str>,
    what: &str,
    fits: impl Fn(&IncidentView) -> bool,
) -> Result<&'a IncidentView, Failure> {
    if let Some(id) = named {
        let found = all.iter().find(|incident| incident.id.as_str() == id);
        return found.ok_or_else(|| unknown("incident", id, all.iter().map(|incident| incident.id.as_str())));
    }
    let fitting: Vec<&IncidentView> = all.iter().filter(|incident| fits(incident)).collect();
    match fitting.as_slice() {
        [one] => Ok(one),
        [] => Err(Failure::new(Exit::Failed, "not_found", format!("no incident {what} now"))),
        several => {
            let ids: Vec<String> = several.iter().map(|one| format!("{} ({})", one.id, one.scenario)).collect();
            Err(Failure::usage(format!("more than one incident {what}; name one of: {}", ids.join(", "))))
        }
    }
}

/// What is put at stake by failing over.
fn stakes(scenario: &ScenarioView, allowed: Option<HumanDuration>, now: WallTime, style: &Style) -> String {
    let mut text = String::new();
    let plan = scenario.plan.as_ref().map_or("none", |plan| plan.as_str());
    let _ = writeln!(text, "  plan         {plan}, takes {}", span(scenario.budget.get()));
    if let Some(deadline) = scenario.deadline {
        let _ = writeln!(text, "  RTO          ends {}", moment(now, deadline));
    }
    for line in &scenario.stakes {
        let (what, costs) = line.split_once(": ").unwrap_or(("", line));
        let _ = writeln!(text, "  {:<12} {}", clean(what), clean(costs));
    }
    let enough = match (scenario.predicted_loss, scenario.rpo) {
        (_, None) => true,
        (Some(loss), Some(rpo)) => loss <= rpo || allowed.is_some_and(|allowed| loss <= allowed),
        (None, Some(_)) => allowed.is_some(),
    };
    if let Some(rpo) = scenario.rpo {
        let loss = scenario.predicted_loss.map_or("UNKNOWN".into(), |loss| span(loss.get()));
        let allowed = allowed.map_or(String::new(), |allowed| format!(", you allow {}", span(allowed.get())));
        let writes = match scenario.predicted_writes {
            writes if writes.is_unknown() => String::new(),
            writes => format!(" ({writes})"),
        };
        let line = format!("  data loss    {loss}{writes} predicted; the RPO is {}{allowed}", span(rpo.get()));
        let _ = writeln!(text, "{}", style.paint(if enough { Tone::Plain } else { Tone::Bad }, &line));
    }
    if !enough {
        let _ = writeln!(text, "  It will be refused unless that loss is allowed: --allow-data-loss TIME");
    }
    if scenario.truth != Truth::True {
        let line = "  The scenario's condition does not hold now: what is watched may be well.";
        let _ = writeln!(text, "{}", style.paint(Tone::Warn, line));
    }
    for guard in scenario.guards.iter().filter(|guard| !guard.passes) {
        let line = format!("  guard        ✗ {}: {}", clean(&guard.name), clean(&guard.detail));
        let _ = writeln!(text, "{}", style.paint(Tone::Warn, &line));
    }
    text
}

/// Tells something beside the output proper.
fn tell(text: &str) {
    // Nobody may be reading it; the answer counts.
    let _closed = std::io::stderr().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::sample::{NOW, incident, outage};

    #[test]
    fn the_only_incident_need_not_be_named() {
        let waiting = incident();
        let mut other = incident();
        other.id = "INC-20260730-002".into();
        other.approval = None;
        let asks = |incident: &IncidentView| incident.approval.is_some();
        let both = [waiting.clone(), other.clone()];
        assert_eq!(one(&both, None, "waits", asks).expect("one").id, waiting.id);
        assert_eq!(one(&both, Some("INC-20260730-002"), "waits", asks).expect("named").id, other.id);
        assert_eq!(one(&[other], None, "waits", asks).expect_err("none").exit, Exit::Failed);
        let error = one(&[waiting.clone(), waiting], None, "waits", asks).expect_err("two");
        assert!(error.exit == Exit::Usage && error.message.contains("(regional-outage)"), "{}", error.message);
    }

    #[test]
    fn shows_what_is_at_stake() {
        let mut scenario = outage().scenarios.remove(0);
        insta::assert_snapshot!(stakes(&scenario, None, NOW, &Style::default()));
        scenario.predicted_loss = None;
        let text = stakes(&scenario, None, NOW, &Style::default());
        assert!(
            text.contains("UNKNOWN (48 kB, 12 transactions) predicted") && text.contains("--allow-data-loss TIME"),
            "{text}"
        );
        let text = stakes(&scenario, Some(HumanDuration::secs(30)), NOW, &Style::default());
        assert!(text.contains("you allow 30 s") && !text.contains("refused"), "{text}");
    }
}
