//! Watches on deployments: one JSON object a line, for as long as the client listens.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::response::Response;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Shared;
use super::api::{Call, streamed};
use super::objects::Filter;
use super::status::Refusal;
use super::store::Event;

struct Watch {
    shared: Arc<Shared>,
    filter: Filter,
    pending: VecDeque<Event>,
    revision: u64,
    news: watch::Receiver<u64>,
    until: Instant,
}

pub(super) fn serve(shared: &Arc<Shared>, call: &Call) -> Result<Response, Refusal> {
    let number = |field: &str| -> Result<u64, Refusal> {
        let text = call.query.get(field).map(String::as_str).unwrap_or_default();
        let text = if text.is_empty() { "0" } else { text };
        text.parse().map_err(|_| Refusal::bad_request(format!("{field}: not a number: {text:?}")))
    };
    let seconds = match number("timeoutSeconds")? {
        0 => 1800,
        seconds => seconds,
    };
    let state = shared.lock();
    let mut revision = number("resourceVersion")?;
    let mut pending = VecDeque::new();
    if revision == 0 {
        // "Any version": what there is comes first.
        revision = state.store.revision();
        let present = state.store.deployments(call.namespace.as_deref());
        pending.extend(present.into_iter().map(|object| Event { revision, kind: "ADDED", object }));
    }
    let watch = Watch {
        shared: Arc::clone(shared),
        filter: Filter::of(call)?,
        pending,
        revision,
        news: state.store.news(),
        until: Instant::now() + Duration::from_secs(seconds),
    };
    Ok(streamed(futures::stream::unfold(watch, next_line)))
}

async fn next_line(mut watch: Watch) -> Option<(Result<Bytes, std::convert::Infallible>, Watch)> {
    loop {
        while let Some(event) = watch.pending.pop_front() {
            if watch.filter.wants(&event.object) {
                let line = format!("{}\n", json!({ "type": event.kind, "object": event.object }));
                return Some((Ok(line.into()), watch));
            }
        }
        // Marked as seen before the look, so that what comes in between wakes us.
        watch.news.borrow_and_update();
        let news = watch.shared.lock().store.events_after(watch.revision);
        if let Some(last) = news.last() {
            watch.revision = last.revision;
            watch.pending.extend(news);
            continue;
        }
        tokio::select! {
            changed = watch.news.changed() => changed.ok()?,
            () = tokio::time::sleep_until(watch.until) => return None,
        }
    }
}
