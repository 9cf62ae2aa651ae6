//! Amazon SNS: one message, as both `sns.publish` and the notices send it.

use std::time::Instant;

use aws_sdk_sns::operation::publish::builders::PublishFluentBuilder;

use super::failure::Failure;
use super::{Api, Clients};
use crate::config::action::topic_region;

/// The call, for error texts.
pub const WHAT: &str = "sns Publish";

/// The longest message, in bytes of UTF-8.
const BODY_BYTES: usize = 256 * 1024;

/// The longest subject, in characters.
const SUBJECT_CHARS: usize = 100;

/// A message.
#[derive(Clone, Copy, Debug)]
pub struct Message<'m> {
    /// The topic's ARN.
    pub topic: &'m str,
    /// The subject of the mail.
    pub subject: Option<&'m str>,
    /// The text.
    pub body: &'m str,
}

/// The region of a topic: the one given, else the one in its ARN.
///
/// # Errors
/// Where neither tells.
pub fn region(given: Option<&str>, topic: &str) -> Result<String, String> {
    given
        .or_else(|| topic_region(topic))
        .map(str::to_owned)
        .ok_or_else(|| format!("`{topic}` is not an ARN (arn:aws:sns:REGION:ACCOUNT:TOPIC), and no region is given"))
}

/// Readies the request; the caller sends it.
///
/// # Errors
/// [`Failure`], never `Unknown`: nothing was sent.
pub async fn prepare(
    clients: &Clients,
    region: &str,
    message: &Message<'_>,
    until: Instant,
) -> Result<PublishFluentBuilder, Failure> {
    let client = clients.aws(region, until).await?;
    clients.pace(Api::Sns, until).await?;
    let subject = message.subject.and_then(subject);
    Ok(client.sns().publish().topic_arn(message.topic).set_subject(subject).message(body(message.body)))
}

/// The subject as SNS takes it: printable ASCII, at most 100 characters, beginning with a letter,
/// digit or punctuation mark. `None` where nothing is left.
fn subject(text: &str) -> Option<String> {
    let ascii: String = text
        .chars()
        .map(|c| match c {
            ' '..='~' => c,
            c if c.is_whitespace() || c.is_control() => ' ',
            '–' | '—' => '-',
            '→' => '>',
            _ => '?',
        })
        .collect();
    let cut: String = ascii.trim().chars().take(SUBJECT_CHARS).collect();
    (!cut.is_empty()).then_some(cut)
}

/// The text as SNS takes it: not empty, and at most 256 KiB.
fn body(text: &str) -> &str {
    if text.is_empty() {
        return "(no text)";
    }
    if text.len() <= BODY_BYTES {
        return text;
    }
    let mut end = BODY_BYTES;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_what_sns_takes() {
        assert_eq!(
            subject(" shop: failed over\nto us-west-2 → done ").as_deref(),
            Some("shop: failed over to us-west-2 > done")
        );
        assert_eq!(subject("Übung").as_deref(), Some("?bung"));
        assert_eq!(subject(" \n "), None);
        assert_eq!(subject(&"x".repeat(500)).map(|text| text.len()), Some(100));
    }

    #[test]
    fn a_body_is_what_sns_takes() {
        assert_eq!(body(""), "(no text)");
        let long = "ü".repeat(BODY_BYTES);
        assert!(body(&long).len() <= BODY_BYTES);
        assert!(body(&long).len() > BODY_BYTES - 4);
    }

    #[test]
    fn the_region_is_given_or_in_the_arn() {
        let topic = "arn:aws:sns:us-west-2:123456789012:critical";
        assert_eq!(region(None, topic).as_deref(), Ok("us-west-2"));
        assert_eq!(region(Some("eu-west-1"), topic).as_deref(), Ok("eu-west-1"));
        assert!(region(None, "critical").is_err());
    }
}
