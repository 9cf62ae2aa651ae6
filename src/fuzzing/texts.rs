//! The configuration, its little languages, and what the clients of other systems read.

use std::cell::RefCell;
use std::path::PathBuf;

use serde_json::Value;

use crate::backtest::{labels, source_csv};
use crate::clients::failure::one_line;
use crate::clients::fuzz::{choose, text};
use crate::clients::redact::Redactor;
use crate::clients::{
    aws, dns, http_body, kubernetes, postgres_address, prometheus_range, redis as redis_server, sns, velero,
};
use crate::config::{LoadOptions, Loaded, load, templates};
use crate::core::anchor::Anchor;
use crate::model::{Audience, HumanDuration, Reference, WallTime, schedule};

thread_local! {
    /// A file of this thread's own: the loader reads files.
    static FILE: RefCell<Option<PathBuf>> = const { RefCell::new(None) };
}

/// A configuration as it is loaded, without a look at what it refers to.
fn loaded(text: &[u8]) -> Option<Loaded> {
    let path = FILE.with_borrow_mut(|file| {
        let make = || {
            let name = format!("failoverd-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder).map(|()| folder.join("failoverd.toml")).unwrap_or_default()
        };
        file.get_or_insert_with(make).clone()
    });
    std::fs::write(&path, text).ok()?;
    match load(&LoadOptions::file_only(path)) {
        Ok(loaded) => Some(loaded),
        Err(faults) => {
            // What is told of it must not fail either.
            let (_text, _json) = (faults.render(false), faults.to_json().to_string());
            None
        }
    }
}

pub(super) fn config(data: &[u8]) {
    if let Some(loaded) = loaded(data) {
        let _brain = super::brain::brain(loaded.settings);
    }
}

/// Conditions, durations, cron expressions, references, drills: within a configuration that is good.
pub(super) fn language(data: &[u8]) {
    let data = text(data);
    let mut parts = data.splitn(6, '\n');
    let mut quoted = || Value::from(parts.next().unwrap_or_default()).to_string();
    let (when, confirm, cron, given, template, lag) = (quoted(), quoted(), quoted(), quoted(), quoted(), quoted());
    let file = format!(
        r#"
[probes.a]
tcp = {{ address = "a.example:1" }}
[probes.b]
postgres = {{ url = {{ env = "B" }}, max_lag = {lag} }}
[groups.both]
of = ["a", "b"]
[scenarios.s]
severity = "P1"
when = {when}
confirm_for = {confirm}
rto = "10m"
plan = "p"
[plans.p]
point_of_no_return = "one"
[plans.p.parameters.x]
type = "text"
[plans.p.steps.one]
http.request = {{ url = "https://h.example/", body = {given}, effect = "route" }}
[plans.p.steps.two]
after = ["one"]
verify.probe = {{ probe = "a" }}
[drills.d]
scenario = "s"
schedule = {cron}
[templates.internal]
body = {template}
"#
    );
    config(file.as_bytes());
}

/// Small texts that people or other programs write.
pub(super) fn texts(data: &[u8]) {
    let of: [fn(&[u8]); 8] = [
        |data| {
            if let Ok(schedule) = schedule::Schedule::parse(&text(data)) {
                let _next = schedule.next_after(WallTime(1_785_381_164_000), &[]);
            }
        },
        |data| {
            if let Ok(duration) = text(data).parse::<HumanDuration>() {
                let written = serde_json::to_string(&duration).unwrap_or_default();
                let read: Option<HumanDuration> = serde_json::from_str(&written).ok();
                assert_eq!(read, Some(duration), "it does not read what it wrote");
                // For people it may be rounded.
                assert!(duration.to_string().parse::<HumanDuration>().is_ok(), "it does not read what it shows");
            }
        },
        |data| drop(Anchor::read(&text(data))),
        |data| {
            for audience in [Audience::Internal, Audience::Customers] {
                let _wrong = templates::wrong(&text(data), audience);
            }
        },
        |data| {
            if let Ok(value) = serde_json::from_slice::<Value>(data) {
                let _reference = Reference::of(&value);
            }
        },
        |data| drop(source_csv::read(data, "file", super::brain::settings(), (None, None))),
        |data| drop(labels::parse(data, "file", super::brain::settings())),
        |data| {
            let data = text(data);
            let (passwd, group) = data.split_once("\n\n").unwrap_or((&data, ""));
            let accounts = crate::control::accounts::Accounts::parse(passwd, group);
            let _user = accounts.user("alice");
        },
    ];
    if let Some((parser, rest)) = choose(data, &of) {
        parser(rest);
    }
}

/// What the servers of others answer to our clients, and addresses that lead to them.
pub(super) fn clients(data: &[u8]) {
    let of: [fn(&[u8]); 10] = [
        |data| {
            let said = text(data);
            let (code, message) = said.split_once('\n').unwrap_or(("", &said));
            for status in [200, 400, 403, 429, 500, 503] {
                let _aws = aws::answer("call", status, Some(code), message);
                let _kubernetes = kubernetes::answer("call", status, code, message);
            }
        },
        |data| {
            let line = one_line(&text(data));
            assert!(!line.contains(['\n', '\r']), "{line:?} is not one line");
        },
        |data| {
            let said = text(data);
            let (url, rest) = said.split_once('\n').unwrap_or((&said, ""));
            let mut redactor = Redactor::default();
            redactor.hide_url(url);
            let _clean = redactor.clean(rest);
            let _hidden = crate::config::redact::redact(rest, &[]);
        },
        |data| drop(postgres_address::Address::parse(&text(data), None)),
        |data| drop(redis_server::Address::parse(&text(data))),
        |data| {
            let _name = dns::name(&text(data));
            let _normal = dns::normal_text(&text(data));
        },
        |data| drop(prometheus_range::read(200, data)),
        |data| {
            let mut wanted = std::collections::BTreeMap::new();
            wanted.insert("/status".to_owned(), Value::from("ok"));
            let _json = http_body::json(data, &wanted);
        },
        |data| {
            let mut newest = velero::Newest::default();
            if let Ok(Value::Array(all)) = serde_json::from_slice(data) {
                all.iter().for_each(|one| newest.take("backup", one));
            }
        },
        |data| drop(sns::region(None, &text(data))),
    ];
    if data.first().is_some_and(|first| *first >= 128) {
        return crate::actions::fuzz::actions(&data[1..]);
    }
    if let Some((parser, rest)) = choose(data, &of) {
        parser(rest);
    }
}
