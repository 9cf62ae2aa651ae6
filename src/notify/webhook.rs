//! A webhook that takes JSON.

use std::sync::Arc;

use async_trait::async_trait;
use aws_lc_rs::hmac;
use reqwest::Method;
use reqwest::header::HeaderName;

use super::post::{Call, Delivery};
use crate::clients::Clients;
use crate::config::shape::NotifyWebhook;
use crate::model::Notice;
use crate::ports::Notifier;

/// Where the signature is.
const SIGNATURE: &str = "x-failoverd-signature";

/// POSTs each notice as JSON: the fields of [`Notice`]. Any answer of 200 to 299 counts as taken. With a
/// `secret` each delivery is signed; the time in the signature is the delivery's, so that a receiver can
/// refuse what is old.
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
}

/// `t=SECONDS,v1=HEX`: the HMAC-SHA-256 of `SECONDS.BODY`.
fn signature(secret: &str, seconds: i64, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    context.update(format!("{seconds}.").as_bytes());
    context.update(body);
    let hex: String = context.sign().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={seconds},v1={hex}")
}

#[async_trait]
impl Notifier for Webhook {
    async fn warm(&self) {
        let _told_when_it_counts = self.clients.http(None);
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let mut delivery = Delivery::new("webhook", &self.clients);
        let url = delivery.address(&self.params.url)?;
        let body = serde_json::to_vec(notice).map_err(|error| error.to_string())?;
        let mut headers = Vec::with_capacity(self.params.headers.len() + 1);
        for (name, value) in &self.params.headers {
            headers.push((name.as_str(), delivery.secret(value)?));
        }
        if let Some(secret) = &self.params.secret {
            let secret = delivery.secret(secret)?;
            let now = jiff::Timestamp::now().as_second();
            headers.push((SIGNATURE, signature(&secret, now, &body)));
        }
        let call = Call { method: Method::POST, url: &url, headers: &headers, body: Some(body) };
        delivery.take(call).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac hunter2` says.
    #[test]
    fn the_signature_is_what_others_compute() {
        assert_eq!(
            signature("hunter2", 1_700_000_000, br#"{"a":1}"#),
            "t=1700000000,v1=56b25cbf563812b38800e5f4dd1febfde087d36841155e70b3aa285517e1570a"
        );
    }
}
