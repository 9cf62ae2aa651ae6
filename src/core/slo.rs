//! Availability of a service against its objective, from the downtime of its incidents.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::brain::Brain;
use super::incident::Incident;
use super::ledger::Ledger;
use crate::model::{HumanDuration, Now, RunResult, ServiceName, Settings, SloTarget, WallTime};

/// What was burnt of a service's error budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burnt {
    /// For how long it was down within the window; outages that overlap count once.
    pub down: HumanDuration,
    /// For how long it may be down within the window.
    pub budget: HumanDuration,
    /// The share of the window in which it was not down, from 0 to 1.
    pub availability: f64,
    /// The share of the budget that is gone; above 1 where it was exceeded, and infinite where there is none
    /// and it was down.
    pub share: f64,
}

/// How a service stands against its objective.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceLevel {
    /// The service.
    pub service: ServiceName,
    /// The share of the window in which it has to be available.
    pub target: SloTarget,
    /// The window, up to now.
    pub window: HumanDuration,
    /// The share of the window in which it was, from 0 to 1.
    pub availability: f64,
    /// For how long it was down within the window.
    pub down: HumanDuration,
    /// For how long it may be.
    pub budget: HumanDuration,
    /// The share of the budget that is spent; above 1 where more was.
    pub spent: f64,
}

impl ServiceLevel {
    /// What the budget has left, as a share of it; below 0 where it was exceeded.
    pub fn left(&self) -> f64 {
        1.0 - self.spent
    }

    /// What a minute of outage costs, as a share of the budget.
    pub fn minute(&self) -> f64 {
        60.0 / self.budget.get().as_secs_f64()
    }
}

/// How each service with an objective stands.
pub fn levels(settings: &Settings, ledger: &Ledger, now: WallTime) -> Vec<ServiceLevel> {
    let level = |service: &crate::model::ServiceSettings| {
        let (target, window) = (service.slo.target, service.slo.window);
        let burnt = burnt(ledger, &service.name, target.ratio(), window.get(), now);
        ServiceLevel {
            service: service.name.clone(),
            target,
            window,
            availability: burnt.availability,
            down: burnt.down,
            budget: burnt.budget,
            spent: burnt.share,
        }
    };
    settings.services.iter().map(level).collect()
}

/// A share in percent, with a decimal where it is small.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent.abs() >= 10.0 || percent == 0.0 { format!("{percent:.0}%") } else { format!("{percent:.1}%") }
}

impl Brain {
    /// How each service with an objective stands.
    pub(super) fn service_levels(&self, now: Now) -> Vec<ServiceLevel> {
        levels(&self.settings, &self.ledger, now.wall)
    }

    /// What waiting costs of the error budget, for the one who is asked; `None` where there is no objective.
    pub(super) fn error_budget(&self, now: Now, service: &ServiceName) -> Option<String> {
        let level = self.service_levels(now).into_iter().find(|level| level.service == *service)?;
        let (spent, minute) = (percent(level.spent), percent(level.minute()));
        Some(format!("{spent} of the error budget of {} is spent, each minute costs {minute}", days(level.window)))
    }
}

/// Days where it is whole days, as people write windows.
pub fn days(window: HumanDuration) -> String {
    let seconds = window.get().as_secs();
    if seconds > 0 && seconds.is_multiple_of(86_400) { format!("{}d", seconds / 86_400) } else { window.to_string() }
}

/// What was burnt in the `window` that ends `now`, where the service has to be available for the share
/// `objective` (0.9995 for 99.95 %) of it. An incident that is open counts until now.
pub fn burnt(ledger: &Ledger, service: &ServiceName, objective: f64, window: Duration, now: WallTime) -> Burnt {
    let from = now.minus(window);
    let mut outages: Vec<(WallTime, WallTime)> = ledger
        .incidents
        .values()
        .filter(|incident| service_of(ledger, incident) == Some(service))
        .map(|incident| (incident.outage_start.max(from), end(ledger, incident).unwrap_or(now).min(now)))
        .filter(|(start, end)| start < end)
        .collect();
    outages.sort_unstable();
    let (mut down, mut covered) = (Duration::ZERO, from);
    for (start, end) in outages {
        down += end.since(start.max(covered));
        covered = covered.max(end);
    }
    let budget = window.mul_f64((1.0 - objective).clamp(0.0, 1.0));
    let whole = window.as_secs_f64();
    let share = |of: Duration, whole: f64| if of.is_zero() { 0.0 } else { of.as_secs_f64() / whole };
    Burnt {
        down: HumanDuration(down),
        budget: HumanDuration(budget),
        availability: 1.0 - share(down, whole),
        share: share(down, budget.as_secs_f64()),
    }
}

/// A journal of a version that did not write the service down has it where there was a run.
fn service_of<'a>(ledger: &'a Ledger, incident: &'a Incident) -> Option<&'a ServiceName> {
    let of_run = || incident.run.as_ref().and_then(|run| ledger.runs.get(run)).map(|run| &run.service);
    incident.objectives.as_ref().map(|objectives| &objectives.service).or_else(of_run)
}

/// When the service was back: recovered by a run, or up again by itself; `None` while it is not.
fn end(ledger: &Ledger, incident: &Incident) -> Option<WallTime> {
    let run = incident.run.as_ref().and_then(|run| ledger.runs.get(run));
    let done = run.filter(|run| matches!(run.ended, Some((RunResult::Done, _))));
    done.and_then(|run| run.recovered_at()).into_iter().chain(incident.closed).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Entry, IncidentId, Objectives, Record, Severity};

    const HOUR: i64 = 3_600_000;
    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// Outages of services in hours: from, and to where they are over.
    fn ledger(outages: &[(&str, i64, Option<i64>)]) -> Ledger {
        let mut entries = Vec::new();
        for (number, (service, from, to)) in outages.iter().enumerate() {
            let incident = IncidentId::new(format!("INC-{number}"));
            let opened = Entry::IncidentOpened {
                incident: incident.clone(),
                scenario: format!("scenario-{number}").into(),
                severity: Severity("P0".into()),
                outage_start: WallTime(from * HOUR),
                votes: vec![],
                replication: vec![],
                extent: None,
                objectives: Some(Objectives {
                    service: (*service).into(),
                    rto: HumanDuration::secs(60),
                    rpo: None,
                    plan: None,
                    slo: None,
                }),
            };
            entries.push((*from, opened));
            entries.extend(to.map(|to| (to, Entry::IncidentClosed { incident, why: "over".into() })));
        }
        let record = |(place, (at, entry)): (usize, (i64, Entry))| Record {
            seq: place as u64 + 1,
            at: WallTime(at * HOUR),
            entry,
        };
        let records: Vec<Record> = entries.into_iter().enumerate().map(record).collect();
        Ledger::replay(&records).expect("it follows")
    }

    fn of(outages: &[(&str, i64, Option<i64>)], objective: f64) -> Burnt {
        burnt(&ledger(outages), &"shop".into(), objective, DAY, WallTime(100 * HOUR))
    }

    #[test]
    fn outages_count_once_and_only_within_the_window() {
        // The window is from hour 76 on: one hour of the first, three of the two that overlap, two of the open one.
        let outages = [
            ("shop", 70, Some(77)),
            ("shop", 80, Some(82)),
            ("shop", 81, Some(83)),
            ("mail", 90, Some(95)),
            ("shop", 98, None),
        ];
        let burnt = of(&outages, 0.75);
        assert_eq!(burnt.down, HumanDuration::secs(6 * 3600));
        assert_eq!(burnt.budget, HumanDuration::secs(6 * 3600));
        assert!((burnt.share - 1.0).abs() < 1e-9 && (burnt.availability - 0.75).abs() < 1e-9, "{burnt:?}");
    }

    #[test]
    fn no_outage_burns_nothing_and_no_budget_is_exceeded_at_once() {
        let none = of(&[("shop", 1, Some(2))], 1.0);
        assert_eq!((none.share.to_bits(), none.availability.to_bits()), (0_f64.to_bits(), 1_f64.to_bits()));
        assert!(of(&[("shop", 99, None)], 1.0).share.is_infinite());
    }
}
