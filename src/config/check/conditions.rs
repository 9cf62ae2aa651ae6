//! Conditions: names resolved, groups put in place of their names, quorums that can be reached.

use std::collections::{BTreeMap, BTreeSet};

use super::{Names, dangling};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::shape::{ConditionConfig, ConditionTable, File};
use crate::config::suggest;
use crate::model::{Condition, Health, Is, Subject, Weighted};

const FORMS: &str =
    "write `NAME`, `NAME is up`, `NAME is down`, `NAME is unknown`, `NAME is degraded`, or one of these with `is not`";

/// Makes conditions out of what the file says.
#[derive(Debug)]
pub struct Resolver<'a> {
    file: &'a File,
    names: &'a Names,
    /// The groups that are made already; none where one could not be made.
    made: BTreeMap<String, Option<Condition>>,
    /// The groups that are being made, each within the one before.
    within: Vec<String>,
    /// The groups in which a probe's name stands alone, directly or through another group.
    bare: BTreeSet<String>,
}

impl<'a> Resolver<'a> {
    /// No group is made yet.
    pub fn new(file: &'a File, names: &'a Names) -> Self {
        Self { file, names, made: BTreeMap::new(), within: Vec::new(), bare: BTreeSet::new() }
    }

    /// Makes every group, so that a wrong one is told even where nothing uses it.
    pub fn all_groups(&mut self, report: &mut Report<'_>) {
        for name in self.file.groups.keys() {
            self.group(report, &Path::of(&["groups", name]), name);
        }
    }

    /// A condition of `requires` (`bare` is Up) or of anything else (`bare` is Down).
    pub fn condition(
        &mut self,
        report: &mut Report<'_>,
        path: &Path,
        config: &ConditionConfig,
        bare: Health,
    ) -> Option<Condition> {
        match config {
            ConditionConfig::Text(text) => self.text(report, path, text, bare),
            ConditionConfig::Table(table) => {
                weight_of_nothing(report, path, table);
                self.table(report, path, table, bare)
            }
        }
    }

    fn group(&mut self, report: &mut Report<'_>, used_at: &Path, name: &str) -> Option<Condition> {
        if let Some(made) = self.made.get(name) {
            if self.bare.contains(name) {
                self.bare.extend(self.within.iter().cloned());
            }
            return made.clone();
        }
        if let Some(start) = self.within.iter().position(|outer| outer == name) {
            let circle: Vec<&str> = self.within[start..].iter().map(String::as_str).chain([name]).collect();
            let message = format!("the group `{name}` contains itself: {}", circle.join(" → "));
            report.error("circle", used_at, message, "take one of these groups out of another");
            return None;
        }
        let table = self.file.groups.get(name)?;
        self.within.push(name.to_owned());
        let path = Path::of(&["groups", name]);
        weight_of_nothing(report, &path, table);
        let condition = self.table(report, &path, table, Health::Down);
        self.within.pop();
        self.made.insert(name.to_owned(), condition.clone());
        condition
    }

    fn text(&mut self, report: &mut Report<'_>, path: &Path, text: &str, bare: Health) -> Option<Condition> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (name, state, negated) = match words.as_slice() {
            [name] => (*name, None, false),
            [name, "is", "not", state] => (*name, Some(*state), true),
            [name, "is", state] => (*name, Some(*state), false),
            _ => {
                report.error("bad_condition", path, format!("{text:?} is not a condition"), FORMS);
                return None;
            }
        };
        let is = match state {
            None => Some(Is::from(bare)),
            Some("up") => Some(Is::Up),
            Some("down") => Some(Is::Down),
            Some("unknown") => Some(Is::Unknown),
            Some("degraded") => Some(Is::Degraded),
            Some(other) => {
                let fix = suggest::fix(other, "state", ["up", "down", "unknown", "degraded"]);
                report.error("bad_condition", path, format!("`{other}` is not a state"), fix);
                None
            }
        };
        if self.names.groups.contains(name) && !self.names.probes.contains(name) {
            return self.group_in_text(report, path, name, state.is_some(), bare);
        }
        if !self.names.probes.contains(name) {
            let all: BTreeSet<String> = self.names.probes.union(&self.names.groups).cloned().collect();
            dangling(report, path, "probe or group", name, &all);
            return None;
        }
        if state.is_none() {
            self.bare.extend(self.within.iter().cloned());
        }
        Some(leaf(name, is?, negated))
    }

    fn group_in_text(
        &mut self,
        report: &mut Report<'_>,
        path: &Path,
        name: &str,
        with_state: bool,
        bare: Health,
    ) -> Option<Condition> {
        if with_state {
            report.error(
                "bad_condition",
                path,
                format!("`{name}` is a group: it holds or does not, and has no state"),
                format!("write `{name}` alone"),
            );
            return None;
        }
        let condition = self.group(report, path, name);
        if bare == Health::Up && self.bare.contains(name) {
            report.warn(
                "group_means_down",
                path,
                format!("the group `{name}` has bare names in it, and in a group they mean `is down`; here it would be required that they are down"),
                format!("write `is up` or `is down` behind each name in [groups.{name}]"),
            );
        }
        condition
    }

    fn table(
        &mut self,
        report: &mut Report<'_>,
        path: &Path,
        table: &ConditionTable,
        bare: Health,
    ) -> Option<Condition> {
        exactly_one(report, path, table)?;
        if let Some(text) = &table.probe {
            return self.text(report, &path.key("probe"), text, bare);
        }
        if let Some(parts) = &table.all {
            return self.parts(report, &path.key("all"), parts, bare).map(Condition::All);
        }
        if let Some(parts) = &table.any {
            return self.parts(report, &path.key("any"), parts, bare).map(Condition::Any);
        }
        let (weight, parts) = (table.at_least?, table.of.as_ref()?);
        self.at_least(report, path, weight, parts, bare)
    }

    fn parts(
        &mut self,
        report: &mut Report<'_>,
        path: &Path,
        parts: &[ConditionConfig],
        bare: Health,
    ) -> Option<Vec<Condition>> {
        if parts.is_empty() {
            report.error("empty", path, "there is nothing in this list", "put at least one condition into it");
            return None;
        }
        // All of them are made, so that each tells what is wrong with it.
        let made: Vec<Option<Condition>> = parts
            .iter()
            .enumerate()
            .map(|(place, part)| self.condition(report, &path.index(place), part, bare))
            .collect();
        made.into_iter().collect()
    }

    fn at_least(
        &mut self,
        report: &mut Report<'_>,
        path: &Path,
        weight: u32,
        parts: &[ConditionConfig],
        bare: Health,
    ) -> Option<Condition> {
        let list = path.key("of");
        if parts.is_empty() {
            report.error("empty", &list, "there is nothing in this list", "put at least one condition into it");
            return None;
        }
        let threshold = path.key("at_least");
        super::common::at_least_one(report, &threshold, Some(weight));
        let mut sum: u64 = 0;
        let mut of = Vec::new();
        let mut whole = true;
        for (place, part) in parts.iter().enumerate() {
            let at = list.index(place);
            let (own, condition) = match part {
                ConditionConfig::Text(text) => (1, self.text(report, &at, text, bare)),
                ConditionConfig::Table(table) => {
                    super::common::at_least_one(report, &at.key("weight"), table.weight);
                    (table.weight.unwrap_or(1), self.table(report, &at, table, bare))
                }
            };
            sum += u64::from(own);
            match condition {
                Some(condition) if of.iter().any(|part: &Weighted| part.condition == condition) => report.error(
                    "twice",
                    &at,
                    format!("`{condition}` is counted twice: one failure would count as two"),
                    "leave one of them out, or give it a `weight`",
                ),
                Some(condition) => of.push(Weighted { weight: own, condition }),
                None => whole = false,
            }
        }
        if u64::from(weight) > sum && !report.touches_broken(&list) {
            report.error(
                "impossible_quorum",
                &threshold,
                format!("at least {weight} are needed, and all of them together weigh {sum}: this never holds"),
                format!("write {sum} or less"),
            );
        }
        whole.then_some(Condition::AtLeast { weight, of })
    }
}

/// One probe has, or has not, one health.
///
/// What is not up is down, and what is not down is up: where it cannot be told both are unknown. So
/// the leaf says it in the plain way, and whatever asks for what is down (the last look, the start
/// of the outage, the loss) finds it there too.
fn leaf(name: &str, is: Is, negated: bool) -> Condition {
    let probe = |is| Condition::Probe(Subject { probe: name.into(), is });
    match (negated, is) {
        (true, Is::Up) => probe(Is::Down),
        (true, Is::Down) => probe(Is::Up),
        (true, Is::Unknown | Is::Degraded) => Condition::Not(Box::new(probe(is))),
        (false, is) => probe(is),
    }
}

/// Exactly one of `all`, `any`, `of` with `at_least`, `probe`.
fn exactly_one(report: &mut Report<'_>, path: &Path, table: &ConditionTable) -> Option<()> {
    let given: Vec<&str> = [
        ("all", table.all.is_some()),
        ("any", table.any.is_some()),
        ("of", table.of.is_some()),
        ("probe", table.probe.is_some()),
    ]
    .into_iter()
    .filter(|(_, given)| *given)
    .map(|(key, _)| key)
    .collect();
    if report.touches_broken(path) && given.len() != 1 {
        return None;
    }
    let fix = "write { all = [ … ] }, { any = [ … ] }, { at_least = 2, of = [ … ] } or { probe = \"name\" }";
    match given.as_slice() {
        [] => {
            let what = if table.at_least.is_some() { "`at_least` needs `of`" } else { "this condition says nothing" };
            report.error("not_exactly_one", path, what, fix);
            None
        }
        ["of"] if table.at_least.is_none() => {
            if !report.is_broken(&path.key("at_least")) {
                report.error("not_exactly_one", &path.key("of"), "`of` needs `at_least`", "add `at_least = …`");
            }
            None
        }
        [one] if *one != "of" && table.at_least.is_some() => {
            report.error(
                "not_exactly_one",
                &path.key("at_least"),
                format!("`at_least` counts what is in `of`, and says nothing of `{one}`"),
                format!("write `of` in place of `{one}`, or leave `at_least` out"),
            );
            None
        }
        [_] => Some(()),
        several => {
            let message = format!(
                "a condition is exactly one of `all`, `any`, `of`, `probe`, and this one is {}",
                suggest::list(several).replace(" or ", " and ")
            );
            report.error_at_key("not_exactly_one", &path.key(several[1]), message, fix);
            None
        }
    }
}

fn weight_of_nothing(report: &mut Report<'_>, path: &Path, table: &ConditionTable) {
    if table.weight.is_some() {
        report.error_at_key(
            "weight_of_nothing",
            &path.key("weight"),
            "a weight counts only within the `of` of an `at_least`",
            "leave it out here",
        );
    }
}
