//! Opsgenie, through its Alert API.

use std::sync::Arc;

use async_trait::async_trait;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use super::lifecycle::{Level, Turn, key, kind, level, turn};
use super::post::{Delivery, base, cut};
use crate::clients::Clients;
use crate::config::shape::NotifyOpsgenie;
use crate::model::{Notice, NoticeKind};
use crate::ports::Notifier;

const API: &str = "https://api.opsgenie.com";
/// `message` is at most so long, in characters.
const MESSAGE: usize = 130;
/// `description` is.
const DESCRIPTION: usize = 15_000;

/// Creates, acknowledges and closes one alert for each incident, by its alias. What comes between is
/// added as a note: Opsgenie shows nothing of an alert that is created a second time but its count.
/// <https://docs.opsgenie.com/docs/alert-api>
pub struct Opsgenie {
    params: NotifyOpsgenie,
    daemon: String,
    clients: Arc<Clients>,
}

impl Opsgenie {
    /// The route for these parameters.
    pub fn new(params: NotifyOpsgenie, daemon: &str, clients: Arc<Clients>) -> Self {
        Self { params, daemon: daemon.to_owned(), clients }
    }
}

fn priority(notice: &Notice) -> &'static str {
    match level(notice) {
        Level::Critical => "P1",
        Level::Error => "P2",
        Level::Warning => "P3",
        Level::Info => "P5",
    }
}

#[async_trait]
impl Notifier for Opsgenie {
    fn follows_incidents(&self) -> bool {
        true
    }

    async fn warm(&self) {
        let _told_when_it_counts = self.clients.http(None);
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let mut delivery = Delivery::new("opsgenie", &self.clients);
        let headers = [("authorization", format!("GenieKey {}", delivery.secret(&self.params.key)?))];
        let alerts = format!("{}/v2/alerts", base(self.params.url.as_deref(), API));
        let alias = key(&self.daemon, notice);
        let of_alert = |verb: &str| {
            format!("{alerts}/{}/{verb}?identifierType=alias", utf8_percent_encode(&alias, NON_ALPHANUMERIC))
        };
        let note = json!({ "source": self.daemon, "note": notice.subject });
        match turn(notice) {
            Turn::Close => return delivery.post(&of_alert("close"), &headers, &note).await.map(drop),
            Turn::Acknowledge => return delivery.post(&of_alert("acknowledge"), &headers, &note).await.map(drop),
            Turn::Open => {}
        }
        let alert = json!({
            "message": cut(&notice.subject, MESSAGE),
            "alias": alias,
            "description": cut(&format!("{}\n\n{}", notice.subject, notice.body), DESCRIPTION),
            "priority": priority(notice),
            "source": self.daemon,
            "entity": notice.scenario,
            "tags": [kind(notice)],
            "responders": self.params.teams.iter().map(|team| json!({ "type": "team", "name": team })).collect::<Vec<_>>(),
            "details": { "incident": notice.incident, "run": notice.run, "severity": notice.severity },
        });
        delivery.post(&alerts, &headers, &alert).await?;
        if notice.kind != NoticeKind::IncidentOpened && notice.incident.is_some() {
            delivery.post(&of_alert("notes"), &headers, &note).await?;
        }
        Ok(())
    }
}
