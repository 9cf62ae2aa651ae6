//! `[scenarios]`: when, what stops it, how fast, and what is done.

use super::common::{not_empty, not_zero};
use super::conditions::Resolver;
use super::{Names, dangling, people, plain_value};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::shape::{ConditionConfig, File, Probe, Replication, Scenario};
use crate::model::{
    Condition, EffectKind, Given, Health, HumanDuration, LowerLayers, Mode, Plan, ReplicationPair, Role,
    ScenarioSettings, ServiceName, Severity, SeveritySettings,
};

/// The scenarios that could be made, the most severe first.
pub fn scenarios(
    file: &File,
    names: &Names,
    resolver: &mut Resolver<'_>,
    plans: &[Plan],
    severities: &[SeveritySettings],
    report: &mut Report<'_>,
) -> Vec<ScenarioSettings> {
    let base = Path::of(&["scenarios"]);
    let mut made: Vec<ScenarioSettings> = file
        .scenarios
        .iter()
        .filter_map(|(name, table)| scenario(file, names, resolver, plans, report, &base.key(name), name, table))
        .collect();
    // The table is sorted by name already, and this sort is stable. Where severities are declared, that is
    // their order; a rank is for those that are only words.
    let declared = |severity: &Severity| severities.iter().position(|known| known.name == *severity);
    made.sort_by_key(|scenario| match declared(&scenario.severity) {
        Some(place) => (0, (place as u64, String::new())),
        None => (1, rank(&scenario.severity)),
    });
    made
}

#[allow(clippy::too_many_arguments, reason = "each is one part of the file, and none is kept")]
fn scenario(
    file: &File,
    names: &Names,
    resolver: &mut Resolver<'_>,
    plans: &[Plan],
    report: &mut Report<'_>,
    at: &Path,
    name: &str,
    table: &Scenario,
) -> Option<ScenarioSettings> {
    if let Some(service) = &table.service {
        plain_value(report, &at.key("service"), service);
    }
    not_zero(report, &at.key("rto"), table.rto);
    let objectives = people::objectives(file, report, at, table);
    lower_layers_first(report, at, table);
    // Its own mode only: the daemon's may be another one at run time, and is looked at then.
    let mode = table.mode.unwrap_or(Mode::Auto);
    freer_than_daemon(report, at, table, file.daemon.mode);
    let when = resolver.condition(report, &at.key("when"), &table.when, Health::Down);
    let unless = conditions(resolver, report, &at.key("unless"), &table.unless, Health::Down);
    let requires = conditions(resolver, report, &at.key("requires"), &table.requires, Health::Up);
    replication(file, names, report, at, table, objectives.rpo);
    let plan = plan(names, plans, report, at, table);
    if let (Some(plan), Some(when)) = (plan, &when) {
        somebody_to_look_at(report, &at.key("when"), when, plan);
    }
    if let Some(Err(why)) = plan.map(|plan| plan.with(&Given::new())) {
        let fix = "give each parameter a `default`, or carry the plan out by hand only (`failoverd execute`)";
        report.error("missing_parameter", &at.key("plan"), format!("this plan cannot start by itself: {why}"), fix);
    }
    if let Some(plan) = plan {
        what_it_needs(report, at, table, objectives.rpo, plan, mode.max(file.daemon.mode));
    }
    failback(names, plans, report, at, table);
    let service = table.service.as_ref().unwrap_or(&file.daemon.name);
    Some(ScenarioSettings {
        name: name.into(),
        severity: table.severity.clone(),
        service: ServiceName::new(service.as_str()),
        mode,
        on_no_answer: table.on_no_answer.unwrap_or_default(),
        approvals: table.approvals.unwrap_or(1),
        when: when?,
        unless,
        requires,
        confirm_for: table.confirm_for,
        lower_layers_first: table
            .lower_layers_first
            .as_ref()
            .map(|lower| LowerLayers { grace: lower.grace, layer: lower.layer.trim().to_owned() }),
        rto: objectives.rto?,
        rpo: objectives.rpo,
        replication: table
            .replication
            .iter()
            .map(|pair| ReplicationPair {
                standby: pair.standby.as_str().into(),
                primary: pair.primary.as_deref().map(Into::into),
            })
            .collect(),
        ask_replicas: table.ask_replicas.unwrap_or(true),
        plan: table.plan.as_deref().map(Into::into),
        failback: table.failback.as_deref().map(Into::into),
    })
}

fn conditions(
    resolver: &mut Resolver<'_>,
    report: &mut Report<'_>,
    at: &Path,
    configs: &[ConditionConfig],
    bare: Health,
) -> Vec<Condition> {
    configs
        .iter()
        .enumerate()
        .filter_map(|(place, config)| resolver.condition(report, &at.index(place), config, bare))
        .collect()
}

fn freer_than_daemon(report: &mut Report<'_>, at: &Path, table: &Scenario, daemon: Mode) {
    if let Some(mode) = table.mode
        && mode < daemon
    {
        report.warn(
            "mode_has_no_effect",
            &at.key("mode"),
            format!("the daemon's mode `{daemon}` is more careful than `{mode}`, and holds until `failoverd mode` sets another"),
            format!("leave it out, or write daemon.mode = \"{mode}\""),
        );
    }
}

fn lower_layers_first(report: &mut Report<'_>, at: &Path, table: &Scenario) {
    let Some(lower) = &table.lower_layers_first else { return };
    let at = at.key("lower_layers_first");
    not_zero(report, &at.key("grace"), Some(lower.grace));
    not_empty(report, &at.key("layer"), &lower.layer);
    if table.plan.is_none() {
        report.warn(
            "grace_has_no_effect",
            &at,
            "without `plan` the scenario alerts only, and nothing waits for the grace",
            "leave it out, or add `plan = …`",
        );
    }
}

/// The plan, where it is named and could be made.
fn plan<'p>(
    names: &Names,
    plans: &'p [Plan],
    report: &mut Report<'_>,
    at: &Path,
    table: &Scenario,
) -> Option<&'p Plan> {
    let name = table.plan.as_ref()?;
    if !names.plans.contains(name) {
        dangling(report, &at.key("plan"), "plan", name, &names.plans);
    }
    plans.iter().find(|plan| plan.name.as_str() == name)
}

/// The plan that brings the service back: it is started with no parameters too.
fn failback(names: &Names, plans: &[Plan], report: &mut Report<'_>, at: &Path, table: &Scenario) {
    let Some(name) = &table.failback else { return };
    let at = at.key("failback");
    if !names.plans.contains(name) {
        dangling(report, &at, "plan", name, &names.plans);
    }
    if table.plan.as_ref() == Some(name) {
        let message = format!("`{name}` is the plan that fails over as well, and cannot bring the service back");
        report.error("same_plan", &at, message, "name a plan of its own");
    }
    let plan = plans.iter().find(|plan| plan.name.as_str() == name);
    if let Some(Err(why)) = plan.map(|plan| plan.with(&Given::new())) {
        let fix = "give each parameter a `default`, or carry the plan out by `failoverd execute`";
        report.error("missing_parameter", &at, format!("this plan cannot be started by `failback`: {why}"), fix);
    }
}

/// Before the first change what has to be down is asked once more. Where nothing has to be, there
/// would be no such look, and a plan would be carried out on a suspicion.
fn somebody_to_look_at(report: &mut Report<'_>, at: &Path, when: &Condition, plan: &Plan) {
    let changes = plan.steps.iter().filter_map(|step| step.work.action());
    let changes = changes.filter(|spec| !matches!(spec.effect, EffectKind::Notify | EffectKind::Verify)).count() > 0;
    if changes && when.wanted_down().is_empty() {
        report.error(
            "nothing_is_down",
            at,
            format!("`{}` would be carried out although nothing has to be down", plan.name),
            "name a probe that is down (`NAME`, `NAME is down` or `NAME is not up`), or leave `plan` out: it alerts then",
        );
    }
}

/// What a scenario that moves data or traffic should say.
fn what_it_needs(
    report: &mut Report<'_>,
    at: &Path,
    table: &Scenario,
    rpo: Option<HumanDuration>,
    plan: &Plan,
    mode: Mode,
) {
    let has = |effect| plan.steps.iter().any(|step| step.work.action().is_some_and(|spec| spec.effect == effect));
    let (promotes, routes) = (has(EffectKind::Promote), has(EffectKind::Route));
    if (promotes || routes) && table.requires.is_empty() && !report.touches_broken(&at.key("requires")) {
        report.warn(
            "nothing_required",
            at,
            format!("`{}` would move to a backup that may be down too", plan.name),
            "add `requires = [ … ]` with the probes of the backup",
        );
    }
    if promotes && rpo.is_none() && !report.touches_broken(&at.key("rpo")) {
        report.warn(
            "loss_not_bounded",
            at,
            format!("`{}` promotes a replica, however much data it is behind", plan.name),
            "add `rpo = …` and `replication = [{ standby = \"…\" }]`",
        );
    }
    if mode == Mode::Auto && table.confirm_for.get().is_zero() {
        report.warn(
            "not_confirmed",
            &at.key("confirm_for"),
            "it would act on the first verdict; in October 2018 a network partition of 43 seconds cost 24 hours that way",
            "write `30s` or more, as far as the RTO allows",
        );
    }
}

fn replication(
    file: &File,
    names: &Names,
    report: &mut Report<'_>,
    at: &Path,
    table: &Scenario,
    rpo: Option<HumanDuration>,
) {
    let list = at.key("replication");
    if table.rpo.is_some() && table.replication.is_empty() && !report.touches_broken(&list) {
        report.error(
            "rpo_not_measured",
            &at.key("rpo"),
            "nothing tells how much data would be lost, so it would never act",
            "add `replication = [{ standby = \"the probe of the standby\", primary = \"the probe of its primary\" }]`",
        );
    }
    if rpo.is_none() && !table.replication.is_empty() && !report.is_broken(&at.key("rpo")) {
        report.warn("rpo_not_set", &list, "without `rpo` nothing is done with it", "add `rpo = …`, or leave it out");
    }
    for (place, pair) in table.replication.iter().enumerate() {
        replication_pair(file, names, report, &list.index(place), pair);
    }
}

fn replication_pair(file: &File, names: &Names, report: &mut Report<'_>, at: &Path, pair: &Replication) {
    let mut side = |key: &str, name: &str, wrong: Role, right: &str| {
        let at = at.key(key);
        if !names.probes.contains(name) {
            return dangling(report, &at, "probe", name, &names.probes);
        }
        let Some(probe) = file.probes.get(name) else { return };
        if !measures_lag(probe) && !report.touches_broken(&Path::of(&["probes", name])) {
            report.error(
                "lag_not_measured",
                &at,
                format!("the probe `{name}` does not measure replication"),
                "name a probe of the kind `postgres` or `redis`",
            );
        } else if expected_role(probe) == Some(wrong) {
            report.error(
                "wrong_side",
                &at,
                format!("the probe `{name}` expects the other side"),
                format!("name the probe of the {right} here"),
            );
        }
    };
    side("standby", &pair.standby, Role::Primary, "standby");
    if let Some(primary) = &pair.primary {
        side("primary", primary, Role::Replica, "primary");
    }
}

fn measures_lag(probe: &Probe) -> bool {
    probe.postgres.is_some() || probe.redis.is_some()
}

fn expected_role(probe: &Probe) -> Option<Role> {
    let postgres = probe.postgres.as_ref().and_then(|postgres| postgres.expect);
    postgres.or_else(|| probe.redis.as_ref().and_then(|redis| redis.expect))
}

/// The rank of a severity, the most severe first: numbered ones by their number (`P0`, `SEV-1`),
/// then words in their usual order, then all others by name.
fn rank(severity: &Severity) -> (u64, String) {
    let text = severity.0.trim().to_lowercase();
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let letters = text[..text.len() - digits.len()].trim_end_matches(['-', '_', ' ']);
    let rank = match letters {
        "p" | "s" | "sev" | "severity" | "priority" if !digits.is_empty() => digits.parse().unwrap_or(u64::MAX),
        "critical" | "emergency" | "disaster" => 0,
        "high" | "major" | "error" => 1,
        "medium" | "moderate" | "warning" => 2,
        "low" | "minor" => 3,
        "info" | "informational" => 4,
        _ => u64::MAX,
    };
    (rank, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_severe_comes_first_in_every_style() {
        for order in [["P0", "P1", "P10"], ["SEV-1", "sev 2", "SEV3"], ["critical", "high", "low"], ["P1", "a", "b"]] {
            let mut sorted: Vec<Severity> = order.iter().rev().map(|text| Severity((*text).into())).collect();
            sorted.sort_by_key(rank);
            let sorted: Vec<&str> = sorted.iter().map(|severity| severity.0.as_str()).collect();
            assert_eq!(sorted, order);
        }
    }
}
