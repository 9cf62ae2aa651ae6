//! The real brains in a simulated world: thousands of seeds of faults in virtual time, and after each step
//! the promises of the design, checked against what the simulator itself knows.
//!
//! One daemon with its disk, or three with one etcd. Real are the brains and the lease; doubles are the
//! targets, the witnesses, the network, etcd (`store.rs`) and the daemon's shell (`member.rs`), which does
//! what `daemon` and `state` do. What those do themselves is tested on real processes (`tests/it`).
//!
//! `make sim SEEDS=10000` plays so many; `make sim SEED=17` plays one and says what happened in it. The same
//! seed is the same story, to the hash of its trace. `MUST_HAPPEN` names every fault and every turn that has
//! to have happened at least once: a fault that never happens tests nothing.
//!
//! Where each promise is checked:
//!
//! | promise | where |
//! |---|---|
//! | S1 | `body.rs` for each record that becomes durable, `world.rs` for each promotion |
//! | S2 | `check.rs`, `call`: the intent is durable when the call is handed out |
//! | S3 | `check.rs`, `leaves`; `member.rs`, `check_leaders` after each step; `world.rs` at each target |
//! | S4, S5, S10 | `check.rs`, `run_starts`, with a count of votes of its own (`votes.rs`) and the world's truth |
//! | S6, S7 | `check.rs`, `check_order`: fence before promotion, promotion before traffic |
//! | S8 | `check.rs`, `check_known`; `world.rs` for what must not be done twice |
//! | S9 | `check.rs`, `wants_call`, and at the end of each run |
//! | S11 | `check.rs`, `run_starts` and `wants_call` |
//! | S12 | `check.rs`, `quiet`, whenever nothing is on its way to the journal; byte for byte at the end |
//! | S13 | `body.rs`, `is_written`: of commands. The chain is the store's (`src/state/tests`) |
//! | S14 | not here: the brains hold no secrets |
//! | L1 | `sim.rs`, `acted_in_time`: quiet outages, also where the leader dies in them |
//! | L2 | `sim.rs`, `has_come_to_an_end`: every run ended, or waits and somebody was paged; somebody leads |
//! | L3 | not here: notification paths are tested on real ones (`tests/it`) |
//!
//! The simulator is tested too: with what is broken around the brain (`mutation.rs`), and with the brain
//! itself broken (`broken.rs`, only in `tests/kernel`).

mod body;
#[cfg(feature = "sabotage")]
mod broken;
mod calls;
mod check;
mod member;
mod mutation;
mod node;
mod peers;
mod people;
mod rng;
mod setup;
mod sim;
mod store;
mod trace;
mod votes;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mutation::Mutation;
use sim::Sim;
use trace::Violation;

/// How many seeds are tried, from `SIM_FROM` on, unless `SIM_SEEDS` says otherwise: where the brain is optimised, many.
const SEEDS: u64 = if cfg!(feature = "sabotage") { 4_000 } else { 200 };
/// How often long work says how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Within so many seeds each mutation has to be seen.
const SEEDS_FOR_MUTATION: u64 = 4_000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn run(seed: u64, mutation: Mutation, verbose: bool) -> (Sim, Result<(), Violation>) {
    let mut sim = Sim::new(setup::case(seed), mutation, verbose);
    sim.trace.kept = number("SIM_LINES").map_or(trace::KEPT, |lines| lines as usize);
    let result = sim.run();
    (sim, result)
}

/// What a failed seed looks like.
fn explain(seed: u64) -> String {
    let (sim, result) = run(seed, Mutation::None, true);
    let what = result.err().map_or("(it did not fail again!)".into(), |v| format!("{} broken: {}", v.promise, v.what));
    let case = &sim.case;
    format!(
        "seed {seed}: {what}\n\n{}\n\nsettings: {:?}\nfaults {:?}, weather {:?}, cut off {:?}, witness {:?}, stuck {:?}\n\
         daemons: {}, rates {:?}, store without a quorum {:?}, links {:?}\n\nrun it again: make sim SEED={seed}\n",
        sim.trace.text(),
        case.settings,
        case.faults,
        case.weather,
        case.cut_off,
        case.peer_cut_off,
        case.stuck,
        case.members,
        case.rates,
        case.quorum_lost,
        case.links,
    )
}

/// Everything that has to have happened at least once over all seeds.
const MUST_HAPPEN: [&str; 102] = [
    "a witness lied",
    "a witness that fell with its region",
    "a write failed",
    "a write that failed took place",
    "answer after a crash",
    "answer of the store lost",
    "append of unknown outcome",
    "append sent again",
    "change after a crash",
    "change fenced off",
    "change happened",
    "change: answer too late",
    "change: fine",
    "change: late effect",
    "change: no answer, done",
    "change: no answer, not done",
    "change: not permitted",
    "change: refused",
    "change: throttled",
    "change: timeout after success",
    "change: timeout before effect",
    "clock jump",
    "command: abort",
    "command: ack",
    "command: approve",
    "command: deny",
    "command: failover",
    "command: hand over",
    "command: mode",
    "command: not leading",
    "command: pause",
    "command: resume",
    "command: retry",
    "command: skip",
    "command: step approve",
    "commits wait",
    "crash after an append",
    "crash between effects",
    "crash between events",
    "disk full",
    "doubt",
    "ended",
    "ending",
    "extent grew",
    "frozen",
    "frozen between permit and call",
    "handed over",
    "handed over blind",
    "held for flapping",
    "held for want of a quorum",
    "held: correlating",
    "held: explained",
    "held: lower layers",
    "last look in vain",
    "lease taken",
    "link from the store cut",
    "link to the store cut",
    "look: impossible",
    "look: lost",
    "look: stale",
    "look: too late",
    "look: unknown",
    "observation dropped",
    "observation late",
    "observation twice",
    "observation unknown",
    "observation wrong",
    "outcome twice",
    "overtaken change at a target that holds no epoch",
    "partition of a witness",
    "permit refused",
    "permit refused: overtaken",
    "quiet outage acted upon",
    "reload",
    "replication seen anew",
    "request late",
    "request lost",
    "request twice",
    "resigned",
    "run aborted",
    "run done",
    "run taken over by another leader",
    "run: approved",
    "run: approved without a quorum",
    "run: automatic",
    "run: manual",
    "run: narrow",
    "run: no answer",
    "silence",
    "stall",
    "step parked",
    "step undone",
    "stepped down",
    "store out of reach",
    "store without a quorum",
    "the leader died",
    "took over",
    "two operators at once",
    "verify: failed",
    "verify: lost",
    "verify: not in time",
    "woke up after its lease",
];

#[test]
fn seeds_hold_the_promises() {
    if let Some(seed) = number("SIM_SEED") {
        let (sim, result) = run(seed, Mutation::None, true);
        println!("{}\n{:?}", sim.trace.text(), sim.trace.counts);
        return assert_eq!(result, Ok(()), "{}", explain(seed));
    }
    let seeds = number("SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("SIM_FROM").unwrap_or(0);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let mut events = 0;
    let mut broken: Vec<(u64, Violation)> = Vec::new();
    for results in parallel(seeds, |index| {
        let seed = first + index;
        let (sim, result) = run(seed, Mutation::None, false);
        (seed, sim.trace.events, sim.trace.counts, result)
    }) {
        let (seed, seen, kinds, result) = results;
        broken.extend(result.err().map(|violation| (seed, violation)));
        events += seen;
        kinds.into_iter().for_each(|(kind, times)| *counts.entry(kind).or_default() += times);
    }
    println!("{seeds} seeds, {events} events, {counts:#?}");
    if let Some((seed, _)) = broken.first() {
        let list: Vec<String> =
            broken.iter().map(|(seed, v)| format!("{seed}: {} {:.150}", v.promise, v.what)).collect();
        panic!("{}\n{} of {seeds} seeds break a promise:\n{}", explain(*seed), broken.len(), list.join("\n"));
    }
    if seeds >= 1_000 {
        let never: Vec<&str> = MUST_HAPPEN.into_iter().filter(|kind| !counts.contains_key(kind)).collect();
        assert!(never.is_empty(), "never happened in {seeds} seeds: {never:?}");
    }
}

/// Runs seeds on all processors, in shares; the results come in the order of the seeds.
fn parallel<T: Send>(seeds: u64, work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let done = AtomicU64::new(0);
    let told = Mutex::new(Instant::now());
    let play = |seed: u64| {
        let result = (seed, work(seed));
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if let Ok(mut told) = told.try_lock()
            && told.elapsed() >= TELL_EVERY
        {
            *told = Instant::now();
            eprintln!("{done} of {seeds} played");
        }
        result
    };
    let mut results: Vec<(u64, T)> = std::thread::scope(|scope| {
        let play = &play;
        let shares = (0..threads)
            .map(|share| scope.spawn(move || (share..seeds).step_by(threads as usize).map(play).collect::<Vec<_>>()));
        let handles: Vec<_> = shares.collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("a share of the seeds")).collect()
    });
    results.sort_by_key(|(seed, _)| *seed);
    results.into_iter().map(|(_, result)| result).collect()
}

#[test]
fn the_same_seed_is_the_same_story() {
    for seed in 0..40 {
        let (once, _) = run(seed, Mutation::None, false);
        let (again, _) = run(seed, Mutation::None, true);
        assert_eq!((once.trace.hash, once.trace.events), (again.trace.hash, again.trace.events), "seed {seed}");
        assert_eq!(once.durable, again.durable, "seed {seed}");
    }
    let hashes: std::collections::BTreeSet<u64> =
        (0..40).map(|seed| run(seed, Mutation::None, false).0.trace.hash).collect();
    assert_eq!(hashes.len(), 40, "other seeds are other stories");
}

/// What a checkpoint leaves out would make another story.
#[test]
fn a_brain_made_of_its_checkpoint_goes_on_as_it_would_have() {
    for seed in 0..40 {
        let (once, _) = run(seed, Mutation::None, false);
        let mut sim = Sim::new(setup::case(seed), Mutation::None, false);
        sim.revived_each = Some(1 + seed % 7);
        let result = sim.run();
        assert_eq!(result, Ok(()), "seed {seed}");
        assert_eq!((once.trace.hash, once.trace.events), (sim.trace.hash, sim.trace.events), "seed {seed}");
        assert_eq!(once.durable, sim.durable, "seed {seed}");
    }
}

/// The checks are checked: each way to break something around the brain is seen, as what it is.
#[test]
#[cfg_attr(not(feature = "sabotage"), ignore = "`make sim` plays it, with an optimised brain")]
fn each_mutation_is_seen() {
    let mut unseen = Vec::new();
    for results in parallel(Mutation::ALL.len() as u64, |index| {
        let (mutation, promises) = Mutation::ALL[index as usize];
        let mut seen: Option<(u64, Violation)> = None;
        for seed in 0..SEEDS_FOR_MUTATION {
            if !mutation.may_show(&setup::case(seed)) {
                continue;
            }
            if let (_, Err(violation)) = run(seed, mutation, false) {
                seen = Some((seed, violation));
                break;
            }
        }
        (mutation, promises, seen)
    }) {
        let (mutation, promises, seen) = results;
        let Some((seed, violation)) = seen else {
            unseen.push(mutation);
            continue;
        };
        println!("{mutation:?}: seed {seed}: {} {:.120}", violation.promise, violation.what);
        assert!(promises.contains(&violation.promise), "{mutation:?} was taken for {violation:?}");
    }
    assert!(unseen.is_empty(), "not seen in {SEEDS_FOR_MUTATION} seeds: {unseen:?}");
}
