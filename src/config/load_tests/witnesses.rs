//! Witnesses, and whether their quorum can be reached.

use super::*;

const TLS: &str =
    "[vantage_tls]\nca_file = \"/etc/hostname\"\ncertificate_file = \"/etc/hostname\"\nkey_file = \"/etc/hostname\"\n";

fn witness(name: &str, domain: &str) -> String {
    format!("[witnesses.{name}]\ndomain = \"{domain}\"\nurl = \"https://{name}.example:7946\"\n")
}

/// The codes that have to do with witnesses and quorum.
fn told(text: &str) -> Vec<String> {
    let faults = match Folder::new(text).load() {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults,
    };
    let others = ["no_anchors", "single_route", "no_route"];
    faults.iter().map(|fault| fault.code.to_string()).filter(|code| !others.contains(&code.as_str())).collect()
}

#[test]
fn a_quorum_that_cannot_be_reached_is_refused() {
    let (eu, ap) = (witness("eu", "eu-central-1"), witness("ap", "ap-east-1"));
    let quorum = |vantages: u32| format!("[quorum]\nvantages = {vantages}\n");
    for (text, expected) in [
        (format!("{}{TLS}{eu}{ap}", quorum(2)), vec![]),
        (format!("{}{TLS}{eu}{ap}", quorum(4)), vec!["impossible_quorum"]),
        (quorum(2), vec!["impossible_quorum"]),
        // Two vantages of one domain are one.
        (format!("{}{TLS}{eu}{}", quorum(3), witness("ap", "eu-central-1")), vec!["impossible_quorum"]),
        (format!("{}{TLS}{eu}{ap}", quorum(1)), vec!["unheard_witnesses"]),
        (format!("{}{eu}{ap}", quorum(2)), vec!["missing_key"]),
        (format!("{}{TLS}{}", quorum(2), eu.replace("https", "http")), vec!["bad_address"]),
        (format!("{}{TLS}{}", quorum(2), eu.replace(":7946", ":7946/votes")), vec!["bad_address"]),
        (format!("{}{TLS}{eu}listen = \"7946\"\n", quorum(2)), vec!["bad_address"]),
        (format!("{}{TLS}{}", quorum(2), witness("eu", "eu central")), vec!["bad_name"]),
    ] {
        assert_eq!(told(&text), expected, "{text}");
    }
}

#[test]
fn an_outage_that_leaves_too_few_vantages_is_told_beforehand() {
    let outage = "[regions.us-east-1]\nrole = \"primary\"\n[probes.api]\nregion = \"us-east-1\"\ntcp = { address = \"a:1\" }\n\
        [scenarios.outage]\nseverity = \"P0\"\nwhen = \"api\"\nconfirm_for = \"5s\"\nrto = \"1h\"\nplan = \"p\"\n\
        [plans.p.steps.rest]\nwait = \"1s\"\n";
    let within = |domain: &str| format!("[quorum]\nvantages = 2\n{TLS}{}{outage}", witness("other", domain));
    assert!(told(&within("us-east-1")).contains(&"no_third_vantage".to_owned()));
    assert!(!told(&within("eu-central-1")).contains(&"no_third_vantage".to_owned()));
}

#[test]
fn what_happens_without_a_third_vantage_is_told() {
    let warning = |quorum: &str, anchors: &str| {
        let text = format!(
            "[quorum]\nvantages = 2\n{quorum}{anchors}{TLS}{}[regions.us-east-1]\nrole = \"primary\"\n\
             [probes.api]\nregion = \"us-east-1\"\ntcp = {{ address = \"a:1\" }}\n\
             [scenarios.outage]\nseverity = \"P0\"\nwhen = \"api\"\nconfirm_for = \"5s\"\nrto = \"1h\"\nplan = \"p\"\n\
             [plans.p.steps.rest]\nwait = \"1s\"\n",
            witness("east", "us-east-1")
        );
        Folder::new(&text).loaded().warnings.to_string()
    };
    let anchors = "[anchors]\ntcp = [\"1.1.1.1:443\"]\n";
    assert!(warning("", anchors).contains("a person is asked to approve"));
    assert!(warning("", "").contains("by hand") && warning("", "").contains("[anchors]"));
    let holds = warning("on_silent_witnesses = \"hold\"\n", anchors);
    assert!(holds.contains("by hand") && holds.contains("on_silent_witnesses"));
}
