//! Names to addresses, through the system's resolvers, with the failures told apart.
//!
//! `getaddrinfo` says "temporary failure" for everything, blocks a thread, and cannot be called
//! off; a thousand probes during a resolver's outage would hold a thousand threads. So names are
//! asked for with hickory: `/etc/hosts` and `/etc/resolv.conf` are honoured (and read again when
//! they change), `nsswitch.conf` is not.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use futures::future::{Either, select};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};

use super::classify::Fault;
use super::stage::{Stage, waiting_for};
use crate::model::CauseKind;

/// An answer is kept at most this long, whatever its TTL: a name that was moved by a failover has
/// to be seen where it is now.
const KEEP: Duration = Duration::from_secs(5);

/// How often the system's files are looked at for a change.
const RECHECK: Duration = Duration::from_secs(1);

/// How long the other address family is waited for once one has answered (RFC 8305, section 3).
const OTHER_FAMILY: Duration = Duration::from_millis(50);

/// A query without an answer is sent again after this long.
const AGAIN: Duration = Duration::from_millis(700);

/// More addresses of one name than these are not tried.
const MOST_ADDRESSES: usize = 8;

/// Resolves names for all probes. Cheap to share.
pub struct Names {
    state: Mutex<Option<State>>,
    fixed: Option<ResolverConfig>,
}

struct State {
    stamp: [Option<SystemTime>; 2],
    checked: Instant,
    resolver: Result<Arc<System>, String>,
}

struct System {
    resolver: TokioResolver,
    search: Vec<Name>,
    ndots: usize,
}

impl Names {
    /// Through `/etc/hosts` and the servers of `/etc/resolv.conf`.
    pub fn system() -> Self {
        Self { state: Mutex::new(None), fixed: None }
    }

    /// Through the given servers only, without any file.
    pub fn through(config: ResolverConfig) -> Self {
        Self { state: Mutex::new(None), fixed: Some(config) }
    }

    /// The addresses of a host name or literal address, at most eight, IPv4 and IPv6 in turn.
    ///
    /// # Errors
    /// Down (`name_not_found`) where the name has no address; Unknown (`local_resolver`) where
    /// our resolver did not say.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, Fault> {
        let literal = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = literal.parse::<IpAddr>() {
            return Ok(vec![address]);
        }
        let system = self.current().map_err(|reason| Fault::ours(CauseKind::LocalResolver, reason))?;
        waiting_for(Stage::Resolver, system.lookup(host)).await
    }

    /// [`Names::lookup`] with a port.
    ///
    /// # Errors
    /// As there.
    pub async fn lookup_port(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, Fault> {
        Ok(self.lookup(host).await?.into_iter().map(|address| SocketAddr::new(address, port)).collect())
    }

    fn current(&self) -> Result<Arc<System>, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(state) = state.as_mut() {
            if now.duration_since(state.checked) < RECHECK || self.fixed.is_some() {
                return state.resolver.clone();
            }
            state.checked = now;
            if state.stamp == stamp() {
                return state.resolver.clone();
            }
        }
        let resolver = System::new(self.fixed.as_ref()).map(Arc::new).map_err(|e| e.to_string());
        *state = Some(State { stamp: stamp(), checked: now, resolver: resolver.clone() });
        resolver
    }
}

fn stamp() -> [Option<SystemTime>; 2] {
    ["/etc/resolv.conf", "/etc/hosts"]
        .map(|path| std::fs::metadata(Path::new(path)).and_then(|metadata| metadata.modified()).ok())
}

impl System {
    fn new(fixed: Option<&ResolverConfig>) -> Result<Self, NetError> {
        let mut builder = match fixed {
            Some(config) => TokioResolver::builder_with_config(config.clone(), TokioRuntimeProvider::default()),
            None => TokioResolver::builder_tokio().unwrap_or_else(|_| {
                // As resolv.conf(5): without a file or a server in it, the one on this machine.
                let local = hickory_resolver::config::NameServerConfig::udp_and_tcp([127, 0, 0, 1].into());
                let config = ResolverConfig::from_name_servers(vec![local]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }),
        };
        let search = match fixed {
            Some(config) => config.search().to_vec(),
            None => hickory_resolver::system_conf::read_system_conf()
                .map(|(config, _)| config.search().to_vec())
                .unwrap_or_default(),
        };
        let options = builder.options_mut();
        options.use_hosts_file = if fixed.is_some() { ResolveHosts::Never } else { ResolveHosts::Always };
        options.positive_max_ttl = Some(KEEP);
        // A name that came into being must not be missed.
        options.negative_max_ttl = Some(Duration::ZERO);
        // The system's 5 s for one lost datagram are the whole timeout of five probes.
        options.timeout = options.timeout.min(AGAIN);
        options.attempts = options.attempts.max(4);
        let ndots = options.ndots;
        Ok(Self { resolver: builder.build()?, search, ndots })
    }

    /// The names to try, as resolv.conf(5) has it with `search` and `ndots`.
    fn candidates(&self, host: &str) -> Result<Vec<Name>, Fault> {
        let not_a_name = |_| Fault::ours(CauseKind::LocalResolver, format!("`{host}` is not a name"));
        let mut name = Name::from_str_relaxed(host).map_err(not_a_name)?;
        if name.is_fqdn() {
            return Ok(vec![name]);
        }
        let mut names: Vec<Name> =
            self.search.iter().take(6).filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
        let as_it_is = usize::from(name.num_labels()) > self.ndots || name.is_localhost();
        name.set_fqdn(true);
        if as_it_is {
            names.insert(0, name);
        } else {
            names.push(name);
        }
        Ok(names)
    }

    async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, Fault> {
        let mut failed = None;
        for name in self.candidates(host)? {
            match self.lookup_one(&name).await {
                Ok(addresses) if addresses.is_empty() => {}
                Ok(addresses) => return Ok(addresses),
                Err(fault) => failed = Some(fault),
            }
        }
        // "Not found" is only true where every candidate said so.
        Err(failed.unwrap_or_else(|| Fault::theirs(CauseKind::NameNotFound, format!("{host} has no address"))))
    }

    /// Both families at once; empty where the name exists nowhere.
    async fn lookup_one(&self, name: &Name) -> Result<Vec<IpAddr>, Fault> {
        let four = Box::pin(self.family(name, RecordType::A));
        let six = Box::pin(self.family(name, RecordType::AAAA));
        let (first, other) = match select(four, six).await {
            Either::Left((first, other)) => (first, other),
            Either::Right((first, other)) => (first, other),
        };
        let found = first.as_ref().is_ok_and(|addresses| !addresses.is_empty());
        let second = if found {
            tokio::time::timeout(OTHER_FAMILY, other).await.unwrap_or_else(|_| Ok(Vec::new()))
        } else {
            other.await
        };
        match (first, second) {
            (Ok(first), Ok(second)) => Ok(in_turn(first, second)),
            (Ok(found), Err(fault)) | (Err(fault), Ok(found)) => {
                if found.is_empty() {
                    Err(fault)
                } else {
                    Ok(in_turn(found, Vec::new()))
                }
            }
            (Err(fault), Err(_)) => Err(fault),
        }
    }

    async fn family(&self, name: &Name, family: RecordType) -> Result<Vec<IpAddr>, Fault> {
        match self.resolver.lookup(name.clone(), family).await {
            Ok(lookup) => Ok(lookup
                .answers()
                .iter()
                .filter_map(|record| match &record.data {
                    RData::A(address) => Some(IpAddr::V4(address.0)),
                    RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                    _ => None,
                })
                .collect()),
            Err(NetError::Dns(DnsError::NoRecordsFound(none)))
                if matches!(none.response_code, ResponseCode::NXDomain | ResponseCode::NoError) =>
            {
                Ok(Vec::new())
            }
            Err(error) => {
                Err(Fault::ours(CauseKind::LocalResolver, format!("our resolver, asked for {name}: {error}")))
            }
        }
    }
}

/// IPv4 first, since a machine without IPv6 is the commoner half-broken one, then in turn.
fn in_turn(first: Vec<IpAddr>, second: Vec<IpAddr>) -> Vec<IpAddr> {
    let (four, six): (Vec<_>, Vec<_>) = first.into_iter().chain(second).partition(IpAddr::is_ipv4);
    let mut six = six.into_iter();
    let mut all = Vec::with_capacity(MOST_ADDRESSES);
    for address in four {
        all.push(address);
        all.extend(six.next());
    }
    all.extend(six);
    all.truncate(MOST_ADDRESSES);
    all
}
