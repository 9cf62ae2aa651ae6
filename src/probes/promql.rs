//! A query to Prometheus against a threshold.
//!
//! Prometheus is only asked about the target: where it does not answer, or not to the question, nothing is
//! known of the target.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use url::Url;

use super::classify::Fault;
use super::stage::{Stage, waiting_for};
use super::{ProbeBuildError, ProbeContext, judged, read_secret};
use crate::clients::failure::one_line;
use crate::clients::http::{Answer, send};
use crate::clients::{Failure, FailureKind};
use crate::config::SecretText;
use crate::config::probe::{PromqlProbe, Series, TargetsUp};
use crate::model::{CauseKind, Observation};
use crate::ports::Probe;

/// See [`PromqlProbe`].
pub struct Promql {
    url: SecretText,
    headers: Vec<(HeaderName, SecretText)>,
    client: reqwest::Client,
    question: Question,
    timeout: Duration,
}

/// What is asked, and which answers are bad.
enum Question {
    Query { text: String, thresholds: Thresholds, series: Series },
    TargetsUp(TargetsUp),
}

/// Which figures are bad.
#[derive(Clone, Copy)]
struct Thresholds {
    above: Option<f64>,
    below: Option<f64>,
    equals: Option<f64>,
}

impl Thresholds {
    /// How a figure is across one of them.
    fn crossed(self, figure: f64) -> Option<String> {
        if let Some(above) = self.above.filter(|above| figure > *above) {
            return Some(format!("{figure}, above {above}"));
        }
        if let Some(below) = self.below.filter(|below| figure < *below) {
            return Some(format!("{figure}, below {below}"));
        }
        // Both are written by people, or counted: no arithmetic made them differ.
        self.equals.is_some_and(|equals| figure == equals).then(|| figure.to_string())
    }
}

/// One series of an answer: its labels, and its figure.
struct Sample {
    labels: String,
    figure: f64,
}

impl Promql {
    /// Checks the parameters, and reads the certificates.
    ///
    /// # Errors
    /// Names the parameter that cannot be used.
    pub fn new(config: &PromqlProbe, context: &ProbeContext) -> Result<Self, ProbeBuildError> {
        if let SecretText::Plain(text) = &config.url {
            parse_url(text).map_err(|reason| ProbeBuildError::new("url", reason))?;
        }
        let mut headers = Vec::with_capacity(config.headers.len());
        for (name, value) in &config.headers {
            let header = HeaderName::from_bytes(name.as_bytes())
                .map_err(|_| ProbeBuildError::new(format!("headers.{name}"), "is not the name of a header"))?;
            headers.push((header, value.clone()));
        }
        let question = match (&config.query, &config.targets_up) {
            (Some(text), None) => {
                let thresholds = Thresholds { above: config.above, below: config.below, equals: config.equals };
                Question::Query { text: text.clone(), thresholds, series: config.series }
            }
            (None, Some(targets)) => Question::TargetsUp(targets.clone()),
            _ => {
                return Err(ProbeBuildError::new("promql", "exactly one of `query` and `targets_up` has to be there"));
            }
        };
        let client = context.clients.apis.http(config.ca_file.as_deref());
        let client = client.map_err(|failure| ProbeBuildError::new("ca_file", failure.reason))?;
        Ok(Self { url: config.url.clone(), headers, client, question, timeout: context.timeout })
    }

    async fn request(&self) -> Result<reqwest::RequestBuilder, Fault> {
        let unusable = |reason: String| Fault::ours(CauseKind::LocalCredentials, reason);
        let text = read_secret(&self.url).await?;
        let mut url = parse_url(&text).map_err(|reason| unusable(format!("the url {reason}")))?;
        let path = format!("{}/api/v1/query", url.path().trim_end_matches('/'));
        url.set_path(&path);
        // What outlives its attempt would pile up in Prometheus, one per interval.
        let limit = format!("{}ms", self.timeout.as_millis().max(1));
        url.query_pairs_mut().append_pair("query", &self.question.text()).append_pair("timeout", &limit);
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            let mut value = HeaderValue::from_str(&read_secret(value).await?)
                .map_err(|_| unusable(format!("the value of the header {name} cannot be sent")))?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        Ok(self.client.get(url).headers(headers))
    }

    async fn look(&self) -> Result<(), Fault> {
        let until = Instant::now() + self.timeout;
        let request = self.request().await?;
        let answer = waiting_for(Stage::ControlPlane, send("prometheus", until, request)).await.map_err(unanswered)?;
        self.question.judge(&samples(&answer)?)
    }
}

impl Question {
    fn text(&self) -> String {
        match self {
            Self::Query { text, .. } => text.clone(),
            // Two series at most, however many targets there are: so many are 1, and so many are 0.
            Self::TargetsUp(targets) => {
                let job = targets.job.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                format!("count_values(\"up\", up{{job=\"{job}\"}})")
            }
        }
    }

    fn judge(&self, samples: &[Sample]) -> Result<(), Fault> {
        match self {
            Self::Query { thresholds, series, .. } => judge_series(samples, *thresholds, *series),
            Self::TargetsUp(targets) => judge_targets(samples, targets),
        }
    }
}

/// A figure that is not a number is neither good nor bad: only where it could decide it, it is open.
fn judge_series(samples: &[Sample], thresholds: Thresholds, series: Series) -> Result<(), Fault> {
    let crossing: Vec<String> = samples
        .iter()
        .filter_map(|sample| Some(format!("{}{}", sample.labels, thresholds.crossed(sample.figure)?)))
        .collect();
    let open = samples.iter().filter(|sample| sample.figure.is_nan()).count();
    let down = match series {
        Series::Any => !crossing.is_empty(),
        Series::Every => !crossing.is_empty() && crossing.len() == samples.len(),
    };
    if down {
        let shown: Vec<&str> = crossing.iter().take(3).map(String::as_str).collect();
        let count = format!("{} of {} series: ", crossing.len(), samples.len());
        return Err(Fault::theirs(CauseKind::ThresholdCrossed, count + &shown.join("; ")));
    }
    let undecided = match series {
        Series::Any => open > 0,
        Series::Every => open > 0 && crossing.len() + open == samples.len(),
    };
    if samples.is_empty() {
        return Err(Fault::ours(CauseKind::NoData, "the result is empty"));
    }
    if undecided {
        let text = format!("the result is not a number in {open} of {} series", samples.len());
        return Err(Fault::ours(CauseKind::NoData, text));
    }
    Ok(())
}

fn judge_targets(samples: &[Sample], wanted: &TargetsUp) -> Result<(), Fault> {
    let of = |value: &str| -> f64 {
        let label = format!("{{up=\"{value}\"}}");
        samples.iter().filter(|sample| sample.labels.trim_end() == label).map(|sample| sample.figure).sum()
    };
    let (up, all) = (of("1"), samples.iter().map(|sample| sample.figure).sum::<f64>());
    if samples.is_empty() {
        let text = format!("Prometheus has no target of the job {}", one_line(&wanted.job));
        return Err(Fault::ours(CauseKind::NoData, text));
    }
    let enough = match (wanted.at_least, wanted.share) {
        (Some(least), _) => up >= f64::from(least),
        (None, Some(share)) => up / all >= share,
        (None, None) => true,
    };
    if enough {
        return Ok(());
    }
    let text = format!("{up} of {all} targets of the job {} are up", one_line(&wanted.job));
    Err(Fault::theirs(CauseKind::ThresholdCrossed, text))
}

/// Nothing came back: that says nothing of the target.
fn unanswered(failure: Failure) -> Fault {
    let kind = match failure.kind {
        FailureKind::Again | FailureKind::Unknown => CauseKind::ControlPlane,
        FailureKind::Refused | FailureKind::Denied | FailureKind::Missing => CauseKind::QueryFailed,
    };
    Fault::ours(kind, failure.reason)
}

/// The series of an answer.
/// <https://prometheus.io/docs/prometheus/latest/querying/api/#expression-query-result-formats>
fn samples(answer: &Answer) -> Result<Vec<Sample>, Fault> {
    let failed = |text: String| Fault::ours(CauseKind::QueryFailed, text);
    let parsed: Option<Value> = serde_json::from_str(&answer.body).ok();
    if !answer.is_success() {
        let said = parsed.as_ref().and_then(|value| value["error"].as_str()).map(one_line);
        let text = format!("status {}: {}", answer.status, said.as_deref().unwrap_or("no reason given"));
        let kind = match answer.status {
            401 | 403 | 407 => CauseKind::LocalPermission,
            429 => CauseKind::LocalThrottled,
            500.. => CauseKind::ControlPlane,
            _ => CauseKind::QueryFailed,
        };
        return Err(Fault::ours(kind, text));
    }
    if !answer.whole {
        let text = "the answer is longer than 64 KiB, or broke off: aggregate in the query, for example with `max`";
        return Err(failed(text.to_owned()));
    }
    let value = parsed.ok_or_else(|| failed("the answer is not Prometheus's".to_owned()))?;
    if value["status"] != "success" {
        return Err(failed(format!("the query failed: {}", one_line(value["error"].as_str().unwrap_or_default()))));
    }
    // A part of the data was not to be had, say those that ask several stores.
    let warnings = value["warnings"].as_array().map(Vec::as_slice).unwrap_or_default().iter();
    if let Some(warning) = warnings.filter_map(Value::as_str).find(|warning| !warning.starts_with("PromQL")) {
        return Err(Fault::ours(CauseKind::NoData, format!("the data is not whole: {}", one_line(warning))));
    }
    let result = &value["data"]["result"];
    match value["data"]["resultType"].as_str().unwrap_or_default() {
        "scalar" => Ok(vec![Sample { labels: String::new(), figure: figure(result).map_err(failed)? }]),
        "vector" => result
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default()
            .iter()
            .map(|one| Ok(Sample { labels: labels(&one["metric"]), figure: figure(&one["value"]).map_err(failed)? }))
            .collect(),
        other => Err(failed(format!(
            "the result is a {}, and neither a vector nor a scalar: aggregate in the query",
            one_line(other)
        ))),
    }
}

/// `[time, "figure"]`.
fn figure(sample: &Value) -> Result<f64, String> {
    let text = sample[1].as_str().ok_or("a series has no figure: is it a histogram?")?;
    text.parse().map_err(|_| format!("{:?} is not a figure", one_line(text)))
}

/// `{instance="a",job="b"} `, for people; nothing where there are none.
fn labels(metric: &Value) -> String {
    let Some(metric) = metric.as_object().filter(|metric| !metric.is_empty()) else { return String::new() };
    let pairs = metric.iter().map(|(name, value)| format!("{name}={}", value.as_str().map_or("?".into(), quoted)));
    format!("{{{}}} ", one_line(&pairs.collect::<Vec<_>>().join(",")))
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

/// The reason never repeats the text: it may hold a token.
fn parse_url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text.trim()).map_err(|_| "is not a URL; write http://host:9090")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("has to begin with http:// or https://");
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err("names no host");
    }
    Ok(url)
}

#[async_trait]
impl Probe for Promql {
    async fn attempt(&self) -> Observation {
        let started = Instant::now();
        judged(self.look().await.map(|()| None), started.elapsed())
    }
}

/// An answer of Prometheus, read and judged in each way.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn answered(text: &str) {
    let answer = Answer { status: 200, body: text.to_owned(), whole: true, retry_after: None };
    let Ok(samples) = samples(&answer) else { return };
    let thresholds = Thresholds { above: Some(1.0), below: Some(-1.0), equals: Some(0.0) };
    for series in [Series::Any, Series::Every] {
        let _judged = judge_series(&samples, thresholds, series);
    }
    let _figure: f64 = samples.iter().map(|sample| sample.figure).sum();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Health;

    const ABOVE: Thresholds = Thresholds { above: Some(5.0), below: None, equals: None };

    fn health(figures: &[f64], series: Series) -> Health {
        let samples: Vec<Sample> =
            figures.iter().map(|figure| Sample { labels: String::new(), figure: *figure }).collect();
        match judge_series(&samples, ABOVE, series) {
            Ok(()) => Health::Up,
            Err(fault) => Observation::from(fault).health(),
        }
    }

    #[test]
    fn what_is_no_number_leaves_open_only_what_it_could_decide() {
        const NAN: f64 = f64::NAN;
        for (figures, any, every) in [
            (&[1.0, 2.0][..], Health::Up, Health::Up),
            (&[1.0, 9.0], Health::Down, Health::Up),
            (&[9.0, f64::INFINITY], Health::Down, Health::Down),
            (&[NAN, 9.0], Health::Down, Health::Unknown),
            (&[NAN, 1.0], Health::Unknown, Health::Up),
            (&[NAN], Health::Unknown, Health::Unknown),
            (&[], Health::Unknown, Health::Unknown),
            (&[5.0], Health::Up, Health::Up),
        ] {
            assert_eq!((health(figures, Series::Any), health(figures, Series::Every)), (any, every), "{figures:?}");
        }
    }

    #[test]
    fn an_answer_that_is_not_to_the_question_is_no_figure() {
        let seen = |status: u16, body: &str, whole: bool| {
            let answer = Answer { status, body: body.to_owned(), whole, retry_after: None };
            samples(&answer).map(|samples| samples.len()).map_err(|fault| (fault.ours, fault.kind))
        };
        let success = |data: &str| format!(r#"{{"status":"success","data":{data}}}"#);
        let vector = success(r#"{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}"#);
        assert_eq!(seen(200, &vector, true), Ok(1));
        assert_eq!(seen(200, &success(r#"{"resultType":"scalar","result":[1,"+Inf"]}"#), true), Ok(1));
        let partial = vector.replace("{\"status\"", "{\"warnings\":[\"store down\"],\"status\"");
        assert_eq!(seen(200, &partial, true), Err((true, CauseKind::NoData)));
        for (status, body, whole, kind) in [
            (200, success(r#"{"resultType":"matrix","result":[]}"#), true, CauseKind::QueryFailed),
            (
                200,
                success(r#"{"resultType":"vector","result":[{"metric":{},"histogram":[1,{}]}]}"#),
                true,
                CauseKind::QueryFailed,
            ),
            (200, vector, false, CauseKind::QueryFailed),
            (200, "<html>".to_owned(), true, CauseKind::QueryFailed),
            (302, String::new(), true, CauseKind::QueryFailed),
            (401, String::new(), true, CauseKind::LocalPermission),
            (429, String::new(), true, CauseKind::LocalThrottled),
            (503, String::new(), true, CauseKind::ControlPlane),
        ] {
            assert_eq!(seen(status, &body, whole), Err((true, kind)), "{status} {body}");
        }
    }

    #[test]
    fn the_name_of_a_job_cannot_leave_its_quotes() {
        let targets = TargetsUp { job: "a\"} or up{job=\\".into(), at_least: Some(1), share: None };
        let text = Question::TargetsUp(targets).text();
        assert_eq!(text, r#"count_values("up", up{job="a\"} or up{job=\\"})"#);
    }
}
