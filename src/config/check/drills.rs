//! `[plans.PLAN.drills.TARGET]`: what a drill may touch, when it stops, and when it is due.

use std::collections::BTreeSet;

use super::common::not_zero;
use super::conditions::Resolver;
use super::{Names, dangling};
use crate::config::drills::{CLEANUP, parts};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::shape::{ConditionConfig, DrillTable, File};
use crate::core::drill::{is_or_comes_from, real_plans, touches_production};
use crate::model::{
    Blocked, Condition, DrillPart, DrillSettings, DrillTerms, Drills, EffectKind, Given, Health, HumanDuration, Plan,
    ScenarioSettings, Schedule,
};

/// Takes the plans of the drills out of all plans.
pub fn take_out(plans: Vec<Plan>) -> (Vec<Plan>, Vec<Plan>) {
    plans.into_iter().partition(|plan| parts(plan.name.as_str()).is_none())
}

/// The drills that could be made.
pub fn drills(
    file: &File,
    names: &Names,
    resolver: &mut Resolver<'_>,
    written_out: Vec<Plan>,
    (plans, scenarios): (&[Plan], &[ScenarioSettings]),
    report: &mut Report<'_>,
) -> Drills {
    let mut drills = Drills::default();
    for (name, table) in &file.plans {
        let at = Path::of(&["plans", name]);
        not_zero(report, &at.key("drill_every"), table.drill_every);
        if let Some(every) = table.drill_every {
            drills.every.insert(name.as_str().into(), every);
        }
        if table.drill_every.is_some() && table.drills.is_empty() && !report.touches_broken(&at.key("drills")) {
            let fix = format!("add [plans.{name}.drills.NAME]");
            report.warn(
                "no_drill",
                &at.key("drill_every"),
                "this plan has no drill, and will be overdue for ever",
                fix,
            );
        }
    }
    for mut plan in written_out {
        let Some((of, target)) = parts(plan.name.as_str()).map(|(of, target)| (of.to_owned(), target.to_owned()))
        else {
            continue;
        };
        let Some(table) = file.plans.get(&of).and_then(|plan| plan.drills.get(&target)) else { continue };
        let at = Path::of(&["plans", &of, "drills", &target]);
        super::plain_name(report, &at, &target);
        plan.name = of.as_str().into();
        parts_of(report, &at, table, &mut plan);
        let made = DrillSettings {
            plan,
            terms: DrillTerms {
                target: target.as_str().into(),
                stop_when: conditions(resolver, report, &at.key("stop_when"), &table.stop_when, Health::Down),
                outcome: conditions(resolver, report, &at.key("outcome"), &table.outcome, Health::Up),
            },
            kind: table.kind,
            as_is: table.as_is.iter().map(|step| step.as_str().into()).collect(),
            schedule: schedule(report, &at, table),
            blocked: blocked(report, &at, table),
            announce: table.announce.unwrap_or(HumanDuration::secs(3600)),
        };
        cleanup_is_a_plan(report, names, &at, table);
        can_begin(report, &at, &made);
        has_stand_ins(report, &at, &made, plans, scenarios);
        is_undone(report, &at, &made, table);
        drills.all.push(made);
    }
    drills
}

/// Marks what is left out and what cleans up, and tells names that are none.
fn parts_of(report: &mut Report<'_>, at: &Path, table: &DrillTable, plan: &mut Plan) {
    let known: BTreeSet<String> = plan.steps.iter().map(|step| step.name.to_string()).collect();
    for (key, named) in [("skip", &table.skip), ("as_is", &table.as_is)] {
        for (place, name) in named.iter().enumerate() {
            if !known.contains(name) {
                dangling(report, &at.key(key).index(place), "step", name, &known);
            }
        }
    }
    for step in &mut plan.steps {
        if is_or_comes_from(&step.name, CLEANUP) && table.cleanup.is_some() {
            step.terms.drill = DrillPart::Cleanup;
        } else if table.skip.iter().any(|named| is_or_comes_from(&step.name, named)) {
            step.terms.drill = DrillPart::LeftOut;
        }
    }
    for (place, name) in table.skip.iter().enumerate().filter(|(_, name)| table.steps.contains_key(*name)) {
        let message = format!("`{name}` is left out, and has a stand-in");
        report.error("contradiction", &at.key("skip").index(place), message, "leave one of them out");
    }
}

fn conditions(
    resolver: &mut Resolver<'_>,
    report: &mut Report<'_>,
    at: &Path,
    configs: &[ConditionConfig],
    bare: Health,
) -> Vec<Condition> {
    let all = configs.iter().enumerate();
    all.filter_map(|(place, config)| resolver.condition(report, &at.index(place), config, bare)).collect()
}

fn schedule(report: &mut Report<'_>, at: &Path, table: &DrillTable) -> Option<Schedule> {
    let text = table.schedule.as_ref()?;
    let at = at.key("schedule");
    match Schedule::parse(text) {
        Ok(schedule) => Some(schedule),
        Err(why) => {
            let fix =
                "write minute, hour, day of month, month, day of week, and a time zone: `0 10 * * 2 Europe/Berlin`";
            report.error("bad_schedule", &at, why, fix);
            None
        }
    }
}

fn blocked(report: &mut Report<'_>, at: &Path, table: &DrillTable) -> Vec<Blocked> {
    let all = table.blocked.iter().enumerate();
    all.filter_map(|(place, window)| match Blocked::parse(&window.from, &window.to) {
        Ok(window) => Some(window),
        Err(why) => {
            let fix = "write two days (`2026-12-20`), or two times of the week (`Fri 16:00`)";
            report.error("bad_window", &at.key("blocked").index(place), why, fix);
            None
        }
    })
    .collect()
}

/// Also a name that is no plan was told with the plans, unless it is this drill's own.
fn cleanup_is_a_plan(report: &mut Report<'_>, names: &Names, at: &Path, table: &DrillTable) {
    if let Some(cleanup) = table.cleanup.as_ref().filter(|cleanup| !names.plans.contains(&cleanup.plan)) {
        dangling(report, &at.key(CLEANUP).key("plan"), "plan", &cleanup.plan, &names.plans);
    }
}

/// Nobody is there to be asked for a value.
fn can_begin(report: &mut Report<'_>, at: &Path, drill: &DrillSettings) {
    if let Err(why) = drill.plan.with(&Given::new())
        && !report.has_errors_below(at)
    {
        report.error("missing_parameter", at, why, "give it in `with = { … }`");
    }
}

/// Each step that changes something has a stand-in, is left out, or is harmless.
fn has_stand_ins(
    report: &mut Report<'_>,
    at: &Path,
    drill: &DrillSettings,
    plans: &[Plan],
    scenarios: &[ScenarioSettings],
) {
    if report.has_errors_below(&Path::of(&["plans", drill.plan.name.as_str()])) {
        return;
    }
    let real = real_plans(plans, scenarios, drill);
    for (step, what) in touches_production(drill, &real) {
        report.error_at_key(
            "touches_production",
            at,
            format!("the drill would touch production at step `{step}`: {what}"),
            format!(
                "give it a stand-in ([{at}.steps.{step}]), or name it in `skip`, or, where it does no harm, in `as_is`"
            ),
        );
    }
}

/// A promotion cannot be taken back.
fn is_undone(report: &mut Report<'_>, at: &Path, drill: &DrillSettings, table: &DrillTable) {
    let promotes = drill.plan.steps.iter().find(|step| {
        step.terms.drill.is_rehearsed() && step.work.action().is_some_and(|spec| spec.effect == EffectKind::Promote)
    });
    if let Some(step) = promotes.filter(|_| table.cleanup.is_none() && !report.touches_broken(&at.key(CLEANUP))) {
        report.warn(
            "not_undone",
            at,
            format!(
                "`{}` promotes a stand-in, which cannot be undone, so that the next drill finds it promoted",
                step.name
            ),
            "name a plan that makes it a replica again: `cleanup = { plan = \"…\" }`",
        );
    }
}
