//! `failoverd scorecard`, `failoverd grade` and `failoverd slo`: what was done right, and what it cost.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::args::Global;
use super::check::load_options;
use super::context::{Context, now, state_path};
use super::exit::{Exit, Failure, print, print_json};
use super::render::Style;
use super::render::scorecard::{render_markdown, render_scorecard, render_slo};
use crate::core::Command;
use crate::core::ledger::Ledger;
use crate::core::scorecard::Scorecard;
use crate::model::Grade;
use crate::state;

/// `failoverd scorecard`.
#[derive(Clone, Debug, Args)]
pub struct ScorecardArgs {
    /// As Markdown
    #[arg(long)]
    pub markdown: bool,
    /// From a state's file, whether the daemon runs or not [default file: the configuration's]
    #[arg(long, value_name = "FILE", require_equals = true)]
    pub state: Option<Option<PathBuf>>,
}

/// `failoverd grade`.
#[derive(Clone, Debug, Args)]
pub struct GradeArgs {
    /// The incident, which must be over
    pub incident: String,
    /// Would it have been right to act?
    pub grade: GradeArg,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

/// What `failoverd grade` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GradeArg {
    /// Yes
    Right,
    /// No
    Wrong,
    /// Nobody can tell
    Unsure,
}

impl GradeArg {
    /// The grade.
    pub fn grade(self) -> Grade {
        match self {
            Self::Right => Grade::Right,
            Self::Wrong => Grade::Wrong,
            Self::Unsure => Grade::Unsure,
        }
    }
}

/// `failoverd scorecard`.
///
/// # Errors
/// [`Failure`]: the daemon cannot be reached, or its state cannot be read.
pub async fn scorecard(global: &Global, args: &ScorecardArgs) -> Result<(), Failure> {
    let card = match &args.state {
        Some(file) => of_state(global, file.as_deref())?,
        None => Context::new(global)?.client.scorecard().await?,
    };
    if args.markdown {
        print(&render_markdown(&card))
    } else if global.json {
        print_json(&card)
    } else {
        print(&render_scorecard(&card, now(), &Style::detect()))
    }
}

fn of_state(global: &Global, file: Option<&Path>) -> Result<Scorecard, Failure> {
    let path = match file {
        Some(file) => file.to_owned(),
        None => state_path(&load_options(global, false))?,
    };
    let broken = |why: String| Failure::new(Exit::Failed, "journal", why);
    let records = state::read_records(&path).map_err(|error| broken(error.to_string()))?;
    let ledger = Ledger::replay(&records).map_err(|illegal| broken(illegal.to_string()))?;
    Ok(crate::core::scorecard::scorecard(&ledger))
}

impl Context {
    /// `failoverd grade`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn grade(&self, args: &GradeArgs) -> Result<(), Failure> {
        let (incident, grade) = (args.incident.as_str().into(), args.grade.grade());
        self.give(Command::Grade { incident, grade, note: args.note.clone() }).await.map(drop)
    }

    /// `failoverd slo`.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn slo(&self) -> Result<(), Failure> {
        let services = self.client.status().await?.services;
        if self.json { print_json(&services) } else { print(&render_slo(&services, &self.style)) }
    }
}
