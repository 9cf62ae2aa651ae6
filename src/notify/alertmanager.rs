//! Prometheus Alertmanager, through its API v2.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use super::lifecycle::{Level, Turn, kind, level, turn};
use super::post::Delivery;
use crate::clients::Clients;
use crate::config::shape::NotifyAlertmanager;
use crate::model::{Notice, WallTime};
use crate::ports::Notifier;

/// An incident that nobody closed ends there by itself after so long; each notice renews it.
const OPEN_FOR: Duration = Duration::from_secs(24 * 3600);
/// What is of no incident ends after so long.
const SHOWN_FOR: Duration = Duration::from_secs(15 * 60);

/// One alert for each incident, with the same labels from its first notice to its last; who is told,
/// grouping and silences are Alertmanager's.
/// <https://prometheus.io/docs/alerting/latest/alerts_api/>
pub struct Alertmanager {
    params: NotifyAlertmanager,
    daemon: String,
    clients: Arc<Clients>,
}

impl Alertmanager {
    /// The route for these parameters.
    pub fn new(params: NotifyAlertmanager, daemon: &str, clients: Arc<Clients>) -> Self {
        Self { params, daemon: daemon.to_owned(), clients }
    }

    fn alert(&self, notice: &Notice) -> Value {
        let mut labels = Map::new();
        let mut label = |name: &str, value: String| labels.insert(name.to_owned(), Value::String(value));
        // What tells one alert from another must not change while it is open: neither kind nor level.
        match &notice.incident {
            Some(incident) => {
                label("alertname", "FailoverdIncident".into());
                label("incident", incident.to_string());
            }
            None => {
                label("alertname", "FailoverdNotice".into());
                label("kind", kind(notice));
            }
        }
        label("daemon", self.daemon.clone());
        notice.scenario.iter().for_each(|scenario| drop(label("scenario", scenario.to_string())));
        if let Some(severity) = &notice.severity {
            label("severity", severity.to_string());
        } else {
            label("severity", if level(notice) == Level::Info { "info".into() } else { "critical".into() });
        }
        for (name, value) in &self.params.labels {
            label(name, value.clone());
        }
        let ends: WallTime = match (turn(notice), &notice.incident) {
            (Turn::Close, _) => notice.at,
            (_, Some(_)) => notice.at + OPEN_FOR,
            (_, None) => notice.at + SHOWN_FOR,
        };
        json!({
            "labels": labels,
            "annotations": { "summary": notice.subject, "description": notice.body },
            "endsAt": ends.to_string(),
        })
    }
}

#[async_trait]
impl Notifier for Alertmanager {
    fn follows_incidents(&self) -> bool {
        true
    }

    async fn warm(&self) {
        let _told_when_it_counts = self.clients.http(None);
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let mut delivery = Delivery::new("alertmanager", &self.clients);
        let url = delivery.address(&self.params.url)?;
        let url = format!("{}/api/v2/alerts", url.trim_end_matches('/'));
        let mut headers = Vec::with_capacity(self.params.headers.len());
        for (name, value) in &self.params.headers {
            headers.push((name.as_str(), delivery.secret(value)?));
        }
        delivery.post(&url, &headers, &json!([self.alert(notice)])).await.map(drop)
    }
}
