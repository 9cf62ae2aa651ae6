//! `exec.run`: programs that fork, flood, hang and die.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use failoverd::model::{Observed, Verified};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{CANARY, SOON, Subject, accepted, before, clients, done, impossible, refused, secret, unknown, unseen};
use crate::fleet::{eventually, scratch_dir};

const KIND: &str = "exec.run";

/// A script in a directory of its own, into which it may write.
struct Script {
    path: PathBuf,
    dir: TempDir,
}

impl Script {
    fn new(text: &str) -> Result<Self> {
        let dir = scratch_dir("exec")?;
        let path = dir.path().join("script");
        write_script(&path, text)?;
        Ok(Self { path, dir })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> Result<String> {
        let path = self.file(name);
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    /// A process id that the script has written.
    async fn pid(&self, name: &str) -> Result<i32> {
        eventually(SOON, "a process id", async || Ok(self.read(name)?.trim().parse()?)).await
    }

    fn action(&self, mut more: Value) -> Subject {
        more["argv"] = json!([self.path]);
        more["directory"] = json!(self.dir.path());
        Subject::new(KIND, more, &Arc::new(clients()))
    }
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o755).open(path)?;
    file.write_all(format!("#!/bin/sh\n{text}\n").as_bytes())?;
    Ok(())
}

/// A zombie has ended.
fn is_running(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

async fn gone(pid: i32) -> Result<()> {
    eventually(SOON, "a process to be gone", async || {
        ensure!(!is_running(pid), "{pid} still runs");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_program_runs_without_a_shell_in_an_environment_of_its_own() -> Result<()> {
    let script = Script::new("env > env; cat > stdin; printf '%s\\n' \"$@\" > args; pwd -P > pwd; echo said so")?;
    let params = json!({
        "argv": [script.path, "a b", "$HOME", "*"], "directory": script.dir.path(),
        "env": { "REGION": "us-west-2" }, "stdin": "first\nsecond",
    });
    let subject = Subject::new(KIND, params, &Arc::new(clients()));
    assert_eq!(subject.observe().await, Observed::Unobservable);
    let evidence = accepted(subject.apply().await)?;
    ensure!(evidence.ends_with("ended with exit code 0: said so"), "{evidence}");
    subject.verify().await?;
    assert_eq!(script.read("args")?, "a b\n$HOME\n*\n");
    assert_eq!(script.read("stdin")?, "first\nsecond");
    assert_eq!(Path::new(script.read("pwd")?.trim()), script.dir.path().canonicalize()?);
    let env = script.read("env")?;
    let mut names: Vec<&str> = env.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    // PWD is of the shell that reads the script.
    let ours = ["ATTEMPT", "EPOCH", "EXEC", "RUN", "STEP"].map(|name| format!("FAILOVERD_{name}"));
    let wanted: Vec<&str> = ours.iter().map(String::as_str).chain(["PATH", "PWD", "REGION"]).collect();
    assert_eq!(names, wanted, "{env}");
    for line in ["FAILOVERD_EPOCH=5", "FAILOVERD_RUN=RUN-20261101-001", "FAILOVERD_STEP=step", "REGION=us-west-2"] {
        ensure!(env.lines().any(|found| found == line), "{line} is not in {env}");
    }
    Ok(())
}

#[tokio::test]
async fn its_exit_code_says_what_came_of_it() -> Result<()> {
    let script = Script::new("echo out; echo bad thing >&2; exit 3")?;
    let reason = refused(script.action(json!({})).apply().await, false)?;
    ensure!(reason.ends_with("ended with exit code 3: bad thing"), "{reason}");
    refused(script.action(json!({ "idempotent": true })).apply().await, true)?;
    unknown(script.action(json!({ "observe": ["/bin/false"] })).apply().await)?;
    let evidence = accepted(script.action(json!({ "success": [0, 3] })).apply().await)?;
    ensure!(evidence.ends_with("exit code 3: out"), "{evidence}");
    refused(Script::new("exit 0")?.action(json!({ "success": [3] })).apply().await, false)?;
    let killed = Script::new("kill -9 $$")?;
    for params in [json!({}), json!({ "idempotent": true })] {
        let reason = unknown(killed.action(params).apply().await)?;
        ensure!(reason.ends_with("was ended by signal 9"), "{reason}");
    }
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_started_is_refused() -> Result<()> {
    let script = Script::new("true")?;
    let run = |params: Value| Subject::new(KIND, params, &Arc::new(clients()));
    let reason = refused(run(json!({ "argv": ["/nonexistent/program"] })).apply().await, false)?;
    ensure!(reason.contains("is not there"), "{reason}");
    let plain = script.file("plain");
    std::fs::write(&plain, "no program")?;
    let reason = refused(run(json!({ "argv": [plain] })).apply().await, false)?;
    ensure!(reason.contains("is it executable"), "{reason}");
    let reason = refused(run(json!({ "argv": ["/bin/true"], "directory": "/nonexistent" })).apply().await, false)?;
    ensure!(reason.contains("there is no directory /nonexistent"), "{reason}");
    let reason = refused(run(json!({ "argv": ["/bin/true"], "user": "nobody-at-all" })).apply().await, false)?;
    ensure!(reason.contains("nobody-at-all"), "{reason}");
    let env = json!({ "X": { "env": "FAILOVERD_TEST_NOT_SET" } });
    let reason = refused(run(json!({ "argv": ["/bin/true"], "env": env })).apply().await, false)?;
    ensure!(reason.contains("FAILOVERD_TEST_NOT_SET is not set"), "{reason}");
    impossible(run(json!({ "argv": ["/bin/true"], "observe": ["/nonexistent"] })).observe().await)?;
    let late = script.action(json!({}));
    let context = late.context.clone();
    refused(late.apply_at(&context).await, true)?;
    let touch = Script::new("touch ran")?;
    let denied = touch.action(json!({})).overtaken();
    denied.apply().await.expect_err("overtaken");
    ensure!(denied.permits.asked() == 1 && !touch.file("ran").exists(), "it ran without a permit");
    Ok(())
}

#[tokio::test]
async fn one_that_hangs_is_ended_with_all_that_it_started() -> Result<()> {
    // It ignores SIGTERM, and so do its children: one in its group, one in a session of its own.
    let script = Script::new(
        "trap '' TERM; sleep 1000 & echo $! > child\n\
         setsid sh -c 'trap \"\" TERM; echo $$ > stray; sleep 1000' &\n\
         echo started; while :; do sleep 1; done",
    )?;
    let began = Instant::now();
    let subject = script.action(json!({ "time_limit": "1s" })).within(Duration::from_secs(20));
    let reason = unknown(subject.apply().await)?;
    ensure!(reason.contains("did not end in time and was killed: started"), "{reason}");
    ensure!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for name in ["child", "stray"] {
        gone(script.pid(name).await?).await?;
    }
    Ok(())
}

#[tokio::test]
async fn sigterm_comes_first() -> Result<()> {
    let script = Script::new("trap 'echo cleaned > cleaned; exit 1' TERM; echo up > up; while :; do sleep 0.05; done")?;
    unknown(script.action(json!({ "time_limit": "1s" })).apply().await)?;
    assert_eq!(script.read("cleaned")?, "cleaned\n");
    Ok(())
}

#[tokio::test]
async fn one_that_is_dropped_is_ended_with_all_that_it_started() -> Result<()> {
    let script =
        Script::new("setsid sleep 1000 & echo $! > stray; sleep 1000 & echo $! > child; echo $$ > self; wait")?;
    let subject = Arc::new(script.action(json!({})));
    let call = tokio::spawn({
        let subject = subject.clone();
        async move { subject.apply().await }
    });
    let pids = [script.pid("stray").await?, script.pid("child").await?, script.pid("self").await?];
    ensure!(pids.into_iter().all(is_running), "{pids:?}");
    call.abort();
    for pid in pids {
        gone(pid).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_daemon_that_it_leaves_behind_does_not_hold_us_up() -> Result<()> {
    let script = Script::new("setsid sleep 1000 & echo $! > stray; echo done")?;
    let began = Instant::now();
    let evidence = accepted(script.action(json!({})).apply().await)?;
    ensure!(evidence.ends_with("exit code 0: done"), "{evidence}");
    ensure!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let pid = script.pid("stray").await?;
    ensure!(is_running(pid), "what a program that succeeded has started stays");
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).context("a pid")?,
        rustix::process::Signal::KILL,
    )?;

    let failed = Script::new("setsid sleep 1000 & echo $! > stray; exit 1")?;
    refused(failed.action(json!({})).apply().await, false)?;
    gone(failed.pid("stray").await?).await
}

/// As after a crash of the daemon, which leaves what it was running.
#[tokio::test]
async fn an_earlier_attempt_that_still_runs_is_waited_for() -> Result<()> {
    let script = Script::new("[ -e again ] && exit 0; touch again; setsid sleep 1000 & echo $! > stray; exit 0")?;
    let subject = script.action(json!({ "idempotent": true }));
    accepted(subject.apply().await)?;
    let reason = unseen(subject.observe().await)?;
    let pid = script.pid("stray").await?;
    ensure!(reason.contains(&format!("still runs, as process {pid}")), "{reason}");
    refused(subject.apply().await, true)?;
    let other = Script::new("exit 0")?;
    accepted(other.action(json!({})).apply().await).context("another step is not held up")?;
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(pid).context("a pid")?,
        rustix::process::Signal::KILL,
    )?;
    gone(pid).await?;
    assert_eq!(subject.observe().await, Observed::Unobservable);
    accepted(subject.apply().await)?;
    Ok(())
}

#[tokio::test]
async fn a_flood_is_drained_and_its_end_is_kept() -> Result<()> {
    let script = Script::new(
        "head -c 50000000 /dev/zero | tr '\\0' x; head -c 300000 /dev/zero | tr '\\0' y >&2; echo; echo the end",
    )?;
    let evidence = accepted(script.action(json!({ "output_limit": 4096 })).apply().await)?;
    ensure!(evidence.ends_with("xxx the end") && evidence.contains("… "), "{evidence}");
    ensure!(evidence.chars().count() < 400, "{evidence}");
    // Nobody reads what it is told: neither side waits.
    let deaf = Script::new("echo deaf")?;
    let evidence = accepted(deaf.action(json!({ "stdin": "x".repeat(1_000_000) })).apply().await)?;
    ensure!(evidence.ends_with("deaf"), "{evidence}");
    Ok(())
}

#[tokio::test]
async fn a_secret_reaches_the_program_and_nobody_else() -> Result<()> {
    let (_file, token) = secret(&format!("{CANARY}-{}", "k".repeat(300)))?;
    let text = "echo \"$TOKEN\" > token; i=0; while [ $i -lt 40 ]; do echo \"said $TOKEN\"; i=$((i+1)); done; echo \"password=hunter22\"; echo $TOKEN >&2; exit ${CODE:-0}";
    let script = Script::new(text)?;
    for code in ["0", "1"] {
        let params = json!({ "env": { "TOKEN": token, "CODE": code }, "output_limit": 4096 });
        let outcome = format!("{:?}", script.action(params).apply().await);
        ensure!(
            outcome.contains("[redacted]") && !outcome.contains("kkkkkk") && !outcome.contains("hunter22"),
            "{outcome}"
        );
    }
    ensure!(script.read("token")?.starts_with(CANARY), "it had the token");
    Ok(())
}

#[tokio::test]
async fn a_program_that_looks_tells_whether_it_was_done() -> Result<()> {
    let script = Script::new("touch done")?;
    let observe = script.file("observe");
    write_script(&observe, "[ -e broken ] && exit 2; [ -e done ] && echo there && exit 0; echo missing; exit 1")?;
    let subject = script.action(json!({ "observe": [observe] }));
    before(subject.observe().await)?;
    ensure!(matches!(subject.verify_once().await, Verified::NotYet { .. }), "not done yet");
    accepted(subject.apply().await)?;
    let evidence = done(subject.observe().await)?;
    ensure!(evidence.ends_with("exit code 0: there"), "{evidence}");
    subject.verify().await?;
    std::fs::write(script.file("broken"), "")?;
    let reason = unseen(subject.observe().await)?;
    ensure!(reason.contains("exit code 2"), "{reason}");
    ensure!(matches!(subject.verify_once().await, Verified::NotYet { .. }), "it could not be told");
    Ok(())
}

#[tokio::test]
async fn a_program_that_verifies_is_repeated_until_it_succeeds() -> Result<()> {
    let script =
        Script::new("echo x >> tries; [ $(wc -l < tries) -ge 3 ] && echo well && exit 0; echo not well >&2; exit 9")?;
    let subject = script.action(json!({ "effect": "verify" }));
    ensure!(matches!(subject.observe().await, Observed::InProgress { .. }), "looking is all that there is to do");
    ensure!(!script.file("tries").exists(), "verify runs it, and observe does not");
    refused(subject.apply().await, false)?;
    let Verified::NotYet { evidence } = subject.verify_once().await else { anyhow::bail!("too early") };
    ensure!(evidence.ends_with("exit code 9: not well"), "{evidence}");
    let evidence = subject.verify().await?;
    ensure!(evidence.ends_with("exit code 0: well"), "{evidence}");
    assert_eq!(script.read("tries")?.lines().count(), 3);
    assert_eq!(subject.permits.asked(), 0);
    let missing = Subject::new(KIND, json!({ "argv": ["/nonexistent"], "effect": "verify" }), &Arc::new(clients()));
    ensure!(matches!(missing.verify_once().await, Verified::Failed { .. }), "it will not come");
    Ok(())
}

#[tokio::test]
async fn it_gives_up_the_rights_of_root() -> Result<()> {
    let params = json!({ "argv": ["/usr/bin/id"], "user": "nobody" });
    let subject = Subject::new(KIND, params, &Arc::new(clients()));
    if rustix::process::geteuid().is_root() {
        let evidence = accepted(subject.apply().await)?;
        ensure!(evidence.contains("uid=65534(nobody)") && !evidence.contains("root"), "{evidence}");
    } else {
        let reason = refused(subject.apply().await, false)?;
        ensure!(reason.contains("does not run as root"), "{reason}");
    }
    Ok(())
}
