//! An etcd cluster of three members, each of which can be killed, frozen, and cut off.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tempfile::TempDir;

use super::child::{Proc, command, run};
use super::{START, eventually, http, port, scratch_dir};

struct Node {
    client: u16,
    peer: u16,
    server: Option<Proc>,
    dir: TempDir,
}

/// The cluster.
pub struct Etcd {
    nodes: Vec<Node>,
}

impl Etcd {
    /// Starts that many members, and returns when each answers for all.
    pub async fn start(count: usize) -> Result<Self> {
        let node = || Ok(Node { client: port()?, peer: port()?, server: None, dir: scratch_dir("etcd")? });
        let mut this = Self { nodes: (0..count).map(|_| node()).collect::<Result<_>>()? };
        (0..count).try_for_each(|place| this.launch(place))?;
        for place in 0..count {
            this.healthy(place).await?;
        }
        Ok(this)
    }

    fn launch(&mut self, place: usize) -> Result<()> {
        let all: Vec<String> = self
            .nodes
            .iter()
            .enumerate()
            .map(|(place, node)| format!("n{place}=http://127.0.0.1:{}", node.peer))
            .collect();
        let node = &mut self.nodes[place];
        let mut etcd = command("etcd");
        let (client, peer) = (format!("http://127.0.0.1:{}", node.client), format!("http://127.0.0.1:{}", node.peer));
        etcd.args(["--name", &format!("n{place}"), "--data-dir", &node.dir.path().join("data").display().to_string()])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"])
            .args([
                "--heartbeat-interval",
                "50",
                "--election-timeout",
                "500",
                "--logger",
                "zap",
                "--log-level",
                "error",
            ]);
        node.server = Some(Proc::start("etcd", etcd, &node.dir.path().join("log"))?);
        Ok(())
    }

    /// Waits until this member answers for a quorum.
    pub async fn healthy(&mut self, place: usize) -> Result<()> {
        let node = &mut self.nodes[place];
        let url = format!("http://127.0.0.1:{}/health", node.client);
        let server = node.server.as_mut().context("it does not run")?;
        server
            .ready(START, "etcd to answer", async || {
                let text = http().get(&url).send().await?.text().await?;
                ensure!(text.contains("\"true\""), "{text}");
                Ok(())
            })
            .await
    }

    /// The port for clients of a member.
    pub fn port(&self, place: usize) -> u16 {
        self.nodes[place].client
    }

    /// SIGKILL.
    pub fn kill9(&mut self, place: usize) {
        if let Some(mut server) = self.nodes[place].server.take() {
            server.kill9();
        }
    }

    /// Back again, with what it has on disk.
    pub async fn restart(&mut self, place: usize) -> Result<()> {
        self.launch(place)?;
        self.healthy(place).await
    }

    /// The same, without waiting: alone it has no quorum.
    pub fn launch_again(&mut self, place: usize) -> Result<()> {
        self.launch(place)
    }

    /// STOP, CONT.
    pub fn signal(&mut self, place: usize, signal: Signal) -> Result<()> {
        self.nodes[place].server.as_mut().context("it does not run")?.signal(signal)
    }

    /// `etcdctl`, at all members.
    pub async fn ctl(&self, arguments: &[&str]) -> Result<String> {
        let endpoints: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.client)).collect();
        let mut ctl = command("etcdctl");
        ctl.env("ETCDCTL_API", "3").args(["--endpoints", &endpoints.join(",")]).args(arguments);
        run(ctl, Duration::from_secs(20)).await
    }

    /// The value of a key; empty where there is none.
    pub async fn value(&self, key: &str) -> Result<String> {
        Ok(self.ctl(&["get", key, "--print-value-only"]).await?.trim().to_owned())
    }

    /// Waits for a key to have a value that is as wanted.
    pub async fn wait_value(&self, what: &str, key: &str, holds: impl Fn(&str) -> bool) -> Result<String> {
        eventually(START, what, async || {
            let value = self.value(key).await?;
            ensure!(holds(&value), "it is {value:?}");
            Ok(value)
        })
        .await
    }
}
