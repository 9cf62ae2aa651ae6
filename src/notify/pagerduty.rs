//! PagerDuty, through its Events API v2.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};

use super::lifecycle::{Level, Turn, key, kind, level, turn};
use super::post::{Delivery, base, cut};
use crate::clients::Clients;
use crate::config::shape::NotifyPagerduty;
use crate::model::Notice;
use crate::ports::Notifier;

const API: &str = "https://events.pagerduty.com";
/// `payload.summary` is at most so long, in characters.
const SUMMARY: usize = 1024;

/// Triggers, acknowledges and resolves one alert for each incident, by its dedup key: a storm of
/// notices about one incident is one page.
/// <https://developer.pagerduty.com/docs/events-api-v2/trigger-events/>
pub struct Pagerduty {
    params: NotifyPagerduty,
    daemon: String,
    clients: Arc<Clients>,
}

impl Pagerduty {
    /// The route for these parameters.
    pub fn new(params: NotifyPagerduty, daemon: &str, clients: Arc<Clients>) -> Self {
        Self { params, daemon: daemon.to_owned(), clients }
    }

    fn event(&self, key_text: &str, notice: &Notice) -> Value {
        let action = match turn(notice) {
            Turn::Open => "trigger",
            Turn::Acknowledge => "acknowledge",
            Turn::Close => "resolve",
        };
        let mut event = json!({
            "routing_key": key_text,
            "event_action": action,
            "dedup_key": key(&self.daemon, notice),
            "client": "failoverd",
        });
        if turn(notice) == Turn::Open {
            event["payload"] = json!({
                "summary": cut(&notice.subject, SUMMARY),
                "source": self.daemon,
                "severity": severity(notice),
                "timestamp": notice.at.to_string(),
                "component": notice.scenario,
                "class": kind(notice),
                "custom_details": {
                    "incident": notice.incident,
                    "scenario": notice.scenario,
                    "severity": notice.severity,
                    "run": notice.run,
                    "timeline": notice.body,
                },
            });
        }
        event
    }
}

fn severity(notice: &Notice) -> &'static str {
    match level(notice) {
        Level::Info => "info",
        Level::Warning => "warning",
        Level::Error => "error",
        Level::Critical => "critical",
    }
}

#[async_trait]
impl Notifier for Pagerduty {
    fn follows_incidents(&self) -> bool {
        true
    }

    async fn warm(&self) {
        let _told_when_it_counts = self.clients.http(None);
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let mut delivery = Delivery::new("pagerduty", &self.clients);
        let key = delivery.secret(&self.params.routing_key)?;
        let url = format!("{}/v2/enqueue", base(self.params.url.as_deref(), API));
        delivery.post(&url, &[], &self.event(&key, notice)).await.map(drop)
    }
}
