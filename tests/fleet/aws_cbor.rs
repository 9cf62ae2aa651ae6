//! A double of the services of AWS that are asked in CBOR (CloudWatch, AWS Health), and no more than that:
//! it answers what the test says, and keeps what it was asked. moto answers such requests with 404, and
//! nothing else that runs here knows them, so that what CloudWatch computes is not tested by it.
//! <https://smithy.io/2.0/additional-specs/protocols/smithy-rpc-v2.html>

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

/// A running double; gone when dropped.
pub struct AwsCbor {
    port: u16,
    shared: Arc<Mutex<Shared>>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    /// What an operation answers: its status and its body.
    answers: HashMap<String, (u16, Value)>,
    /// What was asked: the operation, and its input.
    asked: VecDeque<(String, Value)>,
}

impl AwsCbor {
    /// Starts it; what it has no answer for it refuses with `UnknownOperationException`.
    pub async fn start() -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let state = shared.clone();
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let state = state.clone();
            async move { answer(&state, request).await }
        });
        let server = tokio::spawn(async move {
            // It ends when the task is aborted.
            let _ = axum::serve(listener, app).await;
        });
        Ok(Self { port, shared, server })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What an operation answers from now on. `{"$time": seconds}` stands for a time.
    pub fn set(&self, operation: &str, body: Value) {
        lock(&self.shared).answers.insert(operation.to_owned(), (200, body));
    }

    /// Which error an operation answers from now on.
    pub fn fail(&self, operation: &str, status: u16, code: &str) {
        let body = json!({ "__type": format!("com.amazonaws.double#{code}"), "message": "the double says so" });
        lock(&self.shared).answers.insert(operation.to_owned(), (status, body));
    }

    /// The input of the newest request, and which operation it was for.
    pub fn last(&self) -> Result<(String, Value)> {
        lock(&self.shared).asked.back().cloned().context("nothing was asked")
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        lock(&self.shared).asked.len()
    }
}

impl Drop for AwsCbor {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn lock(shared: &Mutex<Shared>) -> std::sync::MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(|e| e.into_inner())
}

async fn answer(state: &Mutex<Shared>, request: axum::extract::Request) -> impl IntoResponse + use<> {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
    let operation = head.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    let asked = decode(&mut &body[..]).unwrap_or_else(|why| json!({ "not CBOR": why.to_string() }));
    let mut shared = lock(state);
    shared.asked.push_back((operation.clone(), asked));
    let unknown = (404, json!({ "__type": "com.amazonaws.double#UnknownOperationException" }));
    let (status, body) = shared.answers.get(&operation).cloned().unwrap_or(unknown);
    let mut bytes = Vec::new();
    encode(&body, &mut bytes);
    let headers = [("content-type", "application/cbor"), ("smithy-protocol", "rpc-v2-cbor")];
    (StatusCode::from_u16(status).unwrap_or_default(), headers, bytes)
}

/// Only what the answers above need: RFC 8949 with lengths of four bytes.
fn encode(value: &Value, to: &mut Vec<u8>) {
    let mut head = |major: u8, length: usize| {
        to.push((major << 5) | 26);
        to.extend_from_slice(&u32::try_from(length).expect("a small answer").to_be_bytes());
    };
    match value {
        Value::Null => to.push(0xf6),
        Value::Bool(yes) => to.push(0xf4 + u8::from(*yes)),
        Value::Number(number) => {
            to.push(0xfb);
            to.extend_from_slice(&number.as_f64().unwrap_or(f64::NAN).to_be_bytes());
        }
        Value::String(text) => {
            head(3, text.len());
            to.extend_from_slice(text.as_bytes());
        }
        Value::Array(items) => {
            head(4, items.len());
            items.iter().for_each(|item| encode(item, to));
        }
        Value::Object(map) if map.contains_key("$time") => {
            to.push(0xc1);
            encode(&map["$time"], to);
        }
        Value::Object(map) => {
            head(5, map.len());
            for (key, value) in map {
                encode(&json!(key), to);
                encode(value, to);
            }
        }
    }
}

/// What the SDK sends; a time becomes its seconds.
fn decode(from: &mut &[u8]) -> Result<Value> {
    let byte = take(from, 1)?[0];
    let (major, info) = (byte >> 5, byte & 0x1f);
    if major == 7 {
        return Ok(match info {
            20 | 21 => json!(info == 21),
            22 => Value::Null,
            26 => json!(f32::from_be_bytes(take(from, 4)?.try_into()?)),
            27 => json!(f64::from_be_bytes(take(from, 8)?.try_into()?)),
            _ => bail!("the simple value {info}"),
        });
    }
    let length = match info {
        0..=23 => Some(u64::from(info)),
        24..=27 => {
            let bytes = take(from, 1 << (info - 24))?;
            Some(bytes.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
        }
        31 => None,
        _ => bail!("a length of {info}"),
    };
    let mut left = length;
    let mut more = |from: &mut &[u8]| match &mut left {
        Some(0) => false,
        Some(count) => {
            *count -= 1;
            true
        }
        None if from.first() == Some(&0xff) => {
            *from = &from[1..];
            false
        }
        None => true,
    };
    Ok(match major {
        0 => json!(length),
        1 => json!(-1 - i64::try_from(length.context("a number")?)?),
        3 => json!(std::str::from_utf8(take(from, usize::try_from(length.context("a text of known length")?)?)?)?),
        4 => {
            let mut items = Vec::new();
            while more(from) {
                items.push(decode(from)?);
            }
            Value::Array(items)
        }
        5 => {
            let mut map = Map::new();
            while more(from) {
                let key = decode(from)?;
                map.insert(key.as_str().context("a key")?.to_owned(), decode(from)?);
            }
            Value::Object(map)
        }
        6 => decode(from)?,
        _ => bail!("bytes"),
    })
}

fn take<'b>(from: &mut &'b [u8], count: usize) -> Result<&'b [u8]> {
    let (taken, rest) = from.split_at_checked(count).context("it ends too early")?;
    *from = rest;
    Ok(taken)
}
