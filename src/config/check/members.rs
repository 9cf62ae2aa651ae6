//! `[members]` and `[etcd]`: several daemons on one state.

use std::collections::BTreeSet;
use std::time::Duration;

use super::common::file_is_there;
use super::secrets::{reference, secret_file};
use super::witnesses::check_vantage;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::shape::{File, StateAddress};
use crate::model::WitnessSettings;

/// etcd itself takes longer than that to find another leader of its own.
const SHORTEST_TTL: Duration = Duration::from_secs(2);
const LONGEST_TTL: Duration = Duration::from_secs(300);

/// The other members, as vantages that are asked for their votes.
pub fn members(file: &File, report: &mut Report<'_>) -> Vec<WitnessSettings> {
    let base = Path::of(&["members"]);
    let is_shared = matches!(StateAddress::parse(&file.daemon.state), Some(StateAddress::Etcd { .. }));
    for (name, member) in &file.members {
        check_vantage(report, &base.key(name), member);
        if file.witnesses.contains_key(name) {
            report.error_at_key(
                "ambiguous_name",
                &base.key(name),
                format!("`{name}` is a member and a witness: its votes would count twice"),
                "give one of them another name, or leave one out",
            );
        }
    }
    if is_shared {
        shared(file, report);
    } else if !file.members.is_empty() && !report.touches_broken(&Path::of(&["daemon"])) {
        report.error(
            "no_shared_state",
            &base,
            "members share a state, and `daemon.state` is a file of this daemon alone: each of them would act",
            "write `daemon.state = \"etcd://HOST:PORT,HOST:PORT,HOST:PORT\"`, or make them witnesses",
        );
    } else if file.etcd.is_some() && !report.touches_broken(&Path::of(&["daemon"])) {
        report.warn(
            "not_used",
            &Path::of(&["etcd"]),
            "`daemon.state` names no etcd cluster, so that this table says nothing",
            "remove it, or write `daemon.state = \"etcd://HOST:PORT,…\"`",
        );
    }
    let others = file.members.iter().filter(|(name, _)| **name != file.daemon.name);
    others
        .map(|(name, member)| WitnessSettings { name: name.as_str().into(), domain: member.domain.as_str().into() })
        .collect()
}

fn shared(file: &File, report: &mut Report<'_>) {
    let base = Path::of(&["members"]);
    match file.members.get(&file.daemon.name) {
        None if report.touches_broken(&base) => {}
        None => report.error(
            "not_a_member",
            &Path::of(&["daemon", "name"]),
            format!("several daemons share this state, and there is no [members.{}]", file.daemon.name),
            format!(
                "add [members.{}] with domain and url, and the same table in the files of the others",
                file.daemon.name
            ),
        ),
        Some(own) => {
            if let Some(domain) = file.daemon.failure_domain.as_ref().filter(|domain| **domain != own.domain) {
                report.error(
                    "two_domains",
                    &Path::of(&["daemon", "failure_domain"]),
                    format!("it is `{domain}` here, and `{}` in [members.{}]", own.domain, file.daemon.name),
                    "leave it out here: a member's domain is in [members]",
                );
            }
        }
    }
    if file.members.len() == 1 {
        report.warn(
            "one_member",
            &base,
            "there is one member only: nobody takes over where it ends",
            "add two more, in other failure domains; or write `daemon.state = \"sqlite:…\"`",
        );
    }
    let domains: BTreeSet<&str> = file.members.values().map(|member| member.domain.as_str()).collect();
    if file.members.len() > 1 && domains.len() == 1 {
        report.warn(
            "one_domain",
            &base,
            "all members stand in one failure domain: what fells one of them fells all",
            "put them into different ones",
        );
    }
    if !file.health_switch.switches.is_empty() {
        report.error(
            "not_shared",
            &Path::of(&["health_switch", "switches"]),
            "a health switch is kept by the daemon that serves it, and the other members would go on answering as before",
            "move traffic by DNS records instead, or keep the state of this daemon in a file of its own",
        );
    }
    etcd(file, report);
}

fn etcd(file: &File, report: &mut Report<'_>) {
    let Some(table) = &file.etcd else { return };
    let base = Path::of(&["etcd"]);
    let ttl = table.ttl.get();
    if !(SHORTEST_TTL..=LONGEST_TTL).contains(&ttl) || ttl.subsec_nanos() != 0 {
        report.error(
            "bad_ttl",
            &base.key("ttl"),
            format!("{} is no time that a lease can have", table.ttl),
            "write whole seconds, from `2s` to `5m`",
        );
    }
    if !table.local.is_absolute() {
        report.warn(
            "relative_path",
            &base.key("local"),
            "this depends on the folder that the daemon is started in",
            "write an absolute path: `/var/lib/failoverd/member.db`",
        );
    }
    if let Some(user) = &table.user {
        reference(report, &base.key("user").key("password"), &user.password);
    }
    if let Some(tls) = &table.tls {
        let at = base.key("tls");
        file_is_there(report, &at.key("ca_file"), tls.ca_file.as_deref());
        file_is_there(report, &at.key("certificate_file"), tls.certificate_file.as_deref());
        if let Some(key) = &tls.key_file {
            secret_file(report, &at.key("key_file"), key);
        }
        if tls.certificate_file.is_some() != tls.key_file.is_some() {
            report.error(
                "missing_key",
                &at,
                "a certificate and its key go together, and one of them is missing",
                "write both certificate_file and key_file, or none",
            );
        }
    }
}
