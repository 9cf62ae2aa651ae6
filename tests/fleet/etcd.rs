//! An etcd cluster of three members, each of which can be killed, frozen, and cut off.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::vantage::certs::{authority, issue};
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
    secured: Option<Secured>,
}

/// A cluster that is reached over TLS, by those who have a certificate of its authority and a password.
struct Secured {
    folder: TempDir,
    /// Where each tells whether it is well, without any of that.
    health: Vec<u16>,
}

/// The user that a daemon is there, who may touch nothing but its prefix.
pub const USER: (&str, &str) = ("shop", "canary-etcd-password");
/// Of the user that makes others.
const ROOT: &str = "root:canary-etcd-root";

impl Etcd {
    /// Starts that many members, and returns when each answers for all.
    pub async fn start(count: usize) -> Result<Self> {
        let node = || Ok(Node { client: port()?, peer: port()?, server: None, dir: scratch_dir("etcd")? });
        let mut this = Self { nodes: (0..count).map(|_| node()).collect::<Result<_>>()?, secured: None };
        this.launch_all().await?;
        Ok(this)
    }

    async fn launch_all(&mut self) -> Result<()> {
        (0..self.nodes.len()).try_for_each(|place| self.launch(place))?;
        for place in 0..self.nodes.len() {
            self.healthy(place).await?;
        }
        Ok(())
    }

    /// The same over TLS, with [`USER`], who may use the keys below `prefix`.
    pub async fn start_secured(count: usize, prefix: &str) -> Result<Self> {
        let folder = scratch_dir("etcd-tls")?;
        authority(folder.path(), 2)?;
        for name in ["server", "client"] {
            issue(folder.path(), &name.into(), &"etcd".into(), &["127.0.0.1".to_owned()], 2)?;
        }
        let health = (0..count).map(|_| port()).collect::<Result<_>>()?;
        let node = || Ok(Node { client: port()?, peer: port()?, server: None, dir: scratch_dir("etcd")? });
        let nodes = (0..count).map(|_| node()).collect::<Result<_>>()?;
        let mut this = Self { nodes, secured: Some(Secured { folder, health }) };
        this.launch_all().await?;
        let (name, password) = USER;
        let made = [
            vec!["user", "add", ROOT],
            vec!["user", "grant-role", "root", "root"],
            vec!["role", "add", name],
            vec!["role", "grant-permission", name, "--prefix=true", "readwrite", prefix],
            vec!["user", "add", name, "--new-user-password", password],
            vec!["user", "grant-role", name, name],
            vec!["auth", "enable"],
        ];
        for arguments in made {
            this.ctl_as(None, &arguments).await?;
        }
        Ok(this)
    }

    /// The files of [`Etcd::start_secured`]: of the authority, and a client's certificate and key.
    pub fn files(&self) -> Option<[PathBuf; 3]> {
        let folder = self.secured.as_ref()?.folder.path();
        Some(["ca.pem", "client.pem", "client.key"].map(|file| folder.join(file)))
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
        let scheme = if self.secured.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", node.client);
        let peer = format!("http://127.0.0.1:{}", node.peer);
        if let Some(Secured { folder, health }) = &self.secured {
            let file = |name: &str| folder.path().join(name).display().to_string();
            etcd.args(["--client-cert-auth", "--trusted-ca-file", &file("ca.pem")])
                .args(["--cert-file", &file("server.pem"), "--key-file", &file("server.key")])
                .args(["--listen-metrics-urls", &format!("http://127.0.0.1:{}", health[place])]);
        }
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
        let answers = self.secured.as_ref().map_or(node.client, |secured| secured.health[place]);
        let url = format!("http://127.0.0.1:{answers}/health");
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

    /// The process of a member.
    pub fn pid(&self, place: usize) -> Result<i32> {
        Ok(self.nodes[place].server.as_ref().context("it does not run")?.pid())
    }

    /// Which member leads the others.
    pub async fn leader(&self) -> Result<usize> {
        let told = self.ctl(&["endpoint", "status", "-w", "json"]).await?;
        let told: Vec<serde_json::Value> = serde_json::from_str(&told)?;
        let leads = |status: &&serde_json::Value| status["Status"]["leader"] == status["Status"]["header"]["member_id"];
        let leader = told.iter().find(leads).and_then(|status| status["Endpoint"].as_str()).context("nobody leads")?;
        let of = |node: &Node| leader.ends_with(&format!(":{}", node.client));
        self.nodes.iter().position(of).context("it is none of ours")
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
        self.ctl_as(self.secured.as_ref().map(|_| ROOT), arguments).await
    }

    async fn ctl_as(&self, user: Option<&str>, arguments: &[&str]) -> Result<String> {
        let endpoints: Vec<String> = self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.client)).collect();
        let mut ctl = command("etcdctl");
        ctl.env("ETCDCTL_API", "3").args(["--endpoints", &endpoints.join(",")]).args(arguments);
        if let Some([authority, certificate, key]) = self.files() {
            ctl.arg("--cacert").arg(authority).arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        if let Some(user) = user {
            ctl.args(["--user", user]);
        }
        run(ctl, Duration::from_secs(20)).await
    }

    /// [`USER`] has another password, and none of its logins counts any more.
    pub async fn change_password(&self, password: &str) -> Result<()> {
        let name = USER.0;
        self.ctl(&["user", "delete", name]).await?;
        self.ctl(&["user", "add", name, "--new-user-password", password]).await?;
        self.ctl(&["user", "grant-role", name, name]).await.map(drop)
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
