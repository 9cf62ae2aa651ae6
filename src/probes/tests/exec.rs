//! Plugins that say everything that a plugin can say, and some that should not be plugins.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::model::Facts;

/// A script in a directory of its own.
struct Plugin {
    path: PathBuf,
    folder: TempDir,
}

impl Plugin {
    fn new(text: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("check_it");
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { path, folder }
    }

    /// The probe, with a timeout of its own.
    fn probe(&self, timeout: Duration, more: serde_json::Value) -> Box<dyn Probe> {
        let mut exec = json!({ "command": [self.path, self.folder.path()] });
        exec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let kind: ProbeKind = serde_json::from_value(json!({ "exec": exec })).unwrap();
        build(&kind, &ProbeContext::new(ProbeClients::system(), timeout)).unwrap()
    }

    async fn look(&self) -> Observation {
        attempt(&*self.probe(LONG, json!({})), LONG).await
    }

    /// The process whose number the script has written into this file.
    async fn process(&self, name: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        let until = Instant::now() + LONG;
        loop {
            if let Ok(text) = std::fs::read_to_string(&file)
                && text.ends_with('\n')
            {
                return PathBuf::from(format!("/proc/{}", text.trim()));
            }
            assert!(Instant::now() < until, "{name} was not written");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// A zombie has ended.
async fn assert_ends(process: &std::path::Path) {
    let until = Instant::now() + LONG;
    while std::fs::read_to_string(process.join("stat")).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(Instant::now() < until, "{} still runs", process.display());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_exit_code_decides_and_the_first_line_tells() {
    for (code, health, kind) in [
        (0, Health::Up, None),
        (1, Health::Up, Some(CauseKind::PluginWarning)),
        (2, Health::Down, Some(CauseKind::PluginCritical)),
        (3, Health::Unknown, Some(CauseKind::PluginUnknown)),
        (4, Health::Unknown, Some(CauseKind::PluginUnknown)),
        (127, Health::Unknown, Some(CauseKind::PluginUnknown)),
    ] {
        let plugin = Plugin::new(&format!("echo 'SAYS {code} | a=1'; echo 'and more'; exit {code}"));
        let seen = plugin.look().await;
        assert_eq!((seen.health(), seen.cause().map(|cause| cause.kind)), (health, kind), "{seen:?}");
        let detail = seen.cause().map(|cause| cause.detail.as_str()).unwrap_or_default();
        assert_eq!(detail.contains(&format!("SAYS {code}")), kind.is_some(), "{detail}");
        assert!(!detail.contains("more") && !detail.contains("a=1"), "{detail}");
    }
    let killed = Plugin::new("echo 'before'; kill -9 $$").look().await;
    assert_saw(&killed, Health::Unknown, CauseKind::PluginUnknown);
    assert!(killed.cause().unwrap().detail.contains("signal 9: before"), "{killed:?}");
    let silent = Plugin::new("echo 'no route' >&2; exit 2").look().await;
    assert_saw(&silent, Health::Down, CauseKind::PluginCritical);
    assert_eq!(silent.cause().unwrap().detail, "no route");
    assert!(Plugin::new("exit 2").look().await.cause().unwrap().detail.contains("says CRITICAL"));
}

#[tokio::test]
async fn figures_are_facts() {
    let seen = Plugin::new(r#"echo "OK | 'used space'=93.5%;80;90 load=0.2"; exit 1"#).look().await;
    let figures: Vec<(String, f64, String)> = seen
        .facts()
        .map(|Facts { figures, .. }| {
            figures.iter().map(|one| (one.name.clone(), one.value, one.unit.clone())).collect()
        })
        .unwrap_or_default();
    assert_eq!(figures, [("used space".into(), 93.5, "%".into()), ("load".into(), 0.2, String::new())]);
}

#[tokio::test]
async fn what_is_told_is_one_clean_line_without_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "canary-secret\n").unwrap();
    let plugin = Plugin::new(
        "printf 'login with %s\\033[31m failed\\r | canary-secret=1\\n' \"$PASSWORD\"; head -c 5000 /dev/zero | tr '\\0' x; exit 2",
    );
    let probe = plugin.probe(LONG, json!({ "environment": { "PASSWORD": { "file": file } } }));
    let seen = attempt(&*probe, LONG).await;
    assert_saw(&seen, Health::Down, CauseKind::PluginCritical);
    let detail = &seen.cause().unwrap().detail;
    assert_eq!(detail, "login with [redacted] [31m failed");
    assert!(!format!("{seen:?}").contains("canary"), "{seen:?}");
    let long = Plugin::new("head -c 5000 /dev/zero | tr '\\0' x; exit 2").look().await;
    assert!(long.cause().unwrap().detail.chars().count() <= 301, "{long:?}");
    std::fs::remove_file(&file).unwrap();
    assert_saw(&attempt(&*probe, LONG).await, Health::Unknown, CauseKind::LocalCredentials);
}

#[tokio::test]
async fn its_environment_is_what_the_file_says() {
    let plugin = Plugin::new("/usr/bin/env | cut -d= -f1 | sort | tr '\\n' ' '; exit 2");
    let probe = plugin.probe(LONG, json!({ "environment": { "TARGET": "db.example" } }));
    let seen = attempt(&*probe, LONG).await;
    let names: Vec<&str> = seen.cause().unwrap().detail.split(' ').collect();
    // PWD, and in some shells more, are the shell's own.
    let ours: Vec<&str> = names.into_iter().filter(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name)).collect();
    assert_eq!(ours, ["FAILOVERD_EXEC", "PATH", "TARGET"]);
}

#[tokio::test]
async fn what_cannot_be_started_is_unknown_whatever_the_owner_says() {
    use std::os::unix::fs::PermissionsExt;
    let plugin = Plugin::new("exit 0");
    std::fs::set_permissions(&plugin.path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let seen = plugin.look().await;
    assert_saw(&seen, Health::Unknown, CauseKind::LocalResource);
    assert!(seen.cause().unwrap().detail.contains("is it executable"), "{seen:?}");
    std::fs::remove_file(&plugin.path).unwrap();
    let seen = plugin.look().await;
    assert_saw(&seen, Health::Unknown, CauseKind::LocalResource);
    assert!(CauseKind::LocalResource.is_ours(), "so that `causes` cannot make it Down");
    assert!(refused(json!({ "exec": { "command": [] } })).starts_with("command:"));
    assert!(refused(json!({ "exec": { "command": ["check_it"] } })).starts_with("command:"));
}

const FORKS: &str =
    "sleep 600 & echo $! > \"$1/child\"; setsid sleep 600 & echo $! > \"$1/left\"; echo $$ > \"$1/self\"";

#[tokio::test]
async fn a_plugin_that_never_ends_is_unknown_and_killed_with_all_that_it_started() {
    let plugin = Plugin::new(&format!("{FORKS}; echo waiting; sleep 600"));
    let timeout = Duration::from_secs(2);
    let started = Instant::now();
    let seen = attempt(&*plugin.probe(timeout, json!({})), timeout).await;
    assert_saw(&seen, Health::Unknown, CauseKind::PluginUnknown);
    assert!(seen.cause().unwrap().detail.contains("killed"), "{seen:?}");
    assert!(started.elapsed() < timeout + LONG / 2, "{:?}", started.elapsed());
    for name in ["self", "child", "left"] {
        assert_ends(&plugin.process(name).await).await;
    }
}

/// The attempt is given up from outside, before its own time is over.
#[tokio::test]
async fn an_attempt_that_is_dropped_leaves_nothing() {
    let plugin = Plugin::new(&format!("{FORKS}; sleep 600"));
    let probe = plugin.probe(LONG, json!({}));
    let task = tokio::spawn(async move { probe.attempt().await });
    let processes = [plugin.process("child").await, plugin.process("left").await, plugin.process("self").await];
    task.abort();
    for process in processes {
        assert_ends(&process).await;
    }
}

#[tokio::test]
async fn a_plugin_that_ends_leaves_nothing_either() {
    let plugin = Plugin::new(&format!("{FORKS}; echo OK; exit 0"));
    let started = Instant::now();
    let seen = plugin.look().await;
    assert_eq!(seen.health(), Health::Up, "{seen:?}");
    assert!(started.elapsed() < LONG / 2, "its children hold its output open");
    for name in ["child", "left"] {
        assert_ends(&plugin.process(name).await).await;
    }
}

#[tokio::test]
async fn a_flood_is_bounded() {
    let plugin = Plugin::new("echo 'OK - first'; exec yes 'flood | a=1'");
    let timeout = Duration::from_secs(2);
    let seen = attempt(&*plugin.probe(timeout, json!({})), timeout).await;
    assert_saw(&seen, Health::Unknown, CauseKind::PluginUnknown);
    let ends = Plugin::new("echo 'BAD - first | a=1'; head -c 3000000 /dev/zero | tr '\\0' x; exit 2").look().await;
    assert_saw(&ends, Health::Down, CauseKind::PluginCritical);
    assert_eq!(ends.cause().unwrap().detail, "BAD - first");
}
