//! Readiness: what all actions share in looking whether they could be done.
//!
//! Lives here: what a failed look means, whether a target serves ([`reach`]), what IAM ([`iam`]) and
//! Kubernetes ([`access`]) would permit, and what a step hangs on ([`needs`]). Does not live here: what
//! one kind of action looks at (its own `ready`), and what findings come to (the brain).
//!
//! Nothing here changes anything. Two calls look like changes and are none: a
//! `SelfSubjectAccessReview` is a question that Kubernetes wants to be posted, and a connection for a
//! certificate sends no request.

pub mod access;
pub mod iam;
pub mod needs;
pub mod reach;

use super::{LOOK, until};
use crate::clients::{Failure, FailureKind};
use crate::model::{Aspect, Finding};
use crate::ports::ReadyContext;

/// What a look that failed says of the thing that was looked at.
pub(super) fn failed(subject: &str, failure: Failure) -> Finding {
    match failure.kind {
        FailureKind::Missing => Finding::not_ready(subject, Aspect::Exists, failure.reason),
        FailureKind::Denied => Finding::not_ready(subject, Aspect::Permitted, failure.reason),
        FailureKind::Refused => Finding::not_ready(subject, Aspect::Matches, failure.reason),
        FailureKind::Again | FailureKind::Unknown => Finding::unknown(subject, Aspect::Exists, failure.reason),
    }
}

/// At most so many targets of a record are looked at.
const TARGETS: usize = 8;

/// Do the targets serve, to which a name would be moved? At 443 with a certificate for that name.
pub(super) async fn targets_serve(targets: &[String], name: &str, look: &ReadyContext) -> Vec<Finding> {
    let limits = &look.limits;
    let mut findings = Vec::new();
    for host in targets.iter().take(TARGETS) {
        let target = reach::Target {
            host,
            ports: &limits.ports,
            tls: |port| port == 443,
            name,
            ca_file: None,
            certificate_left: limits.certificate_left,
        };
        findings.extend(reach::serves(&target, until(&look.context, LOOK)).await);
    }
    findings
}
