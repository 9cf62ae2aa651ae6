//! Flap damping, and what it does to a recovery-time objective.

use super::*;

fn told(policy: &str, rto: &str) -> Vec<String> {
    let text = format!(
        "{policy}[probes.api]\ntcp = {{ address = \"a:1\" }}\n[anchors]\ntcp = [\"1.1.1.1:443\"]\n\
         [scenarios.outage]\nseverity = \"P0\"\nwhen = \"api\"\nconfirm_for = \"30s\"\nrto = \"{rto}\"\nplan = \"p\"\n\
         [plans.p.steps.rest]\nwait = \"10s\"\n"
    );
    let faults = match Folder::new(&text).load() {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults,
    };
    let others = ["one_route", "no_route"];
    faults.iter().map(|fault| fault.code.to_string()).filter(|code| !others.contains(&code.as_str())).collect()
}

#[test]
fn an_objective_that_flapping_breaks_is_told() {
    // 7 s to detect, 30 s to confirm, 12 s for the plan; and 30 s more where it has flapped.
    assert_eq!(told("", "1h"), Vec::<String>::new());
    assert_eq!(told("", "60s"), ["late_after_flapping"]);
    assert_eq!(told("[policy.flap_damping]\nsteady_for = \"35s\"\n", "60s"), Vec::<String>::new());
    assert_eq!(told("[policy.flap_damping]\nenabled = false\n", "60s"), Vec::<String>::new());
}

#[test]
fn damping_that_makes_no_sense_is_refused() {
    let table = |lines: &str| told(&format!("[policy.flap_damping]\n{lines}\n"), "1h");
    assert_eq!(table("suppress = 1500"), ["bad_damping"]);
    assert_eq!(table("half_life = \"0s\""), ["zero"]);
    assert_eq!(table("max_suppress = \"1m\""), ["never_damped"]);
}
