//! A webhook that takes JSON.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::DELIVERY;
use crate::clients::failure::one_line;
use crate::clients::{Clients, Redactor, http};
use crate::config::SecretText;
use crate::config::shape::NotifyWebhook;
use crate::model::Notice;
use crate::ports::Notifier;

/// How much of a refusal is told, in characters.
const TOLD_CHARS: usize = 200;

/// POSTs each notice as JSON: the fields of [`Notice`]. Any answer of 200 to 299 counts as taken.
pub struct Webhook {
    params: NotifyWebhook,
    clients: Arc<Clients>,
}

impl Webhook {
    /// The route for these parameters.
    ///
    /// # Errors
    /// Where the name of a header is none.
    pub fn new(params: NotifyWebhook, clients: Arc<Clients>) -> Result<Self, String> {
        match params.headers.keys().find(|name| HeaderName::from_bytes(name.as_bytes()).is_err()) {
            Some(name) => Err(format!("`{name}` is not the name of a header")),
            None => Ok(Self { params, clients }),
        }
    }

    fn prepare(&self, notice: &Notice, redactor: &mut Redactor) -> Result<reqwest::RequestBuilder, String> {
        let address = self.params.url.read().map_err(|error| error.to_string())?;
        if matches!(self.params.url, SecretText::Reference(_)) {
            redactor.hide_url(&address);
        }
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        for (name, value) in &self.params.headers {
            let text = value.read().map_err(|error| error.to_string())?;
            if matches!(value, SecretText::Reference(_)) {
                redactor.hide(&text);
            }
            let unfit = || format!("the header {name} has characters that it must not have");
            let mut header = HeaderValue::from_str(&text).map_err(|_| unfit())?;
            header.set_sensitive(true);
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?, header);
        }
        let body = serde_json::to_vec(notice).map_err(|error| error.to_string())?;
        let client = self.clients.http(None).map_err(|failure| failure.reason)?;
        Ok(client.post(address).headers(headers).body(body))
    }
}

#[async_trait]
impl Notifier for Webhook {
    async fn warm(&self) {
        let _told_when_it_counts = self.clients.http(None);
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let mut redactor = Redactor::default();
        let request = self.prepare(notice, &mut redactor)?;
        let answer = http::send("webhook", Instant::now() + DELIVERY, request)
            .await
            .map_err(|failure| redactor.clean(&failure.reason))?;
        if answer.is_success() {
            return Ok(());
        }
        let told: String = one_line(&redactor.clean(&answer.body)).chars().take(TOLD_CHARS).collect();
        Err(format!("webhook: status {}: {told}", answer.status))
    }
}
