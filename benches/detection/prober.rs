//! failoverd with thousands of HTTP probes on a crowd's target, on a core of its own.

use anyhow::{Result, ensure};
use failoverd::control::client::Client;
use failoverd::model::Health;
use tempfile::TempDir;

use super::cores::{Core, TASKSET, place};
use super::crowd::Crowd;
use super::sights::{SIGHT_LOG, sights};
use crate::fleet::process::{Failoverd, Running};
use crate::fleet::scratch_dir;
use crate::rig;

/// What is probed how.
#[derive(Clone, Copy, Debug)]
pub struct Many {
    /// So many probes.
    pub probes: usize,
    /// Seconds from start to start; the timeout is a second, `fall` three.
    pub interval: u64,
    /// More keys of each `http` table, with a comma before them.
    pub more: &'static str,
}

/// A daemon that runs.
pub struct Prober {
    /// The process.
    pub daemon: Running,
    many: Many,
    dir: TempDir,
}

impl Prober {
    /// Starts it, and waits until every probe has asked a few times: by the target's count, since a question
    /// to the daemon would cost what is to be measured.
    pub async fn start(many: Many, crowd: &mut Crowd) -> Result<Self> {
        let this = Self::begin(many, crowd)?;
        crowd.asked(3 * many.probes as u64).await?;
        Ok(this)
    }

    /// Starts it.
    pub fn begin(many: Many, crowd: &Crowd) -> Result<Self> {
        let dir = scratch_dir("many")?;
        let config = dir.path().join("failoverd.toml");
        std::fs::write(&config, rig::head(dir.path(), "alert-only", "") + &configuration(many, crowd))?;
        let daemon = Failoverd::new(TASKSET)
            .args(place(Core::Prober))
            .arg(rig::binary())
            .args(["run", "--config"])
            .arg(&config)
            .env(SIGHT_LOG.0, SIGHT_LOG.1)
            .start()?;
        Ok(Self { daemon, many, dir })
    }

    /// Fails unless each probe is up.
    pub async fn all_up(&self) -> Result<()> {
        let status = Client::new(&self.dir.path().join("failoverd.sock"))?.status().await?;
        ensure!(status.probes.len() == self.many.probes, "{} probes", status.probes.len());
        let down = status.probes.iter().find(|probe| probe.health != Health::Up);
        ensure!(down.is_none(), "{down:?}");
        Ok(())
    }

    /// How often a vote has become this, so far.
    pub fn votes(&self, health: Health) -> usize {
        sights(&self.daemon.stderr()).filter(|sight| sight.vote == health).count()
    }
}

fn configuration(many: Many, crowd: &Crowd) -> String {
    let Many { probes, interval, more } = many;
    let mut text = format!(
        "[log]\nformat = \"json\"\n\
         [defaults.probe]\ninterval = \"{interval}s\"\ntimeout = \"1s\"\nfall = 3\nrise = 1\n\
         [scenarios.first]\nseverity = \"P1\"\nwhen = \"p0\"\nconfirm_for = \"0s\"\nrto = \"1h\"\n"
    );
    for number in 0..probes {
        let port = crowd.port(number);
        text.push_str(&format!("[probes.p{number}]\nhttp = {{ url = \"http://127.0.0.1:{port}/health\"{more} }}\n"));
    }
    text
}
