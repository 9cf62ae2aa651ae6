//! The verbs, for people and (with `--json`) for programs.
//!
//! Lives here: the command line, what is shown, the exit codes. Does not live here: anything that
//! decides; a verb reads a view or gives a command. Imports everything but the daemon's insides.

mod actions;
pub mod args;
pub mod ask;
mod audit;
pub mod backtest;
mod certs;
pub mod check;
pub mod context;
pub mod drill;
pub mod dryrun;
pub mod exit;
mod members;
mod pages;
mod parts;
mod people;
mod probes;
pub mod readiness;
pub mod render;
mod replay;
mod report;
mod rights;
pub mod scorecard;
pub mod show;
pub mod watch;

use clap::CommandFactory;

use self::args::{Cli, Global, Verb};
use self::context::Context;
use self::exit::{Exit, Failure, print, print_json};
use self::watch::Until;
use crate::core::Command;

/// Carries out every verb but `run`.
///
/// # Errors
/// [`Failure`], with the exit code that the help text promises.
pub async fn dispatch(global: &Global, verb: &Verb) -> Result<(), Failure> {
    match verb {
        Verb::Run { .. } | Verb::Witness { .. } => {
            Err(Failure::new(Exit::Failed, "internal", "this verb is not carried out here"))
        }
        Verb::Certs(verb) => certs::certs(verb, global.json),
        Verb::Audit(verb) => audit::audit(global, verb),
        Verb::Check { no_inspect } => check::check(global, !no_inspect),
        Verb::Schema => print_json(&crate::config::schema()),
        Verb::Actions { permissions: true, .. } => actions::permissions(global.json),
        Verb::Actions { name, .. } => actions::actions(global.json, name.as_deref()),
        Verb::Probes { kind } => probes::probes(global.json, kind.as_deref()),
        Verb::Iam(args) => rights::iam(global, args),
        Verb::Rbac(args) => rights::rbac(global, args),
        Verb::Plan { name, within, set } => dryrun::plan(global, name.as_deref(), within.get(), set).await,
        Verb::Completions { shell } => completions(*shell),
        Verb::Readiness(args) => readiness::readiness(global, args).await,
        Verb::Backtest(args) => backtest::backtest(global, args).await,
        Verb::Matrix(args) => drill::matrix(global, args).await,
        Verb::Scorecard(args) => scorecard::scorecard(global, args).await,
        Verb::Report(args) => report::report(global, args).await,
        Verb::Replay(args) => replay::replay(global, args),
        _ => talk(&Context::new(global)?, verb).await,
    }
}

/// The verbs that talk to the daemon.
async fn talk(context: &Context, verb: &Verb) -> Result<(), Failure> {
    let give = async |command| context.give(command).await.map(drop);
    match verb {
        Verb::Status => context.status().await,
        Verb::Watch { until_run_ends } => {
            context.watch(if *until_run_ends { Until::NextRunEnds } else { Until::Stopped }).await
        }
        Verb::Incidents { id } => context.incidents(id.as_deref()).await,
        Verb::Explain { scenario } => context.explain(scenario.as_deref()).await,
        Verb::Runs { id } => context.runs(id.as_deref()).await,
        Verb::Approve(args) => context.approve(args).await,
        Verb::Deny { incident } => context.deny(incident.as_deref()).await,
        Verb::Ack { incident } => context.ack(incident.as_deref()).await,
        Verb::Failover(args) => context.failover(args).await,
        Verb::Failback(args) => context.failback(args).await,
        Verb::Execute(args) => context.execute(args).await,
        Verb::Drill(args) => context.drill(args).await,
        Verb::Step(verb) => context.step(verb).await,
        Verb::Duty(verb) => context.duty(verb).await,
        Verb::Notices => context.notices().await,
        Verb::Members => context.members().await,
        Verb::HandOver { to } => context.hand_over(to.as_deref()).await,
        Verb::Slo => context.slo().await,
        Verb::Grade(args) => context.grade(args).await,
        Verb::Abort { run } => give(Command::Abort { run: run.as_deref().map(Into::into) }).await,
        Verb::Pause => give(Command::Pause).await,
        Verb::Resume => give(Command::Resume).await,
        Verb::Mode { mode } => give(Command::Mode { mode: mode.mode() }).await,
        Verb::Run { .. }
        | Verb::Witness { .. }
        | Verb::Certs(_)
        | Verb::Audit(_)
        | Verb::Check { .. }
        | Verb::Schema
        | Verb::Actions { .. }
        | Verb::Probes { .. }
        | Verb::Iam(_)
        | Verb::Rbac(_)
        | Verb::Plan { .. }
        | Verb::Backtest(_)
        | Verb::Matrix(_)
        | Verb::Scorecard(_)
        | Verb::Readiness(_)
        | Verb::Report(_)
        | Verb::Replay(_)
        | Verb::Completions { .. } => {
            Err(Failure::new(Exit::Failed, "internal", "this verb does not talk to the daemon"))
        }
    }
}

fn completions(shell: clap_complete::Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "failoverd", &mut script);
    print(&String::from_utf8_lossy(&script))
}
