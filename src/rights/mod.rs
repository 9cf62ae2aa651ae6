//! What a configuration has to be permitted, and no more: rights of AWS as IAM policies, and rights of
//! Kubernetes as RBAC manifests.
//!
//! Lives here: from steps, drills, probes and routes to rights ([`aws`], [`kubernetes`]), and from rights to
//! documents ([`iam`], [`rbac`]). Does not live here: whether they are granted (`actions::ready` asks that of
//! AWS and Kubernetes), and how they are shown (`cli`). Calls nothing. Imports `model`, `config`.

pub mod aws;
pub mod iam;
mod kinds;
pub mod kubernetes;
pub mod rbac;
mod values;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::action::{KubernetesApply, KubernetesCluster};
use crate::config::{ActionConfig, Loaded};
use crate::model::{DrillPart, Plan, Reference, Work};

pub use aws::AwsRight;
pub use kubernetes::KubernetesRight;

/// The name that stands for an account that nobody has told. AWS takes no policy with it.
pub const ACCOUNT: &str = "ACCOUNT";

/// What the configuration does not tell.
pub struct Given<'a> {
    /// The account that failoverd's own credentials are of (default: the only one that the configuration
    /// names).
    pub account: Option<String>,
    /// The role that failoverd runs as: readiness asks IAM what it may do.
    pub role: Option<String>,
    /// The objects of an `apply` step's manifests.
    pub manifests: &'a dyn Fn(&KubernetesApply) -> Result<Vec<Manifest>, String>,
}

/// An object of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Its namespace, where it says one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

/// All that a configuration needs.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    /// Of AWS.
    pub aws: Vec<AwsRight>,
    /// Of Kubernetes.
    pub kubernetes: Vec<KubernetesRight>,
    /// What is wider than it has to be, or has to be filled in by hand; each once.
    pub notes: BTreeSet<String>,
    /// The same, of AWS alone.
    pub aws_notes: BTreeSet<String>,
    /// The account of failoverd's own credentials, or [`ACCOUNT`].
    pub account: String,
}

impl Rights {
    /// The rights of a configuration.
    pub fn of(loaded: &Loaded, given: &Given<'_>) -> Self {
        let mut rights = Self { account: ACCOUNT.to_owned(), ..Self::default() };
        rights.choose_account(loaded, given);
        for plan in &loaded.settings.plans {
            rights.plan(plan, &format!("plan {}", plan.name), given);
        }
        for drill in &loaded.settings.drills.all {
            let whose = format!("drill {} of {}", drill.terms.target, drill.plan.name);
            rights.plan(&drill.plan, &whose, given);
        }
        for probe in &loaded.probes {
            let whose = format!("probe {}", probe.name);
            aws::of_probe(&mut rights, &probe.kind, &whose);
            kubernetes::of_probe(&mut rights, &probe.kind, &whose);
        }
        for (name, route) in &loaded.file.notify {
            aws::of_route(&mut rights, route, &format!("route {name}"));
        }
        if loaded.file.readiness.iam_simulation && !rights.aws.is_empty() {
            aws::of_readiness(&mut rights, given.role.as_deref());
        }
        rights.aws = merged(
            rights.aws,
            |right| (right.account.clone(), right.action.clone(), right.key()),
            |right| &mut right.needed_by,
        );
        rights.kubernetes = merged(rights.kubernetes, KubernetesRight::key, |right| &mut right.needed_by);
        rights
    }

    /// The account that is given, else the only one among the names that the configuration has.
    fn choose_account(&mut self, loaded: &Loaded, given: &Given<'_>) {
        if let Some(account) = &given.account {
            self.account.clone_from(account);
            return;
        }
        let mut named = BTreeSet::new();
        for plan in loaded.settings.plans.iter().chain(loaded.settings.drills.all.iter().map(|drill| &drill.plan)) {
            for spec in plan.steps.iter().filter_map(|step| step.work.action()) {
                accounts(&spec.params, &mut named);
            }
        }
        let topics = loaded.file.notify.values().filter_map(|route| route.sns.as_ref()).map(|sns| &sns.topic);
        named.extend(topics.filter_map(|topic| account_of(topic)));
        let mut all = named.into_iter();
        if let (Some(only), None) = (all.next(), all.next()) {
            self.aws_notes.insert(format!(
                "account {only} is taken from the names in the configuration; `--account` says another one"
            ));
            self.account = only;
        }
    }

    fn plan(&mut self, plan: &Plan, whose: &str, given: &Given<'_>) {
        for step in &plan.steps {
            let Work::Action(spec) = &step.work else { continue };
            if step.terms.drill == DrillPart::LeftOut {
                continue;
            }
            let whose = format!("{whose}, step {}", step.name);
            let values = values::Values::new(plan, spec, &whose);
            aws::of_action(self, spec.kind.as_str(), &values, &whose);
            kubernetes::of_action(self, spec.kind.as_str(), &values, &whose, given);
            self.notes.extend(values.notes());
        }
    }

    /// The clusters that rights are needed in.
    pub fn clusters(&self) -> BTreeSet<KubernetesCluster> {
        self.kubernetes.iter().map(|right| right.cluster.clone()).collect()
    }
}

/// The parameters of an `apply` step, where they are all known.
fn apply_of(spec: &crate::model::ActionSpec) -> Option<KubernetesApply> {
    match ActionConfig::from_spec(spec).ok()? {
        ActionConfig::Kubernetes(crate::config::action::KubernetesAction::Apply(apply)) => Some(apply),
        _ => None,
    }
}

/// Each right once, with all that needs it.
fn merged<R, K: Ord>(
    rights: Vec<R>,
    key: impl Fn(&R) -> K,
    needed_by: impl Fn(&mut R) -> &mut BTreeSet<String>,
) -> Vec<R> {
    let mut all: BTreeMap<K, R> = BTreeMap::new();
    for mut right in rights {
        match all.entry(key(&right)) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(right);
            }
            std::collections::btree_map::Entry::Occupied(mut there) => {
                let more = std::mem::take(needed_by(&mut right));
                needed_by(there.get_mut()).extend(more);
            }
        }
    }
    all.into_values().collect()
}

/// The account of a name of AWS (`arn:aws:rds:us-west-2:123456789012:db:shop`), where it has one.
pub fn account_of(arn: &str) -> Option<String> {
    let account = arn.strip_prefix("arn:")?.split(':').nth(3)?;
    (!account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit())).then(|| account.to_owned())
}

fn accounts(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    if Reference::of(value).is_some() {
        return;
    }
    match value {
        serde_json::Value::String(text) => found.extend(account_of(text)),
        serde_json::Value::Array(of) => of.iter().for_each(|value| accounts(value, found)),
        serde_json::Value::Object(table) => {
            table.keys().for_each(|key| found.extend(account_of(key)));
            table.values().for_each(|value| accounts(value, found));
        }
        _ => {}
    }
}
