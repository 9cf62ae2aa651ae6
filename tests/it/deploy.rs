//! What is shipped for the deployment, as the programs read it that it is made for.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

#[test]
fn prometheus_takes_the_alerts_and_they_fire_when_they_should() {
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]] {
        let command = Command::new("promtool").args(arguments).current_dir(root().join("deploy/prometheus")).output();
        let output = command.expect("promtool (tests/fleet/install.sh installs the package `prometheus`)");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

/// An alert on a metric that nobody exports never fires, and nobody notices.
#[test]
fn every_metric_that_is_alerted_on_is_exported() {
    let control = std::fs::read_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/control")).unwrap();
    let files = control.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let source: String = files.map(|path| std::fs::read_to_string(path).unwrap()).collect();
    let alerts = read("deploy/prometheus/alerts.yml");
    let exprs = alerts.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    let words = exprs.flat_map(|expr| expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'));
    let mut seen = 0;
    for metric in words.filter(|word| word.starts_with("failoverd_")) {
        let full = metric.strip_suffix("_bucket").unwrap_or(metric);
        let short = full.trim_start_matches("failoverd_");
        let exported = source.contains(&format!("\"{short}\"")) || source.contains(&format!("\"{full}\""));
        assert!(exported, "{metric} is alerted on and not exported");
        seen += 1;
    }
    assert!(seen >= 15, "only {seen} metrics were found in the alerts");
}

/// What the policy allows a run to do, sorted, without what only readiness asks. Not a wildcard among the
/// resources.
pub fn allowed_by_the_policy() -> Vec<String> {
    let policy: serde_json::Value = serde_json::from_str(&read("deploy/iam-policy.json")).unwrap();
    let mut allowed = std::collections::BTreeSet::new();
    for statement in policy["Statement"].as_array().unwrap() {
        assert_eq!(statement["Effect"], "Allow");
        let texts = |key: &str| statement[key].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned());
        for resource in texts("Resource") {
            assert!(resource == "arn:aws:route53:::change/*" || !resource.contains('*'), "{resource}");
        }
        allowed.extend(texts("Action").filter(|action| !action.starts_with("iam:")));
    }
    allowed.into_iter().collect()
}

/// What is shipped is what the program makes of the example: `UPDATE_DEPLOY=1` writes it anew.
#[test]
fn the_policy_and_the_roles_are_those_that_the_example_needs() {
    for (verb, path) in [("iam", "deploy/iam-policy.json"), ("rbac", "deploy/kubernetes/rbac.yaml")] {
        let example = root().join("config/examples/minimal.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_failoverd"));
        let output = command.arg(verb).arg(example).arg("--document").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let made = String::from_utf8(output.stdout).unwrap();
        if std::env::var_os("UPDATE_DEPLOY").is_some() {
            std::fs::write(root().join(path), &made).unwrap();
        }
        assert_eq!(read(path), made, "{path} is another one; make it anew with UPDATE_DEPLOY=1");
    }
}
