//! Three daemons on one state: an etcd cluster of three, a world to fail over, and a proxy on each way that a
//! daemon goes to the cluster or to another daemon.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use failoverd::control::client::Client;
use failoverd::core::view::{MembershipView, StatusView};
use failoverd::model::Health;
use failoverd::model::Record;
use failoverd::state::read_records;

use super::apart::Apart;
use super::etcd::Etcd;
use super::process::{Failoverd, Finished, Running};
use super::proxy::{End, Mode, Proxy};
use super::world::World;
use super::{eventually, port};

/// Of the members.
pub const NAMES: [&str; 3] = ["a", "b", "c"];
/// Of the lease.
pub const TTL: Duration = Duration::from_secs(4);
/// Nothing that is waited for takes longer on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A replacement in the text of `demo.toml`.
pub type Edit = (&'static str, &'static str);

const QUICK: &[Edit] = &[
    ("startup_grace = \"1s\"", "startup_grace = \"300ms\"\ntilt_for = \"200ms\""),
    (
        "interval = \"200ms\"\ntimeout = \"500ms\"\nfall = 3\nrise = 2",
        "interval = \"400ms\"\ntimeout = \"2s\"\nfall = 2\nrise = 1",
    ),
    ("confirm_for = \"1s\"", "confirm_for = \"300ms\""),
    ("for = \"500ms\"", "for = \"100ms\""),
    // Of a primary that was seen up by others after the newest look at the standby, nobody can tell that nothing
    // was lost; who leads next may have looked a moment ago.
    ("rpo = \"0s\"", "rpo = \"30s\""),
];

/// One member.
pub struct Member {
    pub running: Running,
    pub client: Client,
}

/// Everything.
pub struct Team {
    pub world: World,
    pub etcd: Etcd,
    binary: PathBuf,
    /// From each daemon to each member of the etcd cluster.
    ways: Vec<Vec<Proxy>>,
    /// Before each daemon, where the others ask it for its votes.
    doors: Vec<Proxy>,
    ports: Vec<u16>,
    pub members: [Option<Member>; 3],
    /// Of all members, or of one.
    env: Vec<(Option<usize>, String, String)>,
    /// Where each daemon is in a network namespace of its own.
    apart: Option<Apart>,
}

impl Team {
    /// Everything but the daemons.
    pub async fn prepare(binary: impl Into<PathBuf>, kube: super::kube::Kube, edits: &[Edit]) -> Result<Self> {
        Self::prepare_on(Etcd::start(3), binary, kube, edits).await
    }

    /// The same, on this cluster.
    pub async fn prepare_on(
        etcd: impl Future<Output = Result<Etcd>>,
        binary: impl Into<PathBuf>,
        kube: super::kube::Kube,
        edits: &[Edit],
    ) -> Result<Self> {
        Self::prepare_in(None, etcd, binary, kube, edits).await
    }

    /// The same, where packets between the daemons and the store can be lost. Needs root.
    pub async fn prepare_apart(binary: impl Into<PathBuf>, kube: super::kube::Kube, edits: &[Edit]) -> Result<Self> {
        let apart = Apart::start(3).await?;
        let mut this = Self::prepare_in(Some(apart), Etcd::start(3), binary, kube, edits).await?;
        let mut texts: Vec<String> = this.world.env().into_iter().map(|(_, value)| value).collect();
        texts.push(std::fs::read_to_string(this.world.kube.kubeconfig())?);
        texts.extend(this.doors.iter().map(|door| door.addr().to_string()));
        for place in 0..3 {
            this.apart.as_mut().context("it is there")?.open_gates(place, &texts).await?;
        }
        Ok(this)
    }

    async fn prepare_in(
        apart: Option<Apart>,
        etcd: impl Future<Output = Result<Etcd>>,
        binary: impl Into<PathBuf>,
        kube: super::kube::Kube,
        edits: &[Edit],
    ) -> Result<Self> {
        let (world, etcd) = tokio::join!(World::start(kube), etcd);
        let (world, etcd) = (world?, etcd?);
        for delay in ["rds_promote", "route53_insync"] {
            world.moto.set_delay(delay, Duration::from_millis(100)).await?;
        }
        world.inbox().await?;
        let (mut ways, mut doors, mut ports) = (Vec::new(), Vec::new(), Vec::new());
        for place in 0..3 {
            let mut of_daemon = Vec::new();
            for node in 0..3 {
                let way = match &apart {
                    None => End::local(None, port()?),
                    Some(apart) => apart.at_store(port()?)?,
                };
                of_daemon.push(Proxy::between(way, End::local(None, etcd.port(node))).await?);
            }
            ways.push(of_daemon);
            let own = port()?;
            let target = match &apart {
                None => End::local(None, own),
                Some(apart) => apart.port_of(place, own)?,
            };
            doors.push(Proxy::between(End::local(None, port()?), target).await?);
            ports.push(own);
        }
        let (binary, members) = (binary.into(), [None, None, None]);
        let this = Self { world, etcd, binary, ways, doors, ports, members, env: Vec::new(), apart };
        this.configure(edits)?;
        let folder = this.dir().display().to_string();
        this.finish(&["certs", "init", "--folder", &folder]).await?;
        for name in NAMES {
            let domain = format!("zone-{name}");
            let issue = ["certs", "issue", name, "--domain", &domain, "--host", "127.0.0.1", "--folder", &folder];
            this.finish(&issue).await?;
        }
        Ok(this)
    }

    /// All three daemons run, everything is up, and one of them leads.
    pub async fn start(binary: impl Into<PathBuf>, kube: super::kube::Kube, edits: &[Edit]) -> Result<Self> {
        let mut this = Self::prepare(binary, kube, edits).await?;
        (0..3).try_for_each(|place| this.life(place, None))?;
        this.settled().await?;
        Ok(this)
    }

    /// Where the daemons are in namespaces of their own.
    pub fn apart(&self) -> Result<&Apart> {
        self.apart.as_ref().context("its daemons share the network of the machine")
    }

    async fn finish(&self, verb: &[&str]) -> Result<Finished> {
        let done = Failoverd::new(&self.binary).args(verb).run(Duration::from_secs(30)).await?;
        ensure!(done.status.success(), "{verb:?}: {done:?}");
        Ok(done)
    }

    pub fn dir(&self) -> &Path {
        self.world.dir()
    }

    /// Writes the configuration anew, from the start.
    pub fn configure(&self, edits: &[Edit]) -> Result<()> {
        let mut text = std::fs::read_to_string(World::config())?;
        for (from, to) in QUICK.iter().chain(edits) {
            ensure!(text.matches(from).count() == 1, "{from:?} does not stand in the configuration exactly once");
            text = text.replace(from, to);
        }
        let members: Vec<String> = NAMES
            .iter()
            .enumerate()
            .map(|(place, name)| {
                let (door, own) = (self.doors[place].port(), self.ports[place]);
                format!(
                    "[members.{name}]\ndomain = \"zone-{name}\"\nurl = \"https://127.0.0.1:{door}\"\nlisten = \"127.0.0.1:{own}\"\n"
                )
            })
            .collect();
        let dir = self.dir().display();
        text.push_str(&format!(
            "\n[quorum]\nvantages = 2\n[etcd]\nttl = \"{}s\"\n[vantage_tls]\nca_file = \"{dir}/ca.pem\"\n\
             certificate_file = \"{dir}/none.pem\"\nkey_file = \"{dir}/none.key\"\n{}",
            TTL.as_secs(),
            members.join("")
        ));
        std::fs::write(self.dir().join("failoverd.toml"), text).context("writing the configuration")
    }

    /// A variable of every life from here on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.env.push((None, name.to_owned(), value.to_owned()));
    }

    /// The same, of one member.
    pub fn set_env_of(&mut self, place: usize, name: &str, value: &str) {
        self.env.push((Some(place), name.to_owned(), value.to_owned()));
    }

    /// A member's own file.
    pub fn local(&self, place: usize) -> PathBuf {
        self.dir().join(format!("{}.db", NAMES[place]))
    }

    /// A verb as it is given on the machine of a member.
    pub fn verb(&self, place: usize, args: &[&str]) -> Failoverd {
        let dir = self.dir();
        let own = |kind: &str| dir.join(format!("{}.{kind}", NAMES[place])).display().to_string();
        let ways: Vec<String> = self.ways[place].iter().map(|way| way.addr().to_string()).collect();
        let program = match self.apart.as_ref().map(|apart| apart.prefix(place)) {
            None => Failoverd::new(&self.binary),
            Some(prefix) => Failoverd::new("nsenter").args(prefix.expect("it is one of them")).arg(&self.binary),
        };
        let env = self.env.iter().filter(|(of, ..)| of.is_none_or(|of| of == place));
        program
            .args(args)
            .arg("--config")
            .arg(dir.join("failoverd.toml"))
            .envs(self.world.env())
            .env("FAILOVERD__DAEMON__NAME", NAMES[place])
            .env("FAILOVERD__DAEMON__STATE", format!("etcd://{}/shop", ways.join(",")))
            .env("FAILOVERD__DAEMON__SOCKET", own("sock"))
            .env("FAILOVERD__ETCD__LOCAL", self.local(place))
            .env("FAILOVERD__VANTAGE_TLS__CERTIFICATE_FILE", own("pem"))
            .env("FAILOVERD__VANTAGE_TLS__KEY_FILE", own("key"))
            .env("FAILOVERD__READINESS__EVERY", "0s")
            .envs(env.map(|(_, name, value)| (name, value)))
    }

    /// A life of a member; one that ends at a crash point where one is named.
    pub fn life(&mut self, place: usize, crash_at: Option<&str>) -> Result<()> {
        let crash_at = crash_at.map(|at| (failoverd::state::crash::VARIABLE, at));
        let running = self.verb(place, &["run"]).envs(crash_at).start()?;
        let client = Client::new(&self.dir().join(format!("{}.sock", NAMES[place])))?;
        self.members[place] = Some(Member { running, client });
        Ok(())
    }

    pub fn member(&mut self, place: usize) -> &mut Member {
        self.members[place].as_mut().expect("it runs")
    }

    /// SIGKILL for a member.
    pub fn kill9(&mut self, place: usize) {
        if let Some(mut member) = self.members[place].take() {
            member.running.kill9();
        }
    }

    /// All ways of a member to the etcd cluster.
    pub async fn cut(&self, place: usize, mode: Mode) -> Result<()> {
        for way in &self.ways[place] {
            way.set(mode).await?;
        }
        Ok(())
    }

    /// One way of a member to the cluster.
    pub async fn cut_way(&self, place: usize, node: usize, mode: Mode) -> Result<()> {
        self.ways[place][node].set(mode).await
    }

    /// The way on which a member is asked for its votes.
    pub async fn shut(&self, place: usize, mode: Mode) -> Result<()> {
        self.doors[place].set(mode).await
    }

    /// Waits for something in the status of a member.
    pub async fn status(
        &mut self,
        place: usize,
        what: &str,
        mut holds: impl FnMut(&StatusView) -> Result<()>,
    ) -> Result<StatusView> {
        let Member { running, client } = self.member(place);
        running
            .ready(PATIENCE, &format!("{what} at {}", NAMES[place]), async || {
                let status = client.status().await?;
                holds(&status)?;
                Ok(status)
            })
            .await
    }

    /// Waits until exactly one of those that run leads, all that can reach the cluster know it, and says which.
    pub async fn leader(&mut self) -> Result<usize> {
        self.leader_among(&[0, 1, 2]).await
    }

    /// The same of some.
    pub async fn leader_among(&mut self, places: &[usize]) -> Result<usize> {
        let started = Instant::now();
        loop {
            let mut leading = Vec::new();
            let mut seen = Vec::new();
            for place in places.iter().copied().filter(|place| self.members[*place].is_some()).collect::<Vec<_>>() {
                let name = NAMES[place];
                let members = self.member(place).client.status().await.ok().and_then(|status| status.members);
                if members.as_ref().is_some_and(|members| members.term.is_some()) {
                    leading.push(place);
                }
                seen.push((name, members.and_then(|members| members.leader)));
            }
            let agreed = |leader: usize| {
                seen.iter().all(|(_, known)| known.as_ref().is_some_and(|known| known.as_str() == NAMES[leader]))
            };
            match leading[..] {
                [leader] if agreed(leader) => return Ok(leader),
                _ if started.elapsed() > PATIENCE => {
                    let log = |place: &usize| self.members[*place].as_ref().map(|member| member.running.stderr());
                    let logs: Vec<_> = places.iter().filter_map(log).collect();
                    anyhow::bail!("nobody leads, or more than one: {leading:?}, {seen:?}\n{}", logs.join("\n---\n"));
                }
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    /// Waits until one leads, and sees that everything is up.
    pub async fn settled(&mut self) -> Result<usize> {
        let leader = self.leader().await?;
        let healthy = |status: &StatusView| {
            for probe in status.probes.iter().filter(|probe| probe.name.as_str() != "new-primary") {
                ensure!(probe.health == Health::Up, "{} is {}: {}", probe.name, probe.health, probe.why);
            }
            let grace = status.scenarios[0].guards.iter().find(|guard| guard.name == "startup_grace");
            ensure!(grace.is_none_or(|guard| guard.passes), "{grace:?}");
            Ok(())
        };
        for place in 0..3 {
            if self.members[place].is_some() {
                self.status(place, "everything to be up", healthy).await?;
            }
        }
        Ok(leader)
    }

    /// Waits until the newest run, by this member, is done.
    pub async fn is_done(&mut self, place: usize) -> Result<()> {
        let Member { running, client } = self.member(place);
        running
            .ready(PATIENCE, &format!("the run to be done, at {}", NAMES[place]), async || {
                let run = client.runs().await?.into_iter().next().context("there is no run")?;
                ensure!(run.ended.is_some(), "{run:?}");
                ensure!(format!("{:?}", run.result).contains("Done"), "{run:?}");
                Ok(())
            })
            .await?;
        let differences = eventually(PATIENCE, "the world to be as a failover leaves it", async || {
            let differences = self.world.differences().await?;
            ensure!(differences.is_empty(), "{differences:?}");
            Ok(differences)
        });
        differences.await.map(drop)
    }

    /// What a member says of all.
    pub async fn membership(&mut self, place: usize) -> Result<MembershipView> {
        self.member(place).client.status().await?.members.context("it is alone")
    }

    /// The records that a member has on its disk.
    pub fn records(&self, place: usize) -> Result<Vec<Record>> {
        Ok(read_records(&self.local(place))?)
    }

    /// Every copy of the journal is the beginning of the longest one, and that is what lies in the cluster.
    pub async fn one_journal(&self) -> Result<Vec<Record>> {
        let tail = self.etcd.value("/shop/tail").await?;
        let seq: usize = tail.split(' ').next().unwrap_or_default().parse().context("where the journal ends")?;
        let places: Vec<usize> = (0..3).filter(|place| self.local(*place).exists()).collect();
        let copies = eventually(PATIENCE, "the copies of the journal to be whole", async || {
            let copies: Vec<Vec<Record>> = places.iter().map(|place| self.records(*place)).collect::<Result<_>>()?;
            let longest = copies.iter().map(Vec::len).max().unwrap_or(0);
            ensure!(longest >= seq, "the longest has {longest} of {seq}");
            Ok(copies)
        })
        .await?;
        let longest = copies.iter().max_by_key(|copy| copy.len()).cloned().unwrap_or_default();
        for copy in &copies {
            ensure!(longest.starts_with(copy), "a copy of the journal is not the beginning of the others");
        }
        Ok(longest)
    }
}
