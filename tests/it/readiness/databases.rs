//! PostgreSQL and Redis, asked directly.

use std::sync::Arc;

use anyhow::{Result, ensure};
use failoverd::model::Aspect;

use super::{finding, is, look, look_again};
use crate::actions::{clients, secret};
use crate::fleet::eventually;
use crate::fleet::postgres::{PgOptions, Postgres, StandbyOptions};

#[tokio::test]
async fn a_standby_of_another_primary_is_no_standby_of_ours() -> Result<()> {
    let mut primary = Postgres::primary(PgOptions::default()).await?;
    let standby = primary.standby(StandbyOptions::default()).await?;
    let clients = Arc::new(clients());
    let step = |url: &serde_json::Value, system: &str| {
        let file = url["file"].as_str().unwrap_or_default().to_owned();
        format!(r#"promote.postgres.promote = {{ url = {{ file = "{file}" }}, system_identifier = "{system}" }}"#)
    };
    let (_file, url) = secret(&standby.url())?;
    let ours = standby.system_identifier().await?;
    let good = look(&step(&url, &ours), "", &clients).await?;
    ensure!(good.verdict.name() == "ready", "{good:#?}");
    ensure!(finding(&good, Aspect::Fresh, "standby")?.seen["by"] == "streaming", "{good:#?}");

    let found = look(&step(&url, "7000000000000000001"), "", &clients).await?;
    is(&found, Aspect::Matches, "standby", "not_ready", "another cluster")?;
    let (_other_file, other) = secret(&primary.url())?;
    let found = look(&step(&other, &ours), "", &clients).await?;
    is(&found, Aspect::Matches, "standby", "not_ready", "not in recovery")?;

    standby.value("SELECT pg_wal_replay_pause()::text").await?;
    let found = look_again(&step(&url, &ours), "", &clients, Some(&good)).await?;
    is(&found, Aspect::Fresh, "standby", "not_ready", "paused")?;
    standby.value("SELECT pg_wal_replay_resume()::text").await?;
    primary.kill9();
    eventually(crate::actions::SOON, "the standby to receive nothing", async || {
        let found = look(&step(&url, &ours), "", &clients).await?;
        is(&found, Aspect::Fresh, "standby", "not_ready", "primary")
    })
    .await?;
    ensure!(standby.is_in_recovery().await?, "it was only looked at");
    Ok(())
}
