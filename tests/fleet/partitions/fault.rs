//! What can break, what that means for the packets, and what it means for the truth.

use std::fmt;
use std::time::Duration;

use super::place::{ANCHORS, Node, Place, VANTAGES};

/// Packets from any of these to any of those are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub from: Vec<Node>,
    pub to: Vec<Node>,
    /// So many of a hundred; 100 is a partition.
    pub percent: u8,
}

/// Between whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pair {
    /// Everybody in one place, and everybody in the other.
    Places(Place, Place),
    /// A vantage, and the primary that it probes.
    Target(Node),
    /// The daemon, and a witness that it asks.
    Vote(Node),
    /// A client, and the primary.
    Client(u8),
    /// A vantage, and all anchors.
    Anchors(Node),
}

/// What of it is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// What the first side sends: an asymmetric partition.
    Forth,
    /// What the second side sends: an asymmetric partition.
    Back,
    /// Everything.
    Both,
    /// So many packets of a hundred, each way.
    Loss(u8),
}

/// What broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A link. The primary goes on serving: never a reason to fail over.
    Link(Pair, How),
    /// A node that is not the primary hears nobody, and is not heard.
    Isolated(Node),
    /// The processes of the primary got SIGKILL: an outage.
    Killed,
    /// The processes of the primary got SIGSTOP: an outage.
    Frozen,
    /// The primary's region is cut off from everybody outside: an outage.
    CutOff(How),
}

/// What broke, and when; from the beginning of its episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub what: What,
    pub from: Duration,
    pub until: Duration,
}

impl Pair {
    /// Both sides of it.
    pub fn sides(self) -> (Vec<Node>, Vec<Node>) {
        match self {
            Self::Places(one, other) => (one.nodes(), other.nodes()),
            Self::Target(vantage) => (vec![vantage], vec![Node::Primary]),
            Self::Vote(witness) => (vec![Node::Daemon], vec![witness]),
            Self::Client(number) => (vec![Node::Client(number)], vec![Node::Primary]),
            Self::Anchors(vantage) => (vec![vantage], (0..ANCHORS).map(Node::Anchor).collect()),
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Self::Places(..) => "region – region",
            Self::Target(_) => "vantage – target",
            Self::Vote(_) => "daemon – witness",
            Self::Client(_) => "client – region",
            Self::Anchors(_) => "vantage – anchors",
        }
    }
}

impl How {
    fn kind(self) -> &'static str {
        match self {
            Self::Forth | Self::Back => "one way",
            Self::Both => "both ways",
            Self::Loss(_) => "loss",
        }
    }
}

impl What {
    /// Its line in the table.
    pub fn kind(self) -> String {
        match self {
            Self::Link(pair, how) => format!("{}, {}", pair.kind(), how.kind()),
            Self::Isolated(_) => "node isolated".to_owned(),
            Self::Killed => "outage: killed".to_owned(),
            Self::Frozen => "outage: frozen".to_owned(),
            Self::CutOff(how) => format!("outage: region cut off, {}", how.kind()),
        }
    }

    /// Does the primary really stop serving?
    pub fn is_outage(self) -> bool {
        matches!(self, Self::Killed | Self::Frozen | Self::CutOff(_))
    }

    /// Is it a partition in one direction only?
    pub fn is_asymmetric(self) -> bool {
        matches!(self, Self::Link(_, How::Forth | How::Back))
    }

    /// What becomes of the packets.
    pub fn rules(self) -> Vec<Rule> {
        let ((one, other), how) = match self {
            Self::Link(pair, how) => (pair.sides(), how),
            Self::Isolated(node) => {
                let others = Node::all().into_iter().filter(|other| *other != node).collect();
                ((vec![node], others), How::Both)
            }
            Self::CutOff(how) => ((Place::A.nodes(), Place::A.others()), how),
            Self::Killed | Self::Frozen => return Vec::new(),
        };
        let rule = |from: &[Node], to: &[Node], percent| Rule { from: from.to_vec(), to: to.to_vec(), percent };
        match how {
            How::Forth => vec![rule(&one, &other, 100)],
            How::Back => vec![rule(&other, &one, 100)],
            How::Both => vec![rule(&one, &other, 100), rule(&other, &one, 100)],
            How::Loss(percent) => vec![rule(&one, &other, percent), rule(&other, &one, percent)],
        }
    }

    /// Does it touch what these two say to each other, in either direction?
    pub fn disturbs(self, one: Node, other: Node) -> bool {
        let covers = |rule: &Rule, from, to| rule.from.contains(&from) && rule.to.contains(&to);
        self.rules().iter().any(|rule| covers(rule, one, other) || covers(rule, other, one))
    }

    /// The vantages that it keeps from seeing the primary, although that serves.
    pub fn blinds(self) -> Vec<Node> {
        let seen = |vantage: &Node| !self.is_outage() && self.disturbs(*vantage, Node::Primary);
        VANTAGES.into_iter().filter(seen).collect()
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(Pair::Places(one, other), how) => write!(f, "region {one:?} – region {other:?}, {how:?}"),
            Self::Link(Pair::Target(vantage), how) => write!(f, "{vantage} – primary, {how:?}"),
            Self::Link(Pair::Vote(witness), how) => write!(f, "daemon – {witness}, {how:?}"),
            Self::Link(Pair::Client(number), how) => write!(f, "client {number} – primary, {how:?}"),
            Self::Link(Pair::Anchors(vantage), how) => write!(f, "{vantage} – anchors, {how:?}"),
            Self::Isolated(node) => write!(f, "{node} isolated"),
            Self::Killed => f.write_str("primary killed"),
            Self::Frozen => f.write_str("primary frozen"),
            Self::CutOff(how) => write!(f, "region A cut off, {how:?}"),
        }
    }
}

/// Can a quorum see an outage, and each other, while nothing but these is broken? That is the daemon and at
/// least one witness which reach each other, an anchor each, and the backup.
pub fn quorum_sees(broken: &[What]) -> bool {
    let clean = |one, other| !broken.iter().any(|what| what.disturbs(one, other));
    let sees = |vantage| {
        let anchor = (0..ANCHORS).any(|number| clean(vantage, Node::Anchor(number)));
        anchor && clean(vantage, Node::Backup)
    };
    sees(Node::Daemon)
        && [Node::East, Node::Eu].into_iter().any(|witness| sees(witness) && clean(Node::Daemon, witness))
}
