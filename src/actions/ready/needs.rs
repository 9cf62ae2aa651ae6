//! What a step hangs on: which hosts it calls, where they are, and where its credentials come from. The
//! place of a host is what its own name says; the rest is for the owner to say.

use std::sync::Arc;
use std::sync::LazyLock;

use regex::Regex;

use super::access::cluster_of;
use crate::clients::{Clients, kubernetes, postgres_address, redis};
use crate::config::SecretText;
use crate::config::action::{ActionConfig, CloudflareAction, DnsAction, HttpAction, PostgresAction, RedisAction};
use crate::model::{ActionSpec, Dependency, DependencyKind, Place};

/// A region of AWS as one label of a host name: `us-west-2`, `ap-southeast-1`, `us-gov-east-1`.
static REGION: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"(?:^|[.\-])((?:us|eu|ap|sa|ca|me|af|il|mx|cn)(?:-[a-z]+)+-\d)[a-f]?(?:[.\-]|$)").ok()
});

/// Where a host is, by its name alone.
pub fn place_of(host: &str) -> Place {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    if loopback || host == "localhost" || host.starts_with('/') {
        return Place::Here;
    }
    let region = REGION.as_ref().and_then(|region| region.captures(host)).map(|found| found[1].to_owned());
    region.map_or(Place::Unsaid, |region| Place::Region(region.into()))
}

fn endpoint(host: &str) -> Dependency {
    Dependency { kind: DependencyKind::Endpoint, name: host.to_owned(), place: place_of(host) }
}

/// A service of AWS, as it is called from a region. The control planes of those that have no region of
/// their own are in us-east-1.
/// <https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/global-services.html>
fn aws(family: &str, region: &str) -> Vec<Dependency> {
    let (name, place) = match family {
        "route53" | "iam" => (format!("{family}.amazonaws.com"), "us-east-1"),
        "arc" => return vec![of("route53-recovery-cluster", Place::Anywhere)],
        _ => (format!("{family}.{region}.amazonaws.com"), region),
    };
    let sts = Dependency {
        kind: DependencyKind::Credentials,
        name: format!("sts.{region}.amazonaws.com"),
        place: Place::Region(region.into()),
    };
    vec![of(&name, Place::Region(place.into())), sts]
}

fn of(name: &str, place: Place) -> Dependency {
    Dependency { kind: DependencyKind::Endpoint, name: name.to_owned(), place }
}

/// The host of a URL that may be a secret as a whole: of it nothing else is told.
fn url_host(text: &SecretText) -> Option<String> {
    url::Url::parse(&text.read().ok()?).ok()?.host_str().map(str::to_owned)
}

fn postgres_host(text: &SecretText) -> Option<String> {
    match postgres_address::Address::parse(&text.read().ok()?, None).ok()?.place {
        postgres_address::Place::Tcp { host, .. } => Some(host),
        postgres_address::Place::Unix(path) => Some(path.display().to_string()),
    }
}

fn redis_host(text: &SecretText) -> Option<String> {
    match redis::Address::parse(&text.read().ok()?).ok()?.place {
        redis::Place::Tcp { host, .. } => Some(host),
        redis::Place::Unix(path) => Some(path.display().to_string()),
    }
}

/// Everything that a step hangs on, as far as its parameters and files tell.
pub async fn needs(spec: &ActionSpec, _clients: &Arc<Clients>) -> Vec<Dependency> {
    if let Some(cluster) = cluster_of(spec) {
        return kubeconfig(&cluster).await;
    }
    let family = spec.kind.as_str().split('.').next().unwrap_or_default();
    if let Some(region) = &spec.region {
        return aws(family, region.as_str());
    }
    let Ok(action) = ActionConfig::from_spec(spec) else { return Vec::new() };
    let hosts = hosts(&action);
    let mut found: Vec<Dependency> = hosts.iter().flatten().map(|host| endpoint(host)).collect();
    if hosts.iter().any(Option::is_none) {
        found.push(of(&format!("the address of {}", spec.kind), Place::Unsaid));
    }
    found
}

/// The hosts that are called; `None`: an address that cannot be read.
fn hosts(action: &ActionConfig) -> Vec<Option<String>> {
    match action {
        ActionConfig::Postgres(action) => match action {
            PostgresAction::Promote(params) => vec![postgres_host(&params.url)],
            PostgresAction::Sql(params) => vec![postgres_host(&params.url)],
            PostgresAction::VerifyWrite(params) => vec![postgres_host(&params.url)],
            PostgresAction::Fence(params) => vec![postgres_host(&params.url)],
            PostgresAction::Follow(params) => vec![postgres_host(&params.url)],
            PostgresAction::Restore(params) => vec![postgres_host(&params.url)],
            PostgresAction::CompareCounts(params) => vec![postgres_host(&params.url)],
        },
        ActionConfig::Redis(action) => match action {
            RedisAction::Promote(params) => vec![redis_host(&params.url)],
            RedisAction::Command(params) => vec![redis_host(&params.url)],
            RedisAction::Follow(params) => vec![redis_host(&params.url)],
            RedisAction::Flush(params) => vec![redis_host(&params.url)],
        },
        ActionConfig::Http(HttpAction::Request(params)) => vec![url_host(&params.url)],
        ActionConfig::Dns(DnsAction::Update(params)) => {
            vec![crate::clients::dns::host_and_port(&params.server, 53).map(|(host, _)| host)]
        }
        ActionConfig::Cloudflare(CloudflareAction::Dns(_)) => vec![Some("api.cloudflare.com".to_owned())],
        _ => Vec::new(),
    }
}

/// The API server of a kubeconfig, and the plugin that its credentials come from.
async fn kubeconfig(cluster: &crate::config::action::KubernetesCluster) -> Vec<Dependency> {
    let Ok(config) = kubernetes::configuration(cluster).await else {
        return vec![of("the kubeconfig", Place::Unsaid)];
    };
    let mut found = vec![endpoint(config.cluster_url.host().unwrap_or_default())];
    if let Some(plugin) = config.auth_info.exec {
        let arguments = plugin.args.unwrap_or_default();
        let named = arguments.iter().position(|argument| argument == "--region").and_then(|at| arguments.get(at + 1));
        let environment = plugin.env.unwrap_or_default();
        let variable = environment.iter().find(|set| set.get("name").is_some_and(|name| name == "AWS_REGION"));
        let region = named.or_else(|| variable.and_then(|set| set.get("value"))).cloned();
        found.push(Dependency {
            kind: DependencyKind::Credentials,
            name: plugin.command.unwrap_or_else(|| "a credentials plugin".into()),
            place: region.map_or(Place::Unsaid, |region| Place::Region(region.into())),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_says_by_its_name_where_it_is() {
        let region = |name: &str| Place::Region(name.into());
        for (host, place) in [
            ("shop.abc123.us-west-2.rds.amazonaws.com", region("us-west-2")),
            ("dualstack.backup-lb.us-west-2.elb.amazonaws.com", region("us-west-2")),
            ("ABC.gr7.eu-central-1.eks.amazonaws.com", region("eu-central-1")),
            ("s3-us-gov-east-1.amazonaws.com", region("us-gov-east-1")),
            ("db.us-east-1a.shop.example", region("us-east-1")),
            ("api.shop.example", Place::Unsaid),
            ("us-hub-1x.shop.example", Place::Unsaid),
            ("127.0.0.1", Place::Here),
            ("[::1]", Place::Here),
            ("/run/postgresql", Place::Here),
            ("10.0.0.1", Place::Unsaid),
        ] {
            assert_eq!(place_of(host), place, "{host}");
        }
    }

    #[test]
    fn what_has_no_region_of_its_own_is_ruled_from_one() {
        let names = |family: &str| -> Vec<String> {
            aws(family, "us-west-2").into_iter().map(|found| format!("{} in {}", found.name, found.place)).collect()
        };
        assert_eq!(names("route53")[0], "route53.amazonaws.com in us-east-1");
        assert_eq!(
            names("rds"),
            ["rds.us-west-2.amazonaws.com in us-west-2", "sts.us-west-2.amazonaws.com in us-west-2"]
        );
    }
}
