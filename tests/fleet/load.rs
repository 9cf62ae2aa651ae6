//! Write load: several clients insert numbers as fast as they are acknowledged, and remember which.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::task::JoinSet;

use super::eventually;
use super::postgres::Postgres;

const CLIENTS: u64 = 4;

/// Running clients.
pub struct WriteLoad {
    clients: JoinSet<Vec<i64>>,
    acknowledged: Arc<AtomicU64>,
}

/// What was acknowledged.
pub struct Writes {
    ids: Vec<i64>,
}

impl WriteLoad {
    /// Connects the clients and lets them write.
    pub async fn start(url: &str) -> Result<Self> {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (sql, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            clients.spawn(write(sql, client, Arc::clone(&acknowledged)));
        }
        Ok(Self { clients, acknowledged })
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many were.
    pub async fn reaches(&self, writes: u64, within: Duration) -> Result<()> {
        eventually(within, "write load", async || {
            anyhow::ensure!(self.acknowledged() >= writes, "{} writes acknowledged", self.acknowledged());
            Ok(())
        })
        .await
    }

    /// Every client ended when the server was killed under it; one that did not is ended here.
    pub async fn stop(mut self) -> Writes {
        let mut ids = Vec::new();
        while let Ok(Some(Ok(mut written))) =
            tokio::time::timeout(Duration::from_secs(5), self.clients.join_next()).await
        {
            ids.append(&mut written);
        }
        Writes { ids }
    }
}

/// Only what the server acknowledged is remembered: a write whose answer never came may be there or
/// not, and is nobody's loss.
async fn write(sql: tokio_postgres::Client, client: u64, acknowledged: Arc<AtomicU64>) -> Vec<i64> {
    let mut written = Vec::new();
    for number in 0_i64.. {
        let id = number * CLIENTS as i64 + client as i64;
        if sql.execute("INSERT INTO writes (id) VALUES ($1)", &[&id]).await.is_err() {
            break;
        }
        written.push(id);
        acknowledged.fetch_add(1, Ordering::Relaxed);
    }
    written
}

impl Writes {
    /// How many were acknowledged.
    pub fn acknowledged(&self) -> usize {
        self.ids.len()
    }

    /// Those that a server does not have.
    pub async fn lost_on(&self, server: &Postgres) -> Result<Vec<i64>> {
        missing(server, self.ids.iter().copied()).await
    }
}

/// The writes among these that a server does not have.
pub async fn missing(server: &Postgres, ids: impl Iterator<Item = i64>) -> Result<Vec<i64>> {
    let rows = server.sql("SELECT id FROM writes").await?;
    let there: BTreeSet<i64> = rows
        .into_iter()
        .map(|row| row.into_iter().next().flatten().context("an empty id")?.parse().context("an odd id"))
        .collect::<Result<_>>()?;
    Ok(ids.filter(|id| !there.contains(id)).collect())
}
