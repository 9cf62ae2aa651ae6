//! `failoverd drill` and `failoverd matrix`: rehearsals, and what they have shown.

use std::path::{Path, PathBuf};

use super::args::{DrillArgs, Global, MatrixArgs};
use super::check::{load_options, load_or_tell};
use super::context::{Context, confirm, now};
use super::exit::{Exit, Failure, print, print_json};
use super::render::Style;
use super::render::drill::{render_drills, render_going};
use super::render::matrix::{render_html, render_markdown, render_matrix};
use super::show::unknown;
use super::watch::Until;
use crate::config::LoadOptions;
use crate::core::Command;
use crate::core::ledger::Ledger;
use crate::core::matrix::{EvidenceView, evidence};
use crate::state;

impl Context {
    /// `failoverd drill`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn drill(&self, args: &DrillArgs) -> Result<(), Failure> {
        let Some(plan) = &args.plan else {
            let view = self.client.evidence().await?;
            return if self.json { print_json(&view.drills) } else { print(&render_drills(&view, now(), &self.style)) };
        };
        let view = self.client.evidence().await?;
        let of_plan: Vec<_> = view.drills.iter().filter(|drill| drill.plan.as_str() == plan).collect();
        if of_plan.is_empty() {
            return Err(unknown("plan with a drill", plan, view.drills.iter().map(|drill| drill.plan.as_str())));
        }
        if !args.yes {
            confirm(&render_going(plan, args.target.as_deref(), &of_plan))?;
        }
        let command = Command::Drill { plan: plan.as_str().into(), target: args.target.as_deref().map(Into::into) };
        let answer = self.give(command).await?;
        if args.watch { self.watch(Until::after(answer.run)).await } else { Ok(()) }
    }
}

/// `failoverd matrix`.
///
/// # Errors
/// [`Failure`]: the daemon cannot be reached, or its state cannot be read.
pub async fn matrix(global: &Global, args: &MatrixArgs) -> Result<(), Failure> {
    let view = match &args.state {
        Some(file) => of_state(global, file.as_deref())?,
        None => Context::new(global)?.client.evidence().await?,
    };
    if args.markdown {
        print(&render_markdown(&view))
    } else if args.html {
        print(&render_html(&view))
    } else if global.json {
        print_json(&view)
    } else {
        print(&render_matrix(&view, &Style::detect()))
    }
}

/// From the journal, without the daemon: by the configuration as it is now.
fn of_state(global: &Global, file: Option<&Path>) -> Result<EvidenceView, Failure> {
    let options = LoadOptions { further: None, ..load_options(global, false) };
    let loaded = load_or_tell(global, &options)?;
    let written = &loaded.file.daemon.state;
    let own = || PathBuf::from(written.strip_prefix("sqlite:").unwrap_or(written));
    let path = file.map_or_else(own, PathBuf::from);
    let broken = |why: String| Failure::new(Exit::Failed, "journal", why);
    let records = state::read_records(&path).map_err(|error| broken(error.to_string()))?;
    let ledger = Ledger::replay(&records).map_err(|illegal| broken(illegal.to_string()))?;
    Ok(evidence(&loaded.settings, &ledger, now()))
}
