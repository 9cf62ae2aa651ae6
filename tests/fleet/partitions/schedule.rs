//! Which faults come when: drawn from a seed, and nothing else.
//!
//! One thing is not drawn: two of the three vantages that are both kept from the primary while it serves.
//! Together they are a quorum, and what a quorum says is the truth by definition: no setting of two of
//! three can tell that from an outage. It takes the network of two regions to fail towards a third, and
//! towards nobody else. One vantage at a time may lie, in whatever way, with anything else around it.

use std::time::Duration;

use super::fault::{Fault, How, Pair, What};
use super::place::{ANCHORS, CLIENTS, Node, Place, VANTAGES};

/// Faults, after which everything is whole again and the daemon has to find its way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Episode {
    pub faults: Vec<Fault>,
}

impl Episode {
    /// When its last fault is over.
    pub fn length(&self) -> Duration {
        self.faults.iter().map(|fault| fault.until).max().unwrap_or_default()
    }
}

/// SplitMix64.
pub struct Rng(u64);

impl Rng {
    /// The same seed, the same numbers.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn millis(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_millis(low + self.below(high - low + 1))
    }
}

fn how(rng: &mut Rng) -> How {
    match rng.below(5) {
        0 => How::Forth,
        1 => How::Back,
        2 | 3 => How::Both,
        _ => How::Loss(30 + rng.below(21) as u8),
    }
}

fn partition(rng: &mut Rng) -> What {
    let pair = match rng.below(12) {
        0 | 1 => Pair::Places(Place::A, rng.pick(&[Place::B, Place::C])),
        2 => Pair::Places(Place::B, rng.pick(&[Place::C, Place::Internet])),
        3 | 4 => Pair::Target(rng.pick(&VANTAGES)),
        5 | 6 => Pair::Vote(rng.pick(&[Node::East, Node::Eu])),
        7 | 8 => Pair::Client(rng.below(u64::from(CLIENTS)) as u8),
        9 => Pair::Anchors(rng.pick(&VANTAGES)),
        _ => {
            let anchor = Node::Anchor(rng.below(u64::from(ANCHORS)) as u8);
            return What::Isolated(rng.pick(&[Node::Daemon, Node::East, Node::Eu, Node::Backup, anchor]));
        }
    };
    What::Link(pair, how(rng))
}

fn outage(rng: &mut Rng) -> What {
    match rng.below(6) {
        0 | 1 => What::Killed,
        2 | 3 => What::Frozen,
        4 => What::CutOff(How::Both),
        _ => What::CutOff(rng.pick(&[How::Forth, How::Back])),
    }
}

fn overlap(one: &Fault, other: &Fault) -> bool {
    one.from < other.until && other.from < one.until
}

/// Would it blind a second vantage at once, or break twice what is broken?
fn fits(fault: &Fault, beside: &[Fault]) -> bool {
    let mut blind = fault.what.blinds();
    for other in beside.iter().filter(|other| overlap(fault, other)) {
        if other.what == fault.what {
            return false;
        }
        blind.extend(other.what.blinds());
    }
    blind.sort_unstable();
    blind.dedup();
    blind.len() <= 1
}

/// The next episode. An outage that lasts is longer than `budget`, the time in which it has to be found.
pub fn draw(rng: &mut Rng, budget: Duration) -> Episode {
    let mut faults = Vec::new();
    let mut length = rng.millis(12_000, 20_000);
    if rng.below(4) > 0 {
        let from = rng.millis(500, 7_000);
        // One in six is over before anybody should act.
        let lasts = match rng.below(6) {
            0 => rng.millis(300, budget.as_millis() as u64 / 2),
            _ => budget + rng.millis(3_000, 10_000),
        };
        faults.push(Fault { what: outage(rng), from, until: from + lasts });
        length = from + lasts + rng.millis(0, 4_000);
    }
    let wanted = 1 + rng.below(4) as usize;
    // Bounded: what does not fit after so many attempts is left out.
    for _ in 0..40 {
        if faults.iter().filter(|fault| !fault.what.is_outage()).count() >= wanted {
            break;
        }
        let from = rng.millis(0, length.as_millis() as u64 - 1_000);
        let until = (from + rng.millis(1_000, 15_000)).min(length);
        let fault = Fault { what: partition(rng), from, until };
        if fits(&fault, &faults) {
            faults.push(fault);
        }
    }
    Episode { faults }
}

/// Every kind at least once, in little more than a minute. The seed chooses directions, ends and losses.
pub fn each_kind(rng: &mut Rng, budget: Duration) -> Vec<Episode> {
    let kinds = |rng: &mut Rng| [rng.pick(&[How::Forth, How::Back]), How::Both, How::Loss(30 + rng.below(21) as u8)];
    let place = rng.pick(&[Place::B, Place::C]);
    let (seer, witness, alone) = (rng.pick(&VANTAGES), rng.pick(&[Node::East, Node::Eu]), rng.pick(&VANTAGES));
    let client = rng.below(u64::from(CLIENTS)) as u8;
    let beside = |one: Pair, other: Pair, rng: &mut Rng| {
        let mut faults = Vec::new();
        for (number, (how, also)) in kinds(rng).into_iter().zip(kinds(rng)).enumerate() {
            let from = Duration::from_millis(3_500) * number as u32;
            let until = from + Duration::from_millis(3_500);
            faults.push(Fault { what: What::Link(one, how), from, until });
            faults.push(Fault { what: What::Link(other, also), from, until });
        }
        Episode { faults }
    };
    let long = budget + Duration::from_secs(3);
    let with_outage = |what, beside: &[What]| {
        let begin = Duration::from_millis(500);
        let outage = Fault { what, from: begin, until: begin + long };
        let others = beside.iter().map(|what| Fault { what: *what, from: Duration::ZERO, until: begin + long });
        Episode { faults: std::iter::once(outage).chain(others).collect() }
    };
    let mut episodes = vec![
        beside(Pair::Places(Place::A, place), Pair::Client(client), rng),
        beside(Pair::Target(seer), Pair::Anchors(rng.pick(&VANTAGES)), rng),
    ];
    let [vote_one_way, vote_both, vote_loss] = kinds(rng).map(|how| What::Link(Pair::Vote(witness), how));
    let alone = Fault { what: What::Isolated(alone), from: Duration::ZERO, until: Duration::from_secs(4) };
    episodes.push(Episode { faults: vec![alone] });
    episodes.push(with_outage(What::Killed, &[vote_one_way]));
    episodes.push(with_outage(What::Frozen, &[vote_both]));
    episodes.push(with_outage(What::CutOff(How::Both), &[]));
    episodes.push(with_outage(What::CutOff(rng.pick(&[How::Forth, How::Back])), &[]));
    // Where a loss falls on the only witness that is left, nobody can say in what time it is seen.
    let loss = Fault { what: vote_loss, from: Duration::ZERO, until: Duration::from_secs(4) };
    episodes.push(Episode { faults: vec![loss] });
    episodes
}
