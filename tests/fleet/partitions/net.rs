//! The namespaces, the links between them, and the firewall that breaks those.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::fault::Rule;
use super::place::Node;
use crate::fleet::apart::Namespace;
use crate::fleet::child::{Proc, command, run};
use crate::fleet::{START, scratch_dir};

/// The router with its links. All of it is gone when this is dropped, or when we die.
pub struct Network {
    router: Proc,
    nodes: BTreeMap<Node, Proc>,
    dir: tempfile::TempDir,
}

impl Network {
    /// Makes it, with these nodes. Needs root, iproute2, util-linux and nftables.
    pub async fn of(wanted: &[Node]) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "network namespaces need root");
        let dir = scratch_dir("net")?;
        let router = namespace("router", dir.path()).await?;
        let mut nodes = BTreeMap::new();
        for node in wanted.iter().copied() {
            nodes.insert(node, namespace(&node.link(), dir.path()).await?);
        }
        let network = Self { router, nodes, dir };
        let script = network.dir.path().join("links.sh");
        std::fs::write(&script, network.links())?;
        let mut shell = inside(&network.router, "sh");
        shell.arg("-eu").arg(&script);
        run(shell, START).await.context("connecting the namespaces")?;
        network.apply(&[]).await?;
        Ok(network)
    }

    /// A program that will run where this node is.
    pub fn within(&self, node: Node, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        let holder = self.nodes.get(&node).with_context(|| format!("there is no {node}"))?;
        Ok(inside(holder, program))
    }

    /// Where this node is, for sockets of our own.
    pub fn namespace(&self, node: Node) -> Result<Namespace> {
        let holder = self.nodes.get(&node).with_context(|| format!("there is no {node}"))?;
        Namespace::of(holder.pid())
    }

    /// The words that come before a program that is to run where this node is.
    pub fn prefix(&self, node: Node) -> Result<Vec<String>> {
        let command = self.within(node, "")?;
        let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
        Ok(words.filter(|word| !word.is_empty()).collect())
    }

    fn links(&self) -> String {
        let mut script = "echo 1 > /proc/sys/net/ipv4/ip_forward\n".to_owned();
        for (node, holder) in &self.nodes {
            let (link, pid, own, gateway) = (node.link(), holder.pid(), node.address(), node.gateway());
            script.push_str(&format!(
                "ip link add {link} type veth peer name eth0 netns {pid}\n\
                 ip addr add {gateway}/24 dev {link}\n\
                 ip link set {link} up\n\
                 nsenter -t {pid} -n sh -euc 'ip link set lo up; ip addr add {own}/24 dev eth0; \
                 ip link set eth0 up; ip route add default via {gateway}'\n"
            ));
        }
        script
    }

    /// From now on exactly these packets are lost; one transaction.
    pub async fn apply(&self, rules: &[Rule]) -> Result<()> {
        let file = self.dir.path().join("rules.nft");
        std::fs::write(&file, table(rules))?;
        let mut nft = inside(&self.router, "nft");
        nft.arg("-f").arg(&file);
        run(nft, START).await.map(drop).context("setting the firewall (nftables)")
    }

    /// How many packets were lost since the rules were set.
    pub async fn lost(&self) -> Result<u64> {
        let mut nft = inside(&self.router, "nft");
        nft.args(["list", "table", "ip", "partitions"]);
        Ok(dropped(&run(nft, START).await?))
    }
}

/// The packets that the rules of the firewall have dropped since they were set.
fn dropped(listing: &str) -> u64 {
    let count = |(_, rest): (&str, &str)| rest.split_whitespace().next()?.parse::<u64>().ok();
    listing.lines().filter_map(|line| line.split_once("counter packets ").and_then(count)).sum()
}

async fn namespace(name: &str, dir: &Path) -> Result<Proc> {
    let mut program = command("unshare");
    program.args(["-n", "sleep", "infinity"]);
    let mut holder = Proc::start(&format!("the namespace {name}"), program, &dir.join(format!("{name}.log")))?;
    let ours = std::fs::read_link("/proc/self/ns/net")?;
    let its = format!("/proc/{}/ns/net", holder.pid());
    holder
        .ready(START, "a namespace of its own", async || {
            ensure!(std::fs::read_link(&its)? != ours, "it is in ours still");
            Ok(())
        })
        .await?;
    Ok(holder)
}

fn inside(holder: &Proc, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = command("nsenter");
    command.args(["-t", &holder.pid().to_string(), "-n"]).arg(program);
    command
}

fn table(rules: &[Rule]) -> String {
    let addresses = |nodes: &[Node]| {
        let texts: Vec<String> = nodes.iter().map(|node| node.address().to_string()).collect();
        texts.join(", ")
    };
    // Made first, so that there is one to be deleted also at the first time.
    let mut text = "table ip partitions\ndelete table ip partitions\ntable ip partitions {\n  chain forward {\n    \
                    type filter hook forward priority 0; policy accept;\n"
        .to_owned();
    for Rule { from, to, percent } in rules {
        let share = if *percent >= 100 { String::new() } else { format!("numgen random mod 100 < {percent} ") };
        let (from, to) = (addresses(from), addresses(to));
        text.push_str(&format!("    ip saddr {{ {from} }} ip daddr {{ {to} }} {share}counter drop\n"));
    }
    text.push_str("  }\n}\n");
    text
}
