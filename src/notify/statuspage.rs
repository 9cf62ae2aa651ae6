//! A public status page, through Statuspage's API.

use std::sync::Arc;

use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value, json};

use super::lifecycle::{Level, key, level};
use super::post::{Call, Delivery, base};
use crate::clients::Clients;
use crate::config::shape::NotifyStatuspage;
use crate::config::templates::{Words, stage};
use crate::model::{Audience, Notice, NoticeKind, Stage};
use crate::ports::Notifier;

const API: &str = "https://api.statuspage.io";

/// Creates, updates and resolves one incident of the page for each incident of ours. Customers read it:
/// it says what the file or its templates say, and nothing of hosts, plans and people. Which incident of the page is
/// whose is written into its metadata and looked up before each change, so that a notice that is
/// delivered twice makes no second one.
/// <https://developer.statuspage.io/#tag/incidents>
pub struct Statuspage {
    params: NotifyStatuspage,
    daemon: String,
    words: Words,
    clients: Arc<Clients>,
}

impl Statuspage {
    /// The route for these parameters.
    pub fn new(params: NotifyStatuspage, daemon: &str, words: Words, clients: Arc<Clients>) -> Self {
        Self { params, daemon: daemon.to_owned(), words, clients }
    }

    /// What customers are told; `None` where it is none of theirs.
    fn said(&self, notice: &Notice) -> Option<(&'static str, String)> {
        notice.incident.as_ref()?;
        if !Audience::StatusPage.hears_of(notice.kind) {
            return None;
        }
        let texts = &self.params;
        let stage = stage(notice);
        let own = match stage {
            Stage::Investigating => &texts.investigating,
            Stage::Identified => &texts.identified,
            Stage::Monitoring => &texts.monitoring,
            Stage::Resolved => &texts.resolved,
        };
        // The text of the route is said once; what is repeated comes with the time of the next one.
        let own = own.clone().filter(|_| notice.kind != NoticeKind::StatusUpdate);
        Some((stage.name(), own.unwrap_or_else(|| self.words.say(notice, &self.daemon).body)))
    }

    /// The id of the page's incident that is ours.
    async fn find(
        &self,
        delivery: &Delivery<'_>,
        incidents: &str,
        headers: &[(&str, String)],
        ours: &str,
    ) -> Result<Option<String>, String> {
        let url = format!("{incidents}/unresolved");
        let answer = delivery.take(Call { method: Method::GET, url: &url, headers, body: None }).await?;
        if !answer.whole {
            return Err("statuspage: the list of open incidents is longer than 64 KiB".into());
        }
        let known: Vec<Value> = serde_json::from_str(&answer.body).map_err(|_| delivery.refused(&answer))?;
        let is_ours = |incident: &&Value| incident["metadata"]["failoverd"]["key"] == json!(ours);
        Ok(known.iter().find(is_ours).and_then(|incident| incident["id"].as_str().map(str::to_owned)))
    }
}

fn impact(notice: &Notice) -> &'static str {
    match level(notice) {
        Level::Critical => "critical",
        Level::Error => "major",
        Level::Warning | Level::Info => "minor",
    }
}

#[async_trait]
impl Notifier for Statuspage {
    fn follows_incidents(&self) -> bool {
        true
    }

    async fn warm(&self) {
        let _told_when_it_counts = self.clients.http(None);
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let Some((status, body)) = self.said(notice) else { return Ok(()) };
        let mut delivery = Delivery::new("statuspage", &self.clients);
        let headers = [("authorization", format!("OAuth {}", delivery.secret(&self.params.key)?))];
        let incidents = format!("{}/v1/pages/{}/incidents", base(self.params.url.as_deref(), API), self.params.page);
        let ours = key(&self.daemon, notice);
        let known = self.find(&delivery, &incidents, &headers, &ours).await?;
        let (method, url) = match (&known, status) {
            (Some(id), _) => (Method::PATCH, format!("{incidents}/{id}")),
            // Nothing is open that could be resolved.
            (None, "resolved") => return Ok(()),
            (None, _) => (Method::POST, incidents.clone()),
        };
        let mut incident = json!({ "status": status, "body": body });
        if known.is_none() {
            incident["name"] = json!(self.params.title);
            incident["impact_override"] = json!(impact(notice));
            incident["metadata"] = json!({ "failoverd": { "key": ours } });
            incident["component_ids"] = json!(self.params.components);
        }
        let body = Some(json!({ "incident": incident }).to_string().into_bytes());
        delivery.take(Call { method, url: &url, headers: &headers, body }).await.map(drop)
    }
}
