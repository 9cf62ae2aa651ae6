//! Zones, lower layers, and what they and correlation add to the arithmetic.

use super::*;

const SHOP: &str = r#"[regions.us-east-1]
role = "primary"
[probes.api]
region = "us-east-1"
tcp = { address = "api:1" }
[probes.db]
region = "us-east-1"
zone = "us-east-1a"
tcp = { address = "db:1" }
[scenarios.database-failure]
severity = "P1"
when = "db"
confirm_for = "30s"
lower_layers_first = { grace = "90s", layer = " RDS Multi-AZ " }
rto = "5m"
plan = "p"
[plans.p.steps.rest]
wait = "1m"
"#;

const BROAD: &str = "[scenarios.regional-outage]\nseverity = \"P0\"\nwhen = { all = [\"api\", \"db\"] }\nconfirm_for = \"1m\"\n\
    rto = \"5m\"\nplan = \"p\"\n";

#[test]
fn zones_and_lower_layers_are_read() {
    let settings = Folder::new(SHOP).load().unwrap().settings;
    assert_eq!(settings.probe(&"db".into()).unwrap().zone, Some("us-east-1a".into()));
    let lower = settings.scenarios[0].lower_layers_first.clone().unwrap();
    assert_eq!((lower.grace, lower.layer.as_str()), (HumanDuration::secs(90), "RDS Multi-AZ"));
    for (right, wrong, code) in [
        ("zone = \"us-east-1a\"", "zone = \"a zone\"", "bad_name"),
        ("grace = \"90s\"", "grace = \"0s\"", "zero"),
        ("layer = \" RDS Multi-AZ \"", "layer = \" \"", "empty"),
        ("layer = \" RDS Multi-AZ \"", "lair = \"\"", "unknown_key"),
    ] {
        let faults = Folder::new(&SHOP.replace(right, wrong)).faults();
        assert!(faults.iter().any(|fault| fault.code == code), "{wrong}: {faults:?}");
    }
    let alerts = SHOP.replace("plan = \"p\"\n", "");
    let warned = Folder::new(&alerts).load().unwrap().warnings;
    assert!(warned.iter().any(|fault| fault.code == "grace_has_no_effect"), "{warned:?}");
}

/// 7 s to detect, the longer one of 30 s and 90 s, up to 7 s of correlation, 1 s for the last look, 60 s × 1.2 of the plan.
#[test]
fn the_grace_runs_beside_the_confirmation_and_correlation_comes_after_both() {
    let met = |rto: &str, text: &str| {
        let text = text.replacen("rto = \"5m\"", &format!("rto = \"{rto}\""), 1);
        match Folder::new(&text).load() {
            Ok(_) => String::new(),
            Err(faults) => {
                let errors = faults.iter().filter(|fault| fault.level == Level::Error);
                errors.map(|fault| format!("{}: {}", fault.code, fault.message)).collect()
            }
        }
    };
    assert_eq!(met("170s", SHOP), "");
    let refused = met("169s", SHOP);
    assert!(refused.starts_with("rto_out_of_reach"), "{refused}");
    assert!(
        refused.contains(
            "the longer one of confirm_for 30s and the grace of 1m 30s for RDS Multi-AZ + last look 1s + plan"
        ),
        "{refused}"
    );
    let both = format!("{SHOP}{BROAD}");
    assert_eq!(met("177s", &both), "");
    let refused = met("176s", &both);
    assert!(refused.contains("RDS Multi-AZ + correlation 7s + last look 1s + plan"), "{refused}");
    let alone = both.replace("lower_layers_first = { grace = \"90s\", layer = \" RDS Multi-AZ \" }\n", "");
    assert_eq!(met("117s", &alone), "");
    assert!(met("116s", &alone).contains("+ confirm_for 30s + correlation 7s + last look 1s + plan"));
}
