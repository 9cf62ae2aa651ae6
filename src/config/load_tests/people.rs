//! Severities, templates, and routes with an audience.

use super::wrong::told_within;
use super::*;
use crate::model::{Audience, DutyFrom, RouteName};

const ROUTES: &str = "[notify.chat]\nfrom = \"info\"\nwebhook = { url = \"https://chat.example/\" }\n\
    [notify.pager]\nwebhook = { url = \"https://pager.example/\" }\n\
    [notify.boss]\nwebhook = { url = \"https://boss.example/\" }\n";

fn scenario(name: &str, severity: &str, more: &str) -> String {
    format!("[scenarios.{name}]\nseverity = \"{severity}\"\nwhen = \"a\"\nconfirm_for = \"1s\"\n{more}\n")
}

fn text(parts: &[&str]) -> String {
    format!("[probes.a]\ntcp = {{ address = \"a.example:1\" }}\n{}", parts.join("\n"))
}

/// The codes of what is told of this text.
fn codes(text: &str) -> Vec<String> {
    let faults = match Folder::new(text).load() {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults,
    };
    faults.iter().map(|fault| format!("{} {}", fault.path, fault.code)).collect()
}

#[test]
fn a_scenario_takes_from_its_severity_what_it_does_not_say_itself() {
    let severities = "[severities.minor]\nrto = \"4h\"\n[severities.P0]\nrto = \"15m\"\nrpo = \"1m\"\n\
        respond_within = \"5m\"\nupdate_every = \"30m\"\n\
        escalate = [{ after = \"0s\", routes = [\"pager\"], to = \"L1\" }, { after = \"15m\", routes = [\"boss\"] }]\n\
        duties = [{ name = \"post-mortem\", after = \"48h\", from = \"closed\", message = \"Write it.\" }]";
    let scenarios =
        [scenario("mine", "P0", "rto = \"10m\""), scenario("theirs", "P0", ""), scenario("small", "minor", "")];
    let loaded = Folder::new(&text(&[ROUTES, severities, &scenarios.concat()])).loaded();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let settings = loaded.settings;
    let order: Vec<(&str, HumanDuration)> =
        settings.scenarios.iter().map(|scenario| (scenario.name.as_str(), scenario.rto)).collect();
    let minutes = |minutes: u64| HumanDuration::secs(minutes * 60);
    assert_eq!(order, [("small", minutes(240)), ("mine", minutes(10)), ("theirs", minutes(15))], "as declared");
    assert!(settings.scenarios.iter().all(|scenario| scenario.rpo.is_none()), "none of them moves data");
    let p0 = &settings.severities[1];
    assert_eq!(p0.routes, Some(vec![RouteName::from("chat")]), "those of the ladder are told in their turn");
    assert_eq!(p0.escalate[1].label(), "after 15m");
    assert_eq!((p0.duties[0].from, p0.duties[0].remind_before), (DutyFrom::Closed, minutes(12 * 60)));
    assert_eq!(settings.severities[0].routes, None, "without a ladder: all");
}

#[test]
fn what_is_wrong_with_a_severity_is_told_where_it_is_written() {
    let p0 = |more: &str| format!("[severities.P0]\nrto = \"15m\"\n{more}");
    let loose = scenario("s", "P0", "rto = \"20m\"");
    for (severity, of, expected) in [
        (p0(""), scenario("s", "P1", "rto = \"5m\""), "scenarios.s.severity unknown_name"),
        (p0(""), loose, "scenarios.s.rto looser_than_severity"),
        ("[severities.P0]\nrespond_within = \"5m\"".into(), scenario("s", "P0", ""), "scenarios.s missing_key"),
        (p0("routes = [\"paper\"]"), String::new(), "severities.P0.routes[0] unknown_name"),
        (
            p0("escalate = [{ after = \"5m\", routes = [\"pager\"] }, { after = \"5m\", routes = [\"boss\"] }]"),
            String::new(),
            "severities.P0.escalate[1].after not_rising",
        ),
        (p0("escalate = [{ after = \"5m\", routes = [] }]"), String::new(), "severities.P0.escalate[0].routes empty"),
        (p0("update_every = \"0s\""), String::new(), "severities.P0.update_every zero"),
        (
            p0("duties = [{ name = \"a b\", after = \"1h\", from = \"opened\", message = \"x\" }]"),
            String::new(),
            "severities.P0.duties[0].name bad_name",
        ),
    ] {
        assert_eq!(codes(&text(&[ROUTES, &severity, &of])), [expected], "{severity}\n{of}");
    }
    assert_eq!(codes(&text(&[ROUTES, &scenario("s", "whatever", "")])), ["scenarios.s missing_key"]);
}

#[test]
fn a_misspelt_severity_is_suggested() {
    let text = text(&[ROUTES, "[severities.critical]\nrto = \"5m\"", &scenario("s", "critcal", "")]);
    let faults = Folder::new(&text).faults();
    assert!(faults.to_string().contains("did you mean `critical`?"), "{faults}");
}

#[test]
fn a_template_that_names_what_its_readers_must_not_know_is_refused() {
    for (templates, expected) in [
        ("[templates.customers]\nbody = \"{{ known }}\"", vec!["templates.customers.body bad_template"]),
        ("[templates.executives]\nbody = \"{{ known }}\"", vec![]),
        ("[templates.internal]\nsubject = \"{{ subjekt }}\"", vec!["templates.internal.subject bad_template"]),
        (
            "[templates.status-page.kinds.status_update]\nbody = \"{{ stage\"",
            vec!["templates.status-page.kinds.status_update.body bad_template"],
        ),
        (
            "[templates.customers.kinds.run_parked]\nbody = \"x\"",
            vec!["templates.customers.kinds.run_parked never_used"],
        ),
    ] {
        assert_eq!(codes(&text(&[ROUTES, templates])), expected, "{templates}");
    }
}

#[test]
fn routes_with_an_audience_a_fallback_or_mail() {
    let mail =
        |more: &str| format!("[notify.mail]\nemail = {{ host = \"mail.example\", from = \"f@shop.example\", {more} }}");
    let to = "to = [\"ann@shop.example\"]";
    for (route, expected) in [
        (
            "[notify.x]\nfallback = \"x\"\nwebhook = { url = \"https://x/\" }".into(),
            vec!["notify.x.fallback fallback_to_itself"],
        ),
        (
            "[notify.x]\nfallback = \"chatt\"\nwebhook = { url = \"https://x/\" }".into(),
            vec!["notify.x.fallback unknown_name"],
        ),
        (
            "[notify.x]\naudience = \"customers\"\nfallback = \"chat\"\nwebhook = { url = \"https://x/\" }".into(),
            vec!["notify.x.fallback wrong_audience"],
        ),
        (
            "[notify.x]\naudience = \"customers\"\npagerduty = { routing_key = { env = \"K\" } }".into(),
            vec!["notify.x.audience wrong_audience"],
        ),
        (mail(to), vec![]),
        (mail("to = []"), vec!["notify.mail.email.to empty"]),
        (mail("to = [\"ann\"]"), vec!["notify.mail.email.to[0] bad_address"]),
        (mail(&format!("{to}, username = \"u\"")), vec!["notify.mail.email missing_key"]),
        (
            mail(&format!("{to}, security = \"none\", username = \"u\", password = {{ env = \"P\" }}")),
            vec!["notify.mail.email.security password_in_the_open"],
        ),
        (
            mail(&format!("{to}, username = \"u\", password = \"hunter2\"")),
            vec!["notify.mail.email.password plain_secret"],
        ),
    ] {
        let told = codes(&text(&[ROUTES, &route]));
        assert_eq!(told, expected, "{route}");
    }
    let loaded = Folder::new(&text(&[ROUTES, &mail(to)])).loaded();
    assert_eq!(loaded.file.notify["mail"].audience(), Audience::Internal);
    assert!(!told_within("[severities.P0]\nrtoo = \"1m\"").is_empty());
}
