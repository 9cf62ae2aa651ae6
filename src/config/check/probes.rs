//! `[probes]` and `[anchors]`.

use std::collections::{BTreeMap, BTreeSet};

use super::common::{address, at_least_one, file_is_there, method, not_empty, not_zero, statuses};
use super::{Names, dangling, plain_value, secrets};
use crate::config::LoadedProbe;
use crate::config::path::Path;
use crate::config::probe::{DnsProbe, HttpProbe, PostgresProbe, ProbeKind, RedisProbe, TcpProbe};
use crate::config::report::Report;
use crate::config::shape::{Anchors, File, Probe, ProbeTiming};
use crate::model::{CauseKind, HumanDuration, Meaning, ProbeSettings, RegionName, Role};

const KINDS: [&str; 19] = [
    "http",
    "tcp",
    "dns",
    "postgres",
    "redis",
    "kubernetes",
    "rds",
    "elasticache",
    "promql",
    "cloudwatch",
    "s3_age",
    "velero_age",
    "aws_health",
    "tls",
    "grpc",
    "icmp",
    "exec",
    "http_sequence",
    "window",
];

/// A cloud's API is asked more often than this only by mistake.
const CLOUD_INTERVAL: HumanDuration = HumanDuration::secs(10);

/// The probes, with their timing resolved.
pub fn probes(file: &File, names: &Names, report: &mut Report<'_>) -> Vec<LoadedProbe> {
    let base = Path::of(&["probes"]);
    let mut loaded = Vec::new();
    for (name, probe) in &file.probes {
        let at = base.key(name);
        if let Some(region) = &probe.region
            && !names.regions.contains(region)
        {
            dangling_region(report, &at.key("region"), region, names);
        }
        if let Some(zone) = &probe.zone {
            plain_value(report, &at.key("zone"), zone);
        }
        let timing = own_timing(probe);
        check_timing(report, &at, &timing);
        let kind = kind(report, &at, probe);
        let mut settings = resolve(name, probe.region.as_deref(), kind.as_ref(), &timing, &file.defaults.probe);
        settings.zone = probe.zone.as_deref().map(Into::into);
        settings.causes = causes(report, &at, probe, kind.as_ref());
        check_resolved(report, &at, &timing, &settings);
        if let Some(kind) = kind {
            check_kind(report, &at, &kind, &settings);
            check_cloud(report, &at, &kind, &settings, file);
            loaded.push(LoadedProbe { name: settings.name.clone(), kind, settings });
        }
    }
    loaded
}

fn dangling_region(report: &mut Report<'_>, path: &Path, region: &str, names: &Names) {
    if names.regions.is_empty() {
        report.error(
            "unknown_name",
            path,
            format!("there is no region `{region}`"),
            format!("add [regions.{region}] with role = \"primary\", \"backup\" or \"witness\""),
        );
    } else {
        dangling(report, path, "region", region, &names.regions);
    }
}

/// The one kind of a probe.
fn kind(report: &mut Report<'_>, at: &Path, probe: &Probe) -> Option<ProbeKind> {
    let mut kinds: Vec<ProbeKind> = [
        probe.http.clone().map(ProbeKind::Http),
        probe.tcp.clone().map(ProbeKind::Tcp),
        probe.dns.clone().map(ProbeKind::Dns),
        probe.postgres.clone().map(ProbeKind::Postgres),
        probe.redis.clone().map(ProbeKind::Redis),
        probe.kubernetes.clone().map(ProbeKind::Kubernetes),
        probe.rds.clone().map(ProbeKind::Rds),
        probe.elasticache.clone().map(ProbeKind::Elasticache),
        probe.promql.clone().map(ProbeKind::Promql),
        probe.cloudwatch.clone().map(ProbeKind::Cloudwatch),
        probe.s3_age.clone().map(ProbeKind::S3Age),
        probe.velero_age.clone().map(ProbeKind::VeleroAge),
        probe.aws_health.clone().map(ProbeKind::AwsHealth),
        probe.tls.clone().map(ProbeKind::Tls),
        probe.grpc.clone().map(ProbeKind::Grpc),
        probe.icmp.clone().map(ProbeKind::Icmp),
        probe.exec.clone().map(ProbeKind::Exec),
        probe.http_sequence.clone().map(ProbeKind::HttpSequence),
        probe.window.clone().map(ProbeKind::Window),
    ]
    .into_iter()
    .flatten()
    .collect();
    if kinds.len() > 1 {
        let all: Vec<&str> = kinds.iter().map(ProbeKind::name).collect();
        report.error_at_key(
            "not_exactly_one",
            &at.key(all[1]),
            format!("a probe asks exactly one thing, and this one asks {}", all.join(" and ")),
            "make two probes of it, and put both names into the condition",
        );
    }
    if kinds.is_empty() && !KINDS.iter().any(|kind| report.is_broken(&at.key(kind))) {
        report.error(
            "not_exactly_one",
            at,
            "this probe asks nothing",
            format!("add one of {}", crate::config::suggest::list(&KINDS)),
        );
    }
    (!kinds.is_empty()).then(|| kinds.swap_remove(0))
}

/// What the owner says that causes mean.
fn causes(report: &mut Report<'_>, at: &Path, probe: &Probe, kind: Option<&ProbeKind>) -> BTreeMap<CauseKind, Meaning> {
    let seen: Option<BTreeSet<CauseKind>> = kind.map(|kind| kind.causes().iter().map(|row| row.cause).collect());
    for cause in probe.causes.keys().filter(|cause| seen.as_ref().is_some_and(|seen| !seen.contains(cause))) {
        let kind = kind.map_or("such", ProbeKind::name);
        report.warn(
            "never_seen",
            &at.key("causes").key(cause.as_str()),
            format!("a `{kind}` probe never sees `{cause}`"),
            format!("leave it out; `failoverd probes {kind}` lists what it sees"),
        );
    }
    for (cause, _) in probe.causes.iter().filter(|(cause, meaning)| cause.is_ours() && **meaning == Meaning::Down) {
        report.error(
            "never_down",
            &at.key("causes").key(cause.as_str()),
            format!("`{cause}` is not the target's: that we cannot look says nothing of it"),
            "write \"unknown\", or leave it out",
        );
    }
    probe.causes.clone()
}

fn own_timing(probe: &Probe) -> ProbeTiming {
    ProbeTiming {
        interval: probe.interval,
        fast_interval: probe.fast_interval,
        timeout: probe.timeout,
        fall: probe.fall,
        rise: probe.rise,
        max_age: probe.max_age,
    }
}

fn check_timing(report: &mut Report<'_>, at: &Path, timing: &ProbeTiming) {
    not_zero(report, &at.key("interval"), timing.interval);
    not_zero(report, &at.key("fast_interval"), timing.fast_interval);
    not_zero(report, &at.key("timeout"), timing.timeout);
    not_zero(report, &at.key("max_age"), timing.max_age);
    at_least_one(report, &at.key("fall"), timing.fall);
    at_least_one(report, &at.key("rise"), timing.rise);
}

/// The timing of a probe: its own, else the default, else what the embedded default has.
fn resolve(
    name: &str,
    region: Option<&str>,
    kind: Option<&ProbeKind>,
    own: &ProbeTiming,
    defaults: &ProbeTiming,
) -> ProbeSettings {
    let interval = own.interval.or(defaults.interval).unwrap_or(HumanDuration::secs(2));
    let timeout = own.timeout.or(defaults.timeout).unwrap_or(HumanDuration::secs(1));
    // A default `fast_interval` is meant for the default interval; it never slows a quicker probe.
    // And never makes one that asks a cloud hasten: the cloud limits how often it is asked.
    let fast_default = defaults.fast_interval.filter(|_| kind.is_none_or(|kind| kind.cloud_limit().is_none()));
    let fast_interval = own.fast_interval.or(fast_default.map(|fast| fast.min(interval))).unwrap_or(interval);
    let lived = HumanDuration(interval.get().saturating_mul(3).saturating_add(timeout.get()));
    // A default `max_age` is meant for the default interval too: a slower probe would never have
    // a fresh vote.
    let max_age = own.max_age.or(defaults.max_age.map(|age| age.max(lived))).unwrap_or(lived);
    ProbeSettings {
        name: name.into(),
        region: region.map(RegionName::new),
        zone: None,
        target: kind.map_or_else(|| "nothing".into(), ProbeKind::fingerprint),
        interval,
        fast_interval,
        timeout,
        fall: own.fall.or(defaults.fall).unwrap_or(3),
        rise: own.rise.or(defaults.rise).unwrap_or(2),
        max_age,
        causes: BTreeMap::new(),
        window: None,
    }
}

fn check_resolved(report: &mut Report<'_>, at: &Path, own: &ProbeTiming, settings: &ProbeSettings) {
    let needed = settings.interval.get().saturating_add(settings.timeout.get());
    if own.max_age.is_some() && settings.max_age.get() < needed {
        report.error(
            "vote_expires",
            &at.key("max_age"),
            format!(
                "a vote would expire before the next look: max_age is {}, interval + timeout are {}",
                settings.max_age,
                HumanDuration(needed)
            ),
            "write at least interval + timeout, or leave it out (3 intervals + timeout)",
        );
    }
    if own.fast_interval.is_some() && settings.fast_interval > settings.interval {
        report.warn(
            "slow_fast_interval",
            &at.key("fast_interval"),
            format!(
                "while in doubt it would look less often ({}) than else ({})",
                settings.fast_interval, settings.interval
            ),
            "write a `fast_interval` that is shorter than `interval`",
        );
    }
}

fn check_kind(report: &mut Report<'_>, at: &Path, kind: &ProbeKind, settings: &ProbeSettings) {
    let at = at.key(kind.name());
    match kind {
        ProbeKind::Http(http) => check_http(report, &at, http, settings),
        ProbeKind::Tcp(TcpProbe { address: text, .. }) => address(report, &at.key("address"), text),
        ProbeKind::Dns(dns) => check_dns(report, &at, dns),
        ProbeKind::Postgres(postgres) => check_postgres(report, &at, postgres),
        ProbeKind::Redis(redis) => check_redis(report, &at, redis),
        ProbeKind::Kubernetes(kubernetes) => kubernetes.check(&at, report, settings.timeout),
        ProbeKind::Rds(rds) => rds.check(&at, report),
        ProbeKind::Elasticache(elasticache) => elasticache.check(&at, report),
        ProbeKind::Promql(promql) => promql.check(&at, report),
        ProbeKind::Cloudwatch(cloudwatch) => cloudwatch.check(&at, report),
        ProbeKind::S3Age(s3) => s3.check(&at, report),
        ProbeKind::VeleroAge(velero) => velero.check(&at, report),
        ProbeKind::AwsHealth(health) => health.check(&at, report),
        ProbeKind::Tls(tls) => tls.check(&at, report),
        ProbeKind::Grpc(grpc) => grpc.check(&at, report),
        ProbeKind::Icmp(icmp) => icmp.check(&at, report),
        ProbeKind::Exec(exec) => exec.check(&at, report),
        ProbeKind::HttpSequence(sequence) => sequence.check(&at, report, settings.timeout),
        // When all of its parts are known.
        ProbeKind::Window(_) => {}
    }
}

/// Clouds limit how often their API is asked, and plans ask the same API.
fn check_cloud(report: &mut Report<'_>, at: &Path, kind: &ProbeKind, settings: &ProbeSettings, file: &File) {
    let Some((key, default)) = kind.cloud_limit() else { return };
    let limits = &file.limits;
    let own = if key == "rds" { limits.rds } else { limits.aws };
    let limit = own.unwrap_or(default);
    for (name, every) in [("interval", settings.interval), ("fast_interval", settings.fast_interval)] {
        if every < CLOUD_INTERVAL {
            return report.warn(
                "asks_too_often",
                &at.key(name),
                format!(
                    "AWS would be asked every {every}: it limits how often it is asked, and what plans and probes \
                     ask of it shares {limit} calls a second (limits.{key})"
                ),
                format!("write `{name} = \"{CLOUD_INTERVAL}\"` or longer"),
            );
        }
    }
}

fn check_http(report: &mut Report<'_>, at: &Path, http: &HttpProbe, settings: &ProbeSettings) {
    secrets::address(report, &at.key("url"), &http.url, &["https", "http"]);
    secrets::headers(report, &at.key("headers"), &http.headers);
    method(report, &at.key("method"), &http.method);
    statuses(report, &at.key("status"), &http.status);
    pattern(report, &at.key("matches"), http.matches.as_deref());
    for pointer in http.json.keys() {
        json_pointer(report, &at.key("json").key(pointer), pointer, true);
    }
    at_least_one(report, &at.key("fresh_every"), Some(http.fresh_every));
    if let Some(latency) = http.max_latency
        && latency >= settings.timeout
    {
        report.warn(
            "never_slow",
            &at.key("max_latency"),
            format!("an answer that takes {latency} has already run into the timeout of {}", settings.timeout),
            "write a `max_latency` that is shorter than `timeout`",
        );
    }
    file_is_there(report, &at.key("ca_file"), http.ca_file.as_deref());
}

/// A regular expression.
pub(in crate::config) fn pattern(report: &mut Report<'_>, at: &Path, pattern: Option<&str>) {
    if let Some(Err(error)) = pattern.map(regex::Regex::new) {
        // regex draws the pattern over several lines; the last one says what is wrong.
        let why = error.to_string().lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        report.error(
            "bad_pattern",
            at,
            format!("this is not a regular expression: {why}"),
            "see https://docs.rs/regex/#syntax",
        );
    }
}

/// A JSON pointer, as a key or as a value.
pub(in crate::config) fn json_pointer(report: &mut Report<'_>, at: &Path, pointer: &str, is_key: bool) {
    let escapes_well = pointer.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    if (pointer.is_empty() || pointer.starts_with('/')) && escapes_well {
        return;
    }
    let text = format!("{pointer:?} is not a JSON pointer");
    let fix = format!(
        "write it like `/status` (RFC 6901): `\"/{}\"`?",
        pointer.trim_start_matches(['$', '.']).replace('.', "/")
    );
    if is_key {
        report.error_at_key("bad_pointer", at, text, fix);
    } else {
        report.error("bad_pointer", at, text, fix);
    }
}

fn check_dns(report: &mut Report<'_>, at: &Path, dns: &DnsProbe) {
    if dns.name.is_empty() || dns.name.contains(['/', ':', ' ']) {
        report.error(
            "bad_name",
            &at.key("name"),
            format!("{:?} is not a name that DNS knows", dns.name),
            "write a name without scheme and port, for example `api.example`",
        );
    }
}

fn check_postgres(report: &mut Report<'_>, at: &Path, postgres: &PostgresProbe) {
    secrets::address(report, &at.key("url"), &postgres.url, &["postgresql", "postgres"]);
    if let Some(query) = &postgres.query {
        not_empty(report, &at.key("query"), query);
    }
    if postgres.expect == Some(Role::Primary) && (postgres.max_lag.is_some() || postgres.max_lag_bytes.is_some()) {
        lag_of_primary(report, &at.key(if postgres.max_lag.is_some() { "max_lag" } else { "max_lag_bytes" }));
    }
    file_is_there(report, &at.key("ca_file"), postgres.ca_file.as_deref());
}

fn check_redis(report: &mut Report<'_>, at: &Path, redis: &RedisProbe) {
    secrets::address(report, &at.key("url"), &redis.url, &["redis", "rediss"]);
    if redis.expect == Some(Role::Primary) && redis.max_lag.is_some() {
        lag_of_primary(report, &at.key("max_lag"));
    }
}

fn lag_of_primary(report: &mut Report<'_>, path: &Path) {
    report.warn("lag_of_primary", path, "a primary is never behind", "move it to the probe of the replica");
}

/// The anchors as probes named `anchor:HOST:PORT`, and how many of them must be up.
pub fn anchors(file: &File, report: &mut Report<'_>) -> (Vec<LoadedProbe>, u32) {
    let Some(anchors) = &file.anchors else {
        // A daemon that is cut off itself sees everything down.
        if file.scenarios.values().any(|scenario| scenario.plan.is_some())
            && !report.touches_broken(&Path::of(&["anchors"]))
        {
            report.warn(
                "no_anchors",
                &Path::of(&["anchors"]),
                "there are no anchors: when this daemon is cut off itself, everything looks down",
                "add [anchors] with tcp = [\"1.1.1.1:443\", \"9.9.9.9:443\"]",
            );
        }
        return (Vec::new(), 0);
    };
    let base = Path::of(&["anchors"]);
    check_anchors(report, &base, anchors);
    let timing = ProbeTiming { interval: anchors.interval, timeout: anchors.timeout, ..ProbeTiming::default() };
    check_timing(report, &base, &timing);
    let mut seen = BTreeSet::new();
    let loaded = anchors
        .tcp
        .iter()
        .filter(|text| seen.insert(text.as_str()))
        .map(|text| {
            let kind = ProbeKind::Tcp(TcpProbe { address: text.clone(), every_address: false });
            let settings = resolve(&format!("anchor:{text}"), None, Some(&kind), &timing, &file.defaults.probe);
            LoadedProbe { name: settings.name.clone(), kind, settings }
        })
        .collect();
    (loaded, anchors.at_least)
}

fn check_anchors(report: &mut Report<'_>, base: &Path, anchors: &Anchors) {
    let tcp = base.key("tcp");
    if anchors.tcp.is_empty() {
        report.error(
            "empty",
            &tcp,
            "there is no anchor: we would always count as cut off",
            "name at least two that do not fail together, or leave [anchors] out",
        );
    }
    let mut seen = BTreeSet::new();
    for (place, text) in anchors.tcp.iter().enumerate() {
        address(report, &tcp.index(place), text);
        if !seen.insert(text) {
            report.error("twice", &tcp.index(place), format!("`{text}` is there twice"), "leave one of them out");
        }
    }
    at_least_one(report, &base.key("at_least"), Some(anchors.at_least));
    if usize::try_from(anchors.at_least).is_ok_and(|needed| needed > seen.len()) && !anchors.tcp.is_empty() {
        report.error(
            "impossible_quorum",
            &base.key("at_least"),
            format!(
                "{} anchors must be up, and there are {}: we would always count as cut off",
                anchors.at_least,
                seen.len()
            ),
            format!("write {} or less", seen.len()),
        );
    }
}
