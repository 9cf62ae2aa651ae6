//! Drills, and what is said of wrong ones.

use super::*;
use crate::model::{DrillPart, DrillSettings, Given};

/// A plan with a list and a child plan; what a drill has to name are `db`, `scale.*`, `tell.chat`.
const PLANS: &str = r#"
[anchors]
tcp = ["1.1.1.1:443"]
[probes.api]
tcp = { address = "api:1" }
[probes.standby]
postgres = { url = "postgresql://standby" }
[scenarios.outage]
severity = "P0"
when = "api is down"
requires = ["standby"]
confirm_for = "30s"
rto = "15m"
rpo = "1m"
replication = [{ standby = "standby" }]
plan = "failover"
[plans.failover]
parameters.replicas = { type = "integer", default = 3 }
[plans.failover.steps.db]
postgres.promote = { url = "postgresql://standby.example/shop", system_identifier = "1" }
[plans.failover.steps.scale]
for_each = ["api", "jobs"]
kubernetes.scale = { context = "backup", deployment = { join = ["shop/", { item = "value" }] }, replicas = { param = "replicas" } }
[plans.failover.steps.tell]
after = ["db", "scale"]
run_plan = { plan = "tell" }
[plans.tell.steps.chat]
http.request = { url = "https://hooks.example/done", effect = "notify", idempotent = true }
[plans.reseed.parameters.host]
[plans.reseed.steps.again]
http.request = { url = "https://hooks.example/reseed", idempotent = true, body = "{{ param.host }}" }
"#;

const STAGING: &str = r#"
[plans.failover.drills.staging]
with = { replicas = 1 }
skip = ["tell"]
as_is = ["scale"]
cleanup = { plan = "reseed", with = { host = "staging" } }
stop_when = ["api"]
outcome = ["standby"]
schedule = "0 10 * * 2 Europe/Berlin"
blocked = [{ from = "2026-12-20", to = "2027-01-05" }, { from = "Fri 16:00", to = "Mon 06:00" }]
[plans.failover.drills.staging.steps.db]
postgres.promote = { url = "postgresql://staging.example/shop" }
timeout = "2m"
"#;

/// `code path` of every fault below the drill.
fn told(drill: &str) -> Vec<String> {
    let faults = match Folder::new(&format!("{PLANS}{drill}")).load() {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults,
    };
    let all = faults.iter().filter(|fault| !["one_route", "any_replica", "no_ping"].contains(&fault.code));
    all.map(|fault| {
        assert!(fault.line > 0, "{fault:?}");
        format!("{} {}", fault.code, fault.path)
    })
    .collect()
}

fn staging() -> DrillSettings {
    Folder::new(&format!("{PLANS}{STAGING}")).loaded().settings.drills.all.remove(0)
}

#[test]
fn a_drill_is_the_plan_with_its_stand_ins() {
    let drill = staging();
    assert_eq!((drill.plan.name.as_str(), drill.terms.target.as_str()), ("failover", "staging"));
    let plan = drill.plan.with(&Given::new()).unwrap();
    let step = |name: &str| plan.step(&name.into()).unwrap_or_else(|| panic!("{name}"));
    let db = step("db").work.action().unwrap();
    assert_eq!(db.target, "PostgreSQL at postgresql://staging.example/shop");
    assert_eq!(db.params.pointer("/postgres/promote/system_identifier").unwrap(), "1", "the rest is the plan's");
    assert_eq!(step("db").timeout, HumanDuration::secs(120));
    assert_eq!(step("scale.api").work.action().unwrap().params.pointer("/kubernetes/scale/replicas").unwrap(), 1);
    let parts = |part| plan.steps.iter().filter(move |step| step.terms.drill == part).map(|step| step.name.to_string());
    assert_eq!(parts(DrillPart::LeftOut).collect::<Vec<_>>(), ["tell.chat", "tell"]);
    assert_eq!(parts(DrillPart::Cleanup).collect::<Vec<_>>(), ["cleanup.again", "cleanup"]);
    assert_eq!(plan.point_of_no_return, Some("db".into()));
    assert_eq!(drill.schedule.as_ref().unwrap().to_string(), "0 10 * * 2 Europe/Berlin");
    assert_eq!(drill.blocked.len(), 2);
    assert_eq!(drill.terms.stop_when[0].to_string(), "api is down");
    assert_eq!(drill.terms.outcome[0].to_string(), "standby is up");
}

#[test]
fn the_plans_are_what_they_are_without_it() {
    let without = Folder::new(PLANS).loaded().settings;
    let with = Folder::new(&format!("{PLANS}{STAGING}")).loaded().settings;
    assert_eq!((without.plans, without.scenarios), (with.plans, with.scenarios));
    assert_eq!(told(STAGING), Vec::<String>::new());
}

#[test]
fn each_changing_step_has_a_stand_in_or_is_named() {
    let drill = "[plans.failover.drills.x]\ncleanup = { plan = \"reseed\", with = { host = \"x\" } }";
    let at = "touches_production plans.failover.drills.x";
    assert_eq!(told(drill), [at, at, at, at], "db, scale.api, scale.jobs, tell.chat");
    let named = |more: &str| told(&format!("{drill}\n{more}"));
    assert_eq!(named("skip = [\"db\", \"tell\"]\nas_is = [\"scale\"]"), Vec::<String>::new());
    // Another parameter is no stand-in, and another step's target is production as well.
    assert_eq!(named("skip = [\"db\", \"tell\", \"scale.jobs\"]\nwith = { replicas = 1 }"), [at]);
    let jobs = "[plans.failover.drills.x.steps.\"scale.api\"]\nkubernetes.scale = { deployment = \"shop/jobs\" }";
    assert_eq!(named(&format!("skip = [\"db\", \"tell\", \"scale.jobs\"]\n{jobs}")), [at]);
    let other = "[plans.failover.drills.x.steps.\"scale.api\"]\nkubernetes.scale = { deployment = \"staging/api\" }";
    assert_eq!(named(&format!("skip = [\"db\", \"tell\", \"scale.jobs\"]\n{other}")), Vec::<String>::new());
}

/// A restore goes where its backup came from: another backup in the same cluster is no stand-in.
#[test]
fn what_no_parameter_names_needs_another_place() {
    let plan = "[plans.failover.steps.files]\nvelero.restore = { context = \"backup\", backup = \"nightly\" }\n\
                [plans.failover.drills.x]\ncleanup = { plan = \"reseed\", with = { host = \"x\" } }\n\
                skip = [\"db\", \"tell\", \"scale\"]\n[plans.failover.drills.x.steps.files]\n";
    let rehearsed = |parameters: &str| told(&format!("{plan}velero.restore = {{ {parameters} }}"));
    assert_eq!(rehearsed("backup = \"older\""), ["touches_production plans.failover.drills.x"]);
    assert_eq!(rehearsed("context = \"staging\""), Vec::<String>::new());
}

#[test]
fn wrong_drills_are_told_where_they_are_written() {
    let x = |more: &str| {
        let drill = format!(
            "[plans.failover.drills.x]\nskip = [\"db\", \"tell\", \"scale\"]\ncleanup = {{ plan = \"reseed\", with = {{ host = \"x\" }} }}\n{more}"
        );
        let told = told(&drill).into_iter().map(|told| told.replace("plans.failover.drills.x.", "."));
        told.collect::<Vec<_>>()
    };
    assert_eq!(x(""), Vec::<String>::new());
    assert_eq!(x("as_is = [\"sclae\"]"), ["unknown_name .as_is[0]"]);
    assert_eq!(x("schedule = \"0 10 * *\""), ["bad_schedule .schedule"]);
    assert_eq!(x("schedule = \"0 10 * * 2 Europe/Atlantis\""), ["bad_schedule .schedule"]);
    assert_eq!(x("blocked = [{ from = \"Fry 16:00\", to = \"Mon 06:00\" }]"), ["bad_window .blocked[0]"]);
    assert_eq!(x("stop_when = [\"apii\"]"), ["unknown_name .stop_when[0]"]);
    assert_eq!(x("with = { replica = 1 }"), ["unknown_name .with.replica"]);
    assert_eq!(x("with = { replicas = \"one\" }"), ["wrong_value .with.replicas"]);
    assert_eq!(x("bogus = 1"), ["unknown_key .bogus"]);
    assert_eq!(x("[plans.failover.drills.x.steps.bd]\nwait = \"1s\""), ["unknown_name .steps.bd"]);
    assert_eq!(
        x("[plans.failover.drills.x.steps.\"scale.api\"]\nkubernetes.scale = { deploymnt = \"a/b\" }"),
        ["unknown_key .steps.\"scale.api\".kubernetes.scale.deploymnt"]
    );
    assert_eq!(
        x("[plans.failover.drills.x.steps.\"scale.api\"]\nafter = [\"db\"]"),
        ["unknown_key .steps.\"scale.api\".after"]
    );
}

#[test]
fn what_a_drill_lacks_is_told() {
    let drill = |more: &str| told(&format!("[plans.failover.drills.x]\nskip = [\"tell\", \"scale\"]\n{more}"));
    let promotes = "[plans.failover.drills.x.steps.db]\npostgres.promote = { url = \"postgresql://x/shop\" }";
    assert_eq!(drill(promotes), ["not_undone plans.failover.drills.x"]);
    let cleanup = |plan: &str| drill(&format!("cleanup = {{ plan = \"{plan}\" }}\n{promotes}"));
    assert!(cleanup("reseed").contains(&"missing_parameter plans.failover.drills.x.cleanup".to_owned()));
    assert!(cleanup("reeseed").contains(&"unknown_name plans.failover.drills.x.cleanup.plan".to_owned()));
    let no_value = "[plans.restore.parameters.at]\n[plans.restore.steps.a]\nwait = \"1s\"\n[plans.restore.drills.x]";
    assert_eq!(told(no_value), ["missing_parameter plans.restore.drills.x"]);
    assert_eq!(told("[plans.tell]\ndrill_every = \"30d\""), ["no_drill plans.tell.drill_every"]);
    assert!(told("[plans.\"a@b\".steps.x]\nwait = \"1s\"").iter().any(|told| told.starts_with("bad_name")));
}
