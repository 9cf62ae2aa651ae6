//! `[notify]`: the routes to people.

use std::collections::BTreeSet;

use super::common::aws_region;
use super::secrets;
use crate::config::action::topic_region;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::config::shape::{File, NotifyRoute};

/// Tells what is wrong with the routes.
pub fn check(file: &File, report: &mut Report<'_>) {
    let base = Path::of(&["notify"]);
    let mut fate = BTreeSet::new();
    for (name, route) in &file.notify {
        let at = base.key(name);
        exactly_one(route, &at, report);
        if let Some(sns) = &route.sns {
            topic(report, &at.key("sns"), &sns.topic, sns.region.as_deref());
            fate.insert(format!("SNS in {}", sns.region.as_deref().or(topic_region(&sns.topic)).unwrap_or_default()));
        }
        if let Some(webhook) = &route.webhook {
            let at = at.key("webhook");
            secrets::address(report, &at.key("url"), &webhook.url, &["https", "http"]);
            secrets::headers(report, &at.key("headers"), &webhook.headers);
            fate.insert(match &webhook.url {
                SecretText::Plain(url) => {
                    url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
                }
                SecretText::Reference(secret) => secret.to_string(),
            });
        }
    }
    // L3: paging must not depend on what failed.
    if fate.len() < 2 && !file.scenarios.is_empty() && !report.touches_broken(&base) {
        let message = match (fate.iter().next(), file.notify.len()) {
            (_, 0) => "nobody is told of anything: there is no route to people".to_owned(),
            (_, 1) => "there is only one route to people; when it fails too, nobody is told".to_owned(),
            (first, _) => format!(
                "all routes to people go through {}; when that fails too, nobody is told",
                first.map(String::as_str).unwrap_or_default()
            ),
        };
        report.warn(
            "one_route",
            &base,
            message,
            "add a second [notify.NAME] that does not fail with the first: another region, or a webhook",
        );
    }
}

fn exactly_one(route: &NotifyRoute, at: &Path, report: &mut Report<'_>) {
    match (&route.sns, &route.webhook) {
        (Some(_), Some(_)) => report.error(
            "not_exactly_one",
            &at.key("webhook"),
            "a route is exactly one of `sns` and `webhook`, and this one is both",
            "make two routes of it, each with its own name",
        ),
        (None, None) if !report.touches_broken(at) => {
            report.error("not_exactly_one", at, "this route leads nowhere", "add `sns = { … }` or `webhook = { … }`");
        }
        _ => {}
    }
}

/// A topic's ARN, and a region that fits it.
pub fn topic(report: &mut Report<'_>, table: &Path, topic: &str, region: Option<&str>) {
    match (topic_region(topic), region) {
        (None, _) => report.error(
            "bad_topic",
            &table.key("topic"),
            format!("`{topic}` is not the ARN of an SNS topic"),
            "write `arn:aws:sns:REGION:ACCOUNT:TOPIC`, the account with its twelve digits",
        ),
        (Some(of_topic), Some(region)) if of_topic != region => report.error(
            "wrong_region",
            &table.key("region"),
            format!("the topic is in {of_topic}, and {region} does not know it"),
            format!("write `{of_topic}`, or leave `region` out"),
        ),
        (Some(of_topic), _) => aws_region(report, &table.key("topic"), of_topic),
    }
}
