//! What actions read of other systems, reached by the fuzzer.

use super::aws::{route53_records, secret_text};
use super::kubernetes::{manifests, quota};
use super::postgres::restore;
use super::{cloudflare, redis, sentinel};
use crate::clients::fuzz::{choose, text};

/// One of them, as the first byte says.
pub(crate) fn actions(data: &[u8]) {
    let of: [fn(&[u8]); 8] = [
        |data| drop(manifests::parse("file.yaml", &text(data), &mut Vec::new())),
        |data| {
            let said = text(data);
            let (url, host) = said.split_once('\n').unwrap_or((&said, "host.example"));
            let _changed = secret_text::with_host(url, host);
        },
        |data| {
            let _epoch = route53_records::parse_epoch(&text(data));
        },
        |data| restore::read_and_write(&text(data)),
        redis::answered,
        |data| {
            let _quantity = quota::quantity(&text(data));
        },
        |data| {
            let _epoch = sentinel::epoch(&text(data));
        },
        cloudflare::answered,
    ];
    if let Some((parser, rest)) = choose(data, &of) {
        parser(rest);
    }
}
