//! What a quorum costs: from the second of three votes, which makes it, to the verdict.

use anyhow::Result;

use super::Line;
use super::sentinel::Sentinels;
use super::vantages::Vantages;
use crate::figures::{Figures, Series, aim, between, ms, random_within};
use crate::fleet::port;
use crate::target::{Kind, Target};
use std::time::Duration;

/// More than the slowest needed vote.
const AIM: f64 = 1.05;

/// From the kill, in milliseconds.
#[derive(Default)]
struct Quorum {
    /// To the vote that was still needed.
    vote: Series,
    /// To the verdict.
    verdict: Series,
    /// The verdict after the vote.
    after: Series,
    /// The verdict by the vote.
    ratio: Series,
}

impl Quorum {
    fn push(&mut self, killed: i64, mut votes: Vec<i64>, verdict: i64) {
        votes.sort_unstable();
        let (vote, verdict) = (between(killed, votes[1]), between(killed, verdict));
        self.vote.push(vote);
        self.verdict.push(verdict);
        self.after.push(verdict - vote);
        self.ratio.push(verdict / vote);
    }
}

/// Measures.
pub async fn bench(rounds: usize) -> Result<Vec<Line>> {
    let ours = ours(rounds).await?;
    let sentinel = sentinel(rounds.div_ceil(2)).await?;
    let mut figures = Figures::new(
        &format!("quorum: 2 of 3 vantages after SIGKILL, {rounds} rounds, medians"),
        &["who", "kill → needed vote", "kill → verdict", "verdict after vote", "most", "verdict / vote"],
    );
    for (who, quorum) in [("failoverd", Some(&ours)), ("redis-sentinel", sentinel.as_ref())] {
        let Some(quorum) = quorum else { continue };
        figures.row(&[
            who.into(),
            ms(quorum.vote.median()),
            ms(quorum.verdict.median()),
            ms(quorum.after.median()),
            ms(quorum.after.quantile(1.0)),
            format!("{:.3}", quorum.ratio.median()),
        ]);
    }
    let met = ours.ratio.median() <= AIM;
    figures.print(&[
        aim(met, &format!("at most {AIM} times the needed vote")),
        "needed vote: the second of three, by each process's own log (+sdown of a sentinel).".into(),
        "verdict: the daemon's own, before it is written down (the first +odown).".into(),
    ]);
    let by = |quorum: &Quorum| format!("{:.3} × ({} after the vote)", quorum.ratio.median(), ms(quorum.after.median()));
    Ok(vec![Line {
        figure: "quorum of 2 of 3 vantages, by the slowest needed vote".into(),
        reference: sentinel.map_or_else(|| "not installed".into(), |it| format!("Sentinel +odown {}", by(&it))),
        ours: by(&ours),
        aim: format!("at most {AIM} ×"),
        met: Some(met),
    }])
}

async fn ours(rounds: usize) -> Result<Quorum> {
    let port = port()?;
    let mut target = Target::start(&[(Kind::Http, port)]).await?;
    let vantages = Vantages::start(port).await?;
    let mut quorum = Quorum::default();
    for _ in 0..rounds {
        vantages.all_up().await?;
        apart().await;
        let killed = target.kill()?;
        let (votes, verdict) = vantages.down_after(killed).await?;
        quorum.push(killed, votes, verdict);
        target.restart().await?;
    }
    Ok(quorum)
}

async fn sentinel(rounds: usize) -> Result<Option<Quorum>> {
    let Some(mut sentinels) = Sentinels::start().await? else { return Ok(None) };
    let mut quorum = Quorum::default();
    for _ in 0..rounds {
        sentinels.all_up().await?;
        apart().await;
        let (killed, votes, verdict) = sentinels.kill().await?;
        quorum.push(killed, votes, verdict);
    }
    Ok(Some(quorum))
}

/// The kill keeps step with nobody's interval.
async fn apart() {
    tokio::time::sleep(Duration::from_millis(500) + random_within(Duration::from_millis(1000))).await;
}
