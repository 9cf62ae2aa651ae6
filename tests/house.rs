//! The rules of the house, checked on the text of `src/`: who imports whom (the table in
//! `src/lib.rs` is the rule itself), how long a file may be, what the brain must not touch, and
//! where foreign clients may appear.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use regex::Regex;

/// A file is meant to stay below 500 lines; above this it has to be taken apart.
const LONGEST: usize = 600;

/// The rooms in which a client of somebody else's protocol may be named.
const ADAPTERS: [&str; 4] = ["clients", "actions", "probes", "notify"];

/// What makes a decision depend on anything but its events: pattern, and what it would bring in.
const BANNED_IN_CORE: [(&str, &str); 8] = [
    (r"\b(Instant|SystemTime)\b|\b(Timestamp|Zoned)::now\b", "a clock; `now` is handed in"),
    (r"\b(rand|fastrand|getrandom)::|RandomState", "randomness; derive it from names"),
    (r"\bstd::env\b|\benv!\(", "the environment; settings are handed in"),
    (r"\bstd::(fs|net|process|thread|io)\b|\bFile::", "the outside; leave through an effect"),
    (r"\btokio\b|\bfutures\b", "a runtime; the brain is synchronous"),
    (r"\basync\s+(fn|move|\{)|\.await\b", "waiting; the brain is synchronous"),
    (r"\b(println|eprintln|print|dbg)!", "output; leave through an effect"),
    (r"\btracing::", "logs; leave through an effect"),
];

struct Source {
    path: PathBuf,
    /// `core` for `src/core/brain.rs`, `ports` for `src/ports.rs`.
    room: String,
    /// The code with its comments blanked, line by line.
    lines: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let mut paths = Vec::new();
    files(&root(), &mut paths);
    paths.sort();
    let sources: Vec<Source> = paths.into_iter().map(|path| read(&path)).collect();
    assert!(sources.len() > 30, "src/ was not found");
    sources
}

fn read(path: &Path) -> Source {
    let relative = path.strip_prefix(root()).unwrap();
    let room = relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs").to_owned();
    let text = std::fs::read_to_string(path).unwrap();
    Source { path: relative.to_owned(), room, lines: text.lines().map(without_comment).collect() }
}

fn without_comment(line: &str) -> String {
    if line.trim_start().starts_with("//") { String::new() } else { line.to_owned() }
}

/// The table in `src/lib.rs`: each room, and the rooms that it may import.
fn table() -> BTreeMap<String, BTreeSet<String>> {
    let text = std::fs::read_to_string(root().join("lib.rs")).unwrap();
    let word = Regex::new(r"`(\w+)`").unwrap();
    let words = |cell: &str| word.captures_iter(cell).map(|found| found[1].to_owned()).collect::<BTreeSet<_>>();
    let rows: Vec<(BTreeSet<String>, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .filter_map(|line| line.split_once(" | "))
        .map(|(rooms, imports)| (words(rooms), imports))
        .collect();
    let all: BTreeSet<String> = rows.iter().flat_map(|(rooms, _)| rooms.clone()).collect();
    let mut table = BTreeMap::new();
    for (rooms, imports) in rows {
        let named = words(imports);
        let allowed = match imports {
            text if text.starts_with("all but") => all.difference(&named).cloned().collect(),
            text if text.starts_with("all") => all.clone(),
            _ => named,
        };
        for room in rooms {
            table.insert(room, allowed.clone());
        }
    }
    table
}

static ONE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bcrate::(\w+)").unwrap());
static MANY: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\bcrate::\{([^}]*)").unwrap());

/// Every room of ours that a line names: `crate::x`, and each of `crate::{x, y::z}`.
fn imported(line: &str) -> Vec<String> {
    let mut rooms: Vec<String> = ONE.captures_iter(line).map(|found| found[1].to_owned()).collect();
    for group in MANY.captures_iter(line) {
        let parts = group[1].split(',').map(str::trim);
        rooms.extend(parts.filter_map(|part| part.split("::").next()).map(str::to_owned));
    }
    rooms
}

fn complain(what: &str, found: &[String]) {
    assert!(found.is_empty(), "{what}:\n  {}", found.join("\n  "));
}

#[test]
fn each_room_imports_only_what_the_table_in_lib_rs_lets_it() {
    let table = table();
    assert!(table["model"].is_empty() && table["core"].contains("model") && table["daemon"].len() > 8, "{table:?}");
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !["lib", "main"].contains(&source.room.as_str())) {
        let Some(allowed) = table.get(&source.room) else {
            wrong.push(format!("{}: the room `{}` is not in the table", source.path.display(), source.room));
            continue;
        };
        for (number, line) in source.lines.iter().enumerate() {
            for room in imported(line) {
                let ours = table.contains_key(&room);
                if ours && room != source.room && !allowed.contains(&room) {
                    wrong.push(format!("{}:{}: {} imports {room}", source.path.display(), number + 1, source.room));
                }
            }
        }
    }
    complain("against the table of `src/lib.rs`", &wrong);
}

#[test]
fn the_import_rule_sees_both_ways_to_write_it() {
    assert_eq!(imported("use crate::model::Plan;"), ["model"]);
    assert_eq!(imported("use crate::{model::Plan, daemon};"), ["model", "daemon"]);
    assert_eq!(imported("let x = crate::core::plan::ancestors(p);"), ["core"]);
    assert!(imported("let krate = 1; // nothing").is_empty());
}

#[test]
fn no_file_is_too_long_to_be_read() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| source.lines.len() > LONGEST)
        .map(|source| format!("{}: {} lines, at most {LONGEST}", source.path.display(), source.lines.len()))
        .collect();
    complain("take these apart", &long);
}

#[test]
fn the_brain_has_no_clock_no_chance_no_outside_and_no_wait() {
    let banned: Vec<(Regex, &str)> =
        BANNED_IN_CORE.iter().map(|(pattern, why)| (Regex::new(pattern).unwrap(), *why)).collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| ["core", "model"].contains(&source.room.as_str())) {
        for (number, line) in source.lines.iter().enumerate() {
            for (_, why) in banned.iter().filter(|(pattern, _)| pattern.is_match(line)) {
                wrong.push(format!("{}:{}: {why}: {}", source.path.display(), number + 1, line.trim()));
            }
        }
    }
    complain("the brain must not use", &wrong);
}

#[test]
fn foreign_clients_stay_in_their_adapters() {
    let client = Regex::new(
        r"(?:^|[^:\w])(?:::)?(aws_sdk_\w+|aws_config|kube|k8s_openapi|tokio_postgres|tokio_postgres_rustls|redis)::",
    )
    .unwrap();
    assert!(client.is_match("use redis::aio::ConnectionLike;") && !client.is_match("use super::redis::Server;"));
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !ADAPTERS.contains(&source.room.as_str())) {
        for (number, line) in source.lines.iter().enumerate() {
            if let Some(found) = client.captures(line) {
                wrong.push(format!("{}:{}: {}", source.path.display(), number + 1, &found[1]));
            }
        }
    }
    complain("clients outside of their adapters", &wrong);
}

#[test]
fn every_room_of_the_table_is_a_module_and_says_what_it_is() {
    for room in table().keys() {
        let path = [root().join(room).join("mod.rs"), root().join(format!("{room}.rs"))];
        // A room that is not built yet is in the table already.
        let Some(path) = path.iter().find(|path| path.exists()) else { continue };
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.starts_with("//! "), "{} has no head that says what lives there", path.display());
    }
}

/// What the detection budget counts with is what the runner of the probes does.
#[test]
fn as_many_attempts_run_at_a_time_as_the_budget_counts_with() {
    assert_eq!(failoverd::core::plan::MOST_IN_FLIGHT, failoverd::probes::runner::MOST_IN_FLIGHT);
}

/// What changes something outside, as the actions write it; and how often at least it is found.
const CHANGES: [(&str, usize); 14] = [
    // AWS: all that is called and only looks begins so.
    (r#"aws::call\(\s*"[\w-]+ (?:[A-Z])\w*""#, 20),
    (r"aws::call\(sns::WHAT", 1),
    (r"api\.patch\(&place\.name, params, patch\)", 1),
    (r"api\.create\(&PostParams::default\(\), object|api\.delete\(", 2),
    (r#"query::<Reply>\(connection, (?:&cmd\("EXEC"\)|one)"#, 3),
    (r#"session\s*\.run\((?:&format!\()?"(?:ALTER SYSTEM|COMMIT)"#, 5),
    (r"session\.run\(&statement, until\)", 1),
    (r"let answer = session\.value\(&sql, until\)", 1),
    (r"program\.run\(until|\)\.run\(by|match run\(&program, self\.success", 5),
    (r"tokio::fs::rename\(|tokio::fs::DirBuilder::new\(\)", 2),
    (r"self\.data\.(?:swap|new_folder)\(", 2),
    (r#"send\("http", until|self\.call\(&format!\("cloudflare \{method\}"\)"#, 2),
    (r"dns::exchange\(server, &bytes", 1),
    (r"move \|\| set\(&directory", 1),
];

/// S3: a permit stands immediately before each call that changes something: in the same function, and
/// nothing is waited for in between.
#[test]
fn nothing_outside_is_changed_without_a_permit_immediately_before() {
    let looks = Regex::new(r#""[\w-]+ (?:Describe|List|Get|Head|Simulate)"#).unwrap();
    let begins = Regex::new(r"\bfn \w+").unwrap();
    let mut wrong = Vec::new();
    for (pattern, least) in CHANGES {
        let change = Regex::new(pattern).unwrap();
        let mut seen = 0;
        for source in sources().iter().filter(|source| source.room == "actions") {
            let ready = source.path.starts_with("actions/ready") || source.path.ends_with("tests.rs");
            let text = source.lines.join("\n");
            for found in change.find_iter(&text).filter(|found| !ready && !looks.is_match(found.as_str())) {
                seen += 1;
                let before = &text[..found.start()];
                let after = before.rfind("permit()").map(|at| &before[at..]);
                if after.is_none_or(|after| after.contains(".await") || begins.is_match(after)) {
                    let line = before.lines().count();
                    wrong.push(format!("{}:{line}: {}", source.path.display(), found.as_str()));
                }
            }
        }
        assert!(seen >= least, "{pattern} is found {seen} times, and {least} at least before: is it written anew?");
    }
    complain("these are called without a permit immediately before", &wrong);
}
