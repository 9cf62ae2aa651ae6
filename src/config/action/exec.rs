//! A program of this host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Parameters;
use crate::config::check::{common::not_zero, secrets};
use crate::config::path::Path;
use crate::config::redact::redact;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::config::trust::{self, Matter};
use crate::model::{EffectKind, HumanDuration, Repeat};

/// `exec.run`: runs a program of this host, without a shell; done when its exit code is one of
/// `success`.
///
/// The program runs in a process group of its own, with an environment that holds only `env`, a
/// `PATH`, and `FAILOVERD_RUN`, `FAILOVERD_STEP`, `FAILOVERD_EPOCH` and `FAILOVERD_ATTEMPT` (a
/// program that changes something can hand the epoch on, and the run and step as a key against
/// repetition). At the end of its time it gets SIGTERM, then SIGKILL, and with it all that it has
/// started, also what has left its process group. So does what a program that failed has left
/// running; what a program that succeeded has left running stays, and is waited for no longer.
///
/// One execution has `time_limit`, and an apply never more than 30 seconds: what takes longer has
/// to be started by one step (a job of systemd, Kubernetes or a queue, whose name tells whether it
/// is there) and looked at by `observe`, or by a step with `effect = "verify"`, which may look as
/// long as the step's `timeout` lasts. Should the daemon itself end, what it was running is ended
/// by systemd (`KillMode=mixed`); where another attempt of the same step still runs, it is
/// waited for and not started again.
///
/// An exit code that is no success says that the program failed and knows so: it is tried again
/// where there is `observe` or `idempotent`, else the step has failed. A signal or the end of its
/// time leave an unknown outcome: `observe` resolves it, `idempotent` repeats it, else the run is
/// parked. `effect = "verify"` runs the program again and again until it succeeds.
///
/// Needs: the right to execute the program; `user` needs root.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecRun {
    /// The program, by its absolute path, and its arguments. No secrets: everybody on the host can
    /// read them; `env` can hold them.
    pub argv: Vec<String>,
    /// The environment; values by reference where they are secret. Without `PATH` in it, that is
    /// `/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin`.
    #[serde(default)]
    pub env: BTreeMap<String, SecretText>,
    /// The working directory (default `/`).
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// The user that it runs as, by name (of `/etc/passwd`) or number, with that user's primary
    /// group and no other (default: that of the daemon).
    #[serde(default)]
    pub user: Option<String>,
    /// What it reads from its standard input (default: nothing).
    #[serde(default)]
    pub stdin: Option<String>,
    /// How much of standard output and of standard error is kept, in bytes each (default 65536, at
    /// least 4096). Where there is more, the end of it is kept, and the program is not held up.
    #[serde(default)]
    pub output_limit: Option<u32>,
    /// For one execution (default 20s; with `effect = "verify"`, the step's `timeout` bounds all of
    /// them together).
    #[serde(default)]
    pub time_limit: Option<HumanDuration>,
    /// The exit codes that are success (default: 0).
    #[serde(default)]
    pub success: Vec<u8>,
    /// A program that only looks whether it was done already: its exit code 0 says yes, 1 says no,
    /// anything else that it could not tell. It runs with the same environment, directory and user.
    #[serde(default)]
    pub observe: Option<Vec<String>>,
    /// May it be run twice (default: false)?
    #[serde(default)]
    pub idempotent: bool,
    /// What kind of change it is, for the guards: `call` (default), `notify`, `fence`, `route`, or
    /// `verify`: it changes nothing, and is repeated until it succeeds.
    #[serde(default)]
    pub effect: ExecEffect,
}

/// What kind of change an `exec.run` is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExecEffect {
    /// Anything.
    #[default]
    Call,
    /// Tells people; its failure never fails a run.
    Notify,
    /// Stops the old primary; every promotion of the plan has to come after it.
    Fence,
    /// Moves traffic.
    Route,
    /// Only looks, and is repeated until it succeeds.
    Verify,
}

/// So much of an apply's 30 seconds is a program's at most.
const LONGEST: HumanDuration = HumanDuration::secs(25);

/// The least that `output_limit` can be.
const LEAST_OUTPUT: u32 = 4096;

impl Parameters for ExecRun {
    fn makes(&self) -> bool {
        true
    }

    fn effect(&self) -> EffectKind {
        match self.effect {
            ExecEffect::Call => EffectKind::Call,
            ExecEffect::Notify => EffectKind::Notify,
            ExecEffect::Fence => EffectKind::Fence,
            ExecEffect::Route => EffectKind::Route,
            ExecEffect::Verify => EffectKind::Verify,
        }
    }

    fn repeat(&self) -> Repeat {
        if self.observe.is_some() || self.effect == ExecEffect::Verify {
            Repeat::ByObservation
        } else if self.idempotent {
            Repeat::AtLeastOnce
        } else {
            Repeat::Never
        }
    }

    fn target(&self) -> String {
        redact(&self.argv.join(" "), &[])
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(5)
    }

    fn messages(&self) -> &'static [&'static str] {
        &["/stdin"]
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        program(report, &at.key("argv"), &self.argv);
        if let Some(observe) = &self.observe {
            program(report, &at.key("observe"), observe);
        }
        for (name, value) in &self.env {
            secrets::variable(report, &at.key("env"), name, value);
        }
        self.limits(at, report);
        self.contradictions(at, report);
        if let Some(directory) = self.directory.as_deref() {
            if !directory.is_absolute() {
                let fix = "write the whole path, from `/` on";
                report.error("not_absolute", &at.key("directory"), "this is not an absolute path", fix);
            } else if report.inspects() && !directory.is_dir() {
                let text = format!("there is no directory {} here", directory.display());
                report.warn("file_not_readable", &at.key("directory"), text, "create it");
            }
        }
    }
}

impl ExecRun {
    fn limits(&self, at: &Path, report: &mut Report<'_>) {
        not_zero(report, &at.key("time_limit"), self.time_limit);
        if self.effect != ExecEffect::Verify && self.time_limit.is_some_and(|limit| limit > LONGEST) {
            report.warn(
                "longer_than_apply",
                &at.key("time_limit"),
                format!("an apply is given up after 30s, and the program is killed after {LONGEST} of it"),
                "let the program start a job, and look at that with `observe` or a step with `effect = \"verify\"`",
            );
        }
        if self.output_limit.is_some_and(|limit| limit < LEAST_OUTPUT) {
            let text = format!("this is less than {LEAST_OUTPUT} bytes");
            report.error("too_small", &at.key("output_limit"), text, "write 4096 or more, or leave it out");
        }
    }

    fn contradictions(&self, at: &Path, report: &mut Report<'_>) {
        if self.effect != ExecEffect::Verify {
            return;
        }
        for (key, given) in [("observe", self.observe.is_some()), ("idempotent", self.idempotent)] {
            if given {
                let text = format!("a program that only looks needs no `{key}`");
                report.error("contradiction", &at.key(key), text, "leave it out");
            }
        }
    }
}

/// A program and its arguments: named by its absolute path, without a secret among the arguments.
pub(in crate::config) fn program(report: &mut Report<'_>, at: &Path, argv: &[String]) {
    let Some((path, arguments)) = argv.split_first() else {
        report.error("empty", at, "this names no program", "write the program's absolute path, then its arguments");
        return;
    };
    if argv.iter().any(|argument| argument.contains('\0')) {
        report.error("bad_argument", at, "an argument cannot hold a NUL character", "leave it out");
    }
    if !path.starts_with('/') {
        report.error(
            "not_absolute",
            &at.index(0),
            format!("`{path}` is not an absolute path, and PATH is not searched for it"),
            format!("write where it is (`command -v {path}`)"),
        );
        return;
    }
    for (place, argument) in argv.iter().enumerate() {
        if redact(argument, &[]) != *argument {
            report.error_in_secret(
                "plain_secret",
                &at.index(place),
                "a secret is written plainly into the configuration, and everybody on the host could read it in the list of processes",
                "hand it over in the environment, by reference; then change the secret: it was readable",
            );
        }
    }
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_shell = matches!(name, "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh");
    if is_shell
        && arguments
            .iter()
            .any(|argument| argument.starts_with('-') && !argument.starts_with("--") && argument.contains('c'))
    {
        report.warn(
            "through_a_shell",
            at,
            "a text that a shell reads is split, expanded and quoted by its rules, and a part that fails does not stop it",
            "put it into a script of its own (with `set -eu`), and name that here",
        );
    }
    if report.inspects() {
        is_executable(report, &at.index(0), path);
    }
}

/// That it is not there is only a warning: `check` may run on another machine.
fn is_executable(report: &mut Report<'_>, at: &Path, path: &str) {
    use std::os::unix::fs::PermissionsExt;
    let wrong = match std::fs::metadata(path) {
        Err(error) => format!("{path} cannot be looked at here: {error}"),
        Ok(metadata) if !metadata.is_file() => format!("{path} is not a file"),
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => format!("{path} is not executable"),
        Ok(_) => {
            trust::check(report, at, std::path::Path::new(path), Matter::Decision);
            return;
        }
    };
    report.warn("program_not_there", at, wrong, "install it, or `chmod +x` it, for the user that failoverd runs as");
}
