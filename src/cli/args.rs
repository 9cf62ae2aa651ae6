//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::rights::{IamArgs, RbacArgs};
use super::scorecard::{GradeArgs, ScorecardArgs};
use crate::core::anchor::Anchor;
use crate::model::{HumanDuration, Mode};

/// Where the configuration is, unless somebody says otherwise.
pub const DEFAULT_CONFIG: &str = "/etc/failoverd/failoverd.toml";

const EXIT_CODES: &str = "\
Exit codes:
  0  it was done
  1  it failed
  2  the configuration or the command line is wrong
  3  refused: a guard does not allow it, or your role does not
  4  the daemon cannot be reached
  5  readiness: a plan is not ready
  6  readiness: not everything could be looked at

At 3 a.m.:
  failoverd status               what is wrong, and what is done about it
  failoverd explain              why it does not act now, what would make it act, and when
  failoverd approve              yes to the one question that waits
  failoverd watch                follow a run live";

/// Watches a primary region, decides by quorum and recovery objectives, and carries out the
/// disaster-recovery plan.
#[derive(Clone, Debug, Parser)]
#[command(name = "failoverd", version, after_help = EXIT_CODES, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What every verb takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb takes.
#[derive(Clone, Debug, Args)]
pub struct Global {
    /// The configuration [default: /etc/failoverd/failoverd.toml]
    #[arg(long, short, global = true, value_name = "FILE", env = "FAILOVERD_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// The daemon's socket [default: the configuration's, else /run/failoverd/failoverd.sock]
    #[arg(long, global = true, value_name = "PATH", env = "FAILOVERD_SOCKET", hide_env_values = true)]
    pub socket: Option<PathBuf>,
    /// Print JSON for programs
    #[arg(long, global = true)]
    pub json: bool,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Verb {
    /// Run the daemon
    Run {
        /// Do everything but act, whatever the configuration says
        #[arg(long)]
        alert_only: bool,
    },
    /// Run a witness: probe from another failure domain, and answer with votes
    Witness {
        /// Its name in `[witnesses]`
        name: String,
    },
    /// The certificates by which vantages know each other
    #[command(subcommand)]
    Certs(Certs),
    /// The journal as an auditor reads it: is it whole, and what is in it
    #[command(subcommand)]
    Audit(Audit),
    /// Check the configuration, and print the arithmetic of each scenario
    Check {
        /// Leave the files and variables alone that it refers to, as on a machine that is not its own
        #[arg(long)]
        no_inspect: bool,
    },
    /// Print the JSON Schema of the configuration
    Schema,
    /// What a step can do: every action, or all about one
    Actions {
        /// The action
        #[arg(conflicts_with = "permissions")]
        name: Option<String>,
        /// What each action needs to be permitted, as a table
        #[arg(long)]
        permissions: bool,
    },
    /// What a probe can ask: every kind, or all about one, with the causes that it can see
    Probes {
        /// The kind
        kind: Option<String>,
    },
    /// The IAM policies that the configuration needs, and no more
    Iam(IamArgs),
    /// The RBAC manifests that the configuration needs, and no more
    Rbac(RbacArgs),
    /// Look at a plan without doing it: what each step would find now
    Plan {
        /// The plan; may be left out where there is only one
        name: Option<String>,
        /// A parameter of the plan
        #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
        set: Vec<(String, String)>,
        /// How long to look at most
        #[arg(long, value_name = "TIME", default_value = "15s")]
        within: HumanDuration,
    },
    /// Could each plan be carried out? What the daemon found when it last looked, all day
    Readiness(Readiness),
    /// Everything at a glance
    Status,
    /// Follow live: redrawn on a terminal, else a line for each change
    Watch {
        /// End when the active run ends; where none is active, wait for the next one
        #[arg(long)]
        until_run_ends: bool,
    },
    /// The incidents, or one with its timeline
    Incidents {
        /// The incident
        id: Option<String>,
    },
    /// Why it does not act now, what would make it act, and when
    Explain {
        /// Only this scenario
        scenario: Option<String>,
    },
    /// Yes, fail over: shows what it is for, and binds to exactly that plan
    Approve(Approve),
    /// No, do not fail over
    Deny {
        /// The incident; may be left out where only one waits
        incident: Option<String>,
    },
    /// I have seen it
    Ack {
        /// The incident; may be left out where only one is open
        incident: Option<String>,
    },
    /// Stop a run and undo what was done; refused after the point of no return
    Abort {
        /// The run [default: the active one]
        run: Option<String>,
    },
    /// Start nothing new: no run, no step
    Pause,
    /// End the pause
    Resume,
    /// Set the mode until it is set again
    Mode {
        /// `config` gives it back to the configuration
        mode: ModeArg,
    },
    /// Carry out a scenario's plan now
    Failover(Failover),
    /// Bring a service back to its region, by the scenario's `failback` plan
    Failback(Failback),
    /// Carry out a plan now, with its parameters
    Execute(Execute),
    /// Rehearse a plan with stand-ins, or list the drills and when they are due
    Drill(DrillArgs),
    /// The recovery-time matrix: what was promised, what was measured, when it was rehearsed
    Matrix(MatrixArgs),
    /// What alert-only mode would have done, and what people said of it afterwards
    Scorecard(ScorecardArgs),
    /// Say what is to be thought of what alert-only mode would have done in an incident
    Grade(GradeArgs),
    /// The services against their objectives: availability, and the error budget
    Slo,
    /// The runs, or one with its steps
    Runs {
        /// The run
        id: Option<String>,
    },
    /// What people have to do for an incident afterwards
    #[command(subcommand)]
    Duty(DutyVerb),
    /// The notices that have not reached their routes, and why
    Notices,
    /// Who leads of several daemons, and who is there
    Members,
    /// Have another one of several daemons lead, before this one is upgraded or stopped
    HandOver {
        /// Which (default: whichever comes first)
        to: Option<String>,
    },
    /// Answer for a step that waits for somebody
    #[command(subcommand)]
    Step(StepVerb),
    /// Play recorded history through the detection, as it is configured and in variants
    Backtest(Backtest),
    /// The report on an incident: Markdown, a page of HTML, or JSON
    Report(ReportArgs),
    /// Play an incident's recorded inputs through the brain again: are the decisions the same?
    Replay(ReplayArgs),
    /// Print the completions for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// `failoverd readiness`.
#[derive(Clone, Debug, Args)]
pub struct Readiness {
    /// Only this plan
    pub plan: Option<String>,
    /// Have the daemon look now, and wait for it
    #[arg(long, conflicts_with = "local")]
    pub now: bool,
    /// Look from here, with your own rights, without a daemon
    #[arg(long)]
    pub local: bool,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "5m", requires = "now")]
    pub within: HumanDuration,
}

/// `failoverd approve`.
#[derive(Clone, Debug, Args)]
pub struct Approve {
    /// The incident; may be left out where only one waits
    #[arg(conflicts_with = "step")]
    pub incident: Option<String>,
    /// A step of a run that waits for a yes
    #[arg(long, num_args = 2, value_names = ["RUN", "STEP"])]
    pub step: Option<Vec<String>>,
    /// So much data may be lost, for example 30s
    #[arg(long, value_name = "TIME", conflicts_with = "step")]
    pub allow_data_loss: Option<HumanDuration>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
    /// Follow the run to its end
    #[arg(long)]
    pub watch: bool,
}

/// `failoverd failover`.
#[derive(Clone, Debug, Args)]
pub struct Failover {
    /// The scenario
    pub scenario: String,
    /// So much data may be lost, for example 30s
    #[arg(long, value_name = "TIME")]
    pub allow_data_loss: Option<HumanDuration>,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    pub yes: bool,
    /// Follow the run to its end
    #[arg(long)]
    pub watch: bool,
}

/// `failoverd failback`.
#[derive(Clone, Debug, Args)]
pub struct Failback {
    /// The scenario
    pub scenario: String,
    /// Give up what the old primary has that the new one lacks
    #[arg(long)]
    pub discard: bool,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    pub yes: bool,
    /// Follow the run to its end
    #[arg(long)]
    pub watch: bool,
}

/// `failoverd execute`.
#[derive(Clone, Debug, Args)]
pub struct Execute {
    /// The plan
    pub plan: String,
    /// A parameter of the plan
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting)]
    pub set: Vec<(String, String)>,
    /// The primary still answers: do the steps that drain and demote it as well
    #[arg(long)]
    pub graceful: bool,
    /// So much data may be lost, for example 30s
    #[arg(long, value_name = "TIME")]
    pub allow_data_loss: Option<HumanDuration>,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    pub yes: bool,
    /// Follow the run to its end
    #[arg(long)]
    pub watch: bool,
}

/// `failoverd drill`.
#[derive(Clone, Debug, Args)]
pub struct DrillArgs {
    /// The plan
    #[arg(required_unless_present = "list", conflicts_with = "list")]
    pub plan: Option<String>,
    /// Where: one of the plan's drills; may be left out where it has one
    #[arg(long, value_name = "NAME", conflicts_with = "list")]
    pub target: Option<String>,
    /// The drills, when they are due next, and what came of the newest
    #[arg(long)]
    pub list: bool,
    /// Do not ask; needed where there is no terminal
    #[arg(long, short)]
    pub yes: bool,
    /// Follow the drill to its end
    #[arg(long)]
    pub watch: bool,
}

/// `failoverd matrix`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("form").args(["markdown", "html"]))]
pub struct MatrixArgs {
    /// As Markdown
    #[arg(long)]
    pub markdown: bool,
    /// As a page of HTML that needs nothing else
    #[arg(long)]
    pub html: bool,
    /// From a state's file, whether the daemon runs or not [default file: the configuration's]
    #[arg(long, value_name = "FILE", require_equals = true)]
    pub state: Option<Option<PathBuf>>,
}

/// `failoverd report`.
#[derive(Clone, Debug, Args)]
pub struct ReportArgs {
    /// The incident
    pub incident: String,
    /// One page of HTML that needs nothing else
    #[arg(long, conflicts_with = "markdown")]
    pub html: bool,
    /// Markdown, which is what is made where nothing is said
    #[arg(long)]
    pub markdown: bool,
    /// Write it there
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Read the journal and not the daemon, which need not run [default file: the configuration's]
    #[arg(long, value_name = "FILE", require_equals = true)]
    pub state: Option<Option<PathBuf>>,
}

/// `failoverd replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    /// The incident
    pub incident: String,
    /// The state whose journal and recording are read [default: the configuration's]
    #[arg(long, value_name = "FILE")]
    pub state: Option<PathBuf>,
}

/// `failoverd backtest`.
#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["history", "csv", "prometheus"]))]
pub struct Backtest {
    /// What the daemon of this configuration has recorded itself [default file: the one beside its state]
    #[arg(long, value_name = "FILE", require_equals = true)]
    pub history: Option<Option<PathBuf>>,
    /// Recorded looks: `time,probe,health[,latency_ms][,cause]`
    #[arg(long, value_name = "FILE")]
    pub csv: Option<PathBuf>,
    /// A Prometheus server that has recorded them
    #[arg(long, value_name = "URL", requires = "from")]
    pub prometheus: Option<String>,
    /// What a probe's history is in Prometheus, 1 for up and 0 for down [default: failoverd_probe_health]
    #[arg(long, value_name = "PROBE=QUERY", requires = "prometheus")]
    pub metric: Vec<String>,
    /// A bearer token for Prometheus
    #[arg(long, value_name = "FILE", requires = "prometheus")]
    pub token_file: Option<PathBuf>,
    /// The authorities that Prometheus' certificate is checked with [default: the system's]
    #[arg(long, value_name = "FILE", requires = "prometheus")]
    pub ca_file: Option<PathBuf>,
    /// Only from then on: RFC 3339, or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only until then
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// The outages that there really were: `from,to,scenario[,note]`
    #[arg(long, value_name = "FILE")]
    pub outages: Option<PathBuf>,
    /// What else is tried, for example fall=2..6,interval=1s..10s,confirm_for=10s|30s
    #[arg(long, value_name = "WHAT")]
    pub sweep: Option<String>,
    /// Play each setting with so many starts of each interval, and show the worst
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub phases: u32,
    /// Write a page with timelines
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// `NAME=VALUE`.
fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write NAME=VALUE".into()),
    }
}

/// `failoverd step`.
#[derive(Clone, Debug, Subcommand)]
pub enum StepVerb {
    /// Try a parked step again
    Retry(StepName),
    /// Go on without a parked step
    Skip(StepName),
    /// Yes to an approval step
    Approve(StepName),
    /// A task is done; also one that a run left open
    Done {
        /// Which.
        #[command(flatten)]
        of: StepName,
        /// What there is to say of it
        #[arg(long)]
        note: Option<String>,
    },
}

/// `failoverd duty`.
#[derive(Clone, Debug, Subcommand)]
pub enum DutyVerb {
    /// The duties that are open
    List,
    /// A duty is done
    Done {
        /// The incident
        incident: String,
        /// The duty
        name: String,
        /// What there is to say of it
        #[arg(long)]
        note: Option<String>,
    },
}

/// Which step.
#[derive(Clone, Debug, Args)]
pub struct StepName {
    /// The step
    pub step: String,
    /// Its run [default: the active one]
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
}

/// What `failoverd mode` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// The daemon acts by itself
    Auto,
    /// A person is asked
    Approve,
    /// Everything but acting
    AlertOnly,
    /// As the configuration says
    Config,
}

impl ModeArg {
    /// The mode; `None` is the configuration's.
    pub fn mode(self) -> Option<Mode> {
        match self {
            Self::Auto => Some(Mode::Auto),
            Self::Approve => Some(Mode::Approve),
            Self::AlertOnly => Some(Mode::AlertOnly),
            Self::Config => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn reads_what_people_type() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("failoverd status --json").expect("good").global.json);
        let cli = parse("failoverd approve INC-1 --allow-data-loss 30s -y").expect("good");
        let Verb::Approve(approve) = cli.verb else { panic!("{:?}", cli.verb) };
        assert_eq!(approve.allow_data_loss, Some(HumanDuration::secs(30)));
        let cli = parse("failoverd approve --step RUN-1 cutover").expect("good");
        let Verb::Approve(approve) = cli.verb else { panic!("{:?}", cli.verb) };
        assert_eq!(approve.step, Some(vec!["RUN-1".into(), "cutover".into()]));
        assert!(parse("failoverd approve INC-1 --step RUN-1 cutover").is_err());
        assert!(parse("failoverd failover x --allow-data-loss 30").is_err(), "a number without its unit");
        let Verb::Mode { mode } = parse("failoverd mode config").expect("good").verb else { panic!("another verb") };
        assert_eq!(mode.mode(), None);
    }
}

/// What an auditor asks.
#[derive(Clone, Debug, Subcommand)]
pub enum Audit {
    /// Verify the chain of checksums over all records
    ///
    /// Keep the line that it prints elsewhere; given back as `--anchor`, it shows later that nothing up to
    /// there was changed, written anew or cut off. The daemon may run meanwhile.
    Verify {
        /// What was kept of an earlier verification: RECORD:CHECKSUM
        #[arg(long, value_name = "RECORD:CHECKSUM")]
        anchor: Option<Anchor>,
        /// What was sent away: a file of such lines, or of the notices that a webhook was sent, as JSON lines
        #[arg(long, value_name = "FILE", conflicts_with = "anchor")]
        anchors_from: Option<PathBuf>,
    },
    /// List the records: decisions, intents, outcomes, commands
    List {
        /// Only the newest
        #[arg(long, value_name = "N")]
        last: Option<usize>,
    },
}

/// `failoverd certs`.
#[derive(Clone, Debug, Subcommand)]
pub enum Certs {
    /// Make the authority that signs the certificates of all vantages
    Init {
        /// Where its certificate and its key are written
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        folder: PathBuf,
        /// How long it is valid
        #[arg(long, value_name = "DAYS", default_value_t = 3650)]
        days: u16,
    },
    /// Make the certificate and the key of one vantage
    Issue {
        /// The vantage: `daemon.name`, or the name of a witness
        name: String,
        /// Its failure domain, as the configuration says it
        #[arg(long)]
        domain: String,
        /// A name or an address at which it is asked; once for each
        #[arg(long = "host", value_name = "HOST")]
        hosts: Vec<String>,
        /// Where the authority is, and where both are written
        #[arg(long, value_name = "FOLDER", default_value = ".")]
        folder: PathBuf,
        /// How long it is valid
        #[arg(long, value_name = "DAYS", default_value_t = 825)]
        days: u16,
    },
    /// What a certificate says: vantage, domain, and how long it is valid
    Show {
        /// The certificate
        file: PathBuf,
    },
}
