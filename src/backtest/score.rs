//! What a setting is worth: its failovers held against the outages that there really were.

use std::time::Duration;

use serde::Serialize;

use super::history::History;
use super::labels::Outage;
use super::replay::{Opened, Played, Trip, stage};
use crate::core::plan::recovery_budget;
use crate::model::{HumanDuration, ScenarioName, ScenarioSettings, Settings, WallTime};

/// So many failovers of one setting are listed; all are counted.
const MOST_LISTED: usize = 200;

/// The middle and the end of several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// Half of them were no longer.
    pub median: HumanDuration,
    /// 99 of a hundred were no longer (by nearest rank: of a few, the longest).
    pub p99: HumanDuration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        let rank = |percent: usize| (times.len() * percent).div_ceil(100).checked_sub(1);
        let at = |percent| rank(percent).and_then(|rank| times.get(rank)).copied().map(HumanDuration);
        Some(Self { median: at(50)?, p99: at(99)? })
    }
}

/// One failover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TripView {
    /// When the first change would have been made.
    pub at: WallTime,
    /// For which scenario.
    pub scenario: ScenarioName,
    /// Does it belong to a labelled outage? `None` where there are no labels.
    pub genuine: Option<bool>,
    /// For how long the target had been bad.
    pub after: HumanDuration,
}

/// A labelled outage, and what the setting made of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged {
    /// Its place in the list of labels.
    pub outage: usize,
    /// Its first bad look.
    pub first_bad: WallTime,
    /// From there to the verdict.
    pub detect: Option<HumanDuration>,
    /// From there to the first change.
    pub act: Option<HumanDuration>,
    /// With the plan's critical path after that, is it within the RTO?
    pub in_time: bool,
    /// Why nothing was done.
    pub missed: Option<String>,
}

/// What a setting is worth.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Score {
    /// How many attempts a minute its probes make in quiet times.
    pub probes_per_minute: f64,
    /// It looks more often than was recorded, so that one recorded look stands for several.
    pub finer_than_recorded: bool,
    /// How often it would have failed over.
    pub trips: usize,
    /// How many of these belong to a labelled outage; `None` where there are no labels.
    pub genuine: Option<usize>,
    /// How many do not.
    pub false_trips: Option<usize>,
    /// How many labelled outages it would not have acted upon.
    pub missed: Option<usize>,
    /// How many runs the last look would have called off before anything was changed.
    pub called_off: usize,
    /// From the first bad look of a labelled outage to the verdict.
    pub detect: Option<Spread>,
    /// From the first bad look of a labelled outage to the first change.
    pub act: Option<Spread>,
    /// Would each labelled outage have been over within the RTO?
    pub meets_rto: Option<bool>,
    /// The failovers; the first two hundred.
    pub listed: Vec<TripView>,
    /// The labelled outages.
    pub outages: Vec<Judged>,
    /// Why the replay ended before the history.
    pub cut_short: Option<String>,
}

impl Score {
    /// No false failover, no outage missed, and each within the RTO.
    pub fn is_good(&self) -> bool {
        self.false_trips == Some(0)
            && self.missed == Some(0)
            && self.meets_rto == Some(true)
            && self.cut_short.is_none()
    }

    /// Is it worse: more false failovers, more outages missed, too late, or later? Without labels: more
    /// failovers.
    pub fn is_worse_than(&self, other: &Self) -> bool {
        let rank = |score: &Self| {
            let slowest = score.act.map(|spread| spread.p99);
            let late = score.meets_rto == Some(false);
            (score.cut_short.is_some(), score.false_trips, score.missed, late, score.trips, slowest)
        };
        rank(self) > rank(other)
    }
}

/// Judges a replay. `outages` is `None` where nobody labelled any.
pub fn judge(settings: &Settings, history: &History, outages: Option<&[Outage]>, played: &Played) -> Score {
    let acted: Vec<(&Trip, WallTime)> =
        played.trips.iter().filter_map(|trip| trip.acted.map(|acted| (trip, acted))).collect();
    let genuine = |trip: &Trip, at: WallTime| {
        outages.map(|all| all.iter().any(|outage| outage.scenario == trip.scenario && outage.holds_at(at)))
    };
    let judged: Vec<Judged> = outages
        .unwrap_or_default()
        .iter()
        .enumerate()
        .filter_map(|(place, outage)| {
            Some(one(place, outage, settings.scenario(&outage.scenario)?, settings, history, played))
        })
        .collect();
    let count = |wanted: bool| acted.iter().filter(|(trip, at)| genuine(trip, *at) == Some(wanted)).count();
    let times = |pick: fn(&Judged) -> Option<HumanDuration>| {
        Spread::of(judged.iter().filter_map(pick).map(HumanDuration::get).collect())
    };
    Score {
        probes_per_minute: stage::attempts_per_minute(settings),
        finer_than_recorded: is_finer(settings, history),
        trips: acted.len(),
        genuine: outages.map(|_| count(true)),
        false_trips: outages.map(|_| count(false)),
        missed: outages.map(|_| judged.iter().filter(|one| one.act.is_none()).count()),
        called_off: played.trips.len() - acted.len(),
        detect: times(|one| one.detect),
        act: times(|one| one.act),
        meets_rto: outages.filter(|all| !all.is_empty()).map(|_| judged.iter().all(|one| one.in_time)),
        listed: acted
            .iter()
            .take(MOST_LISTED)
            .map(|(trip, at)| TripView {
                at: *at,
                scenario: trip.scenario.clone(),
                genuine: genuine(trip, *at),
                after: HumanDuration(at.since(trip.outage_start)),
            })
            .collect(),
        outages: judged,
        cut_short: played.cut_short.clone(),
    }
}

fn one(
    place: usize,
    outage: &Outage,
    scenario: &ScenarioSettings,
    settings: &Settings,
    history: &History,
    played: &Played,
) -> Judged {
    let probes = scenario.when.wanted_down();
    let series = probes.iter().filter_map(|probe| history.series.get(probe));
    let first = series.filter_map(|series| series.first_down(outage.from.0, outage.to.0)).min();
    let first_bad = WallTime(first.unwrap_or(outage.from.0));
    let trips = played.trips.iter().filter(|trip| trip.scenario == outage.scenario);
    let acted = trips.clone().filter_map(|trip| trip.acted).find(|at| outage.holds_at(*at));
    let mut during = played.incidents.iter().filter(|incident| {
        incident.scenario == outage.scenario
            && incident.at <= outage.to
            && incident.closed.is_none_or(|closed| closed >= outage.from)
    });
    let last = during.clone().next_back();
    // The incident that it was acted upon for; else the first one.
    let opened = match acted {
        Some(acted) => during.rfind(|incident| incident.at <= acted),
        None => during.next(),
    };
    let act = acted.map(|acted| HumanDuration(acted.since(first_bad)));
    let plan = recovery_budget(settings, scenario).map(|budget| budget.plan_with_safety);
    Judged {
        outage: place,
        first_bad,
        detect: opened.map(|incident| HumanDuration(incident.at.since(first_bad))),
        act,
        in_time: match (act, plan) {
            (Some(act), Some(plan)) => act.get().saturating_add(plan) <= scenario.rto.get(),
            _ => false,
        },
        missed: act.is_none().then(|| why_missed(last, trips.clone().any(|trip| outage.holds_at(trip.decided)))),
    }
}

fn why_missed(incident: Option<&Opened>, called_off: bool) -> String {
    match incident {
        _ if called_off => "the last look did not find it down".into(),
        None => "its condition never held".into(),
        Some(Opened { held: Some(held), .. }) => held.clone(),
        Some(Opened { held: None, .. }) => "the history ended before".into(),
    }
}

/// Does a probe look more often than was recorded? A tenth is for the jitter of the recording.
fn is_finer(settings: &Settings, history: &History) -> bool {
    settings.probes.iter().any(|probe| {
        let recorded = history.series.get(&probe.name).map(|series| series.interval * 9 / 10);
        recorded.is_some_and(|recorded| probe.interval.min(probe.fast_interval).get() < recorded)
    })
}

#[cfg(test)]
mod tests {
    use super::super::replay::play;
    use super::super::replay::tests::{recorded, settings};
    use super::*;

    fn outage(from: i64, to: i64) -> Outage {
        Outage {
            from: WallTime(from * 1000),
            to: WallTime(to * 1000),
            scenario: "api-outage".into(),
            note: String::new(),
        }
    }

    fn judged(settings: &Settings, down: &[(i64, i64)], outages: Option<&[Outage]>) -> Score {
        let history = History::new([recorded("api", 7200, down)]).expect("some");
        judge(settings, &history, outages, &play(&history, settings))
    }

    #[test]
    fn true_and_false_failovers_are_told_apart_by_the_labels() {
        let down = [(1000, 1030), (3000, 3600)];
        let score = judged(&settings(), &down, Some(&[outage(2990, 3600)]));
        assert_eq!((score.trips, score.genuine, score.false_trips, score.missed), (2, Some(1), Some(1), Some(0)));
        assert_eq!(score.listed.iter().map(|trip| trip.genuine).collect::<Vec<_>>(), [Some(false), Some(true)]);
        assert!(!score.is_good());
        let judged_one = &score.outages[0];
        assert_eq!(judged_one.first_bad, WallTime(3_000_000), "the first bad look, not the label");
        let (detect, act) = (judged_one.detect.expect("seen").get(), judged_one.act.expect("acted").get());
        assert!((4.0..6.0).contains(&detect.as_secs_f64()) && (14.0..16.1).contains(&act.as_secs_f64()));
        assert_eq!(score.detect.map(|spread| spread.median.get()), Some(detect));
        // 60 s of the plan, times 1.2, and 16 s: within five minutes.
        assert_eq!(score.meets_rto, Some(true));
        let nobody = judged(&settings(), &down, None);
        assert_eq!((nobody.trips, nobody.false_trips, nobody.meets_rto), (2, None, None));
        assert!(!nobody.is_good());
    }

    #[test]
    fn a_missed_outage_says_why() {
        let mut patient = settings();
        patient.scenarios[0].confirm_for = HumanDuration::secs(60);
        let why = |settings: &Settings, down: &[(i64, i64)], label: Outage| {
            let score = judged(settings, down, Some(&[label]));
            assert_eq!((score.missed, score.meets_rto), (Some(1), Some(false)));
            score.outages[0].missed.clone().expect("why")
        };
        assert!(why(&patient, &[(1000, 1040)], outage(1000, 1040)).starts_with("confirming"));
        assert_eq!(why(&patient, &[], outage(1000, 1040)), "its condition never held");
    }

    #[test]
    fn an_act_that_leaves_too_little_for_the_plan_misses_the_rto() {
        let mut tight = settings();
        tight.scenarios[0].rto = HumanDuration::secs(80);
        let score = judged(&tight, &[(3000, 3600)], Some(&[outage(3000, 3600)]));
        assert_eq!((score.missed, score.meets_rto), (Some(0), Some(false)));
    }

    #[test]
    fn a_failover_of_another_scenario_does_not_belong_to_the_outage() {
        let mut label = outage(3000, 3600);
        label.scenario = "another".into();
        let score = judged(&settings(), &[(3000, 3600)], Some(&[label]));
        assert_eq!((score.genuine, score.false_trips), (Some(0), Some(1)));
    }

    /// What is near a limit is the luck of one start.
    #[test]
    fn of_several_starts_the_worst_is_told_from_the_others() {
        use super::super::replay::{Start, play_at};
        let mut near = settings();
        near.scenarios[0].confirm_for = HumanDuration::ZERO;
        let api = &mut near.probes[0];
        (api.interval, api.fast_interval, api.fall) = (HumanDuration::secs(10), HumanDuration::secs(10), 2);
        api.max_age = HumanDuration::secs(31);
        // Two looks, ten seconds apart, fall into fifteen seconds from half of all starts.
        let history = History::new([recorded("api", 3600, &[(1000, 1015)])]).expect("some");
        let scores: Vec<Score> = (0..10)
            .map(|number| judge(&near, &history, Some(&[]), &play_at(&history, &near, Start { number, of: 10 })))
            .collect();
        let tripped = scores.iter().filter(|score| score.false_trips == Some(1)).count();
        assert!((4..=6).contains(&tripped), "{tripped} of 10");
        let quiet = scores.iter().find(|score| score.false_trips == Some(0)).expect("one");
        let worse = scores.iter().find(|score| score.false_trips == Some(1)).expect("one");
        assert!(worse.is_worse_than(quiet) && !quiet.is_worse_than(worse) && !quiet.is_worse_than(quiet));
    }

    #[test]
    fn spreads_are_by_nearest_rank() {
        let seconds = |of: std::ops::RangeInclusive<u64>| Spread::of(of.map(Duration::from_secs).collect());
        assert_eq!(Spread::of(Vec::new()), None);
        let spread = seconds(1..=3).expect("three");
        assert_eq!((spread.median, spread.p99), (HumanDuration::secs(2), HumanDuration::secs(3)));
        let spread = seconds(1..=200).expect("many");
        assert_eq!((spread.median, spread.p99), (HumanDuration::secs(100), HumanDuration::secs(198)));
    }

    #[test]
    fn looking_more_often_than_was_recorded_is_said() {
        let mut quick = settings();
        assert!(!judged(&quick, &[], None).finer_than_recorded);
        quick.probes[0].fast_interval = HumanDuration::millis(500);
        assert!(judged(&quick, &[], None).finer_than_recorded);
    }
}
