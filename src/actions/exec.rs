//! `exec.run`.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::actions::{CHANGE, LOOK, until};
use crate::clients::failure::one_line;
use crate::clients::program::{Ended, Ending, GRACE, Keep, Kept, PATH, Program, ids, marked, run};
use crate::clients::{Failure, FailureKind, Redactor};
use crate::config::SecretText;
use crate::config::action::{ExecAction, ExecEffect, ExecRun};
use crate::config::redact::redact;
use crate::model::{Applied, Aspect, Finding, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied, ReadyContext};

/// So much of each stream is kept, in bytes.
const OUTPUT: u32 = 64 * 1024;

/// How much of the output is told, in characters.
const TOLD_CHARS: usize = 200;

/// Builds an action of the family.
pub(super) fn build(action: ExecAction) -> Result<Box<dyn Action>, String> {
    match action {
        ExecAction::Run(params) => Run::new(params).map(|action| Box::new(action) as _),
    }
}

/// Runs a program. Whether an earlier attempt of the same step still runs is seen in `/proc`, by a
/// variable that everything it has started inherits.
pub struct Run {
    params: ExecRun,
}

/// What one execution said: success or not, in one line.
struct Said {
    ending: Ending,
    good: bool,
    text: String,
}

impl Run {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where no program is named by its absolute path.
    pub fn new(params: ExecRun) -> Result<Self, String> {
        for argv in std::iter::once(&params.argv).chain(&params.observe) {
            match argv.first() {
                None => return Err("no program is named".into()),
                Some(path) if !path.starts_with('/') => return Err(format!("`{path}` is not an absolute path")),
                Some(_) => {}
            }
        }
        Ok(Self { params })
    }

    /// The same for each attempt of one step, and another one for each other step.
    fn mark(&self, context: &ActionContext, argv: &[String]) -> String {
        let digest = Sha256::digest(argv.join("\0"));
        let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let run = context.run.as_ref().map_or("dry", |run| run.as_str());
        format!("{run}/{}/{digest}", context.step)
    }

    /// Readies a program. Secrets are read now, and are known to the redactor before anything can
    /// come back.
    fn prepare(&self, context: &ActionContext, argv: &[String], redactor: &mut Redactor) -> Result<Program, Failure> {
        let mut env = std::collections::BTreeMap::from([
            ("PATH".to_owned(), PATH.to_owned()),
            ("FAILOVERD_STEP".to_owned(), context.step.to_string()),
            ("FAILOVERD_EPOCH".to_owned(), context.epoch.to_string()),
            ("FAILOVERD_ATTEMPT".to_owned(), context.attempt.to_string()),
        ]);
        if let Some(run) = &context.run {
            env.insert("FAILOVERD_RUN".into(), run.to_string());
        }
        for (name, value) in &self.params.env {
            let text = value.read().map_err(|error| Failure::new(FailureKind::Denied, error.to_string()))?;
            if matches!(value, SecretText::Reference(_)) {
                redactor.hide(&text);
            }
            if text.contains('\0') {
                return Err(Failure::refused(format!("the variable {name} holds a NUL character")));
            }
            env.insert(name.clone(), text);
        }
        let ids = self.params.user.as_deref().map(account).transpose()?;
        Ok(Program {
            argv: argv.to_vec(),
            env,
            directory: self.params.directory.clone().unwrap_or_else(|| PathBuf::from("/")),
            ids,
            stdin: self.params.stdin.clone(),
            output_limit: usize::try_from(self.params.output_limit.unwrap_or(OUTPUT)).unwrap_or(usize::MAX),
            keep: Keep::End,
            grace: GRACE,
            mark: self.mark(context, argv),
        })
    }

    /// One execution that only looks.
    async fn look(
        &self,
        context: &ActionContext,
        argv: &[String],
        good: &[u8],
        until: Instant,
    ) -> Result<Said, Failure> {
        let mut redactor = Redactor::default();
        let ran = async {
            let mut program = self.prepare(context, argv, &mut redactor)?;
            // Not to be taken for an execution that changes something.
            program.mark = format!("look/{}", program.mark);
            run(&program, good, until).await
        };
        let ran = ran.await;
        ran.map(|ended| said(&argv[0], &ended, good, &redactor)).map_err(|failure| clean(failure, &redactor))
    }

    /// Was it done? `None` where there is nothing that tells.
    async fn ask(&self, context: &ActionContext) -> Option<Result<(bool, String), Failure>> {
        let argv = self.params.observe.as_ref()?;
        Some(self.look(context, argv, &[0], until(context, LOOK)).await.and_then(|said| match said.ending {
            Ending::Code(0) => Ok((true, said.text)),
            Ending::Code(1) => Ok((false, said.text)),
            _ => Err(Failure::unknown(format!("observe: {}", said.text))),
        }))
    }

    fn success(&self) -> &[u8] {
        if self.params.success.is_empty() { &[0] } else { &self.params.success }
    }

    fn until(&self, context: &ActionContext) -> Instant {
        until(context, self.params.time_limit.map_or(CHANGE, |limit| limit.get()))
    }

    /// An attempt of this step that was begun before a crash and has not come to its end.
    fn still_running(&self, context: &ActionContext) -> Option<String> {
        context.run.as_ref()?;
        let pid = marked(&self.mark(context, &self.params.argv)).into_iter().next()?;
        let pid = pid.as_raw_nonzero();
        Some(format!("what an earlier attempt of this step has started still runs, as process {pid}; it is waited for"))
    }

    fn judge(&self, said: Said) -> Applied {
        let Said { ending, good, text } = said;
        match ending {
            Ending::Code(_) if good => Applied::Accepted { evidence: text },
            // Observing comes before anything else: it may have been done all the same.
            Ending::Code(_) if self.params.observe.is_some() => Applied::Unknown { reason: text },
            Ending::Code(_) => Applied::Refused { reason: text, again: self.params.idempotent },
            Ending::Signal(_) | Ending::Killed => Applied::Unknown { reason: text },
        }
    }
}

fn program_ready(path: &str) -> Finding {
    let finding = Finding::judged(path, Aspect::Exists, not_executable(path));
    match std::fs::metadata(path) {
        Ok(found) => finding.with("bytes", found.len()).with("mode", format!("{:o}", found.mode() & 0o7777)),
        Err(_) => finding,
    }
}

/// Why this is no program that we could run, where it is none.
fn not_executable(path: &str) -> Option<String> {
    match std::fs::metadata(path) {
        Err(error) => Some(format!("it cannot be looked at: {error}")),
        Ok(found) if !found.is_file() => Some("it is not a file".to_owned()),
        Ok(_) => rustix::fs::access(path, rustix::fs::Access::EXEC_OK)
            .err()
            .map(|error| format!("it is not executable for us: {error}")),
    }
}

fn account(user: &str) -> Result<(u32, u32), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure::refused(format!("failoverd does not run as root, and cannot become the user {user}")));
    }
    let passwd =
        std::fs::read_to_string("/etc/passwd").map_err(|error| Failure::refused(format!("/etc/passwd: {error}")))?;
    ids(&passwd, user).ok_or_else(|| Failure::refused(format!("there is no user {user} in /etc/passwd")))
}

fn clean(failure: Failure, redactor: &Redactor) -> Failure {
    Failure { reason: redactor.clean(&failure.reason), ..failure }
}

/// How it ended, and the last of what it wrote: of its errors where it failed.
fn said(path: &str, ended: &Ended, success: &[u8], redactor: &Redactor) -> Said {
    let good = matches!(ended.ending, Ending::Code(code) if success.iter().any(|one| i32::from(*one) == code));
    let (out, err) = (told(&ended.out, redactor), told(&ended.err, redactor));
    let words = match (good, out.is_empty(), err.is_empty()) {
        (true, false, _) | (false, false, true) => out,
        _ => err,
    };
    let how = match ended.ending {
        Ending::Code(code) => format!("ended with exit code {code}"),
        Ending::Signal(signal) => format!("was ended by signal {signal}"),
        Ending::Killed => "did not end in time and was killed".into(),
    };
    let text = if words.is_empty() { format!("{path} {how}") } else { format!("{path} {how}: {words}") };
    Said { ending: ended.ending, good, text }
}

/// The end of an output, on one line and without secrets: they are taken out before it is cut, so
/// that no piece of one is left.
fn told(kept: &Kept, redactor: &Redactor) -> String {
    let clean = redact(&redactor.clean(&kept.text()), &[]);
    let words: Vec<&str> =
        clean.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    let line = words.join(" ");
    let from = line.char_indices().rev().nth(TOLD_CHARS).map_or(0, |(place, _)| place);
    let cut = if from > 0 || kept.dropped > 0 { "… " } else { "" };
    if line.is_empty() { line } else { format!("{cut}{}", one_line(&line[from..])) }
}

#[async_trait]
impl Action for Run {
    /// No program is run for it, not even one that only looks: nobody knows what it costs each few minutes.
    async fn ready(&self, _look: &ReadyContext) -> Vec<Finding> {
        let programs = std::iter::once(&self.params.argv).chain(&self.params.observe);
        let mut findings: Vec<Finding> =
            programs.filter_map(|argv| argv.first()).map(|path| program_ready(path)).collect();
        if let Some(user) = self.params.user.as_deref() {
            let wrong = account(user).err().map(|failure| failure.reason);
            findings.push(Finding::judged(format!("user {user}"), Aspect::Permitted, wrong));
        }
        if let Some(folder) = self.params.directory.as_deref() {
            let wrong = (!folder.is_dir()).then(|| "there is no such directory".to_owned());
            findings.push(Finding::judged(folder.display().to_string(), Aspect::Exists, wrong));
        }
        for (name, value) in &self.params.env {
            if let Err(error) = value.read() {
                findings.push(Finding::not_ready(format!("variable {name}"), Aspect::Exists, error.to_string()));
            }
        }
        findings
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        if self.params.effect == ExecEffect::Verify {
            if context.run.is_some() {
                return Observed::InProgress { evidence: "it only looks; it is run until it succeeds".into() };
            }
            return match self.look(context, &self.params.argv, self.success(), until(context, LOOK)).await {
                Ok(Said { good: true, text, .. }) => Observed::Done { evidence: text },
                Ok(Said { text, .. }) => Observed::NotDone { evidence: text, before: Value::Null },
                Err(failure) => failure.observed(),
            };
        }
        if let Some(reason) = self.still_running(context) {
            return Observed::Unknown { reason };
        }
        match self.ask(context).await {
            None => Observed::Unobservable,
            Some(Ok((true, evidence))) => Observed::Done { evidence },
            Some(Ok((false, evidence))) => Observed::NotDone { evidence, before: Value::Null },
            Some(Err(failure)) => failure.observed(),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        if self.params.effect == ExecEffect::Verify {
            return Ok(Applied::Refused {
                reason: "it only looks, and there is nothing to apply".into(),
                again: false,
            });
        }
        let until = self.until(context);
        let mut redactor = Redactor::default();
        let program = match self.prepare(context, &self.params.argv, &mut redactor) {
            Ok(program) => program,
            Err(failure) => return Ok(clean(failure, &redactor).not_sent()),
        };
        if let Some(reason) = self.still_running(context) {
            return Ok(Applied::Refused { reason, again: true });
        }
        context.permit()?;
        Ok(match run(&program, self.success(), until).await {
            Ok(ended) => self.judge(said(&self.params.argv[0], &ended, self.success(), &redactor)),
            Err(failure) => clean(failure, &redactor).applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        if self.params.effect == ExecEffect::Verify {
            return match self.look(context, &self.params.argv, self.success(), self.until(context)).await {
                Ok(Said { good: true, text, .. }) => Verified::yes(text),
                Ok(Said { text, .. }) => Verified::NotYet { evidence: text },
                Err(failure) if matches!(failure.kind, FailureKind::Refused | FailureKind::Denied) => {
                    Verified::Failed { reason: failure.reason }
                }
                Err(failure) => failure.verified(),
            };
        }
        match self.ask(context).await {
            // Called only after an exit code that is success.
            None => Verified::yes("it ended with success; there is nothing to look at"),
            Some(Ok((true, evidence))) => Verified::yes(evidence),
            Some(Ok((false, evidence))) => Verified::NotYet { evidence },
            Some(Err(failure)) => failure.verified(),
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}
