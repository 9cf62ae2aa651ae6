//! Windows over other probes, and what is said of wrong ones.

use super::*;

const PARTS: &str = "[anchors]\ntcp = [\"1.1.1.1:443\"]\n[defaults.probe]\ninterval = \"2s\"\n\
    [probes.api]\ntimeout = \"2s\"\nhttp = { url = \"https://api.example\" }\n\
    [probes.db]\ninterval = \"1s\"\ntcp = { address = \"db:1\" }\n\
    [probes.other]\nwindow = { of = [\"api\"], p95 = \"500ms\" }\n";

fn folder(more: &str) -> Folder {
    Folder::new(&format!("{PARTS}[probes.x]\n{more}\n"))
}

/// `code` and the path of every fault.
fn told(more: &str) -> Vec<String> {
    let faults = match folder(more).load() {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults,
    };
    for fault in faults.iter() {
        assert!(!fault.fix.is_empty(), "{fault:?} says nothing of what to do");
    }
    faults.iter().map(|fault| format!("{} {}", fault.code, fault.path.trim_start_matches("probes.x."))).collect()
}

fn assert_told(window: &str, expected: &[&str]) {
    assert_eq!(told(&format!("window = {{ {window} }}")), expected, "{window}");
}

fn settings(more: &str) -> crate::model::ProbeSettings {
    folder(more).loaded().settings.probe(&"x".into()).expect("x").clone()
}

#[test]
fn its_timing_follows_its_parts() {
    let x = settings("window = { of = [\"api\", \"db\"], p99 = \"800ms\" }");
    assert_eq!((x.interval, x.fast_interval), (HumanDuration::secs(1), HumanDuration::secs(1)));
    assert_eq!((x.timeout, x.max_age), (HumanDuration::secs(2), HumanDuration::secs(5)));
    let x = settings("interval = \"10s\"\nfall = 2\nwindow = { of = [\"api\", \"db\"], p99 = \"800ms\" }");
    assert_eq!((x.interval, x.max_age, x.fall), (HumanDuration::secs(10), HumanDuration::secs(32), 2));
    // It can be looked at no more often than its parts look.
    let x = settings("interval = \"100ms\"\nwindow = { of = [\"api\"], p95 = \"800ms\" }");
    assert_eq!((x.interval, x.max_age), (HumanDuration::millis(100), HumanDuration::secs(8)));
}

#[test]
fn so_many_looks_are_needed_that_one_alone_decides_nothing() {
    let needed = |limits: &str| {
        let x = settings(&format!("window = {{ of = [\"api\", \"db\"], {limits} }}"));
        x.window.expect("a window").at_least
    };
    assert_eq!(needed("p50 = \"100ms\""), 20);
    assert_eq!(needed("p50 = \"100ms\", p99 = \"800ms\""), 100);
    assert_eq!(needed("error_ratio = 0.02"), 50);
    assert_eq!(needed("burn_rate = { slo = 0.999 }"), 70);
    assert_eq!(needed("p99 = \"800ms\", at_least = 150"), 150);
}

#[test]
fn votes_on_it_are_comparable_only_where_its_parts_ask_the_same() {
    let target = |url: &str| {
        let text =
            format!("{PARTS}[probes.x]\nwindow = {{ of = [\"api\"], p95 = \"1s\" }}\n").replace("api.example", url);
        Folder::new(&text).loaded().settings.probe(&"x".into()).expect("x").target.clone()
    };
    assert_eq!(target("api.example"), target("api.example"));
    assert_ne!(target("api.example"), target("api.test"));
}

#[test]
fn wrong_parts_are_told() {
    assert_told("of = [\"api\", \"db\"], p95 = \"500ms\"", &[]);
    assert_told("of = [], p95 = \"500ms\"", &["empty window.of"]);
    assert_told("of = [\"api\", \"x\"], p95 = \"500ms\"", &["window_over_window window.of[1]"]);
    assert_told("of = [\"other\"], p95 = \"500ms\"", &["window_over_window window.of[0]"]);
    for anchor in ["1.1.1.1:443", "anchor:1.1.1.1:443"] {
        assert_told(&format!("of = [\"{anchor}\"], p95 = \"500ms\""), &["window_over_anchor window.of[0]"]);
    }
    assert_told("of = [\"api\", \"api\"], p95 = \"500ms\"", &["twice window.of[1]"]);
    assert_told("of = [\"apii\"], p95 = \"500ms\"", &["unknown_name window.of[0]"]);
}

#[test]
fn wrong_limits_are_told() {
    let api = |limits: &str| format!("of = [\"api\", \"db\"], {limits}");
    assert_told(&api("over = \"5m\""), &["no_threshold window"]);
    assert_told(&api("p95 = \"0s\""), &["zero window.p95"]);
    assert_told(&api("p97 = \"1s\", p50 = \"1s\""), &["unknown_key window.p97"]);
    assert_told(&api("p95 = \"2s\""), &["never_slow window.p95"]);
    for ratio in ["0", "1", "-0.1", "2"] {
        assert_told(&api(&format!("error_ratio = {ratio}, at_least = 50")), &["bad_share window.error_ratio"]);
    }
    assert_told(&api("burn_rate = { slo = 99.9 }, at_least = 20"), &["bad_share window.burn_rate.slo"]);
    assert_told(&api("burn_rate = { slo = 0.95, above = 20 }"), &["never_crossed window.burn_rate.above"]);
    assert_told(
        &api("burn_rate = { slo = 0.99, above = 0 }, at_least = 20"),
        &["bad_burn_rate window.burn_rate.above"],
    );
    assert_told(&api("burn_rate = { slo = 0.99, short = \"1h\" }"), &["bad_window window.burn_rate.long"]);
    assert_told(&api("p99 = \"800ms\", at_least = 99"), &["one_look_decides window.at_least"]);
    assert_told(&api("p95 = \"800ms\", at_least = 0"), &["zero window.at_least"]);
}

#[test]
fn a_window_that_its_parts_cannot_fill_is_refused() {
    // Three looks in two seconds: 60 in 40 s.
    let api = |limits: &str| format!("of = [\"api\", \"db\"], {limits}");
    assert_told(&api("over = \"40s\", p95 = \"800ms\", at_least = 60"), &[]);
    assert_told(&api("over = \"40s\", p95 = \"800ms\", at_least = 61"), &["window_never_filled window.at_least"]);
    assert_told(&api("over = \"40s\", p99 = \"800ms\""), &["window_never_filled window"]);
    // The short one has to be filled too.
    assert_told(&api("burn_rate = { slo = 0.9999 }"), &["window_never_filled window"]);
}

#[test]
fn what_has_no_meaning_there_is_told() {
    let window = "window = { of = [\"api\"], p95 = \"500ms\" }";
    assert_eq!(told(&format!("timeout = \"3s\"\n{window}")), ["never_used timeout"]);
    assert_eq!(told(&format!("fast_interval = \"1s\"\n{window}")), ["never_used fast_interval"]);
    assert_eq!(told(&format!("{window}\ncauses = {{ slow_window = \"down\" }}")), [""; 0]);
    assert_eq!(told(&format!("{window}\ncauses = {{ timeout = \"down\" }}")), ["never_seen causes.timeout"]);
    assert_eq!(told(&format!("{window}\nicmp = {{ host = \"a\" }}")), ["not_exactly_one window"]);
}
