//! The brain itself is broken on purpose, one way at a time: the simulator has to find each.

use failoverd::model::sabotage::{Sabotage, break_only};

use crate::mutation::Mutation;
use crate::parallel;

/// Within so many seeds.
const SEEDS: u64 = 1_000;

/// The promises of which one has to be seen broken.
fn promises(of: Sabotage) -> &'static [&'static str] {
    match of {
        Sabotage::EpochCheck | Sabotage::LeaseMargin | Sabotage::OldEpochAtTakeOver => &["S3"],
        Sabotage::QuorumCount => &["S4", "S5"],
        Sabotage::IntentOrder => &["S2"],
        Sabotage::RpoGuard => &["S5"],
    }
}

#[test]
fn each_broken_brain_is_found() {
    let all = Sabotage::ALL;
    let found = parallel(all.len() as u64, |index| {
        let broken = all[index as usize];
        break_only(Some(broken));
        let found = (0..SEEDS).find_map(|seed| Some((seed, crate::run(seed, Mutation::None, false).1.err()?)));
        break_only(None);
        (broken, found)
    });
    for (broken, found) in &found {
        let Some((seed, violation)) = found else { continue };
        println!("{broken:?}: seed {seed}: {} {:.160}", violation.promise, violation.what);
        assert!(promises(*broken).contains(&violation.promise), "{broken:?} was taken for {violation:?}");
    }
    let unseen: Vec<_> = found.iter().filter(|(_, found)| found.is_none()).map(|(broken, _)| broken).collect();
    assert!(unseen.is_empty(), "not found in {SEEDS} seeds: {unseen:?}");
}
