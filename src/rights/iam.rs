//! Rights of AWS as policies: documents for the role that failoverd runs as, none longer than IAM takes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{AwsRight, Rights};

/// How long a managed policy may be, in characters, without the spaces between them.
/// <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html>
pub const LONGEST: usize = 6144;

/// How long the name of a statement gets.
const SID_CHARS: usize = 48;

/// One document.
#[derive(Clone, Debug, Serialize)]
pub struct Policy {
    /// `failoverd`; `failoverd-2` where one is not enough.
    pub name: String,
    /// The account of what it names. A policy on what another account has lets nothing happen by itself:
    /// that account has to allow it, too.
    pub account: String,
    /// What is written into IAM.
    pub document: Value,
    /// Its length as IAM counts it, in characters.
    pub length: usize,
    /// Why each statement is there, by its `Sid`.
    pub why: BTreeMap<String, Vec<String>>,
}

/// The statement that several rights come to.
struct Statement {
    value: Value,
    sid: String,
    why: BTreeSet<String>,
}

/// The policies, by account; those of failoverd's own come first.
pub fn policies(rights: &Rights) -> Vec<Policy> {
    let mut accounts: BTreeMap<Option<&str>, Vec<&AwsRight>> = BTreeMap::new();
    for right in &rights.aws {
        accounts.entry(right.account.as_deref()).or_default().push(right);
    }
    let mut all = Vec::new();
    for (account, of_account) in accounts {
        let statements = statements(&of_account);
        let parts = packed(statements);
        for (place, part) in parts.into_iter().enumerate() {
            let suffix = if place == 0 { String::new() } else { format!("-{}", place + 1) };
            let foreign = account.map(|account| format!("-{account}")).unwrap_or_default();
            all.push(policy(format!("failoverd{foreign}{suffix}"), account.unwrap_or(&rights.account), part));
        }
    }
    all
}

fn policy(name: String, account: &str, statements: Vec<Statement>) -> Policy {
    let why =
        statements.iter().map(|statement| (statement.sid.clone(), statement.why.iter().cloned().collect())).collect();
    let values = statements.into_iter().map(|statement| statement.value).collect();
    let document = document(values);
    let length = document.to_string().chars().count();
    Policy { name, account: account.to_owned(), document, length, why }
}

fn document(statements: Vec<Value>) -> Value {
    json!({ "Version": "2012-10-17", "Statement": statements })
}

/// One statement for what is needed on the same resources, under the same condition, for the same reason.
fn statements(rights: &[&AwsRight]) -> Vec<Statement> {
    let mut groups: BTreeMap<(String, BTreeSet<String>), Vec<&AwsRight>> = BTreeMap::new();
    for right in rights {
        groups.entry((right.key(), right.needed_by.clone())).or_default().push(right);
    }
    let mut taken = BTreeSet::new();
    let mut all: Vec<Statement> = Vec::new();
    for ((_, why), of_group) in groups {
        let Some(first) = of_group.first() else { continue };
        let actions: Vec<&str> = of_group.iter().map(|right| right.action.as_str()).collect();
        let sid = sid(&why, &actions, &mut taken);
        let mut value = Map::new();
        value.insert("Sid".into(), json!(sid));
        value.insert("Effect".into(), json!("Allow"));
        value.insert("Action".into(), json!(actions));
        value.insert("Resource".into(), json!(first.on));
        if let Some(condition) = &first.condition {
            value.insert("Condition".into(), condition.clone());
        }
        all.push(Statement { value: Value::Object(value), sid, why });
    }
    all.sort_by(|one, other| one.sid.cmp(&other.sid));
    all
}

/// A name that says what for: letters and digits, once in a policy.
fn sid(why: &BTreeSet<String>, actions: &[&str], taken: &mut BTreeSet<String>) -> String {
    let camel = |text: &str| {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        words.map(|word| word[..1].to_ascii_uppercase() + &word[1..]).collect::<String>()
    };
    let first = why.first().map(|why| camel(why)).unwrap_or_default();
    let does = actions.first().and_then(|action| action.split_once(':')).map_or("", |(_, action)| action);
    let more = if why.len() > 1 { format!("And{}More", why.len() - 1) } else { String::new() };
    let begin: String = format!("{}{does}", first.chars().take(SID_CHARS).collect::<String>());
    let mut name = format!("{begin}{more}");
    let mut number = 2;
    while !taken.insert(name.clone()) {
        name = format!("{begin}{more}{number}");
        number += 1;
    }
    name
}

/// As few documents as their order allows. A statement that is too long alone is taken apart.
fn packed(statements: Vec<Statement>) -> Vec<Vec<Statement>> {
    let empty = document(Vec::new()).to_string().chars().count();
    let mut parts: Vec<Vec<Statement>> = Vec::new();
    let mut left = 0;
    for statement in statements.into_iter().flat_map(|statement| short(statement, LONGEST - empty)) {
        // With its comma.
        let length = statement.value.to_string().chars().count() + 1;
        if parts.is_empty() || length > left {
            parts.push(Vec::new());
            left = LONGEST - empty;
        }
        left = left.saturating_sub(length);
        if let Some(part) = parts.last_mut() {
            part.push(statement);
        }
    }
    parts
}

/// A statement in halves of its resources, until each is short enough.
fn short(statement: Statement, longest: usize) -> Vec<Statement> {
    let on = statement.value["Resource"].as_array().cloned().unwrap_or_default();
    if statement.value.to_string().chars().count() < longest || on.len() < 2 {
        return vec![statement];
    }
    let (one, other) = on.split_at(on.len() / 2);
    let half = |on: &[Value], end: &str| {
        let sid = format!("{}{end}", statement.sid);
        let mut value = statement.value.clone();
        value["Resource"] = json!(on);
        value["Sid"] = json!(sid);
        Statement { value, sid, why: statement.why.clone() }
    };
    [short(half(one, "A"), longest), short(half(other, "B"), longest)].into_iter().flatten().collect()
}
