//! An HTTP request: status, body, JSON, latency, certificate.
//!
//! The connection is dialled and kept as all probes do ([`super::dial`], [`super::kept`]), but for
//! a method that may change something: that goes over a fresh one, since a request that is lost on
//! a stale connection could not be sent again. How a request goes over it: [`super::wire`].

use std::time::{Duration, Instant};

use async_trait::async_trait;
use hyper::Method;
use hyper::header::HeaderName;

use super::classify::Fault;
use super::http_expect::{Expect, Identity, Wanted};
use super::kept::{Keeper, Kept};
use super::wire::{Answer, Call, Sender, Wire, parse_method, parse_url, sensitive};
use super::{ProbeBuildError, ProbeContext, read_secret};
use crate::config::SecretText;
use crate::config::probe::HttpProbe;
use crate::config::redact::is_secret_key;
use crate::model::{CauseKind, Observation};
use crate::ports::Probe;

/// See [`HttpProbe`].
pub struct Http {
    url: SecretText,
    method: Method,
    headers: Vec<(HeaderName, SecretText)>,
    expect: Expect,
    wire: Wire,
    keeper: Keeper<Sender>,
}

/// What an attempt sends, and whether it says who we are.
struct Asked {
    call: Call,
    identity: Identity,
}

impl Http {
    /// Checks the parameters.
    ///
    /// # Errors
    /// Names the parameter that cannot be used.
    pub fn new(config: &HttpProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        if let SecretText::Plain(text) = &config.url {
            parse_url(text).map_err(|reason| ProbeBuildError::new("url", reason))?;
        }
        let method = parse_method(&config.method)?;
        let mut headers = Vec::with_capacity(config.headers.len());
        for (name, value) in &config.headers {
            headers.push((header_name(name)?, value.clone()));
        }
        let wanted = Wanted {
            status: &config.status,
            contains: config.contains.as_deref(),
            matches: config.matches.as_deref(),
            json: &config.json,
            max_latency: config.max_latency,
        };
        Ok(Self {
            url: config.url.clone(),
            method,
            headers,
            expect: Expect::new(&wanted)?,
            wire: Wire::new(context, config.ca_file.as_deref())?,
            keeper: Keeper::new(context.nudge.clone()),
        })
    }

    /// Reads the secrets.
    async fn asked(&self) -> Result<Asked, Fault> {
        let (mut call, told) = Call::new(self.method.clone(), &read_secret(&self.url).await?)?;
        let mut told = told || matches!(self.url, SecretText::Reference(_));
        for (name, value) in &self.headers {
            told = told || matches!(value, SecretText::Reference(_)) || is_secret_key(name.as_str());
            let value = sensitive(&read_secret(value).await?).ok_or_else(|| cannot_be_sent(name))?;
            call.headers.insert(name.clone(), value);
        }
        Ok(Asked { call, identity: if told { Identity::Told } else { Identity::Untold } })
    }

    /// The answer, and when the target began to be waited for.
    async fn answer(&self, call: &Call) -> Result<(Answer, Instant), Fault> {
        let mut started = Instant::now();
        if let Some(mut kept) = self.keeper.take() {
            match call.over(&mut kept.client).await {
                // Cut since the last attempt: the server may stand again, so we look afresh.
                Err(fault) if fault.is_cut() => started = Instant::now(),
                looked => return self.keep(kept, looked).map(|answer| (answer, started)),
            }
        }
        let (sender, driver) = self.wire.connect(&call.url, &mut started).await?;
        let mut kept = self.keeper.adopt(sender, driver);
        let looked = call.over(&mut kept.client).await;
        self.keep(kept, looked).map(|answer| (answer, started))
    }

    /// How long a right answer took.
    async fn latency(&self) -> Result<Duration, Fault> {
        let Asked { call, identity } = self.asked().await?;
        let (answer, started) = self.answer(&call).await?;
        let latency = started.elapsed();
        self.expect.check(&answer, latency, identity)?;
        Ok(latency)
    }

    fn keep(&self, kept: Kept<Sender>, looked: Result<Answer, Fault>) -> Result<Answer, Fault> {
        let answer = looked?;
        // What may have an effect is not sent twice, and so not where it may be lost. A body that
        // goes on stands in the way of the next answer.
        if self.method.is_safe() && answer.whole {
            self.keeper.give_back(kept);
        }
        Ok(answer)
    }
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
        match self.latency().await {
            Ok(latency) => Observation::up(latency),
            Err(fault) => fault.into(),
        }
    }
}
