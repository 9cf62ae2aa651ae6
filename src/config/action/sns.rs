//! Amazon SNS.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Parameters;
use crate::config::check::{common::not_empty, notify};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::model::{EffectKind, HumanDuration, Repeat};

/// `sns.publish`: delivered at least once. Needs `sns:Publish`.
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SnsPublish {
    /// The region (default: the topic's).
    #[serde(default)]
    pub region: Option<String>,
    /// The topic's ARN.
    pub topic: String,
    /// The subject (ASCII, at most 100 characters; cut otherwise).
    #[serde(default)]
    pub subject: Option<String>,
    /// The message.
    pub message: String,
}

impl Parameters for SnsPublish {
    fn effect(&self) -> EffectKind {
        EffectKind::Notify
    }

    fn repeat(&self) -> Repeat {
        Repeat::AtLeastOnce
    }

    fn region(&self) -> Option<String> {
        self.region.clone().or_else(|| topic_region(&self.topic).map(str::to_owned))
    }

    fn target(&self) -> String {
        format!("SNS topic {}", self.topic)
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(1)
    }

    fn messages(&self) -> &'static [&'static str] {
        &["/subject", "/message"]
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        notify::topic(report, at, &self.topic, self.region.as_deref());
        not_empty(report, &at.key("message"), &self.message);
    }
}

/// The region in `arn:PARTITION:sns:REGION:ACCOUNT:TOPIC`.
pub fn topic_region(topic: &str) -> Option<&str> {
    let parts: Vec<&str> = topic.split(':').collect();
    match parts.as_slice() {
        ["arn", partition, "sns", region, account, name]
            if partition.starts_with("aws")
                && !region.is_empty()
                && account.len() == 12
                && account.chars().all(|digit| digit.is_ascii_digit())
                && !name.is_empty() =>
        {
            Some(region)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_an_arn() {
        assert_eq!(topic_region("arn:aws:sns:us-west-2:123456789012:critical"), Some("us-west-2"));
        assert_eq!(topic_region("arn:aws-cn:sns:cn-north-1:123456789012:x"), Some("cn-north-1"));
        assert_eq!(topic_region("arn:aws:sqs:us-west-2:123456789012:x"), None);
        assert_eq!(topic_region("critical"), None);
    }
}
