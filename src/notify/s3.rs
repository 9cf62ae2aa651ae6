//! A bucket of S3: what is kept where whoever can change this host cannot.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use aws_sdk_s3::primitives::ByteStream;
use sha2::{Digest, Sha256};

use super::DELIVERY;
use crate::clients::{Clients, aws};
use crate::config::shape::NotifyS3;
use crate::model::Notice;
use crate::ports::Notifier;

/// Puts each notice as an object of JSON. Its key begins with the time, so that a listing is in order, and
/// ends with what it holds: one that is delivered twice is one object. For anchors of the journal give the
/// bucket a lock, and this host no right but `s3:PutObject`.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>
pub struct Bucket {
    params: NotifyS3,
    clients: Arc<Clients>,
}

impl Bucket {
    /// The route for these parameters.
    pub fn new(params: NotifyS3, clients: Arc<Clients>) -> Self {
        Self { params, clients }
    }

    fn key(&self, notice: &Notice, body: &[u8]) -> String {
        let digest: String = Sha256::digest(body).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        format!("{}{}-{digest}.json", self.params.prefix.as_deref().unwrap_or_default(), notice.at)
    }
}

#[async_trait]
impl Notifier for Bucket {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.params.region, Instant::now() + DELIVERY).await {
            region.s3();
        }
    }

    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        let until = Instant::now() + DELIVERY;
        let body = serde_json::to_vec(notice).map_err(|error| error.to_string())?;
        let sent = async {
            let client = self.clients.aws(&self.params.region, until).await?;
            let request = client.s3().put_object().bucket(&self.params.bucket).key(self.key(notice, &body));
            let request = request.content_type("application/json").body(ByteStream::from(body.clone()));
            aws::call("s3 PutObject", until, request.send()).await
        };
        sent.await.map(drop).map_err(|failure| failure.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NoticeKind;

    #[test]
    fn keys_are_in_order_and_say_what_is_kept() {
        let params = NotifyS3 { region: "us-west-2".into(), bucket: "b".into(), prefix: Some("audit/".into()) };
        let bucket = Bucket::new(params, Arc::new(Clients::new(&crate::config::shape::Limits::default())));
        let notice = super::super::sample::page(NoticeKind::Anchor, "P0");
        let (one, other) = (bucket.key(&notice, b"one"), bucket.key(&notice, b"other"));
        assert!(one.starts_with("audit/2026-07-30T") && one.ends_with(".json"), "{one}");
        assert_ne!(one, other);
        assert_eq!(one, bucket.key(&notice, b"one"));
    }
}
