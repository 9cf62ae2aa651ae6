//! `[witnesses]`, `[vantage_tls]`, and whether the quorum can be reached: at all, and in the outage of each
//! region.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use url::Url;

use super::common::file_is_there;
use super::plain_value;
use super::secrets::secret_file;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::shape::{File, Witness};
use crate::model::{FailureDomain, OnSilentWitnesses, RegionName, Settings, WitnessSettings};

/// The other vantages.
pub fn witnesses(file: &File, report: &mut Report<'_>) -> Vec<WitnessSettings> {
    let base = Path::of(&["witnesses"]);
    let mut listed = Vec::new();
    for (name, witness) in &file.witnesses {
        let at = base.key(name);
        if *name == file.daemon.name {
            report.error_at_key(
                "ambiguous_name",
                &at,
                format!("`{name}` is this daemon's own name: a vote of it would be its own"),
                "give the witness, or the daemon, another name",
            );
        }
        check_vantage(report, &at, witness);
        listed.push(WitnessSettings { name: name.as_str().into(), domain: witness.domain.as_str().into() });
    }
    let tls = Path::of(&["vantage_tls"]);
    let base = if file.witnesses.is_empty() { Path::of(&["members"]) } else { base };
    let is_asked = !file.witnesses.is_empty() || file.members.len() > 1;
    match &file.vantage_tls {
        None if is_asked && !report.touches_broken(&tls) => report.error(
            "missing_key",
            &base,
            "other vantages are asked over mutual TLS, and there is no [vantage_tls]",
            "add [vantage_tls] with ca_file, certificate_file and key_file; `failoverd certs` makes them",
        ),
        None => {}
        Some(files) => {
            file_is_there(report, &tls.key("ca_file"), Some(&files.ca_file));
            file_is_there(report, &tls.key("certificate_file"), Some(&files.certificate_file));
            secret_file(report, &tls.key("key_file"), &files.key_file);
        }
    }
    listed
}

/// A vantage that is asked: a witness or a member.
pub fn check_vantage(report: &mut Report<'_>, at: &Path, witness: &Witness) {
    plain_value(report, &at.key("domain"), &witness.domain);
    let well = Url::parse(&witness.url).is_ok_and(|url| {
        url.scheme() == "https"
            && url.host_str().is_some_and(|host| !host.is_empty())
            && matches!(url.path(), "" | "/")
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
    });
    if !well {
        report.error(
            "bad_address",
            &at.key("url"),
            format!("`{}` is not where a witness is asked", witness.url),
            "write `https://host:port`, for example `https://witness.example:7946`",
        );
    }
    if let Some(listen) = &witness.listen
        && listen.parse::<SocketAddr>().is_err()
    {
        report.error(
            "bad_address",
            &at.key("listen"),
            format!("`{listen}` is not an address to listen on"),
            "write `address:port`, for example `0.0.0.0:7946`",
        );
    }
}

/// Can the quorum be reached: with every vantage, and with those that an outage leaves?
pub fn quorum(settings: &Settings, file: &File, report: &mut Report<'_>) {
    let at = Path::of(&["quorum", "vantages"]);
    let need = file.quorum.vantages;
    if report.touches_broken(&Path::of(&["witnesses"])) {
        return;
    }
    let domains = distinct(settings, None);
    if usize::try_from(need).is_ok_and(|need| need > domains.len()) {
        let who = if settings.witnesses.is_empty() {
            "and only this daemon votes".into()
        } else {
            format!("and there are {} ({})", domains.len(), shown(&domains))
        };
        report.error(
            "impossible_quorum",
            &at,
            format!("{need} vantages of distinct failure domains must agree, {who}: there would never be a verdict"),
            format!("write {} or less, or add [witnesses.NAME] in another domain", domains.len()),
        );
        return;
    }
    if need == 1 && !settings.witnesses.is_empty() {
        report.warn(
            "unheard_witnesses",
            &at,
            format!("one vantage is enough, so that the {} witnesses decide nothing", settings.witnesses.len()),
            format!("write {} to have most of them agree", domains.len() / 2 + 1),
        );
    }
    for region in regions_that_fall(settings) {
        let left = distinct(settings, Some(&region));
        if usize::try_from(need).is_ok_and(|need| need > left.len()) {
            let (then, fix) = without_quorum(settings, left.len());
            report.warn(
                "no_third_vantage",
                &at,
                format!(
                    "an outage of {region} silences the vantages in it: {} of {need} are left ({}), and no verdict comes: {then}",
                    left.len(),
                    shown(&left)
                ),
                fix,
            );
        }
    }
}

/// What happens then, and what can be done about it.
fn without_quorum(settings: &Settings, left: usize) -> (&'static str, &'static str) {
    let by_hand = "it pages, and fails over only where a person does it by hand";
    match settings.on_silent_witnesses {
        OnSilentWitnesses::Hold => {
            (by_hand, "add a witness in a third failure domain; or write quorum.on_silent_witnesses = \"approve\"")
        }
        OnSilentWitnesses::Approve if settings.anchors.is_empty() => (
            by_hand,
            "add a witness in a third failure domain; or [anchors]: with them a person is asked, since they tell that it is not this daemon that is cut off",
        ),
        OnSilentWitnesses::Approve if usize::try_from(settings.quorum).is_ok_and(|need| need > left + 1) => {
            (by_hand, "add a witness in a third failure domain, or let fewer vantages be enough")
        }
        OnSilentWitnesses::Approve => (
            "a person is asked to approve, whatever the mode and `on_no_answer`, and nothing is done without an answer",
            "add a witness in a third failure domain; or accept that a person decides",
        ),
    }
}

/// The regions whose outage a scenario acts on.
fn regions_that_fall(settings: &Settings) -> BTreeSet<RegionName> {
    let acting = settings.scenarios.iter().filter(|scenario| scenario.plan.is_some());
    let down = acting.flat_map(|scenario| scenario.when.wanted_down());
    down.filter_map(|probe| settings.probe(&probe)?.region.clone()).collect()
}

/// The failure domains that vote, without the one of a region that is out.
fn distinct(settings: &Settings, without: Option<&RegionName>) -> BTreeSet<FailureDomain> {
    let all = settings.witnesses.iter().map(|witness| witness.domain.clone()).chain([settings.domain.clone()]);
    all.filter(|domain| without.is_none_or(|region| region.as_str() != domain.as_str())).collect()
}

fn shown(domains: &BTreeSet<FailureDomain>) -> String {
    if domains.is_empty() {
        return "none".into();
    }
    domains.iter().map(FailureDomain::as_str).collect::<Vec<_>>().join(", ")
}
