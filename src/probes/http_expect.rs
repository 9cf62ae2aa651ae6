//! What an HTTP answer has to be.

use std::collections::BTreeMap;
use std::time::Duration;

use regex::bytes::{Regex, RegexBuilder};
use serde_json::Value;

use super::ProbeBuildError;
use super::classify::Fault;
use super::wire::Answer;
use crate::clients::http_body;
use crate::model::{CauseKind, HumanDuration};

/// A pattern may grow to so many bytes when compiled.
const PATTERN_LIMIT: usize = 1 << 20;

/// Does a request say who we are? A server that refuses our credentials is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Identity {
    /// It does not.
    Untold,
    /// It carries credentials from the configuration in its address or headers.
    Told,
    /// It carries them in its body: a login, which servers refuse in more ways.
    LogsIn,
}

/// What the configuration asks for.
pub(super) struct Wanted<'a> {
    pub(super) status: &'a [u16],
    pub(super) contains: Option<&'a str>,
    pub(super) matches: Option<&'a str>,
    pub(super) json: &'a BTreeMap<String, Value>,
    pub(super) max_latency: Option<HumanDuration>,
}

/// The expectations of one request, compiled.
pub(super) struct Expect {
    status: Vec<u16>,
    contains: Option<String>,
    matches: Option<Regex>,
    json: BTreeMap<String, Value>,
    max_latency: Option<HumanDuration>,
}

impl Expect {
    /// Compiles them.
    pub(super) fn new(config: &Wanted<'_>) -> Result<Self, ProbeBuildError> {
        if let Some(status) = config.status.iter().find(|status| !(100..=599).contains(*status)) {
            return Err(ProbeBuildError::new("status", format!("{status} is not a status between 100 and 599")));
        }
        let matches = match config.matches {
            Some(pattern) => Some(
                RegexBuilder::new(pattern)
                    .size_limit(PATTERN_LIMIT)
                    .dfa_size_limit(PATTERN_LIMIT)
                    .build()
                    .map_err(|error| ProbeBuildError::new("matches", error.to_string()))?,
            ),
            None => None,
        };
        if let Some(pointer) = config.json.keys().find(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
            return Err(ProbeBuildError::new(
                format!("json.{pointer}"),
                format!("is not a JSON pointer (RFC 6901); write `/{pointer}`"),
            ));
        }
        Ok(Self {
            status: config.status.to_vec(),
            contains: config.contains.map(str::to_owned),
            matches,
            json: config.json.clone(),
            max_latency: config.max_latency,
        })
    }

    /// Looks at an answer; the first thing that is wrong is named.
    ///
    /// A server that does not take our credentials is alive, and says nothing of itself: they may
    /// have expired here.
    pub(super) fn check(&self, answer: &Answer, latency: Duration, identity: Identity) -> Result<(), Fault> {
        let status = answer.status;
        let right = if self.status.is_empty() { (200..300).contains(&status) } else { self.status.contains(&status) };
        let refused = match identity {
            Identity::Untold => false,
            Identity::Told => matches!(status, 401 | 407),
            Identity::LogsIn => matches!(status, 400 | 401 | 403 | 407 | 422),
        };
        if !right && refused {
            let text = format!("the status is {status}: our credentials were not taken");
            return Err(Fault::ours(CauseKind::AuthenticationFailed, text));
        }
        if !right {
            return Err(Fault::theirs(CauseKind::HttpStatus, format!("the status is {status}")));
        }
        self.check_body(answer)?;
        match self.max_latency {
            Some(HumanDuration(most)) if latency > most => Err(Fault::theirs(
                CauseKind::Slow,
                format!("it took {}, more than {}", HumanDuration(latency), HumanDuration(most)),
            )),
            _ => Ok(()),
        }
    }

    fn check_body(&self, answer: &Answer) -> Result<(), Fault> {
        let body = &answer.body[..];
        let fault = |text: String| {
            let cut = if answer.whole { "" } else { " (only the first 1 MiB of the body was looked at)" };
            Fault::theirs(CauseKind::HttpBody, format!("{text}{cut}"))
        };
        if let Some(text) = &self.contains
            && !http_body::contains(body, text.as_bytes())
        {
            return Err(fault(format!("the body does not contain `{text}`")));
        }
        if let Some(pattern) = &self.matches
            && !pattern.is_match(body)
        {
            return Err(fault(format!("the body does not match `{pattern}`")));
        }
        http_body::json(body, &self.json).map_err(fault)
    }
}
