//! `[daemon]`, `[defaults]`, `[quorum]`, `[policy]`, `[control]`, `[metrics]`, `[history]`, `[recording]`, `[log]`, `[limits]`.

use std::net::SocketAddr;
use std::path::Path as FilePath;

use super::common::{at_least_one, not_empty, not_zero};
use super::{Names, dangling, plain_value};
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::shape::{File, Policy, StateAddress};
use crate::config::trust::{self, Matter};
use crate::model::{FlapDamping, HumanDuration, Retry};

/// Tells what is wrong with the daemon's own tables.
pub fn check(file: &File, names: &Names, report: &mut Report<'_>) {
    daemon(file, names, report);
    defaults(file, report);
    policy(&file.policy, report);
    let vantages = Path::of(&["quorum", "vantages"]);
    at_least_one(report, &vantages, Some(file.quorum.vantages));
    let control = Path::of(&["control"]);
    for (role, who) in [
        ("viewers", &file.control.viewers),
        ("operators", &file.control.operators),
        ("approvers", &file.control.approvers),
    ] {
        for (place, name) in who.iter().enumerate() {
            not_empty(report, &control.key(role).index(place), name.trim_start_matches('@'));
        }
    }
    outputs(file, report);
    let size = Path::of(&["history", "max_size_mib"]);
    at_least_one(report, &size, Some(file.history.max_size_mib));
    let size = Path::of(&["recording", "max_size_mib"]);
    at_least_one(report, &size, Some(file.recording.max_size_mib));
}

fn daemon(file: &File, names: &Names, report: &mut Report<'_>) {
    let base = Path::of(&["daemon"]);
    plain_value(report, &base.key("name"), &file.daemon.name);
    if let Some(domain) = &file.daemon.failure_domain {
        plain_value(report, &base.key("failure_domain"), domain);
    }
    let state = base.key("state");
    if let Some(directory) = file.local_state().as_deref().filter(|path| path.is_absolute()).and_then(FilePath::parent)
    {
        trust::check(report, &state, directory, Matter::Ours);
    }
    match StateAddress::parse(&file.daemon.state) {
        Some(StateAddress::Sqlite(path)) if path.is_absolute() => {}
        Some(StateAddress::Sqlite(path)) => report.warn(
            "relative_path",
            &state,
            format!("`{}` depends on the folder that the daemon is started in", path.display()),
            "write an absolute path: `sqlite:/var/lib/failoverd/state.db`",
        ),
        Some(StateAddress::Etcd { endpoints, .. }) => {
            if endpoints.len() < 3 {
                report.warn(
                    "few_endpoints",
                    &state,
                    format!("an etcd cluster of {} outlives the loss of none of its members", endpoints.len()),
                    "name three, in different failure domains",
                );
            }
        }
        None => report.error(
            "bad_state",
            &state,
            format!("`{}` names no state", file.daemon.state),
            "write `sqlite:/var/lib/failoverd/state.db`, or for several daemons `etcd://HOST:PORT,HOST:PORT,HOST:PORT`",
        ),
    }
    if !file.daemon.socket.is_absolute() {
        report.warn(
            "relative_path",
            &base.key("socket"),
            "this depends on the folder that the daemon is started in",
            "write an absolute path: `/run/failoverd/failoverd.sock`",
        );
    }
    if let Some(scenario) = &file.daemon.manual_scenario {
        let at = base.key("manual_scenario");
        match file.scenarios.get(scenario) {
            None if names.scenarios.contains(scenario) => {}
            None => dangling(report, &at, "scenario", scenario, &names.scenarios),
            Some(table) if table.plan.is_none() => report.error(
                "nothing_to_do",
                &at,
                format!("the scenario `{scenario}` has no plan, so SIGUSR1 would do nothing"),
                format!("add `plan = …` to [scenarios.{scenario}], or name another scenario"),
            ),
            Some(_) => {}
        }
    }
}

fn defaults(file: &File, report: &mut Report<'_>) {
    let timing = &file.defaults.probe;
    let base = Path::of(&["defaults", "probe"]);
    not_zero(report, &base.key("interval"), timing.interval);
    not_zero(report, &base.key("fast_interval"), timing.fast_interval);
    not_zero(report, &base.key("timeout"), timing.timeout);
    not_zero(report, &base.key("max_age"), timing.max_age);
    at_least_one(report, &base.key("fall"), timing.fall);
    at_least_one(report, &base.key("rise"), timing.rise);
    let base = Path::of(&["defaults", "step"]);
    not_zero(report, &base.key("timeout"), file.defaults.step.timeout);
    if let Some(retries) = &file.defaults.step.retry {
        retry(report, &base.key("retry"), retries);
    }
}

/// Retries that can be carried out.
pub fn retry(report: &mut Report<'_>, path: &Path, retry: &Retry) {
    at_least_one(report, &path.key("attempts"), Some(retry.attempts));
    if retry.backoff > retry.max_backoff {
        report.error(
            "bad_retry",
            &path.key("backoff"),
            format!("the first wait of {} is longer than the longest of {}", retry.backoff, retry.max_backoff),
            "write a `backoff` that is not longer than `max_backoff`",
        );
    }
}

fn policy(policy: &Policy, report: &mut Report<'_>) {
    let base = Path::of(&["policy"]);
    not_zero(report, &base.key("failover_window"), policy.failover_window);
    damping(policy, report);
    if policy.failover_limit == Some(0) {
        report.warn(
            "never_acts",
            &base.key("failover_limit"),
            "with a limit of 0 nothing is ever carried out",
            "write 1 or more, or daemon.mode = \"alert-only\" if that is what is meant",
        );
    }
    if let Some(safety) = policy.safety
        && !(1.0..=10.0).contains(&safety)
    {
        report.error(
            "bad_safety",
            &base.key("safety"),
            format!("a safety of {safety} is not between 1.0 and 10.0"),
            "write 1.2: a plan may take a fifth longer than estimated",
        );
    }
}

/// How flapping probes are held back; `None` where it is switched off.
pub fn flap_damping(policy: &Policy) -> Option<FlapDamping> {
    let table = &policy.flap_damping;
    table.enabled.unwrap_or(true).then(|| FlapDamping {
        half_life: table.half_life.unwrap_or(HumanDuration::secs(300)),
        suppress: table.suppress.unwrap_or(3500),
        reuse: table.reuse.unwrap_or(1500),
        max_suppress: table.max_suppress.unwrap_or(HumanDuration::secs(900)),
        steady_for: table.steady_for.unwrap_or(HumanDuration::secs(60)),
    })
}

fn damping(policy: &Policy, report: &mut Report<'_>) {
    let base = Path::of(&["policy", "flap_damping"]);
    let table = &policy.flap_damping;
    not_zero(report, &base.key("half_life"), table.half_life);
    not_zero(report, &base.key("max_suppress"), table.max_suppress);
    at_least_one(report, &base.key("reuse"), table.reuse);
    let Some(damping) = flap_damping(policy) else { return };
    if damping.reuse >= damping.suppress {
        report.error(
            "bad_damping",
            &base.key("reuse"),
            format!("a probe that is held back above {} cannot be held back until {}", damping.suppress, damping.reuse),
            "write a `reuse` that is below `suppress`",
        );
    } else if damping.never_suppresses() {
        report.warn(
            "never_damped",
            &base.key("max_suppress"),
            format!(
                "no penalty that decays to {} within {} is above {}, so that no probe is ever held back",
                damping.reuse, damping.max_suppress, damping.suppress
            ),
            "write a longer `max_suppress` or a shorter `half_life`; or `enabled = false` if that is what is meant",
        );
    }
}

/// `safety` in percent, between 100 and 1000.
pub fn safety_percent(policy: &Policy) -> u32 {
    let percent = (policy.safety.unwrap_or(1.2).clamp(1.0, 10.0) * 100.0).round();
    // Clamped above, so that the cast neither truncates nor loses a sign.
    percent as u32
}

fn outputs(file: &File, report: &mut Report<'_>) {
    let listen = Path::of(&["metrics", "listen"]);
    match file.metrics.listen.as_deref() {
        None | Some("") => {}
        Some(text) => match text.parse::<SocketAddr>() {
            Err(_) => report.error(
                "bad_address",
                &listen,
                format!("`{text}` is not an address to listen on"),
                "write `address:port`, for example `127.0.0.1:9464`; `\"\"` switches it off",
            ),
            Ok(address) if !address.ip().is_loopback() => report.warn(
                "open_to_others",
                &listen,
                format!("{address} may be reached from other machines, and asks nobody who they are"),
                "listen on 127.0.0.1, or keep strangers out with a firewall",
            ),
            Ok(_) => {}
        },
    }
    if let Some(filter) = &file.log.filter
        && let Err(error) = tracing_subscriber::EnvFilter::try_new(filter)
    {
        report.error(
            "bad_filter",
            &Path::of(&["log", "filter"]),
            format!("`{filter}` is not a filter: {error}"),
            "write `info`, or by module: `failoverd::core=debug,info`",
        );
    }
    let limits = Path::of(&["limits"]);
    at_least_one(report, &limits.key("route53"), file.limits.route53);
    at_least_one(report, &limits.key("rds"), file.limits.rds);
    at_least_one(report, &limits.key("sns"), file.limits.sns);
    at_least_one(report, &limits.key("kubernetes"), file.limits.kubernetes);
}
