//! `[links]`, and the routes to approvers.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::common::{file_is_there, not_empty};
use super::secrets::{reference, secret_file};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::shape::{File, Links};

/// Tells what is wrong with the links.
pub fn check(file: &File, report: &mut Report<'_>) {
    if let Some(links) = &file.links {
        table(links, report);
    }
    let mut people: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, route) in &file.notify {
        let Some(person) = &route.approver else { continue };
        let at = Path::of(&["notify"]).key(name).key("approver");
        not_empty(report, &at, person);
        if person.contains(['(', ')']) {
            let fix = "write the person's name as it is in /etc/passwd";
            report.error(
                "bad_name",
                &at,
                "a person's name has no brackets: what follows one is how somebody came",
                fix,
            );
        }
        if file.links.is_none() && !report.touches_broken(&Path::of(&["links"])) {
            report.error(
                "no_links",
                &at,
                format!("nothing signs links for {person}"),
                "add [links] with `url`, `listen` and `key`, or leave `approver` out",
            );
        }
        *people.entry(person).or_default() += 1;
    }
    enough_people(file, &people, report);
}

fn table(links: &Links, report: &mut Report<'_>) {
    let at = Path::of(&["links"]);
    let url = url::Url::parse(&links.url);
    let is_plain =
        |url: &url::Url| matches!(url.scheme(), "https" | "http") && url.path() == "/" && url.query().is_none();
    let host = url.as_ref().ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let local = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]");
    if !url.as_ref().is_ok_and(is_plain) {
        let message = format!("`{}` is not an address without a path", links.url);
        report.error("bad_url", &at.key("url"), message, "write it as `https://failoverd.example`");
    } else if !links.url.starts_with("https://") && !local {
        report.error(
            "not_secret",
            &at.key("url"),
            "a link is a person's credential, and this sends it readable through the network",
            "write `https://…`",
        );
    }
    reference(report, &at.key("key"), &links.key);
    if let Some(tls) = &links.tls {
        let at = at.key("tls");
        file_is_there(report, &at.key("certificate_file"), Some(&tls.certificate_file));
        secret_file(report, &at.key("key_file"), &tls.key_file);
    }
    match links.listen.parse::<SocketAddr>() {
        Err(_) => {
            let message = format!("`{}` is no address and port", links.listen);
            report.error("bad_address", &at.key("listen"), message, "write `127.0.0.1:9798`");
        }
        Ok(address) if !address.ip().is_loopback() && links.tls.is_none() => report.error(
            "not_secret",
            &at.key("listen"),
            "links are credentials, and would be served without TLS to the network",
            "listen on 127.0.0.1 behind a proxy that speaks TLS, or add `tls = { certificate_file = …, key_file = … }`",
        ),
        Ok(_) => {}
    }
}

/// A scenario that takes more persons than links lead to is not wrong: there is the socket as well.
fn enough_people(file: &File, people: &BTreeMap<&str, usize>, report: &mut Report<'_>) {
    for (name, scenario) in &file.scenarios {
        let Some(needed) = scenario.approvals else { continue };
        let at = Path::of(&["scenarios"]).key(name).key("approvals");
        if !(1..=5).contains(&needed) {
            report.error("out_of_range", &at, format!("{needed} persons"), "write a number from 1 to 5");
            continue;
        }
        let socket = file.control.approvers.len();
        let grouped = file.control.approvers.iter().any(|who| who.starts_with('@'));
        // Root, and the daemon's user, are one more.
        if needed > 1 && !grouped && people.len() + socket + 1 < needed as usize {
            report.warn(
                "too_few_approvers",
                &at,
                format!("{needed} persons have to approve, and there are fewer: the approvers of [control] and of links, and root"),
                "add approvers to [control], or routes with `approver`",
            );
        }
    }
}
