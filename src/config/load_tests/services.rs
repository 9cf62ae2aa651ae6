//! Services with objectives, and anchors of the journal.

use super::*;

fn codes(more: &str) -> Vec<String> {
    let text = format!(
        "[probes.a]\ntcp = {{ address = \"a.example:1\" }}\n[scenarios.s]\nseverity = \"P0\"\nservice = \"orders\"\n\
        when = \"a\"\nconfirm_for = \"1s\"\nrto = \"1h\"\n[notify.vault]\nwebhook = {{ url = \"https://vault.example/\" }}\n\
        [notify.pager]\nwebhook = {{ url = \"https://pager.example/\" }}\n{more}\n"
    );
    let faults = match Folder::new(&text).load() {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults,
    };
    faults.iter().map(|fault| format!("{} {} {} {}", fault.path, fault.code, fault.message, fault.fix)).collect()
}

#[test]
fn what_is_wrong_with_services_and_anchors_is_told_where_it_is_written() {
    for (more, expected) in [
        ("[services.order]\nslo = \"99.95%\"", &["services.order unknown_service", "did you mean `orders`?"][..]),
        ("[services.orders]\nslo = \"100%\"", &["services.orders.slo", "below 100%"]),
        ("[services.orders]\nslo = \"0.9995\"", &["services.orders.slo", "`0.9995` is no service-level objective"]),
        ("[services.orders]\nslo = \"99%\"\nwindow = \"0s\"", &["services.orders.window zero"]),
        ("[audit]\nroutes = []", &["audit.routes empty"]),
        ("[audit]\nroutes = [\"vaults\"]", &["audit.routes[0] unknown_name", "did you mean `vault`?"]),
        ("[audit]\nanchor_every = \"10ms\"\nroutes = [\"vault\"]", &["audit.anchor_every too_often"]),
    ] {
        let told = codes(more);
        let is_it = |line: &&String| expected.iter().all(|part| line.contains(part));
        assert_eq!(told.iter().filter(is_it).count(), 1, "{expected:?} of {told:#?}");
    }
    let good = codes("[services.orders]\nslo = \"99.95%\"\n[audit]\nroutes = [\"vault\"]");
    assert!(good.is_empty(), "{good:#?}");
}
