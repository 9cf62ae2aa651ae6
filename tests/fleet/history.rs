//! Clients that write all the time, to whichever server the record leads to, and the history of what they were
//! told.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};
use tokio_util::sync::CancellationToken;

use super::eventually;
use super::load::missing;
use super::postgres::Postgres;
use super::world::{BACKUP_TARGET, PRIMARY_TARGET, Watcher, World};

const CLIENTS: usize = 3;
/// A client waits for no longer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks at the record: a TTL, scaled down.
const TTL: Duration = Duration::from_millis(50);

/// Which side a client wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Primary,
    Backup,
}

/// A write that was acknowledged. One that was not may be there or not, and is nobody's loss.
#[derive(Clone, Debug)]
struct Written {
    id: i64,
    side: Side,
    began: Instant,
    acknowledged: Instant,
}

/// Running clients.
pub struct Clients {
    writers: JoinSet<Vec<Written>>,
    stop: CancellationToken,
    counts: Arc<[AtomicI64; 2]>,
}

/// What they were told, all in all.
pub struct History {
    writes: Vec<Written>,
}

impl Clients {
    /// They write from here on, until they are stopped.
    pub async fn start(world: &World) -> Result<Self> {
        let stop = CancellationToken::new();
        let urls = [world.primary.db.url(), world.backup.db.url()];
        let (tell, side) = watch::channel(Side::Primary);
        let (watcher, until) = (world.watcher(), stop.clone());
        tokio::spawn(async move {
            tokio::select! { () = follow_record(watcher, tell) => {}, () = until.cancelled() => {} }
        });
        let (next, counts) = (Arc::new(AtomicI64::new(0)), Arc::new([const { AtomicI64::new(0) }; 2]));
        let mut writers = JoinSet::new();
        for _ in 0..CLIENTS {
            let writer =
                Writer { urls: urls.clone(), side: side.clone(), next: Arc::clone(&next), counts: Arc::clone(&counts) };
            writers.spawn(writer.write_until(stop.clone()));
        }
        Ok(Self { writers, stop, counts })
    }

    /// Waits until so many more writes are acknowledged on that side.
    pub async fn reach(&self, side: Side, more: i64, within: Duration) -> Result<()> {
        let count = || self.counts[side as usize].load(Ordering::Relaxed);
        let wanted = count() + more;
        eventually(within, &format!("{more} more writes to be acknowledged by the {side:?}"), async || {
            ensure!(count() >= wanted, "{} of {wanted}", count());
            Ok(())
        })
        .await
    }

    /// All that was acknowledged.
    pub async fn stop(mut self) -> Result<History> {
        self.stop.cancel();
        let mut writes = Vec::new();
        while let Some(written) = self.writers.join_next().await {
            writes.extend(written?);
        }
        Ok(History { writes })
    }
}

/// Where the record leads to, again and again, as a client's resolver asks.
async fn follow_record(watcher: Watcher, tell: watch::Sender<Side>) {
    loop {
        match watcher.alias_target().await.as_deref().map(|target| target.trim_end_matches('.')) {
            Ok(PRIMARY_TARGET) => drop(tell.send_replace(Side::Primary)),
            Ok(BACKUP_TARGET) => drop(tell.send_replace(Side::Backup)),
            // An API that does not answer: clients go on with what they know.
            Ok(_) | Err(_) => {}
        }
        tokio::time::sleep(TTL).await;
    }
}

struct Writer {
    urls: [String; 2],
    side: watch::Receiver<Side>,
    next: Arc<AtomicI64>,
    counts: Arc<[AtomicI64; 2]>,
}

impl Writer {
    async fn write_until(self, stop: CancellationToken) -> Vec<Written> {
        let mut written = Vec::new();
        let mut connection: Option<(Side, Client)> = None;
        while !stop.is_cancelled() {
            let (side, began) = (*self.side.borrow(), Instant::now());
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            let outcome = tokio::time::timeout(PATIENCE, self.insert(&mut connection, side, id)).await;
            if matches!(outcome, Ok(Ok(()))) {
                written.push(Written { id, side, began, acknowledged: Instant::now() });
                self.counts[side as usize].fetch_add(1, Ordering::Relaxed);
            } else {
                connection = None;
                tokio::time::sleep(TTL).await;
            }
        }
        written
    }

    async fn insert(&self, connection: &mut Option<(Side, Client)>, side: Side, id: i64) -> Result<()> {
        if connection.as_ref().is_none_or(|(known, _)| *known != side) {
            let (sql, work) = tokio_postgres::connect(&self.urls[side as usize], NoTls).await?;
            tokio::spawn(work);
            *connection = Some((side, sql));
        }
        let (_, sql) = connection.as_ref().context("it was just made")?;
        sql.execute("INSERT INTO writes (id) VALUES ($1)", &[&id]).await?;
        Ok(())
    }
}

impl History {
    /// The acknowledged writes that a server does not have.
    pub async fn lost_on(&self, server: &Postgres) -> Result<Vec<i64>> {
        missing(server, self.writes.iter().map(|write| write.id)).await
    }

    /// Nobody who asked after the first answer of the new primary was answered by the old one.
    pub fn knows_one_primary(&self) -> Result<()> {
        let of = |side| self.writes.iter().filter(move |write| write.side == side);
        let first = of(Side::Backup).map(|write| write.acknowledged).min().context("the new primary took no write")?;
        ensure!(of(Side::Primary).next().is_some(), "the old primary took no write");
        let both: Vec<&Written> = of(Side::Primary).filter(|write| write.began > first).collect();
        ensure!(both.is_empty(), "two primaries took writes at once: {both:?}");
        Ok(())
    }
}
