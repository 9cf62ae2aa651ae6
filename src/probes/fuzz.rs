//! What probes read of what they look at, reached by the fuzzer.

use std::collections::BTreeMap;
use std::time::Duration;

use hyper::Method;
use serde_json::Value;
use url::Url;

use super::http_expect::{Expect, Identity, Wanted};
use super::message::{Body, head};
use super::{cookies, dns, exec, postgres_facts, promql, redis};
use crate::clients::fuzz::{choose, text};

/// No probe keeps more of a body than this; so the fuzzer soon comes to it.
const LIMIT: usize = 64;

/// One of them, as the first byte says.
pub(crate) fn probes(data: &[u8]) {
    let of: [fn(&[u8]); 9] = [
        http_answer,
        |data| expectations(data),
        |data| exec::said(&text(data)),
        |data| promql::answered(&text(data)),
        |data| redis::told(&text(data)),
        |data| {
            let row = text(data);
            let mut columns = row.split('\n').map(|column| (column != "NULL").then_some(column));
            let _facts = postgres_facts::interpret(std::array::from_fn(|_| columns.next().flatten()));
        },
        |data| dns::answered(data),
        |data| {
            let mut kept = cookies::Cookies::default();
            let Ok(url) = Url::parse("https://a.example/") else { return };
            kept.take(&url, &text(data).lines().map(str::to_owned).collect::<Vec<_>>());
            let _header = kept.header(&url);
        },
        http_answer,
    ];
    if let Some((parser, rest)) = choose(data, &of) {
        parser(rest);
    }
}

/// In pieces, as a server may drip it.
fn http_answer(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else { return };
    let piece = usize::from(*piece).max(1);
    let (mut input, mut looked) = (Vec::new(), 0);
    let mut body: Option<Body> = None;
    for part in bytes.chunks(piece) {
        input.extend_from_slice(part);
        if body.is_none() {
            match head(&Method::GET, &input, looked) {
                Ok(Some(head)) => {
                    input.drain(..head.length);
                    if head.is_interim() {
                        looked = 0;
                        continue;
                    }
                    body = Some(Body::new(head.framing, LIMIT));
                }
                Ok(None) => looked = input.len(),
                Err(_) => return,
            }
        }
        if let Some(body) = &mut body
            && body.take(&mut input).is_err()
        {
            return;
        }
    }
    if let Some(body) = body {
        let _ended = body.may_end_here();
    }
}

/// The first line is the pattern, the second a JSON pointer, and the rest the body.
fn expectations(data: &[u8]) {
    let said = text(data);
    let mut parts = said.splitn(3, '\n');
    let (pattern, pointer) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let body = parts.next().unwrap_or_default().as_bytes().to_vec();
    let json: BTreeMap<String, Value> = BTreeMap::from([(pointer.to_owned(), Value::from("ok"))]);
    let wanted = Wanted { status: &[], contains: Some("ok"), matches: Some(pattern), json: &json, max_latency: None };
    let Ok(expect) = Expect::new(&wanted) else { return };
    let answer = super::wire::Answer { status: 200, cookies: Vec::new(), body, whole: true, reusable: false };
    let _checked = expect.check(&answer, Duration::ZERO, Identity::Untold);
}
