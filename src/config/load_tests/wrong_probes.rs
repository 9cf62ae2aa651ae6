//! Wrong probes of clusters, clouds and Prometheus, and what is said of them.

use super::wrong::told_within;
use super::*;
use crate::config::probe::ProbeKind;

/// The codes of what is said of a probe that has this in it.
fn told(probe: &str) -> Vec<String> {
    let text = format!("[probes.x]\ninterval = \"1m\"\ntimeout = \"5s\"\n{probe}\n");
    let mut codes: Vec<String> = told_within(&text)
        .into_iter()
        .map(|fault| fault.split_once(' ').map_or(fault.clone(), |(_, code)| code.into()))
        .collect();
    codes.sort();
    codes
}

#[test]
fn what_is_well_is_let_through() {
    for probe in [
        r#"kubernetes = { readyz = true, max_latency = "1s" }"#,
        r#"kubernetes = { context = "east", deployment = "shop/api" }"#,
        r#"kubernetes = { nodes_ready = { share = 0.8, selector = "zone=a" } }"#,
        r#"rds = { region = "us-east-1", instance = "shop", pending_maintenance = true }"#,
        r#"rds = { region = "us-east-1", cluster = "shop" }"#,
        r#"elasticache = { region = "us-east-1", replication_group = "cache" }"#,
        r#"promql = { url = "http://prometheus.example:9090", query = "errors", above = 5, series = "every" }"#,
        r#"promql = { url = "http://prometheus.example:9090", targets_up = { job = "api", share = 1 } }"#,
        r#"cloudwatch = { region = "us-east-1", metrics = [{ namespace = "n", name = "m" }], below = 1 }"#,
        r#"s3_age = { region = "us-east-1", bucket = "b", prefix = "daily/", max_age = "26h", at_least_bytes = 1 }"#,
        r#"velero_age = { schedule = "daily", max_age = "26h" }"#,
        r#"aws_health = { region = "us-east-1", services = ["RDS", "EC2"] }"#,
        r#"aws_health = { region = "us-east-1" }"#,
    ] {
        assert_eq!(told(probe), Vec::<String>::new(), "{probe}");
    }
}

#[test]
fn what_is_wrong_is_told_before_it_is_needed() {
    let metric = |more: &str| format!("{{ namespace = \"n\", name = \"m\"{more} }}");
    let cloudwatch =
        |metrics: &str, more: &str| format!("cloudwatch = {{ region = \"us-east-1\", metrics = [{metrics}]{more} }}");
    let promql = |more: &str| format!("promql = {{ url = \"http://p.example\"{more} }}");
    for (probe, expected) in [
        ("kubernetes = { }".to_owned(), &["not_exactly_one"][..]),
        (r#"kubernetes = { readyz = true, deployment = "a/b" }"#.to_owned(), &["not_exactly_one"]),
        (r#"kubernetes = { deployment = "api" }"#.to_owned(), &["bad_deployment"]),
        (r#"kubernetes = { deployment = "a/b", max_latency = "1s" }"#.to_owned(), &["only_readyz"]),
        (r#"kubernetes = { readyz = true, max_latency = "5s" }"#.to_owned(), &["never_slow"]),
        ("kubernetes = { nodes_ready = { share = 1.5 } }".to_owned(), &["bad_share"]),
        ("kubernetes = { nodes_ready = { at_least = 0 } }".to_owned(), &["zero"]),
        ("kubernetes = { nodes_ready = { } }".to_owned(), &["not_exactly_one"]),
        (r#"kubernetes = { nodes_ready = { at_least = 1, selector = " " } }"#.to_owned(), &["empty_selector"]),
        ("kubernetes = { readyx = true }".to_owned(), &["not_exactly_one", "unknown_key"]),
        (r#"rds = { region = "us-east-1" }"#.to_owned(), &["not_exactly_one"]),
        (r#"rds = { region = "us-east-1", instance = "a", cluster = "b" }"#.to_owned(), &["not_exactly_one"]),
        (r#"rds = { region = "east", instance = "a.b" }"#.to_owned(), &["bad_instance", "odd_region"]),
        (r#"elasticache = { region = "us-east-1", replication_group = "" }"#.to_owned(), &["empty"]),
        (promql(", query = \"up\""), &["no_threshold"]),
        (promql(", query = \"up\", above = nan"), &["syntax"]),
        (promql(", query = \"up\", above = 1, below = 2"), &["always_crossed"]),
        (promql(", query = \" \", above = 1"), &["empty"]),
        (promql(", above = 1"), &["not_exactly_one", "two_thresholds"]),
        (promql(", targets_up = { job = \"a\", at_least = 1 }, above = 1"), &["two_thresholds"]),
        (promql(", targets_up = { job = \"a\" }"), &["not_exactly_one"]),
        (promql(", targets_up = { job = \"a\", share = 0 }"), &["bad_share"]),
        (r#"promql = { url = "http://u:pw@p.example", query = "up", above = 1 }"#.to_owned(), &["plain_secret"]),
        (r#"promql = { url = "ftp://p.example", query = "up", above = 1 }"#.to_owned(), &["bad_url"]),
        (cloudwatch("", ", above = 1"), &["empty"]),
        (cloudwatch(&metric(""), ""), &["no_threshold"]),
        (cloudwatch(&metric(", id = \"M1\""), ", above = 1"), &["bad_id"]),
        (cloudwatch(&metric(", period = \"7s\""), ", above = 1"), &["bad_period"]),
        (
            cloudwatch(
                &format!("{}, {}", metric(""), metric(", id = \"m2\", period = \"5m\"")),
                ", expression = \"m1\", above = 1",
            ),
            &["bad_period"],
        ),
        (cloudwatch(&format!("{}, {}", metric(""), metric("")), ", expression = \"m1\", above = 1"), &["twice"]),
        (cloudwatch(&format!("{}, {}", metric(""), metric(", id = \"m2\"")), ", above = 1"), &["no_expression"]),
        (cloudwatch(&metric(""), ", above = 1, datapoints_to_alarm = 3, of = 2"), &["bad_window"]),
        (cloudwatch(&metric(""), ", above = 1, datapoints_to_alarm = 0"), &["zero"]),
        (r#"s3_age = { region = "us-east-1", bucket = "", max_age = "0s" }"#.to_owned(), &["empty", "zero"]),
        (
            r#"s3_age = { region = "us-east-1", bucket = "b", prefix = "/a", max_age = "1h" }"#.to_owned(),
            &["odd_prefix"],
        ),
        (r#"velero_age = { schedule = "d", selector = "a=b", max_age = "1h" }"#.to_owned(), &["not_exactly_one"]),
        (r#"velero_age = { schedule = "D!", max_age = "1h" }"#.to_owned(), &["bad_name"]),
        (r#"aws_health = { region = "us-east-1", services = ["rds"] }"#.to_owned(), &["bad_service"]),
        (
            "tcp = { address = \"a:1\" }\nrds = { region = \"us-east-1\", instance = \"a\" }".to_owned(),
            &["not_exactly_one"],
        ),
        (
            "rds = { region = \"us-east-1\", instance = \"a\" }\ncauses = { control_plane = \"down\" }".to_owned(),
            &["never_down"],
        ),
        (
            "rds = { region = \"us-east-1\", instance = \"a\" }\ncauses = { slow = \"down\" }".to_owned(),
            &["never_seen"],
        ),
    ] {
        assert_eq!(told(&probe), expected, "{probe}");
    }
}

/// A cloud limits how often it is asked, and a probe in doubt must not hasten it either.
#[test]
fn a_cloud_is_not_asked_every_few_seconds() {
    let of = |timing: &str, kind: &str| {
        Folder::new(&format!(
            "[limits]\nrds = 7\n[defaults.probe]\nfast_interval = \"500ms\"\n[probes.x]\ntimeout = \"5s\"\n{timing}\n{kind}\n"
        ))
    };
    let rds = "rds = { region = \"us-east-1\", instance = \"a\" }";
    let warned = |folder: Folder| {
        let warnings = folder.loaded().warnings;
        warnings.iter().filter(|fault| fault.code == "asks_too_often").map(|fault| fault.message.clone()).next()
    };
    let message = warned(of("interval = \"9s\"", rds)).expect("9 s is too often");
    assert!(message.contains("every 9s") && message.contains("7 calls a second (limits.rds)"), "{message}");
    assert!(warned(of("", rds)).is_some(), "the default interval is for what is no cloud");
    assert_eq!(warned(of("interval = \"10s\"", rds)), None);
    assert!(warned(of("interval = \"10s\"\nfast_interval = \"1s\"", rds)).is_some());
    assert_eq!(warned(of("interval = \"2s\"", "kubernetes = { readyz = true }")), None);
    let loaded = of("interval = \"1m\"", rds).loaded();
    let settings = &loaded.settings.probes[0];
    assert_eq!(settings.fast_interval, HumanDuration::secs(60), "the default is meant for others");
}

/// What `failoverd probes KIND` and the checks read.
#[test]
fn every_kind_tells_what_it_sees() {
    let deployment: ProbeKind =
        serde_json::from_value(serde_json::json!({ "kubernetes": { "deployment": "a/b" } })).unwrap();
    let readyz: ProbeKind = serde_json::from_value(serde_json::json!({ "kubernetes": { "readyz": true } })).unwrap();
    let down = |kind: &ProbeKind, cause| {
        kind.causes().iter().any(|row| row.cause == cause && row.means == crate::model::Meaning::Down)
    };
    use crate::model::CauseKind::{ConnectionRefused, Timeout};
    assert!(down(&readyz, ConnectionRefused) && down(&readyz, Timeout));
    assert!(!down(&deployment, ConnectionRefused) && !down(&deployment, Timeout));
}
