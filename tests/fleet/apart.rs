//! Several daemons, each in a network namespace of its own, and the store in another one: what goes between a
//! daemon and the store is packets, which a firewall loses one by one, as it is told.
//!
//! ```text
//!   member 0 ──┐
//!   member 1 ──┼─ router (nftables) ── store: a way to each member of the etcd cluster
//!   member 2 ──┘
//! ```
//! The counterparts themselves stay on the loopback of the machine. What a daemon reaches there without loss is
//! passed on by a gate: a proxy that listens on the daemon's own loopback, at the same port. Nothing of the
//! machine's network is changed, and there is no route out of a namespace.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;

use anyhow::{Context, Result};
use regex::Regex;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::partitions::fault::Rule;
use super::partitions::net::Network;
use super::partitions::place::Node;
use super::proxy::{End, Mode, Proxy};

/// A network namespace, for sockets that this process makes in it.
#[derive(Clone)]
pub struct Namespace(Arc<File>);

impl Namespace {
    /// That of a process.
    pub fn of(pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/ns/net");
        Ok(Self(Arc::new(File::open(&path).with_context(|| path)?)))
    }

    /// Does something there: on a thread of its own, since a thread that has gone there stays.
    pub fn within<T: Send>(&self, what: impl FnOnce() -> std::io::Result<T> + Send) -> std::io::Result<T> {
        let there = || {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
            what()
        };
        std::thread::scope(|scope| scope.spawn(there).join()).map_err(|_| std::io::Error::other("it panicked"))?
    }
}

/// The network of the daemons.
pub struct Apart {
    network: Network,
    gates: Vec<(usize, Proxy)>,
}

/// Which loses what.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    /// What members send to the store.
    Forth,
    /// What the store answers.
    Back,
}

/// Of a handful.
fn member(place: usize) -> Node {
    Node::Member(u8::try_from(place).unwrap_or(u8::MAX))
}

impl Apart {
    /// Makes it, for so many.
    pub async fn start(members: usize) -> Result<Self> {
        let nodes: Vec<Node> = (0..members).map(member).chain([Node::Store]).collect();
        Ok(Self { network: Network::of(&nodes).await?, gates: Vec::new() })
    }

    /// Lets a daemon reach each address of the machine's loopback that stands in one of these texts.
    pub async fn open_gates(&mut self, place: usize, texts: &[String]) -> Result<()> {
        let address = Regex::new(r"(?:127\.0\.0\.1|localhost):(\d+)").context("a pattern")?;
        let ports: BTreeSet<u16> = texts
            .iter()
            .flat_map(|text| address.captures_iter(text).map(|found| found[1].parse()))
            .collect::<Result<_, _>>()?;
        for port in ports {
            let gate = Proxy::between(End::local(Some(self.of(place)?), port), End::local(None, port)).await;
            self.gates.push((place, gate.with_context(|| format!("a gate at {port} of {}", member(place)))?));
        }
        Ok(())
    }

    /// From now on a daemon reaches nothing but the store; what it has open is reset.
    pub async fn close_gates(&self, place: usize) -> Result<()> {
        for (_, gate) in self.gates.iter().filter(|(of, _)| *of == place) {
            gate.set(Mode::Refuse).await?;
        }
        Ok(())
    }

    fn of(&self, place: usize) -> Result<Namespace> {
        self.network.namespace(member(place))
    }

    /// A port on a daemon's own loopback.
    pub fn port_of(&self, place: usize, port: u16) -> Result<End> {
        Ok(End::local(Some(self.of(place)?), port))
    }

    /// Where the store is reached, at that port.
    pub fn at_store(&self, port: u16) -> Result<End> {
        Ok(End {
            net: Some(self.network.namespace(Node::Store)?),
            at: SocketAddr::new(Node::Store.address().into(), port),
        })
    }

    /// The words that come before a program that is to run where this daemon is.
    pub fn prefix(&self, place: usize) -> Result<Vec<String>> {
        self.network.prefix(member(place))
    }

    /// From now on exactly these are lost, so many of a hundred: what goes which way between these members and
    /// the store.
    pub async fn lose(&self, percent: u8, ways: &[Way], places: &[usize]) -> Result<()> {
        let members: Vec<Node> = places.iter().copied().map(member).collect();
        let rule = |way: &Way| match way {
            Way::Forth => Rule { from: members.clone(), to: vec![Node::Store], percent },
            Way::Back => Rule { from: vec![Node::Store], to: members.clone(), percent },
        };
        let rules: Vec<Rule> = ways.iter().map(rule).collect();
        self.network.apply(&rules).await
    }

    /// How many packets were lost since then.
    pub async fn lost(&self) -> Result<u64> {
        self.network.lost().await
    }
}
