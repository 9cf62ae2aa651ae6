//! `failoverd iam` and `failoverd rbac`: what the configuration has to be permitted, and no more.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::args::Global;
use super::check::{load_options, load_or_tell};
use super::exit::{Failure, print, print_json};
use super::pages::table_of;
use crate::actions::kubernetes::manifests;
use crate::config::action::KubernetesApply;
use crate::rights::iam::{LONGEST, Policy, policies};
use crate::rights::rbac::{ClusterRights, Whose, clusters};
use crate::rights::{ACCOUNT, Given, Manifest, Rights};

/// `failoverd iam`.
#[derive(Clone, Debug, Args)]
pub struct IamArgs {
    /// The configuration [default: that of --config]
    #[arg(value_name = "CONFIG")]
    pub file: Option<PathBuf>,
    /// The account that failoverd's own credentials are of [default: the only one that the configuration names]
    #[arg(long, value_name = "NUMBER", value_parser = account)]
    pub account: Option<String>,
    /// The role that failoverd runs as, with its path: readiness asks IAM about it [default: failoverd]
    #[arg(long, value_name = "NAME")]
    pub role: Option<String>,
    /// Print one policy as IAM takes it, and nothing else [default: the only one]
    #[arg(long, value_name = "NAME", require_equals = true, conflicts_with = "json")]
    pub document: Option<Option<String>>,
}

/// `failoverd rbac`.
#[derive(Clone, Debug, Args)]
pub struct RbacArgs {
    /// The configuration [default: that of --config]
    #[arg(value_name = "CONFIG")]
    pub file: Option<PathBuf>,
    /// Who is given the rights
    #[arg(long, value_name = "NAMESPACE/NAME", default_value = "failoverd/failoverd", value_parser = service_account)]
    pub service_account: (String, String),
    /// A group is given them, and no service account: what an identity from outside is mapped to
    #[arg(long, value_name = "NAME")]
    pub group: Option<String>,
    /// Print the manifests of one cluster as kubectl takes them, and nothing else [default: the only one]
    #[arg(long, value_name = "CONTEXT", require_equals = true, conflicts_with = "json")]
    pub document: Option<Option<String>>,
}

fn account(text: &str) -> Result<String, String> {
    if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    Err("an account is a number of twelve digits".into())
}

fn service_account(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("write NAMESPACE/NAME".into()),
    }
}

/// What the manifests of an `apply` step hold, where they can be read here.
fn manifests_of(apply: &KubernetesApply) -> Result<Vec<Manifest>, String> {
    let read = manifests::load(&apply.path).map_err(|failure| failure.reason)?;
    let plain = |of: manifests::Manifest| Manifest {
        api_version: of.api_version,
        kind: of.kind,
        namespace: of.namespace,
        name: of.name,
    };
    Ok(read.into_iter().map(plain).collect())
}

fn rights(
    global: &Global,
    file: Option<&PathBuf>,
    account: Option<&String>,
    role: Option<&String>,
) -> Result<Rights, Failure> {
    let mut global = global.clone();
    if let Some(file) = file {
        global.config = Some(file.clone());
    }
    // Rights are planned on another machine than the daemon's, too.
    let loaded = load_or_tell(&global, &load_options(&global, false))?;
    let given = Given { account: account.cloned(), role: role.cloned(), manifests: &manifests_of };
    Ok(Rights::of(&loaded, &given))
}

/// `failoverd iam`.
///
/// # Errors
/// [`Failure`]: the configuration has errors, or there is no such policy.
pub fn iam(global: &Global, args: &IamArgs) -> Result<(), Failure> {
    let rights = rights(global, args.file.as_ref(), args.account.as_ref(), args.role.as_ref())?;
    let policies = policies(&rights);
    if global.json {
        return print_json(&json!({ "account": rights.account, "policies": policies, "notes": all_notes(&rights) }));
    }
    if let Some(name) = &args.document {
        let names: Vec<&str> = policies.iter().map(|policy| policy.name.as_str()).collect();
        let place = only(name.as_deref(), &names, "policy")?;
        return print_json(&policies[place].document);
    }
    print(&shown_policies(&rights, &policies))
}

/// `failoverd rbac`.
///
/// # Errors
/// [`Failure`]: the configuration has errors, or there is no such cluster.
pub fn rbac(global: &Global, args: &RbacArgs) -> Result<(), Failure> {
    let rights = rights(global, args.file.as_ref(), None, None)?;
    let (namespace, name) = args.service_account.clone();
    let whose = args.group.clone().map_or(Whose::Account { namespace, name }, Whose::Group);
    let clusters = clusters(&rights, &whose);
    if global.json {
        return print_json(&json!({ "clusters": clusters, "notes": rights.notes }));
    }
    if let Some(context) = &args.document {
        let names: Vec<String> = clusters.iter().map(name_of).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let place = only(context.as_deref(), &names, "cluster")?;
        return print(&clusters[place].yaml());
    }
    print(&shown_clusters(&rights, &clusters))
}

/// The place of the one that is meant.
fn only(wanted: Option<&str>, names: &[&str], what: &str) -> Result<usize, Failure> {
    let listed = names.join(", ");
    match (wanted, names) {
        (_, []) => Err(Failure::usage(format!("the configuration needs nothing, so that there is no {what}"))),
        (None, [_]) => Ok(0),
        (None, _) => Err(Failure::usage(format!("there is more than one {what}: --document=NAME, one of {listed}"))),
        (Some(wanted), _) => names
            .iter()
            .position(|name| *name == wanted)
            .ok_or_else(|| Failure::usage(format!("there is no {what} {wanted}; there are {listed}"))),
    }
}

fn name_of(cluster: &ClusterRights) -> String {
    let file = cluster.kubeconfig.as_ref().map(|file| format!(" of {file}")).unwrap_or_default();
    format!("{}{file}", cluster.context.as_deref().unwrap_or("current"))
}

fn lines<'a>(of: impl IntoIterator<Item = &'a String>) -> String {
    of.into_iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}

fn texts(value: &serde_json::Value) -> String {
    let list = value.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
    list.collect::<Vec<_>>().join("\n")
}

fn shown_policies(rights: &Rights, policies: &[Policy]) -> String {
    if policies.is_empty() {
        return "The configuration needs no right of AWS.\n".to_owned();
    }
    let mut text = String::new();
    for policy in policies {
        let _ =
            writeln!(text, "{} (account {}): {} of {LONGEST} characters", policy.name, policy.account, policy.length);
        let mut table = table_of(&["right", "on", "only where", "why"]);
        for statement in policy.document["Statement"].as_array().into_iter().flatten() {
            let sid = statement["Sid"].as_str().unwrap_or_default();
            let why = policy.why.get(sid).map(lines).unwrap_or_default();
            table.add_row([
                texts(&statement["Action"]),
                texts(&statement["Resource"]),
                conditions(&statement["Condition"]),
                why,
            ]);
        }
        let _ = writeln!(text, "{table}\n");
    }
    if rights.account == ACCOUNT {
        let _ =
            writeln!(text, "ACCOUNT stands for the account, which the configuration does not name: `--account` does.");
    }
    let foreign = policies.iter().any(|policy| policy.account != rights.account);
    if foreign {
        text.push_str(
            "What another account has, that account has to allow, too (a policy on the topic, on the key).\n",
        );
    }
    text.push_str(&notes(&all_notes(rights)));
    text.push_str("`failoverd iam CONFIG --document` prints a policy as IAM takes it.\n");
    text
}

fn conditions(condition: &serde_json::Value) -> String {
    let mut told = Vec::new();
    for (_, keys) in condition.as_object().into_iter().flatten() {
        for (key, values) in keys.as_object().into_iter().flatten() {
            told.push(format!("{key}: {}", texts(values).replace('\n', ", ")));
        }
    }
    told.join("\n")
}

fn shown_clusters(rights: &Rights, clusters: &[ClusterRights]) -> String {
    if clusters.is_empty() {
        return "The configuration needs no right of Kubernetes.\n".to_owned();
    }
    let mut text = String::new();
    for cluster in clusters {
        let _ = writeln!(text, "cluster {}", name_of(cluster));
        let mut table = table_of(&["namespace", "resource", "objects", "verbs", "why"]);
        for reason in &cluster.why {
            let names = if reason.names.is_empty() { "all".to_owned() } else { lines(&reason.names) };
            table.add_row([
                reason.namespace.as_deref().unwrap_or("-"),
                &reason.resource,
                &names,
                &reason.verbs.join(", "),
                &lines(&reason.needed_by),
            ]);
        }
        let _ = writeln!(text, "{table}\n");
    }
    text.push_str(&notes(&rights.notes));
    text.push_str("`failoverd rbac CONFIG --document | kubectl apply -f -` grants them.\n");
    text
}

/// Also those of AWS alone.
fn all_notes(rights: &Rights) -> BTreeSet<String> {
    rights.notes.union(&rights.aws_notes).cloned().collect()
}

fn notes(notes: &BTreeSet<String>) -> String {
    notes.iter().fold(String::new(), |mut text, note| {
        let _ = writeln!(text, "note: {note}");
        text
    })
}
