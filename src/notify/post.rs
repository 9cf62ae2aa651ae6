//! One call with JSON, as most providers take it: bounded, redacted, its refusal told in one line.

use std::sync::Arc;
use std::time::Instant;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use super::DELIVERY;
use crate::clients::failure::one_line;
use crate::clients::http::Answer;
use crate::clients::{Clients, Redactor, http};
use crate::config::SecretText;

/// How much of a refusal is told, in characters.
const TOLD_CHARS: usize = 200;

/// One delivery: what it may not tell, and until when it lasts.
pub(super) struct Delivery<'a> {
    what: &'static str,
    clients: &'a Arc<Clients>,
    redactor: Redactor,
    until: Instant,
}

/// A call that is put together.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    pub(super) headers: &'a [(&'a str, String)],
    pub(super) body: Option<Vec<u8>>,
}

impl<'a> Delivery<'a> {
    /// To a kind of route, which its errors begin with.
    pub(super) fn new(what: &'static str, clients: &'a Arc<Clients>) -> Self {
        Self { what, clients, redactor: Redactor::default(), until: Instant::now() + DELIVERY }
    }

    /// Reads a secret, and keeps it out of every error from here on.
    pub(super) fn secret(&mut self, text: &SecretText) -> Result<String, String> {
        let value = text.read().map_err(|error| error.to_string())?;
        if matches!(text, SecretText::Reference(_)) {
            self.redactor.hide(&value);
        }
        Ok(value)
    }

    /// Reads an address that may hold a secret.
    pub(super) fn address(&mut self, text: &SecretText) -> Result<String, String> {
        let value = text.read().map_err(|error| error.to_string())?;
        if matches!(text, SecretText::Reference(_)) {
            self.redactor.hide_url(&value);
        }
        Ok(value)
    }

    /// Calls, and gives whatever came back.
    ///
    /// # Errors
    /// Where nothing did; without a secret.
    pub(super) async fn call(&self, call: Call<'_>) -> Result<Answer, String> {
        let mut headers = HeaderMap::new();
        if call.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        for (name, value) in call.headers {
            let unfit = || format!("the header {name} has characters that it must not have");
            let mut value = HeaderValue::from_str(value).map_err(|_| unfit())?;
            value.set_sensitive(true);
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| unfit())?, value);
        }
        let client = self.clients.http(None).map_err(|failure| failure.reason)?;
        let request = client.request(call.method, call.url).headers(headers).body(call.body.unwrap_or_default());
        let sent = http::send(self.what, self.until, request).await;
        sent.map_err(|failure| self.redactor.clean(&failure.reason))
    }

    /// Calls; any answer of 200 to 299 is taken.
    ///
    /// # Errors
    /// The status and what the provider said, in one line.
    pub(super) async fn take(&self, call: Call<'_>) -> Result<Answer, String> {
        let answer = self.call(call).await?;
        if answer.is_success() { Ok(answer) } else { Err(self.refused(&answer)) }
    }

    /// POSTs JSON; any answer of 200 to 299 is taken.
    ///
    /// # Errors
    /// As [`Delivery::take`].
    pub(super) async fn post(&self, url: &str, headers: &[(&str, String)], body: &Value) -> Result<Answer, String> {
        self.take(Call { method: Method::POST, url, headers, body: Some(body.to_string().into_bytes()) }).await
    }

    /// What a provider said that did not take it.
    pub(super) fn refused(&self, answer: &Answer) -> String {
        let told: String = one_line(&self.redactor.clean(&answer.body)).chars().take(TOLD_CHARS).collect();
        format!("{}: status {}: {told}", self.what, answer.status)
    }
}

/// A text of at most so many characters; what is cut off is shown by an ellipsis.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// The base of an API, without the slash that a person may have written.
pub(super) fn base<'a>(written: Option<&'a str>, usual: &'a str) -> &'a str {
    written.unwrap_or(usual).trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("übung", 5), "übung");
        assert_eq!(cut("übungen", 5), "übun…");
    }
}
