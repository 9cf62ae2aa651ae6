//! Operators, who do what they like, and sometimes two at once.

use failoverd::core::run_ledger::StepState;
use failoverd::core::{Command, Event};
use failoverd::model::*;

use crate::node::Node;
use crate::setup::SCENARIO;
use crate::sim::Sim;
use crate::trace::Violation;

impl Sim {
    pub fn operator(&mut self) -> Result<(), Violation> {
        self.me = self.somebody();
        let Some(command) = self.some_command() else { return Ok(()) };
        self.command("ann", command)?;
        if self.rng.chance(300) {
            self.trace.count("two operators at once");
            if let Some(command) = self.some_command() {
                self.command("bob", command)?;
            }
        }
        Ok(())
    }

    fn some_command(&mut self) -> Option<Command> {
        let ledger = self.nodes[self.me].brain.as_ref()?.ledger();
        let incident = ledger.incidents.values().rev().find(|incident| incident.closed.is_none()).map(|i| i.id.clone());
        let run = ledger.active_run();
        let parked = run.and_then(|run| {
            let place = run.steps.iter().position(|step| matches!(step.state, StepState::Parked { .. }))?;
            Some(run.plan.steps[place].name.clone())
        });
        let running = run.is_some();
        let loss = self.rng.chance(300).then_some(HumanDuration::secs(30));
        if let Some(step) = parked.filter(|_| self.rng.chance(700)) {
            let retry = self.rng.chance(700);
            return Some(if retry {
                Command::StepRetry { run: None, step }
            } else {
                Command::StepSkip { run: None, step }
            });
        }
        if let Some(incident) = incident.filter(|_| self.rng.chance(600)) {
            return Some(match self.rng.below(6) {
                0 => Command::Deny { incident },
                1 => Command::Ack { incident },
                2 => Command::Approve {
                    incident,
                    plan_hash: Some(self.nodes[self.me].check.settings.plans[0].hash()),
                    epoch: None,
                    allow_data_loss: loss,
                },
                _ => Command::Approve { incident, plan_hash: None, epoch: None, allow_data_loss: loss },
            });
        }
        Some(match self.rng.below(if self.nodes.len() > 1 { 13 } else { 12 }) {
            0 | 1 => Command::Pause,
            2..=4 => Command::Resume,
            5 | 6 if running => Command::Abort { run: None },
            7 if running => Command::StepApprove { run: None, step: "ask".into() },
            8 => Command::Mode { mode: *self.rng.pick(&[None, Some(Mode::Auto), Some(Mode::Approve)]) },
            9 => Command::StepRetry { run: None, step: "nothing".into() },
            10 => Command::StepDone { run: None, step: "task".into(), note: None },
            11 if self.rng.chance(500) => Command::Execute {
                plan: self.nodes[self.me].check.settings.plans[0].name.clone(),
                parameters: Given::new(),
                kind: *self.rng.pick(&[RunKind::Graceful, RunKind::Ungraceful]),
                allow_data_loss: loss,
            },
            12 => Command::HandOver { to: None },
            _ => Command::Failover { scenario: SCENARIO.into(), allow_data_loss: loss },
        })
    }

    /// Whom an operator turns to: mostly the one that leads.
    fn somebody(&mut self) -> usize {
        let leader = self.nodes.iter().position(Node::decides);
        let any = self.rng.below(self.nodes.len() as u64) as usize;
        leader.filter(|_| self.rng.chance(900)).unwrap_or(any)
    }

    pub fn command(&mut self, by: &str, command: Command) -> Result<(), Violation> {
        self.trace.count(match &command {
            Command::Pause => "command: pause",
            Command::Resume => "command: resume",
            Command::Mode { .. } => "command: mode",
            Command::Ack { .. } => "command: ack",
            Command::Approve { .. } => "command: approve",
            Command::Deny { .. } => "command: deny",
            Command::Failover { .. } => "command: failover",
            Command::Failback { .. } => "command: failback",
            Command::Execute { .. } => "command: execute",
            Command::Drill { .. } => "command: drill",
            Command::StepDone { .. } => "command: done",
            Command::DutyDone { .. } => "command: duty done",
            Command::Grade { .. } => "command: grade",
            Command::HandOver { .. } => "command: hand over",
            Command::Abort { .. } => "command: abort",
            Command::StepRetry { .. } => "command: retry",
            Command::StepSkip { .. } => "command: skip",
            Command::StepApprove { .. } => "command: step approve",
        });
        self.feed(Event::Command { by: by.to_owned(), command })
    }
}
