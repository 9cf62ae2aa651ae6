//! Who is where: the nodes, each in a network namespace of its own, and the places that fail together. Several
//! daemons on one state stand in a network of their own ([`super::super::apart`]).

use std::net::Ipv4Addr;

/// How many clients there are.
pub const CLIENTS: u8 = 5;
/// How many anchors there are; one that answers is enough.
pub const ANCHORS: u8 = 2;

/// One machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Node {
    /// Serves the clients: the application, and what stands for its database.
    Primary,
    /// The witness beside the primary.
    East,
    /// Would serve the clients after a failover.
    Backup,
    /// `failoverd run`, beside the backup.
    Daemon,
    /// The witness outside of both regions.
    Eu,
    /// Asks the primary, as customers do.
    Client(u8),
    /// Answers, unless the one who asks is cut off.
    Anchor(u8),
    /// One of several daemons on one state.
    Member(u8),
    /// Where those keep their state.
    Store,
}

/// What stands for it in a rule of the firewall, a certificate and a table.
impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Primary => f.write_str("primary"),
            Self::East => f.write_str("witness east"),
            Self::Backup => f.write_str("backup"),
            Self::Daemon => f.write_str("daemon"),
            Self::Eu => f.write_str("witness eu"),
            Self::Client(number) => write!(f, "client {number}"),
            Self::Anchor(number) => write!(f, "anchor {number}"),
            Self::Member(number) => write!(f, "member {number}"),
            Self::Store => f.write_str("store"),
        }
    }
}

/// The three vantages.
pub const VANTAGES: [Node; 3] = [Node::Daemon, Node::East, Node::Eu];

impl Node {
    /// All that stand in two regions.
    pub fn all() -> Vec<Self> {
        let fixed = [Self::Primary, Self::East, Self::Backup, Self::Daemon, Self::Eu];
        let clients = (0..CLIENTS).map(Self::Client);
        fixed.into_iter().chain(clients).chain((0..ANCHORS).map(Self::Anchor)).collect()
    }

    fn number(self) -> u8 {
        match self {
            Self::Primary => 1,
            Self::East => 2,
            Self::Backup => 3,
            Self::Daemon => 4,
            Self::Eu => 5,
            Self::Client(number) => 10 + number,
            Self::Anchor(number) => 20 + number,
            Self::Member(number) => 30 + number,
            Self::Store => 40,
        }
    }

    /// Its own address. Addresses are of the namespaces only, and lead nowhere else.
    pub fn address(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number(), 2)
    }

    /// The router's address on its link.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number(), 1)
    }

    /// Its link, as the router calls it.
    pub fn link(self) -> String {
        format!("n{}", self.number())
    }
}

/// What shares one fate where a network between regions breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The primary's region, with one of the clients.
    A,
    /// The backup's region, with one of the clients.
    B,
    /// A third one, with one of the clients.
    C,
    /// Everything else: two clients, and the anchors.
    Internet,
}

impl Place {
    /// Who is there.
    pub fn nodes(self) -> Vec<Node> {
        match self {
            Self::A => vec![Node::Primary, Node::East, Node::Client(0)],
            Self::B => vec![Node::Backup, Node::Daemon, Node::Client(1)],
            Self::C => vec![Node::Eu, Node::Client(2)],
            Self::Internet => vec![Node::Client(3), Node::Client(4), Node::Anchor(0), Node::Anchor(1)],
        }
    }

    /// Everybody else.
    pub fn others(self) -> Vec<Node> {
        let own = self.nodes();
        Node::all().into_iter().filter(|node| !own.contains(node)).collect()
    }
}
