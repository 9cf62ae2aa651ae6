//! An HTTP request: status, body, JSON, latency, certificate.
//!
//! The connection is dialled as by all probes ([`super::dial`]) and waits between two attempts
//! (`parked`), but for a method that may change something: that goes over a fresh one, since a
//! request that is lost on a stale connection could not be sent again. How a request goes over it:
//! [`super::wire`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use hyper::Method;
use hyper::header::HeaderName;

use super::classify::Fault;
use super::everywhere::everywhere;
use super::http_expect::{Expect, Identity, Wanted};
use super::parked::Parked;
use super::wire::{Answer, Call, Connection, Keep, Request, Wire, parse_method, parse_url, sensitive};
use super::{ProbeBuildError, ProbeContext, read_secret};
use crate::config::SecretText;
use crate::config::probe::HttpProbe;
use crate::config::redact::is_secret_key;
use crate::model::{CauseKind, Observation};
use crate::ports::Probe;

/// See [`HttpProbe`].
pub struct Http {
    asking: Asking,
    expect: Expect,
    wire: Wire,
    /// Where the method is safe, and connections are to be used again.
    parked: Option<Parked<Connection>>,
    fresh_every: u32,
    /// So many requests go over the present connection.
    turn: AtomicU32,
    /// The attempt's timeout, where each address is asked by itself.
    every_address: Option<Duration>,
}

/// What is sent.
enum Asking {
    /// Always the same.
    Fixed(Arc<Asked>),
    /// With secrets, which are read again for each attempt.
    Anew { url: SecretText, method: Method, headers: Vec<(HeaderName, SecretText)>, keep: Keep },
}

/// What an attempt sends, and whether it says who we are.
struct Asked {
    request: Request,
    identity: Identity,
}

impl Http {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter that cannot be used.
    pub fn new(config: &HttpProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        let method = parse_method(&config.method)?;
        let mut headers = Vec::with_capacity(config.headers.len());
        for (name, value) in &config.headers {
            headers.push((header_name(name)?, value.clone()));
        }
        let keep =
            if method.is_safe() && config.fresh_every > 1 && !config.every_address { Keep::Yes } else { Keep::No };
        let asking = match &config.url {
            SecretText::Plain(text) => {
                parse_url(text).map_err(|reason| ProbeBuildError::new("url", reason))?;
                Asking::fixed(text, &method, &headers, keep)
            }
            SecretText::Reference(_) => None,
        };
        let wanted = Wanted {
            status: &config.status,
            contains: config.contains.as_deref(),
            matches: config.matches.as_deref(),
            json: &config.json,
            max_latency: config.max_latency,
        };
        Ok(Self {
            asking: asking.unwrap_or_else(|| Asking::Anew { url: config.url.clone(), method, headers, keep }),
            expect: Expect::new(&wanted)?,
            wire: Wire::new(context, config.ca_file.as_deref())?,
            parked: (keep == Keep::Yes).then(|| Parked::new(context.nudge.clone())),
            fresh_every: config.fresh_every,
            turn: AtomicU32::new(config.fresh_every - context.phase % config.fresh_every.max(1)),
            every_address: config.every_address.then_some(context.timeout),
        })
    }

    /// The answer, and when the target began to be waited for.
    async fn answer(&self, request: &Request) -> Result<(Answer, Instant), Fault> {
        let mut started = Instant::now();
        // An old one has waited only to tell when it is cut: a gap between it and the next would be one
        // in which nobody tells.
        let kept = self.parked.as_ref().and_then(Parked::take);
        match kept {
            Some(mut kept) if kept.served() < self.turn.load(Ordering::Relaxed) => {
                match request.over(&mut kept).await {
                    // Cut since the last attempt: the server may stand again, so we look afresh.
                    Err(fault) if fault.is_cut() => started = Instant::now(),
                    Err(fault) => return Err(fault),
                    Ok(answer) => return Ok((self.keep(kept, answer), started)),
                }
            }
            Some(_old) => self.turn.store(self.fresh_every, Ordering::Relaxed),
            None => {}
        }
        let mut fresh = self.wire.connect(&request.place, &mut started).await?;
        let answer = request.over(&mut fresh).await?;
        Ok((self.keep(fresh, answer), started))
    }

    /// How long a right answer took.
    async fn latency(&self) -> Result<Duration, Fault> {
        let Asked { request, identity } = &*self.asking.asked().await?;
        let (answer, started) = self.answer(request).await?;
        let latency = started.elapsed();
        self.expect.check(&answer, latency, *identity)?;
        Ok(latency)
    }

    /// Each address of the name, over a fresh connection.
    async fn everywhere(&self, timeout: Duration) -> Result<Observation, Fault> {
        let asked = self.asking.asked().await?;
        let addresses = self.wire.addresses(&asked.request.place).await?;
        let asked = &*asked;
        let look = |address| async move {
            let started = Instant::now();
            let mut connection = self.wire.connect_to(&asked.request.place, &[address]).await?;
            let answer = asked.request.over(&mut connection).await?;
            let answer = self.keep(connection, answer);
            let latency = started.elapsed();
            self.expect.check(&answer, latency, asked.identity).map(|()| latency)
        };
        Ok(everywhere(&addresses, timeout, look).await)
    }

    /// Lets the connection wait for the next attempt, unless the server is done with it.
    fn keep(&self, connection: Connection, answer: Answer) -> Answer {
        match &self.parked {
            Some(parked) if answer.reusable => parked.park(connection),
            None if answer.whole => connection.reset(),
            _ => {}
        }
        answer
    }
}

impl Asking {
    /// Where nothing of it is a secret, and all of it can be sent.
    fn fixed(url: &str, method: &Method, headers: &[(HeaderName, SecretText)], keep: Keep) -> Option<Self> {
        let (mut call, mut told) = Call::new(method.clone(), url).ok()?;
        for (name, value) in headers {
            let SecretText::Plain(value) = value else { return None };
            told |= is_secret_key(name.as_str());
            call.headers.insert(name.clone(), sensitive(value)?);
        }
        Some(Self::Fixed(Arc::new(Asked { request: call.request(keep), identity: identity(told) })))
    }

    /// Reads the secrets.
    async fn asked(&self) -> Result<Arc<Asked>, Fault> {
        let (url, method, headers, keep) = match self {
            Self::Fixed(asked) => return Ok(Arc::clone(asked)),
            Self::Anew { url, method, headers, keep } => (url, method, headers, *keep),
        };
        let (mut call, told) = Call::new(method.clone(), &read_secret(url).await?)?;
        let mut told = told || matches!(url, SecretText::Reference(_));
        for (name, value) in headers {
            told = told || matches!(value, SecretText::Reference(_)) || is_secret_key(name.as_str());
            let value = sensitive(&read_secret(value).await?).ok_or_else(|| cannot_be_sent(name))?;
            call.headers.insert(name.clone(), value);
        }
        Ok(Arc::new(Asked { request: call.request(keep), identity: identity(told) }))
    }
}

fn identity(told: bool) -> Identity {
    if told { Identity::Told } else { Identity::Untold }
}

/// The name of a header, as in the file.
pub(super) fn header_name(name: &str) -> Result<HeaderName, ProbeBuildError> {
    HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| ProbeBuildError::new(format!("headers.{name}"), "is not the name of a header"))
}

/// The value of a header holds what no header can hold.
pub(super) fn cannot_be_sent(name: &HeaderName) -> Fault {
    Fault::ours(CauseKind::LocalCredentials, format!("the value of the header {name} cannot be sent"))
}

#[async_trait]
impl Probe for Http {
    async fn attempt(&self) -> Observation {
        let seen = match self.every_address {
            Some(timeout) => self.everywhere(timeout).await,
            None => self.latency().await.map(Observation::up),
        };
        seen.unwrap_or_else(Observation::from)
    }

    fn is_light(&self) -> bool {
        true
    }
}
