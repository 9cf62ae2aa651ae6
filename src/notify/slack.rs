//! Slack: a thread for each incident (a bot's token), or an incoming webhook.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use serde_json::{Value, json};

use super::lifecycle::{Level, Turn, kind, level, turn};
use super::post::{Delivery, base, cut};
use crate::clients::Clients;
use crate::config::shape::NotifySlack;
use crate::model::{IncidentId, Notice, NoticeKind};
use crate::ports::{Notifier, Threads};

const API: &str = "https://slack.com/api";
/// The text of a block's header is at most so long, in characters.
const HEADER: usize = 150;
/// The text of a section is.
const SECTION: usize = 3000;
/// The threads of so many incidents are remembered.
const THREADS: usize = 100;

/// Says each notice in a channel, with Block Kit. With a bot's token, what follows the first notice of an
/// incident goes into its thread, and the opening, the question and the end are shown in the channel
/// too. Which thread is whose is remembered beside the outbox, and in memory.
/// <https://docs.slack.dev/reference/methods/chat.postMessage>
pub struct Slack {
    params: NotifySlack,
    daemon: String,
    clients: Arc<Clients>,
    threads: Mutex<VecDeque<(IncidentId, String)>>,
    kept: OnceLock<Arc<dyn Threads>>,
}

impl Slack {
    /// The route for these parameters.
    ///
    /// # Errors
    /// Where it is neither one way nor the other.
    pub fn new(params: NotifySlack, daemon: &str, clients: Arc<Clients>) -> Result<Self, String> {
        match (&params.webhook, &params.token, &params.channel) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => Ok(Self {
                params,
                daemon: daemon.to_owned(),
                clients,
                threads: Mutex::default(),
                kept: OnceLock::new(),
            }),
            _ => Err("slack needs either `webhook`, or `token` and `channel`".into()),
        }
    }

    fn thread(&self, incident: &IncidentId) -> Option<String> {
        let threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = threads.iter().find(|(known, _)| known == incident).map(|(_, thread)| thread.clone());
        remembered.or_else(|| self.kept.get()?.thread(incident))
    }

    fn remember(&self, incident: &IncidentId, thread: &str) {
        if self.thread(incident).is_some() {
            return;
        }
        if let Some(kept) = self.kept.get() {
            kept.keep(incident, thread);
        }
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        if threads.len() >= THREADS {
            threads.pop_front();
        }
        threads.push_back((incident.clone(), thread.to_owned()));
    }

    fn message(&self, notice: &Notice) -> Value {
        let mut fields = Vec::new();
        let mut add = |name: &str, value: Option<String>| fields.extend(value.map(|value| field(name, &value)));
        add("Daemon", Some(self.daemon.clone()).filter(|name| !name.is_empty()));
        add("Severity", notice.severity.as_ref().map(ToString::to_string));
        add("Scenario", notice.scenario.as_ref().map(ToString::to_string));
        add("Incident", notice.incident.as_ref().map(ToString::to_string));
        add("Run", notice.run.as_ref().map(ToString::to_string));
        let title = cut(&format!("{} {}", sign(notice), heading(notice)), HEADER);
        let mut blocks = vec![
            json!({ "type": "header", "text": { "type": "plain_text", "text": title } }),
            json!({ "type": "section", "text": { "type": "mrkdwn", "text": cut(&escape(&notice.subject), SECTION) } }),
        ];
        // Slack refuses a section without any.
        if !fields.is_empty() {
            blocks.push(json!({ "type": "section", "fields": fields }));
        }
        if !notice.body.is_empty() {
            let quoted =
                cut(&format!("```{}```", cut(&escape(&notice.body).replace("```", "'''"), SECTION - 10)), SECTION);
            blocks.push(json!({ "type": "section", "text": { "type": "mrkdwn", "text": quoted } }));
        }
        blocks.push(json!({ "type": "context", "elements": [{ "type": "mrkdwn", "text": notice.at.to_string() }] }));
        // What notifications and screen readers show.
        json!({ "text": escape(&notice.subject), "blocks": blocks })
    }

    async fn by_token(&self, delivery: &mut Delivery<'_>, notice: &Notice) -> Result<(), String> {
        let token = delivery.secret(self.params.token.as_ref().ok_or("slack has no token")?)?;
        let mut message = self.message(notice);
        message["channel"] = json!(self.params.channel);
        if let Some(thread) = notice.incident.as_ref().and_then(|incident| self.thread(incident)) {
            message["thread_ts"] = json!(thread);
            message["reply_broadcast"] = json!(
                matches!(notice.kind, NoticeKind::ApprovalAsked | NoticeKind::RunParked) || turn(notice) == Turn::Close
            );
        }
        let url = format!("{}/chat.postMessage", base(self.params.url.as_deref(), API));
        let headers = [("authorization", format!("Bearer {token}"))];
        let answer = delivery.post(&url, &headers, &message).await?;
        // Slack refuses with 200.
        let said: Value = serde_json::from_str(&answer.body).map_err(|_| delivery.refused(&answer))?;
        if said["ok"] != json!(true) {
            return Err(delivery.refused(&answer));
        }
        if let (Some(incident), Some(thread)) = (&notice.incident, said["ts"].as_str()) {
            self.remember(incident, thread);
        }
        Ok(())
    }
}

fn field(name: &str, value: &str) -> Value {
    json!({ "type": "mrkdwn", "text": format!("*{name}*\n{}", escape(value)) })
}

/// What Slack takes for markup of its own: an alert must not be able to call everybody.
/// <https://docs.slack.dev/messaging/formatting-message-text/#escaping>
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn sign(notice: &Notice) -> &'static str {
    match (turn(notice), level(notice)) {
        (Turn::Close, _) => "✅",
        (Turn::Acknowledge, _) => "👀",
        (Turn::Open, Level::Critical | Level::Error) => "🔴",
        (Turn::Open, Level::Warning) => "🟠",
        (Turn::Open, Level::Info) => "🔵",
    }
}

/// `incident_opened` as a person would say it.
fn heading(notice: &Notice) -> String {
    let text = kind(notice).replace('_', " ");
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[async_trait]
impl Notifier for Slack {
    fn follows_incidents(&self) -> bool {
        true
    }

    fn keep_threads(&self, threads: Arc<dyn Threads>) {
        let _once = self.kept.set(threads);
    }

    async fn warm(&self) {
        let _told_when_it_counts = self.clients.http(None);
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let mut delivery = Delivery::new("slack", &self.clients);
        match &self.params.webhook {
            Some(webhook) => {
                let url = delivery.address(webhook)?;
                delivery.post(&url, &[], &self.message(notice)).await.map(drop)
            }
            None => self.by_token(&mut delivery, notice).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::shape::Limits;
    use crate::notify::sample;

    #[test]
    fn a_message_keeps_to_slacks_limits_and_calls_nobody() {
        let params = NotifySlack {
            webhook: Some(crate::config::SecretText::Plain("http://h/".into())),
            ..NotifySlack::default()
        };
        let slack = Slack::new(params, "shop", Arc::new(Clients::new(&Limits::default()))).unwrap();
        let mut notice = sample::page(NoticeKind::IncidentOpened, "P0");
        notice.subject = format!("<!channel> & {}", "x".repeat(5000));
        notice.body = format!("```{}", "y".repeat(5000));
        let message = slack.message(&notice);
        assert!(message["text"].as_str().unwrap().starts_with("&lt;!channel&gt; &amp; "));
        for block in message["blocks"].as_array().unwrap() {
            let text = block["text"]["text"].as_str().unwrap_or_default();
            assert!(text.chars().count() <= SECTION, "{}", text.len());
            assert!(block["fields"].as_array().is_none_or(|fields| fields.len() <= 10));
        }
    }

    #[test]
    fn the_threads_that_are_remembered_are_bounded() {
        let params = NotifySlack {
            token: Some(crate::config::SecretText::Plain("t".into())),
            channel: Some("C1".into()),
            ..NotifySlack::default()
        };
        let slack = Slack::new(params, "shop", Arc::new(Clients::new(&Limits::default()))).unwrap();
        for number in 0..THREADS + 10 {
            slack.remember(&IncidentId::new(format!("INC-{number}")), &number.to_string());
        }
        assert_eq!(slack.thread(&IncidentId::new("INC-3")), None);
        assert_eq!(slack.thread(&IncidentId::new("INC-109")).as_deref(), Some("109"));
        slack.remember(&IncidentId::new("INC-109"), "later");
        assert_eq!(
            slack.thread(&IncidentId::new("INC-109")).as_deref(),
            Some("109"),
            "the thread is the first message"
        );
    }
}
