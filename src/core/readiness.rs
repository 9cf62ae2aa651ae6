//! Readiness, decided: what findings come to, what has drifted, what a lost region would take along,
//! who is told, and when it is looked at again. No look is made here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::ancestors;
use super::view::VantageView;
use crate::model::{
    Aspect, Dependency, Drift, EffectKind, Finding, HumanDuration, Lag, Looked, MonoTime, OnError, Place, Plan,
    PlanReadiness, Readiness, RegionName, Step, StepName, StepReadiness,
};

/// What several findings come to: one that is not ready decides, else one that could not be made. No
/// finding at all says nothing, and so is not ready either.
pub fn combine<'f>(findings: impl Iterator<Item = (Option<&'f StepName>, &'f Finding)>) -> Readiness {
    let (mut unknown, mut any) = (None, false);
    for (step, finding) in findings {
        any = true;
        let told = |reason: &str| match step {
            Some(step) => format!("{step}: {}: {reason}", finding.subject),
            None => format!("{}: {reason}", finding.subject),
        };
        match &finding.verdict {
            Readiness::Ready => {}
            Readiness::NotReady { reason } => return Readiness::NotReady { reason: told(reason) },
            Readiness::Unknown { reason } => {
                unknown.get_or_insert_with(|| told(reason));
            }
        }
    }
    match unknown {
        Some(reason) => Readiness::Unknown { reason },
        None if any => Readiness::Ready,
        None => Readiness::Unknown { reason: "there is nothing that could be looked at beforehand".into() },
    }
}

/// Why no quorum can be had now: too few failure domains have a vantage that is heard. In an outage nothing would
/// be decided, and nobody would know before. One that decides alone has no quorum to lose: it may have forgotten its
/// own votes after a stall, for seconds.
pub fn no_quorum(need: u32, vantages: &[VantageView]) -> Option<Finding> {
    let heard: BTreeSet<_> = vantages.iter().filter(|one| !one.silent).map(|one| &one.domain).collect();
    if need < 2 || heard.len() >= need as usize {
        return None;
    }
    let silent: Vec<_> = vantages.iter().filter(|one| one.silent).map(|one| one.name.to_string()).collect();
    let why = format!(
        "{need} failure domains have to agree, and {} can be heard; silent: {}",
        heard.len(),
        if silent.is_empty() { "nobody".to_owned() } else { silent.join(", ") }
    );
    Some(Finding::not_ready("quorum", Aspect::Serves, why))
}

/// What a step lacks now may be there when its turn comes, where another one before it makes things.
///
/// That is no readiness: it stays open until the run. Of a program nobody knows what it makes, so that
/// what is missing after one is unknown.
pub fn excuse_what_is_made_before(plan: &Plan, steps: &mut [StepReadiness]) {
    for looked in steps {
        let Some(step) = plan.step(&looked.step) else { continue };
        let makers = ancestors(plan, &step.name);
        let made = |known: bool| {
            let of = plan.steps.iter().filter(|step| makers.contains(&step.name));
            let mut of = of.filter(|step| {
                let spec = step.work.action();
                spec.is_some_and(|spec| spec.makes && (spec.kind.as_str() != "exec.run") == known)
            });
            of.next().map(|step| step.name.clone())
        };
        let Looked::Found(findings) = &mut looked.looked else { continue };
        let missing = |finding: &Finding| {
            finding.aspect == Aspect::Exists && matches!(finding.verdict, Readiness::NotReady { .. })
        };
        if !findings.iter().any(missing) {
            continue;
        }
        if let Some(by) = made(true) {
            let why = format!("is not there yet; {by} makes it");
            findings.retain(|finding| !missing(finding));
            looked.looked = Looked::Later { why };
        } else if let Some(by) = made(false) {
            for finding in findings.iter_mut().filter(|finding| missing(finding)) {
                let reason = format!("{}; {by} may bring it", finding.verdict.reason());
                finding.verdict = Readiness::Unknown { reason };
            }
        }
    }
}

/// What has changed since the plan was last ready. What could not be looked at now has not changed, as far
/// as anybody knows.
pub fn drift(now: &PlanReadiness, good: &PlanReadiness) -> Vec<Drift> {
    type Key = (Option<StepName>, String, String);
    let facts = |of: &PlanReadiness| -> BTreeMap<Key, String> {
        of.findings()
            .flat_map(|(step, finding)| {
                finding
                    .seen
                    .iter()
                    .map(move |(fact, value)| ((step.cloned(), finding.subject.clone(), fact.clone()), value.clone()))
            })
            .collect()
    };
    let unseen: BTreeSet<(Option<&StepName>, &str)> = now
        .findings()
        .filter(|(_, finding)| matches!(finding.verdict, Readiness::Unknown { .. }))
        .map(|(step, finding)| (step, finding.subject.as_str()))
        .collect();
    let other_plan = now.hash != good.hash;
    let (is, was) = (facts(now), facts(good));
    let keys: BTreeSet<&Key> = is.keys().chain(was.keys()).collect();
    let mut drift: Vec<Drift> = keys
        .into_iter()
        .filter(|key| is.get(*key) != was.get(*key))
        // Another plan has other steps: that is no drift of what they touch.
        .filter(|key| !other_plan || (is.contains_key(*key) && was.contains_key(*key)))
        .filter(|(step, subject, _)| !unseen.contains(&(step.as_ref(), subject.as_str())))
        .map(|key| Drift {
            step: key.0.clone(),
            subject: key.1.clone(),
            fact: key.2.clone(),
            was: was.get(key).cloned(),
            is: is.get(key).cloned(),
        })
        .collect();
    if other_plan {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        drift.insert(
            0,
            Drift {
                step: None,
                subject: "the plan itself".into(),
                fact: "hash".into(),
                was: Some(short(good.hash.as_str())),
                is: Some(short(now.hash.as_str())),
            },
        );
    }
    drift
}

/// Which of the primary regions would be lost where this plan is needed: each, unless the plan does all
/// its work in that region (a failover among its zones), which then has to be there.
///
/// Services without a region of their own, whose API merely answers from one, are no work in a region.
pub fn lost(plan: &Plan, primaries: &[RegionName]) -> Vec<RegionName> {
    let global = |kind: &str| ["route53.", "iam.", "sns.", "arc."].iter().any(|family| kind.starts_with(family));
    let worked: BTreeSet<&RegionName> = plan
        .steps
        .iter()
        .filter_map(|step| step.work.action())
        .filter(|spec| !global(spec.kind.as_str()))
        .filter_map(|spec| spec.region.as_ref())
        .collect();
    let within = |region: &RegionName| worked.len() == 1 && worked.contains(region);
    primaries.iter().filter(|region| !within(region)).cloned().collect()
}

/// May the run go on where this step cannot be done? Then what it hangs on may be lost.
pub fn is_dispensable(step: &Step) -> bool {
    let tells = step.work.action().is_some_and(|spec| spec.effect == EffectKind::Notify);
    let graceful = step.terms.only_in == Some(crate::model::RunKind::Graceful);
    tells || graceful || step.on_error == OnError::Continue || step.terms.post_recovery
}

/// Something that the plan hangs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Who needs it; `None`: the daemon itself.
    pub step: Option<StepName>,
    /// What.
    pub dependency: Dependency,
    /// Can it be done without?
    pub dispensable: bool,
}

/// The dependency proof: each thing that the plan hangs on, once, and whether a lost region takes it along.
///
/// `here` is where this host is; `accepts` are the names of those that the owner knows of.
pub fn prove(needs: &[Need], lost: &[RegionName], here: &Place, accepts: &[String]) -> Vec<Finding> {
    if lost.is_empty() {
        return Vec::new();
    }
    let mut by: BTreeMap<&Dependency, (BTreeSet<&str>, bool)> = BTreeMap::new();
    for need in needs {
        let entry = by.entry(&need.dependency).or_insert_with(|| (BTreeSet::new(), true));
        entry.0.insert(need.step.as_ref().map_or("failoverd", |step| step.as_str()));
        entry.1 &= need.dispensable;
    }
    by.into_iter()
        .map(|(dependency, (users, dispensable))| {
            let place = if dependency.place == Place::Here { here } else { &dependency.place };
            let verdict = match place {
                Place::Region(region) if is_in(region, lost) => {
                    if accepts.contains(&dependency.name) || dispensable {
                        Readiness::Ready
                    } else {
                        let reason = format!("it is in {region}, which would be lost");
                        Readiness::NotReady { reason }
                    }
                }
                Place::Region(_) | Place::Anywhere => Readiness::Ready,
                Place::Unsaid | Place::Here if accepts.contains(&dependency.name) || dispensable => Readiness::Ready,
                Place::Unsaid | Place::Here => {
                    let reason = match dependency.place {
                        Place::Here => "nobody has said where this host is: set daemon.failure_domain".to_owned(),
                        _ => format!(
                            "nobody has said where it is: [readiness.places] \"{}\" = \"REGION\"",
                            dependency.name
                        ),
                    };
                    Readiness::Unknown { reason }
                }
            };
            let users: Vec<&str> = users.into_iter().collect();
            let subject = format!("{} {}", dependency.kind, dependency.name);
            let mut finding = Finding::new(subject, Aspect::Independent, verdict)
                .with("place", place)
                .with("used by", users.join(", "));
            if matches!(place, Place::Region(region) if is_in(region, lost)) && finding.verdict == Readiness::Ready {
                let why = if accepts.contains(&dependency.name) {
                    "accepted by readiness.accepts"
                } else {
                    "the plan goes on without it"
                };
                finding = finding.with("may be lost", why);
            }
            finding
        })
        .collect()
}

/// A zone (`us-east-1a`) falls with its region.
fn is_in(place: &RegionName, lost: &[RegionName]) -> bool {
    lost.iter().any(|region| {
        let rest = place.as_str().strip_prefix(region.as_str());
        rest.is_some_and(|rest| rest.is_empty() || (rest.len() == 1 && rest.chars().all(|c| c.is_ascii_lowercase())))
    })
}

/// What people are told of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tell {
    /// It is not ready any more.
    NotReady,
    /// It is ready again.
    ReadyAgain,
}

/// Who is told once is not told again until it is ready; what could not be looked at changes nothing.
/// Gives what is told now, and whether it counts as told that the plan is not ready.
pub fn tell(told: bool, now: &Readiness) -> (Option<Tell>, bool) {
    match (now, told) {
        (Readiness::NotReady { .. }, false) => (Some(Tell::NotReady), true),
        (Readiness::Ready, true) => (Some(Tell::ReadyAgain), false),
        (_, told) => (None, told),
    }
}

/// When the next evaluation is due: after `every`, a tenth sooner or later, so that daemons that were
/// started together do not ask the same API at the same time. `salt` is another number each time.
pub fn next_due(last: MonoTime, every: Duration, salt: u64) -> MonoTime {
    // SplitMix64's finalizer: neighbouring numbers come out far apart.
    let mut mixed = salt.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let per_mille = u32::try_from((mixed ^ (mixed >> 31)) % 201).unwrap_or_default();
    last + every * (900 + per_mille) / 1000
}

/// So many samples of a standby's lag are kept: an hour, at one each ten seconds.
const SAMPLES: usize = 360;

/// The lag of one standby over the last hour.
#[derive(Clone, Debug, Default)]
pub struct LagHistory(VecDeque<Option<Duration>>);

impl LagHistory {
    /// Takes a sample; `None`: the lag is not known.
    pub fn sample(&mut self, lag: Option<Lag>) {
        if self.0.len() == SAMPLES {
            self.0.pop_front();
        }
        self.0.push_back(lag.map(|lag| lag.time));
    }

    /// Is the standby as fresh as the objective wants: now, and for 95 of 100 moments of the last hour?
    pub fn judge(&self, standby: &str, rpo: HumanDuration) -> Finding {
        let subject = format!("lag of {standby}");
        let Some(Some(latest)) = self.0.back().copied() else {
            return Finding::unknown(subject, Aspect::Fresh, "the lag is not known now");
        };
        let mut known: Vec<Duration> = self.0.iter().flatten().copied().collect();
        known.sort_unstable();
        let p95 = known[(known.len() * 95 / 100).min(known.len() - 1)];
        let most = known[known.len() - 1];
        let wrong = if latest > rpo.get() {
            Some(format!("it lags by {}, and the RPO is {rpo}", HumanDuration(latest)))
        } else if p95 > rpo.get() {
            Some(format!("within the last hour it lagged by {} (p95), and the RPO is {rpo}", HumanDuration(p95)))
        } else {
            None
        };
        Finding::judged(subject, Aspect::Fresh, wrong)
            .with("RPO", rpo)
            .measuring("now", HumanDuration(latest))
            .measuring("p95 of the last hour", HumanDuration(p95))
            .measuring("most in the last hour", HumanDuration(most))
    }
}

#[cfg(test)]
#[path = "readiness_tests.rs"]
mod tests;
