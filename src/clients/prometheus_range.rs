//! The range API of a Prometheus server: what a query was worth at each step of a time, in pieces.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Deserialize;
use url::Url;

use super::failure::{Failure, causes, one_line};

/// Prometheus answers at most 11,000 points of a series in one go.
pub const MOST_POINTS: u64 = 10_000;
/// The longest answer that is read, in bytes.
const LONGEST: usize = 32 * 1024 * 1024;
/// An error's body is shorter than that, or is not shown whole.
const LONGEST_ERROR: usize = 2_000;

/// A Prometheus server.
pub struct Server {
    client: reqwest::Client,
    address: Url,
    token: Option<String>,
}

/// One series of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeSeries {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Milliseconds since 1970, and the value then; where there is none, there is no sample.
    pub samples: Vec<(i64, f64)>,
}

/// The envelope of every answer.
#[derive(Deserialize)]
struct Envelope {
    status: String,
    #[serde(default)]
    data: Option<Matrix>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct Matrix {
    #[serde(rename = "resultType")]
    result_type: String,
    result: Vec<RawSeries>,
}

#[derive(Deserialize)]
struct RawSeries {
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

impl Server {
    /// The server at a base address, asked with a bearer token where one is given.
    ///
    /// # Errors
    /// [`Failure`] where the address is none. It is in no error: it may hold a password.
    pub fn new(client: reqwest::Client, address: &str, token: Option<String>) -> Result<Self, Failure> {
        let wrong = || Failure::refused("the address of Prometheus is not a URL such as http://prometheus:9090");
        let mut address: Url = address.parse().map_err(|_| wrong())?;
        if !matches!(address.scheme(), "http" | "https") || address.host_str().is_none() {
            return Err(wrong());
        }
        // It may live below a path.
        let path = format!("{}/api/v1/query_range", address.path().trim_end_matches('/'));
        address.set_path(&path);
        address.set_query(None);
        address.set_fragment(None);
        Ok(Self { client, address, token })
    }

    /// Its host, for people.
    pub fn host(&self) -> &str {
        self.address.host_str().unwrap_or_default()
    }

    /// What the query was worth from `from` to `to` (milliseconds since 1970), both included; at most
    /// [`MOST_POINTS`] steps.
    ///
    /// # Errors
    /// [`Failure`]: what the server said, or that it did not answer by `until`.
    pub async fn query_range(
        &self,
        query: &str,
        (from, to): (i64, i64),
        step: Duration,
        until: Instant,
    ) -> Result<Vec<RangeSeries>, Failure> {
        let seconds = |at: i64| format!("{}.{:03}", at.div_euclid(1000), at.rem_euclid(1000));
        let step = format!("{}.{:03}", step.as_secs(), step.subsec_millis());
        let mut request = self.client.get(self.address.clone()).query(&[
            ("query", query),
            ("start", &seconds(from)),
            ("end", &seconds(to)),
            ("step", &step),
        ]);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        let (status, body) = tokio::time::timeout_at(until.into(), fetch(request))
            .await
            .map_err(|_| Failure::again("Prometheus did not answer in time"))??;
        read(status, &body)
    }
}

async fn fetch(request: reqwest::RequestBuilder) -> Result<(u16, Vec<u8>), Failure> {
    let broken = |error: reqwest::Error| {
        let error = error.without_url();
        let what = if error.is_connect() { "cannot connect to Prometheus" } else { "Prometheus did not answer" };
        Failure::again(format!("{what}: {}", causes(&error)))
    };
    let mut response = request.send().await.map_err(broken)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(broken)? {
        if body.len() + chunk.len() > LONGEST {
            return Err(Failure::refused(format!(
                "the answer of Prometheus is longer than {} MiB; ask for one series only",
                LONGEST / 1024 / 1024
            )));
        }
        body.extend_from_slice(&chunk);
    }
    Ok((response.status().as_u16(), body))
}

pub(crate) fn read(status: u16, body: &[u8]) -> Result<Vec<RangeSeries>, Failure> {
    let Ok(answer) = serde_json::from_slice::<Envelope>(body) else {
        let text = String::from_utf8_lossy(&body[..body.len().min(LONGEST_ERROR)]).into_owned();
        let is = if status == 200 { "is not one of its range API".to_owned() } else { format!("is status {status}") };
        return Err(Failure::refused(format!("the answer of Prometheus {is}: {}", one_line(&text))));
    };
    if answer.status != "success" {
        let error = answer.error.unwrap_or_else(|| format!("status {status}"));
        return Err(Failure::refused(format!("Prometheus refuses the query: {}", one_line(&error))));
    }
    let matrix = answer.data.filter(|data| data.result_type == "matrix");
    let matrix = matrix.ok_or_else(|| Failure::refused("the answer of Prometheus holds no range"))?;
    let sample = |(at, value): (f64, String)| Some(((at * 1000.0).round() as i64, value.parse().ok()?));
    Ok(matrix
        .result
        .into_iter()
        .map(|one| RangeSeries { labels: one.metric, samples: one.values.into_iter().filter_map(sample).collect() })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_range_and_what_went_wrong() {
        let body = br#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"__name__":"up","job":"x"},"values":[[1.5,"1"],[2,"NaN"],[3,"+Inf"]]}]}}"#;
        let series = read(200, body).expect("good");
        assert_eq!(series[0].labels["job"], "x");
        assert_eq!(series[0].samples[0], (1500, 1.0));
        assert!(series[0].samples[1].1.is_nan() && series[0].samples[2].1.is_infinite());
        let wrong = |status, body: &[u8]| read(status, body).expect_err("wrong").reason;
        let refused = br#"{"status":"error","errorType":"bad_data","error":"parse error: unexpected end"}"#;
        assert_eq!(wrong(400, refused), "Prometheus refuses the query: parse error: unexpected end");
        assert_eq!(wrong(502, b"<html>\nbad gateway"), "the answer of Prometheus is status 502: <html> bad gateway");
        let vector = br#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
        assert!(wrong(200, vector).contains("holds no range"));
    }

    #[test]
    fn the_address_may_have_a_path_and_is_in_no_error() {
        let client = crate::clients::http::client(None).expect("a client");
        let server = Server::new(client.clone(), "https://x.example:9090/prometheus/?a=b", None).expect("good");
        assert_eq!(server.address.as_str(), "https://x.example:9090/prometheus/api/v1/query_range");
        for wrong in ["prometheus:9090", "ftp://x", "http://user:secret@", ""] {
            let error = Server::new(client.clone(), wrong, None).err().expect("wrong");
            assert!(!error.reason.contains("secret"), "{error}");
        }
    }
}
