//! Every kind of partition and outage once, between real vantages in network namespaces: a campaign in
//! little more than a minute. `cargo bench --bench daemon -- campaign` plays a long one, at random.

use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::model::{Health, Truth};

use crate::fleet::partitions::arena::Arena;
use crate::fleet::partitions::fault::{Fault, How, Pair, What, quorum_sees};
use crate::fleet::partitions::judge::{Found, Report, judge};
use crate::fleet::partitions::part::{self, Myself};
use crate::fleet::partitions::place::{Node, Place};
use crate::fleet::partitions::record::{Asked, Broken, Budget, Record, Seen};
use crate::fleet::partitions::schedule::{Episode, Rng, draw, each_kind};

/// The directions, ends and losses that are tried.
const SEED: u64 = 4;
/// More than in the bench: other tests run beside this one.
const MARGIN: Duration = Duration::from_secs(2);
const SECOND: i64 = 1_000_000;

#[test]
#[ignore = "only in the namespaces that another test of this file makes"]
fn part_of_it() {
    part::play().unwrap();
}

#[tokio::test]
async fn no_partition_fails_over_and_each_outage_does() -> Result<()> {
    let arguments = ["partitions::part_of_it", "--exact", "--ignored", "--nocapture"].map(str::to_owned).to_vec();
    let mut arena = Arena::start(env!("CARGO_BIN_EXE_failoverd").into(), Myself { arguments }).await?;
    let budget = arena.budget().await?;
    for episode in each_kind(&mut Rng::new(SEED), budget.whole()) {
        arena.play(&episode).await?;
    }
    let report = judge(&arena.record()?, budget, MARGIN);
    ensure!(report.violations.is_empty(), "seed {SEED}:\n{}", report.violations.join("\n"));
    ensure!(report.outages.len() == 4 && report.failovers <= 4, "{:?}", report.outages);
    let found = report.ended(|found| matches!(found, Found::InTime(_) | Found::Stalled));
    ensure!(found == 4, "each of them can be seen by a quorum: {:?}", report.outages);
    // A false failover would be told. There is one way to get it: two of the three are a quorum, and nobody
    // can tell them that they are both wrong.
    let until = budget.whole() + Duration::from_secs(3);
    let blind = |vantage| Fault { what: What::Link(Pair::Target(vantage), How::Both), from: Duration::ZERO, until };
    arena.play(&Episode { faults: vec![blind(Node::Daemon), blind(Node::Eu)] }).await?;
    let report = judge(&arena.record()?, budget, MARGIN);
    ensure!(report.wrong_failovers == 1 && report.wrong_verdicts == 1, "{:?}", report.violations);
    Ok(())
}

const BUDGET: Budget = Budget {
    detection: Duration::from_secs(1),
    confirm_for: Duration::from_secs(3),
    last_look: Duration::from_secs(1),
};

/// A minute in which the first `served` of five clients are answered, but nobody from `from` to `until`.
fn minute(served: usize, from: i64, until: i64) -> Record {
    let ask = |client: usize, number: i64| {
        let at = number * SECOND / 5;
        let silent = client >= served || (from * SECOND..until * SECOND).contains(&at);
        Asked { at, answered: (!silent).then_some(at + 1_000) }
    };
    let clients = (0..5).map(|client| (0..300).map(|number| ask(client, number)).collect()).collect();
    Record { clients, ..Record::default() }
}

fn broken(what: What, from: i64, until: i64) -> Broken {
    Broken { what, from: from * SECOND, until: until * SECOND }
}

fn judged(record: &Record) -> Report {
    judge(record, BUDGET, Duration::from_secs(1))
}

#[test]
fn a_failover_is_false_where_a_majority_was_served_all_the_time() {
    let mut record = minute(3, 0, 0);
    record.failovers = vec![30 * SECOND];
    assert_eq!((judged(&record).wrong_failovers, judged(&record).violations.len()), (1, 1), "three of five are served");
    let record = Record { clients: minute(2, 0, 0).clients, ..record };
    assert_eq!(judged(&record).wrong_failovers, 0, "two of five are no majority");
    // Back for two seconds of the three before it.
    let record = Record { clients: minute(5, 20, 28).clients, ..record };
    assert_eq!((judged(&record).wrong_failovers, judged(&record).hasty_failovers), (0, 1));
    let record = Record { clients: minute(5, 20, 26).clients, ..record };
    assert_eq!(judged(&record).wrong_failovers, 1);
}

#[test]
fn an_outage_has_to_be_found_where_a_quorum_can_see_it_for_long_enough() {
    let find = |faults: &[Broken], failovers: &[i64]| {
        let failovers = failovers.iter().map(|at| at * SECOND).collect();
        let record = Record { faults: faults.to_vec(), failovers, ..minute(5, 20, 40) };
        judged(&record).outages[0].1
    };
    let killed = broken(What::Killed, 20, 40);
    assert_eq!(find(std::slice::from_ref(&killed), &[25]), Found::InTime(5.0));
    assert_eq!(find(std::slice::from_ref(&killed), &[27]), Found::Missed, "too late");
    assert_eq!(find(std::slice::from_ref(&killed), &[]), Found::Missed);
    assert_eq!(find(&[broken(What::Killed, 20, 25)], &[]), Found::NotToBeSeen, "too short");
    let cut = |from, until| broken(What::Isolated(Node::Daemon), from, until);
    assert_eq!(find(&[killed.clone(), cut(10, 40)], &[]), Found::NotToBeSeen, "nobody hears the others");
    assert_eq!(find(&[killed.clone(), cut(24, 25)], &[]), Found::Missed, "after it there was time enough");
    assert_eq!(find(&[killed.clone(), cut(24, 25)], &[34]), Found::AfterPartition, "four seconds to settle");
    let mended = |normal: &[i64]| {
        let normal = normal.iter().map(|at| at * SECOND).collect();
        let faults = vec![broken(What::Killed, 20, 27), cut(10, 18)];
        judged(&Record { faults, normal, ..minute(5, 20, 27) }).outages[0].1
    };
    assert_eq!((mended(&[]), mended(&[19])), (Found::NotToBeSeen, Found::Missed), "known to be whole since");
    assert_eq!(find(&[killed.clone(), cut(10, 40)], &[30]), Found::Anyway);
    let one_witness = broken(What::Link(Pair::Vote(Node::Eu), How::Both), 10, 50);
    assert_eq!(find(&[killed, one_witness.clone()], &[]), Found::Missed, "the other one is there");
    let region = broken(What::CutOff(How::Forth), 20, 40);
    assert_eq!(find(&[region, one_witness], &[]), Found::NotToBeSeen, "the other one is cut off with the region");
}

#[test]
fn a_partition_may_end_in_inconclusive_at_most() {
    let seen = |at: i64, health| Seen {
        at: at * SECOND,
        verdicts: vec![Health::Up, health],
        condition: Truth::False,
        stalled: false,
        line: String::new(),
    };
    let wrong = |what, health| {
        let faults = vec![broken(what, 10, 20)];
        let seen = vec![seen(0, Health::Up), seen(15, health), seen(16, health), seen(21, Health::Up)];
        let report = judged(&Record { faults, seen, ..minute(5, 0, 0) });
        (report.wrong_verdicts, report.asymmetric_verdicts)
    };
    let link = |how| What::Link(Pair::Places(Place::A, Place::B), how);
    assert_eq!(wrong(link(How::Forth), Health::Unknown), (0, 0));
    assert_eq!(wrong(link(How::Forth), Health::Down), (1, 1), "once, and not each time that it is told");
    assert_eq!(wrong(link(How::Both), Health::Down), (1, 0));
    assert_eq!(wrong(What::Killed, Health::Down), (0, 0), "it is right");
}

#[test]
fn a_seed_draws_the_same_again_and_never_two_vantages_that_are_blind_at_once() {
    let whole = BUDGET.whole();
    let drawn = |seed| {
        let mut rng = Rng::new(seed);
        (0..50).map(|_| draw(&mut rng, whole)).collect::<Vec<_>>()
    };
    assert_eq!(drawn(7), drawn(7));
    assert_ne!(drawn(7), drawn(8));
    let mut kinds = std::collections::BTreeSet::new();
    for fault in (0..20).flat_map(drawn).flat_map(|episode| {
        for fault in &episode.faults {
            let beside = episode.faults.iter().filter(|other| other.from < fault.until && fault.from < other.until);
            let mut blind: Vec<Node> = beside.flat_map(|other| other.what.blinds()).collect();
            blind.sort();
            blind.dedup();
            let own = fault.what.blinds();
            assert!(own.is_empty() || blind == own, "{episode:?}");
        }
        episode.faults
    }) {
        assert!(fault.from < fault.until, "{fault:?}");
        kinds.insert(fault.what.kind());
    }
    let each: std::collections::BTreeSet<String> = each_kind(&mut Rng::new(SEED), whole)
        .iter()
        .flat_map(|episode| episode.faults.iter().map(|fault| fault.what.kind()))
        .collect();
    assert_eq!(kinds, each, "both know every kind");
    assert_eq!(each.len(), 5 * 3 + 1 + 4);
}

#[test]
fn a_quorum_needs_the_daemon_a_witness_their_anchors_and_the_backup() {
    assert!(quorum_sees(&[What::Isolated(Node::East), What::Killed, What::Isolated(Node::Anchor(0))]));
    assert!(quorum_sees(&[What::CutOff(How::Both), What::Link(Pair::Target(Node::Eu), How::Both)]));
    for blind in [Node::Daemon, Node::Backup] {
        assert!(!quorum_sees(&[What::Isolated(blind)]), "{blind}");
    }
    assert!(!quorum_sees(&[What::CutOff(How::Both), What::Isolated(Node::Eu)]));
    assert!(!quorum_sees(&[What::Isolated(Node::Anchor(0)), What::Isolated(Node::Anchor(1))]));
    assert!(!quorum_sees(&[What::Link(Pair::Anchors(Node::Daemon), How::Loss(30))]));
}
