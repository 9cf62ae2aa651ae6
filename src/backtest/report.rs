//! All of it together: the configuration as it is and its variants, played side by side.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use super::Wrong;
use super::history::History;
use super::labels::Outage;
use super::replay::{Start, play_at, stage};
use super::score::{Score, judge};
use super::sweep::Variant;
use crate::config::{Level, LoadOptions, load};
use crate::model::{Health, HumanDuration, ProbeName, Settings, WallTime};

/// More attempts than that, over all variants, would take the better part of an hour.
const MOST_ATTEMPTS: f64 = 400_000_000.0;

/// What was recorded of a probe.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProbeHistory {
    /// The probe.
    pub probe: ProbeName,
    /// How many looks.
    pub looks: usize,
    /// From look to look, usually.
    pub interval: HumanDuration,
    /// For how long it was up.
    pub up: HumanDuration,
    /// For how long it was down.
    pub down: HumanDuration,
    /// For how long nobody could tell, or nobody looked.
    pub unknown: HumanDuration,
}

/// One setting and what it is worth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tried {
    /// For people: `as configured`, `fall 3, interval 2s`.
    pub name: String,
    /// What to write in order to have it; empty for the configuration as it is.
    pub toml: String,
    /// Why `failoverd check` refuses it; then it was not played.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What it is worth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
}

/// Which setting to take.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Advice {
    /// This one: its place in the list.
    Take(usize),
    /// None, and why.
    None(String),
}

/// Everything that there is to show.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The first look.
    pub from: WallTime,
    /// The last one.
    pub to: WallTime,
    /// What was recorded.
    pub probes: Vec<ProbeHistory>,
    /// The outages that were labelled and can be judged; `None` where nobody labelled any.
    pub outages: Option<Vec<Outage>>,
    /// What is taken for granted, and what else to know.
    pub notes: Vec<String>,
    /// The configuration as it is, then the variants.
    pub tried: Vec<Tried>,
    /// Which to take.
    pub advice: Advice,
}

impl Report {
    /// The setting to take, where there is one.
    pub fn best(&self) -> Option<&Tried> {
        match self.advice {
            Advice::Take(place) => self.tried.get(place),
            Advice::None(_) => None,
        }
    }
}

/// What is to be played.
pub struct Job<'a> {
    /// How the configuration is loaded.
    pub options: &'a LoadOptions,
    /// The configuration as it is.
    pub settings: &'a Settings,
    /// What was recorded.
    pub history: &'a History,
    /// The labels, and how many of them lie outside of the history.
    pub labels: Option<(Vec<Outage>, usize)>,
    /// What else is tried.
    pub variants: Vec<Variant>,
    /// How many starts of each interval are played; the worst counts.
    pub phases: u32,
    /// What is to be known of the source.
    pub notes: Vec<String>,
}

/// Plays everything, on all processors. `progress` is told of each setting that was played.
///
/// # Errors
/// [`Wrong`] where that would take too long.
pub fn run(job: Job<'_>, progress: &(dyn Fn() + Sync)) -> Result<Report, Wrong> {
    let all: Vec<Option<&Variant>> = std::iter::once(None).chain(job.variants.iter().map(Some)).collect();
    // Each loads its own: names that were shared would have all threads wait for one counter.
    let settings = in_parallel(all.len(), |place| match all[place] {
        None => Ok(job.settings.clone()),
        Some(variant) => settings_of(job.options, variant),
    });
    let minutes = job.history.span().as_secs_f64() / 60.0;
    let attempts: f64 = settings.iter().flatten().map(|settings| stage::attempts_per_minute(settings) * minutes).sum();
    let attempts = attempts * f64::from(job.phases);
    if attempts > MOST_ATTEMPTS {
        return Err(Wrong::Given(format!(
            "that would be {:.0} million looks in all, at most {:.0} million are played: take a shorter time \
             (--from, --to), fewer variants or phases, or longer intervals",
            attempts / 1e6,
            MOST_ATTEMPTS / 1e6
        )));
    }
    let outages = job.labels.as_ref().map(|(outages, _)| outages.as_slice());
    let scores = in_parallel(all.len(), |place| {
        let score = settings[place].as_ref().ok().map(|settings| {
            let starts = (0..job.phases.max(1)).map(|number| Start { number, of: job.phases.max(1) });
            let scores =
                starts.map(|start| judge(settings, job.history, outages, &play_at(job.history, settings, start)));
            // Of equals the first: the one that is played where nothing is said.
            scores.reduce(|worst, next| if next.is_worse_than(&worst) { next } else { worst }).unwrap_or_default()
        });
        progress();
        score
    });
    let tried: Vec<Tried> = all
        .iter()
        .zip(settings.iter().zip(scores))
        .map(|(variant, (settings, score))| Tried {
            name: variant.map_or_else(|| "as configured".to_owned(), |variant| variant.name.clone()),
            toml: variant.map(Variant::toml).unwrap_or_default(),
            refused: settings.as_ref().err().cloned(),
            score,
        })
        .collect();
    Ok(Report {
        from: WallTime(job.history.from),
        to: WallTime(job.history.to),
        probes: job.history.series.keys().map(|probe| recorded(probe, job.history)).collect(),
        notes: notes(&job, &tried),
        advice: advise(&tried, outages),
        outages: job.labels.map(|(outages, _)| outages),
        tried,
    })
}

/// The configuration with a variant's values, checked as `failoverd check` does it.
fn settings_of(options: &LoadOptions, variant: &Variant) -> Result<Settings, String> {
    let options = LoadOptions { overrides: variant.texts(), ..options.clone() };
    load(&options).map(|loaded| loaded.settings).map_err(|faults| {
        let first = faults.iter().find(|fault| fault.level == Level::Error);
        first.map_or_else(|| "it cannot be loaded".to_owned(), |fault| fault.message.clone())
    })
}

fn recorded(probe: &ProbeName, history: &History) -> ProbeHistory {
    let series = &history.series[probe];
    let stretches = series.stretches(history.from, history.to);
    let sum = |wanted: Health| {
        let of = stretches.iter().filter(|(_, _, health)| *health == wanted);
        HumanDuration::millis(of.map(|(from, to, _)| u64::try_from(to - from).unwrap_or(0)).sum())
    };
    ProbeHistory {
        probe: probe.clone(),
        looks: series.points.len(),
        interval: HumanDuration(series.interval),
        up: sum(Health::Up),
        down: sum(Health::Down),
        unknown: sum(Health::Unknown),
    }
}

fn notes(job: &Job<'_>, tried: &[Tried]) -> Vec<String> {
    let mut notes = job.notes.clone();
    notes.extend(stage::assumptions(job.settings, job.history));
    if job.phases > 1 {
        notes.push(format!("Each setting was played with {} starts of each interval; the worst is shown.", job.phases));
    }
    if let Some((_, outside @ 1..)) = &job.labels {
        let are = if *outside == 1 { "label is" } else { "labels are" };
        notes.push(format!("{outside} {are} not within what was recorded, and left out."));
    }
    if tried.iter().filter_map(|one| one.score.as_ref()).any(|score| score.finer_than_recorded) {
        notes.push(
            "~ marks settings that look more often than was recorded: one recorded look stands for several of \
             theirs, so that one bad answer may look like an outage."
                .to_owned(),
        );
    }
    if let Some((one, why)) = tried.iter().find_map(|one| Some((one, one.score.as_ref()?.cut_short.as_ref()?))) {
        notes.push(format!("The replay of `{}` was ended early: {why}.", one.name));
    }
    notes
}

/// The cheapest setting without a false failover and without a missed outage that meets the RTO; of equally cheap ones
/// the quickest.
fn advise(tried: &[Tried], outages: Option<&[Outage]>) -> Advice {
    let none = |why: String| Advice::None(why);
    let outages = match outages {
        None => {
            return none(
                "without labelled outages (--outages) nobody can tell a false failover from a true one".into(),
            );
        }
        Some([]) => return none("no labelled outage lies within what was recorded".into()),
        Some(outages) => outages,
    };
    let good = tried.iter().enumerate().filter_map(|(place, one)| Some((place, one.score.as_ref()?)));
    let best = good.filter(|(_, score)| score.is_good()).min_by(|(_, a), (_, b)| {
        let act = |score: &Score| score.act.map(|act| (act.median, act.p99));
        a.probes_per_minute.total_cmp(&b.probes_per_minute).then_with(|| act(a).cmp(&act(b)))
    });
    if let Some((place, _)) = best {
        return Advice::Take(place);
    }
    let scores = || tried.iter().filter_map(|one| one.score.as_ref());
    let count = |what: &str, number: usize| (number > 0).then(|| format!("{number} {what}"));
    let parts = [
        count("fail over where there was no outage", scores().filter(|one| one.false_trips > Some(0)).count()),
        count("miss an outage", scores().filter(|one| one.missed > Some(0)).count()),
        count(
            "act too late for the RTO",
            scores().filter(|one| one.missed == Some(0) && one.meets_rto == Some(false)).count(),
        ),
        count("were ended early", scores().filter(|one| one.cut_short.is_some()).count()),
        count("are refused by `failoverd check`", tried.iter().filter(|one| one.refused.is_some()).count()),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    let mut why = format!("of {} settings {}", tried.len(), parts.join(", "));
    // What every setting misses is not a matter of detection.
    let always = (0..outages.len()).find_map(|place| {
        let mut reasons = scores().map(|score| score.outages.get(place).and_then(|one| one.missed.clone()));
        let first = reasons.next()??;
        reasons.all(|reason| reason.is_some()).then_some((place, first))
    });
    if let Some((place, reason)) = always {
        why.push_str(&format!("; all of them miss the outage of {}: {reason}", outages[place].from));
    }
    none(why)
}

/// Does `work` for each number below `count`, on all processors; the results come in order.
fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count.max(1));
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(count)));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    if place >= count {
                        break;
                    }
                    let result = work(place);
                    results.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((place, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::super::score::Spread;
    use super::*;

    fn tried(cost: f64, act: u64, false_trips: usize, missed: usize) -> Tried {
        let spread = Spread { median: HumanDuration::secs(act), p99: HumanDuration::secs(act) };
        let score = Score {
            probes_per_minute: cost,
            false_trips: Some(false_trips),
            missed: Some(missed),
            meets_rto: Some(missed == 0),
            act: Some(spread),
            ..Score::default()
        };
        Tried { name: format!("{cost} {act}"), toml: String::new(), refused: None, score: Some(score) }
    }

    fn outage() -> Outage {
        Outage { from: WallTime(0), to: WallTime(1), scenario: "x".into(), note: String::new() }
    }

    #[test]
    fn the_cheapest_is_taken_and_of_equals_the_quickest() {
        let all = [tried(1.0, 5, 1, 0), tried(2.0, 30, 0, 0), tried(2.0, 20, 0, 0), tried(9.0, 1, 0, 0)];
        assert_eq!(advise(&all, Some(&[outage()])), Advice::Take(2));
    }

    #[test]
    fn where_there_is_none_it_says_why() {
        let mut refused = tried(1.0, 1, 0, 0);
        (refused.score, refused.refused) = (None, Some("the RTO cannot be met".into()));
        let all = [tried(1.0, 5, 1, 0), tried(2.0, 30, 0, 1), refused];
        let Advice::None(why) = advise(&all, Some(&[outage()])) else { panic!("one was taken") };
        assert_eq!(
            why,
            "of 3 settings 1 fail over where there was no outage, 1 miss an outage, 1 are refused by `failoverd check`"
        );
        assert!(matches!(advise(&all, None), Advice::None(why) if why.contains("--outages")));
        assert!(matches!(advise(&all, Some(&[])), Advice::None(why) if why.contains("within what was recorded")));
    }

    #[test]
    fn results_come_in_order_however_long_each_takes() {
        let slow_first = |place: usize| {
            let mut hash = 0_u64;
            (0..(20 - place) * 10_000).for_each(|n| hash = hash.wrapping_mul(31).wrapping_add(n as u64));
            (place, std::hint::black_box(hash)).0
        };
        assert_eq!(in_parallel(20, slow_first), (0..20).collect::<Vec<_>>());
        assert!(in_parallel(0, |place| place).is_empty());
    }
}
