//! `failoverd report`: the report on an incident, for people to read, complete and file.

mod chart;
mod page;

use std::path::Path;

use super::args::{Global, ReportArgs};
use super::check::load_options;
use super::context::{Context, state_path};
use super::exit::{Exit, Failure, print};
use super::show::unknown;
use crate::control::ClientError;
use crate::core::report::{Linked, Report};
use crate::state;

/// `failoverd report INCIDENT`.
///
/// # Errors
/// [`Failure`]: nobody answers, there is no such incident, the journal is not what was written, or the
/// file cannot be written.
pub async fn report(global: &Global, args: &ReportArgs) -> Result<(), Failure> {
    let report = match &args.state {
        Some(path) => of_state(global, path.as_deref(), &args.incident)?,
        None => of_daemon(global, &args.incident).await?,
    };
    let text = if args.html {
        page::html(&report)?
    } else if global.json {
        let failed = |error| Failure::new(Exit::Failed, "output", format!("no JSON: {error}"));
        serde_json::to_string_pretty(&report).map_err(failed)? + "\n"
    } else {
        page::markdown(&report)?
    };
    match &args.out {
        None => print(&text),
        Some(path) => std::fs::write(path, text).map_err(|error| {
            Failure::new(Exit::Failed, "output", format!("{}: the report cannot be written: {error}", path.display()))
        }),
    }
}

async fn of_daemon(global: &Global, incident: &str) -> Result<Report, Failure> {
    let client = Context::new(global)?.client;
    let asked = client.report(&incident.into()).await;
    asked.map_err(|error| match error {
        ClientError::NotRunning { .. } => {
            let mut failure = Failure::from(error);
            failure.message.push_str("\n  From its state?   failoverd report INCIDENT --state");
            failure
        }
        error => error.into(),
    })
}

fn of_state(global: &Global, path: Option<&Path>, incident: &str) -> Result<Report, Failure> {
    let path = match path {
        Some(path) => path.to_owned(),
        None => state_path(&load_options(global, false))?,
    };
    let journal = journal(&path)?;
    let illegal = |error: crate::core::ledger::IllegalRecord| Failure::new(Exit::Failed, "journal", error.to_string());
    match Report::of(&journal, &incident.into()).map_err(illegal)? {
        Some(report) => Ok(report),
        None => {
            let known = crate::core::report::incidents(&journal);
            Err(unknown("incident", incident, known.iter().map(|id| id.as_str())))
        }
    }
}

/// The journal of a state, with its checksums.
///
/// # Errors
/// [`Failure`] where it is not what was written.
pub fn journal(path: &Path) -> Result<Vec<Linked>, Failure> {
    let read = state::read_linked(path);
    let records = read.map_err(|error| Failure::new(Exit::Failed, "journal", error.to_string()))?;
    Ok(records.into_iter().map(|(record, checksum)| Linked { record, checksum }).collect())
}
