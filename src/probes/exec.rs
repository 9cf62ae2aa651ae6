//! A monitoring plugin: its exit code, its first line, its performance data.
//!
//! <https://www.monitoring-plugins.org/doc/guidelines.html>

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::classify::Fault;
use super::perfdata::figures;
use super::stage::{Stage, waiting_for};
use super::{ProbeBuildError, ProbeContext, read_secret};
use crate::clients::Redactor;
use crate::clients::failure::one_line;
use crate::clients::program::{Ended, Ending, Keep, PATH, Program, run};
use crate::config::SecretText;
use crate::config::probe::ExecProbe;
use crate::config::redact::redact;
use crate::model::{Cause, CauseKind, Facts, Observation};
use crate::ports::Probe;

/// So much of each stream is kept, in bytes.
const OUTPUT: usize = 64 * 1024;

/// See [`ExecProbe`].
pub struct Exec {
    command: Vec<String>,
    environment: BTreeMap<String, SecretText>,
    timeout: Duration,
    mark: String,
}

impl Exec {
    /// Checks the command.
    ///
    /// # Errors
    /// Where no program is named by its absolute path.
    pub fn new(config: &ExecProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        match config.command.first() {
            None => return Err(ProbeBuildError::new("command", "names no program")),
            Some(path) if !path.starts_with('/') => {
                return Err(ProbeBuildError::new("command", format!("`{path}` is not an absolute path")));
            }
            Some(_) => {}
        }
        let digest = Sha256::digest(config.command.join("\0"));
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self {
            command: config.command.clone(),
            environment: config.environment.clone(),
            timeout: context.timeout,
            mark: format!("probe/{digest}"),
        })
    }

    /// Readies the program. Secrets are known to the redactor before anything can come back.
    async fn program(&self, redactor: &mut Redactor) -> Result<Program, Fault> {
        let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
        for (name, value) in &self.environment {
            let text = read_secret(value).await?;
            if matches!(value, SecretText::Reference(_)) {
                redactor.hide(&text);
            }
            if text.contains('\0') {
                let text = format!("the variable {name} holds a NUL character");
                return Err(Fault::ours(CauseKind::LocalCredentials, text));
            }
            env.insert(name.clone(), text);
        }
        Ok(Program {
            argv: self.command.clone(),
            env,
            directory: PathBuf::from("/"),
            ids: None,
            stdin: None,
            output_limit: OUTPUT,
            keep: Keep::Beginning,
            grace: Duration::ZERO,
            mark: self.mark.clone(),
        })
    }

    async fn look(&self) -> Result<Observation, Fault> {
        let started = Instant::now();
        let mut redactor = Redactor::default();
        let program = self.program(&mut redactor).await?;
        // No code is spared: a plugin leaves nothing running, whatever it says.
        let ran = waiting_for(Stage::Program, run(&program, &[], started + self.timeout)).await;
        let ended = ran.map_err(|failure| Fault::ours(CauseKind::LocalResource, redactor.clean(&failure.reason)))?;
        Ok(judge(&self.command[0], &ended, &redactor, started.elapsed()))
    }
}

#[async_trait]
impl Probe for Exec {
    async fn attempt(&self) -> Observation {
        self.look().await.unwrap_or_else(Observation::from)
    }
}

/// What its end means.
fn judge(path: &str, ended: &Ended, redactor: &Redactor, latency: Duration) -> Observation {
    let said = Said::new(&ended.out.text(), &ended.err.text(), redactor);
    let facts = || (!said.facts.figures.is_empty()).then(|| Box::new(said.facts.clone()));
    let detail = |what: &str| {
        if said.line.is_empty() { format!("{path} {what}") } else { said.line.clone() }
    };
    match ended.ending {
        Ending::Code(0) => Observation::Up { latency, facts: facts(), degraded: None },
        Ending::Code(1) => {
            let cause = Cause::new(CauseKind::PluginWarning, detail("says WARNING"));
            Observation::Up { latency, facts: facts(), degraded: Some(cause) }
        }
        Ending::Code(2) => {
            let cause = Cause::new(CauseKind::PluginCritical, detail("says CRITICAL"));
            Observation::Down { cause, facts: facts() }
        }
        Ending::Code(3) => Observation::unknown(CauseKind::PluginUnknown, detail("says UNKNOWN")),
        Ending::Code(code) => said.odd(path, &format!("ended with exit code {code}, which no plugin has")),
        Ending::Signal(signal) => said.odd(path, &format!("was ended by signal {signal}")),
        Ending::Killed => said.odd(path, "did not end in time and was killed"),
    }
}

/// What a plugin wrote, without secrets.
struct Said {
    /// Its first line, without performance data.
    line: String,
    facts: Facts,
}

impl Said {
    fn new(out: &str, err: &str, redactor: &Redactor) -> Self {
        let clean = |text: &str| redact(&redactor.clean(text), &[]);
        let (out, err) = (clean(out), clean(err));
        let from = if out.trim().is_empty() { &err } else { &out };
        let first = from.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let line = one_line(first.split('|').next().unwrap_or_default());
        Self { line, facts: Facts { figures: figures(&out), ..Facts::default() } }
    }

    fn odd(&self, path: &str, how: &str) -> Observation {
        let words = if self.line.is_empty() { String::new() } else { format!(": {}", self.line) };
        Observation::unknown(CauseKind::PluginUnknown, format!("{path} {how}{words}"))
    }
}

/// What a plugin wrote, read as a probe reads it.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn said(text: &str) {
    let (out, err) = text.split_once('\0').unwrap_or((text, ""));
    let _odd = Said::new(out, err, &Redactor::default()).odd("plugin", "ended");
}
