//! Kubernetes.
//!
//! Lives here: the actions, one file each. [`cluster`] has the calls, [`contended`] what happens where
//! others write the same object, [`marks`] the epoch that every object written by us carries,
//! [`rollout`] what a Deployment says of its rollout, `looks` what those that only look have in common.

pub mod apply;
pub mod cluster;
pub mod contended;
pub mod cordon;
pub mod create_job;
pub mod delete_pods;
mod looks;
pub mod manifests;
pub mod marks;
pub(super) mod quota;
pub mod ready;
pub mod restart;
pub mod rollout;
pub mod scale;
pub mod secret;
pub mod set_env;
pub mod undo;
pub mod wait;

use std::sync::Arc;

use self::contended::Contended;
use self::looks::LooksOnly;
use crate::clients::Clients;
use crate::config::action::KubernetesAction;
use crate::ports::Action;

/// Builds the action of these parameters.
///
/// # Errors
/// Where they contradict each other.
pub fn build(action: KubernetesAction, clients: Arc<Clients>) -> Result<Box<dyn Action>, String> {
    Ok(match action {
        KubernetesAction::Scale(params) => Box::new(Contended(scale::Scale::new(params, clients)?)),
        KubernetesAction::SetEnv(params) => Box::new(Contended(set_env::SetEnv::new(params, clients)?)),
        KubernetesAction::RolloutRestart(params) => Box::new(Contended(restart::RolloutRestart::new(params, clients)?)),
        KubernetesAction::RolloutUndo(params) => Box::new(Contended(undo::RolloutUndo::new(params, clients)?)),
        KubernetesAction::RolloutStatus(params) => Box::new(LooksOnly(restart::RolloutStatus::new(params, clients)?)),
        KubernetesAction::Secret(params) => Box::new(Contended(secret::WriteSecret::new(params, clients)?)),
        KubernetesAction::Wait(params) => Box::new(LooksOnly(wait::Wait::new(params, clients)?)),
        KubernetesAction::PodsReady(params) => Box::new(LooksOnly(ready::PodsReady::new(params, clients))),
        KubernetesAction::EndpointsReady(params) => Box::new(LooksOnly(ready::EndpointsReady::new(params, clients)?)),
        KubernetesAction::CreateJob(params) => Box::new(create_job::CreateJob::new(params, clients)?),
        KubernetesAction::Apply(params) => Box::new(Contended(apply::Apply::new(params, clients))),
        KubernetesAction::Cordon(params) => Box::new(Contended(cordon::Cordon::new(params, clients)?)),
        KubernetesAction::DeletePods(params) => Box::new(delete_pods::DeletePods::new(params, clients)?),
    })
}
