//! `[notify]`: the routes to people.

use std::collections::BTreeSet;

use super::common::{aws_region, file_is_there, not_empty};
use super::secrets;
use crate::config::action::topic_region;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::config::shape::{EmailSecurity, File, NOTIFY_KINDS, NotifyEmail, NotifyRoute};

/// Tells what is wrong with the routes.
pub fn check(file: &File, report: &mut Report<'_>) {
    let base = Path::of(&["notify"]);
    let mut fate = BTreeSet::new();
    for (name, route) in &file.notify {
        let at = base.key(name);
        exactly_one(route, &at, report);
        super::people::route(file, report, &at, name, route);
        fate.extend(checked(&at, route, report));
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

/// What is wrong with its parameters; what it goes through, and fails with.
fn checked(at: &Path, route: &NotifyRoute, report: &mut Report<'_>) -> Option<String> {
    let mut through = None;
    if let Some(sns) = &route.sns {
        topic(report, &at.key("sns"), &sns.topic, sns.region.as_deref());
        let region = sns.region.as_deref().or(topic_region(&sns.topic)).unwrap_or_default();
        through = Some(format!("SNS in {region}"));
    }
    if let Some(s3) = &route.s3 {
        // People are not told by it: it is none of the routes that have to be two.
        aws_region(report, &at.key("s3").key("region"), &s3.region);
        not_empty(report, &at.key("s3").key("bucket"), &s3.bucket);
    }
    credentials(report, at, route);
    if let Some(webhook) = &route.webhook {
        let at = at.key("webhook");
        secrets::headers(report, &at.key("headers"), &webhook.headers);
        through = Some(address(report, &at.key("url"), &webhook.url));
    }
    if let Some(slack) = &route.slack {
        let at = at.key("slack");
        through = Some("Slack".to_owned());
        if let Some(webhook) = &slack.webhook {
            address(report, &at.key("webhook"), webhook);
        }
        api(report, &at, slack.url.as_deref());
    }
    if let Some(pagerduty) = &route.pagerduty {
        api(report, &at.key("pagerduty"), pagerduty.url.as_deref());
        through = Some("PagerDuty".to_owned());
    }
    if let Some(opsgenie) = &route.opsgenie {
        api(report, &at.key("opsgenie"), opsgenie.url.as_deref());
        through = Some("Opsgenie".to_owned());
    }
    if let Some(alertmanager) = &route.alertmanager {
        let at = at.key("alertmanager");
        secrets::headers(report, &at.key("headers"), &alertmanager.headers);
        for name in alertmanager.labels.keys().filter(|name| !is_label(name)) {
            report.error_at_key(
                "bad_label",
                &at.key("labels").key(name),
                format!("`{name}` is not the name of a label, or one that failoverd gives itself"),
                "letters, digits and `_`, not beginning with a digit; not alertname, daemon, incident, scenario, severity, kind",
            );
        }
        through = Some(address(report, &at.key("url"), &alertmanager.url));
    }
    if let Some(statuspage) = &route.statuspage {
        let at = at.key("statuspage");
        api(report, &at, statuspage.url.as_deref());
        not_empty(report, &at.key("page"), &statuspage.page);
        not_empty(report, &at.key("title"), &statuspage.title);
        // Customers read it, and nobody is paged by it: it is no second route.
        through = None;
    }
    if let Some(mail) = &route.email {
        email(report, &at.key("email"), mail);
        through = Some(mail.host.clone());
    }
    // Who is told only what everybody may know is paged by nothing.
    through.filter(|_| !route.audience().is_public())
}

/// What is nothing but a secret: by reference, and not for others to write.
fn credentials(report: &mut Report<'_>, at: &Path, route: &NotifyRoute) {
    let slack = route.slack.as_ref().and_then(|slack| slack.token.as_ref());
    let webhook = route.webhook.as_ref().and_then(|webhook| webhook.secret.as_ref());
    for (kind, key, value) in [
        ("webhook", "secret", webhook),
        ("slack", "token", slack),
        ("pagerduty", "routing_key", route.pagerduty.as_ref().map(|pagerduty| &pagerduty.routing_key)),
        ("opsgenie", "key", route.opsgenie.as_ref().map(|opsgenie| &opsgenie.key)),
        ("statuspage", "key", route.statuspage.as_ref().map(|statuspage| &statuspage.key)),
    ] {
        if let Some(value) = value {
            secrets::secret(report, &at.key(kind).key(key), value);
        }
    }
}

/// A server, and addresses as mail has them.
fn email(report: &mut Report<'_>, at: &Path, mail: &NotifyEmail) {
    not_empty(report, &at.key("host"), &mail.host);
    let address = |text: &str| text.parse::<lettre::message::Mailbox>().is_ok();
    let fix = "write `name@host`, or `Somebody <name@host>`";
    if !address(&mail.from) {
        report.error("bad_address", &at.key("from"), format!("`{}` is no address of mail", mail.from), fix);
    }
    for (place, to) in mail.to.iter().enumerate().filter(|(_, to)| !address(to)) {
        report.error("bad_address", &at.key("to").index(place), format!("`{to}` is no address of mail"), fix);
    }
    if mail.to.is_empty() {
        report.error("empty", &at.key("to"), "nobody would be told", "name at least one recipient");
    }
    file_is_there(report, &at.key("ca_file"), mail.ca_file.as_deref());
    if let Some(password) = &mail.password {
        secrets::secret(report, &at.key("password"), password);
    }
    match (&mail.username, &mail.password) {
        (Some(_), None) => report.error("missing_key", at, "`password` is missing", "add it, by reference"),
        (None, Some(_)) => report.error("missing_key", at, "`username` is missing", "add it"),
        (Some(_), Some(_)) if mail.security == EmailSecurity::None => report.error(
            "password_in_the_open",
            &at.key("security"),
            "the password would go over the network as it is",
            "write `starttls` or `tls`, or leave `username` and `password` out",
        ),
        _ => {}
    }
}

/// Checks an address that may be secret; tells its host, or where it is written.
fn address(report: &mut Report<'_>, at: &Path, url: &SecretText) -> String {
    secrets::address(report, at, url, &["https", "http"]);
    match url {
        SecretText::Plain(url) => {
            url::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default()
        }
        SecretText::Reference(secret) => secret.to_string(),
    }
}

/// Where a provider's API is, where that is written.
fn api(report: &mut Report<'_>, table: &Path, url: Option<&str>) {
    if let Some(url) = url {
        secrets::address(report, &table.key("url"), &SecretText::Plain(url.to_owned()), &["https", "http"]);
    }
}

/// <https://prometheus.io/docs/concepts/data_model/#metric-names-and-labels>
fn is_label(name: &str) -> bool {
    let well = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let ours = ["alertname", "daemon", "incident", "scenario", "severity", "kind"];
    well && !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && !ours.contains(&name)
}

fn exactly_one(route: &NotifyRoute, at: &Path, report: &mut Report<'_>) {
    match route.kinds()[..] {
        [_] => {}
        [first, second, ..] => report.error(
            "not_exactly_one",
            &at.key(second),
            format!("a route is exactly one of {}, and this one is both {first} and {second}", NOTIFY_KINDS.join(", ")),
            "make two routes of it, each with its own name",
        ),
        [] if !report.touches_broken(at) => {
            let fix = format!("add one of {}", NOTIFY_KINDS.map(|kind| format!("`{kind} = {{ … }}`")).join(", "));
            report.error("not_exactly_one", at, "this route leads nowhere", fix);
        }
        [] => {}
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
