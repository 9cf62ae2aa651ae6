//! Serves the health switches from their durable settings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::start::StartError;
use crate::clients::health_switch::Switches;
use crate::config::shape::{HealthSwitches, SwitchState};
use crate::control::health_switch::{BOUNDS, Look, router};
use crate::control::metrics::Metrics;
use crate::control::serve::{TcpSource, serve};

/// How long a setting may be on disk before it is answered.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The switches of the file, each with what it answers before it was ever set.
pub(super) fn initially(table: &HealthSwitches) -> BTreeMap<String, bool> {
    table.switches.iter().map(|(name, switch)| (name.clone(), switch.initially == SwitchState::On)).collect()
}

/// Listens, where the file says so. Every switch is known before the first question can come.
///
/// # Errors
/// Where the address cannot be listened on.
pub(super) async fn start(
    table: &HealthSwitches,
    metrics: &Metrics,
    stop: &CancellationToken,
) -> Result<Arc<Switches>, StartError> {
    let switches = Arc::new(Switches::new(table.directory().to_owned(), initially(table)));
    let Some(address) = table.address() else { return Ok(switches) };
    look(&switches, metrics).await;
    let listener = tokio::net::TcpListener::bind(address).await.map_err(|source| StartError::Listen {
        address: address.to_owned(),
        what: "the health switches",
        setting: "health_switch.listen",
        source,
    })?;
    let answers = Arc::clone(&switches);
    let answer: Look = Arc::new(move |name| answers.look(name));
    tokio::spawn(serve(TcpSource(listener), router(answer), BOUNDS, stop.clone()));
    tokio::spawn(keep_looking(Arc::clone(&switches), metrics.clone(), stop.clone()));
    Ok(switches)
}

/// Until the end. Where the disk hangs, this does, and they answer as before.
async fn keep_looking(switches: Arc<Switches>, metrics: Metrics, stop: CancellationToken) {
    while tokio::time::timeout(LOOK_EVERY, stop.cancelled()).await.is_err() {
        look(&switches, &metrics).await;
    }
}

async fn look(switches: &Arc<Switches>, metrics: &Metrics) {
    let looking = Arc::clone(switches);
    if tokio::task::spawn_blocking(move || looking.refresh()).await.is_ok() {
        metrics.health_switches(&switches.all());
    }
}
