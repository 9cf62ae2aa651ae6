//! What IAM would permit, by its own simulator: the policies of our role or user, asked for each right
//! that the documentation of an action names, on what the step touches.
//!
//! The simulator knows identity policies and permissions boundaries; it does not know service control
//! policies of the organization, and resource policies only where they are handed to it. So "allowed" is
//! not a promise, and "denied" is one.
//! <https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html>

use std::time::Instant;

use aws_sdk_iam::types::PolicyEvaluationDecisionType;
use serde_json::Value;

use crate::clients::{Api, Clients, Failure, FailureKind, aws};
use crate::config::action::{ROUTE53_REGION, permissions};
use crate::model::{ActionSpec, Aspect, Finding};

/// A text of a step's parameters: family, verb, key.
fn param<'s>(spec: &'s ActionSpec, key: &str) -> Option<&'s str> {
    let at: String = spec.kind.as_str().split('.').map(|part| format!("/{part}")).collect();
    spec.params.pointer(&format!("{at}/{key}")).and_then(Value::as_str)
}

/// What the rights are needed on, where the parameters tell. `None`: only AWS knows its name.
fn resource(spec: &ActionSpec, right: &str, region: &str, account: &str) -> Option<String> {
    if right == "route53:GetChange" {
        return Some("arn:aws:route53:::change/*".into());
    }
    let of = |key: &str| param(spec, key);
    let (family, _) = spec.kind.as_str().split_once('.')?;
    match family {
        "rds" => {
            let (kind, name) = match right {
                "rds:DescribeDBInstances"
                | "rds:PromoteReadReplica"
                | "rds:StopDBInstance"
                | "rds:RebootDBInstance" => ("db", of("instance")?),
                "rds:DescribeDBClusters" | "rds:FailoverDBCluster" => ("cluster", of("cluster")?),
                _ => return None,
            };
            Some(if name.starts_with("arn:") {
                name.to_owned()
            } else {
                format!("arn:aws:rds:{region}:{account}:{kind}:{name}")
            })
        }
        "route53" => Some(format!("arn:aws:route53:::hostedzone/{}", of("zone")?.rsplit('/').next()?)),
        "sns" => of("topic").map(str::to_owned),
        "secretsmanager" => of("secret").filter(|secret| secret.starts_with("arn:")).map(str::to_owned),
        "iam" => Some(format!("arn:aws:iam::{account}:user/{}", of("user")?)),
        "eks" => Some(format!("arn:aws:eks:{region}:{account}:cluster/{}", of("cluster")?)),
        "ecs" => Some(format!("arn:aws:ecs:{region}:{account}:service/{}/{}", of("cluster")?, of("service")?)),
        _ => None,
    }
}

/// Who we are, as IAM names it.
struct Principal {
    arn: String,
    account: String,
}

async fn principal(clients: &Clients, region: &aws::Region, until: Instant) -> Result<Principal, Failure> {
    clients.pace(Api::Aws, until).await?;
    let told = aws::call("sts GetCallerIdentity", until, region.sts().get_caller_identity().send()).await?;
    let (arn, account) = (told.arn.unwrap_or_default(), told.account.unwrap_or_default());
    let Some(session) = arn.split(":assumed-role/").nth(1) else { return Ok(Principal { arn, account }) };
    let role = session.split('/').next().unwrap_or_default();
    // The session does not tell the role's path.
    clients.pace(Api::Aws, until).await?;
    let found = aws::call("iam GetRole", until, region.iam().get_role().role_name(role).send()).await;
    let arn = found.ok().and_then(|found| found.role).map(|role| role.arn);
    let arn = arn.unwrap_or_else(|| format!("arn:aws:iam::{account}:role/{role}"));
    Ok(Principal { arn, account })
}

/// Asks IAM about everything that a step needs; nothing for a step that needs nothing of AWS.
pub async fn permitted(spec: &ActionSpec, clients: &Clients, until: Instant) -> Vec<Finding> {
    let rights = permissions::aws(spec.kind.as_str());
    if rights.is_empty() {
        return Vec::new();
    }
    let region = spec.region.as_ref().map_or(ROUTE53_REGION, |region| region.as_str());
    match ask(spec, &rights, region, clients, until).await {
        Ok(findings) => findings,
        Err(failure) if failure.kind == FailureKind::Denied && failure.reason.contains("SimulatePrincipalPolicy") => {
            let reason =
                format!("{}; grant it on our own role, or set readiness.iam_simulation = false", failure.reason);
            vec![Finding::unknown("IAM", Aspect::Permitted, reason)]
        }
        Err(failure) if failure.kind == FailureKind::Denied => {
            vec![Finding::not_ready("credentials", Aspect::Permitted, failure.reason)]
        }
        Err(failure) => vec![Finding::unknown("IAM", Aspect::Permitted, failure.reason)],
    }
}

async fn ask(
    spec: &ActionSpec,
    rights: &[Vec<String>],
    region: &str,
    clients: &Clients,
    until: Instant,
) -> Result<Vec<Finding>, Failure> {
    let client = clients.aws(region, until).await?;
    let us = principal(clients, &client, until).await?;
    let mut findings = Vec::new();
    for any in rights {
        let mut best: Option<Finding> = None;
        for right in any {
            let on = resource(spec, right, region, &us.account);
            clients.pace(Api::Aws, until).await?;
            let request = client
                .iam()
                .simulate_principal_policy()
                .policy_source_arn(&us.arn)
                .action_names(right)
                .resource_arns(on.as_deref().unwrap_or("*"));
            let answer = aws::call("iam SimulatePrincipalPolicy", until, request.send()).await?;
            let found = answer.evaluation_results().first();
            let decision = found.map(|found| found.eval_decision());
            let missing = found.map(|found| found.missing_context_values().join(", ")).unwrap_or_default();
            let finding = judged(right, on.as_deref(), decision, &missing, &us.arn);
            let better = best.as_ref().is_none_or(|best| rank(&finding) < rank(best));
            best = if better { Some(finding) } else { best };
        }
        findings.extend(best);
    }
    Ok(findings)
}

/// Of alternatives the most hopeful one counts.
fn rank(finding: &Finding) -> u8 {
    match finding.verdict.name() {
        "ready" => 0,
        "unknown" => 1,
        _ => 2,
    }
}

fn judged(
    right: &str,
    on: Option<&str>,
    decision: Option<&PolicyEvaluationDecisionType>,
    missing: &str,
    us: &str,
) -> Finding {
    let aspect = Aspect::Permitted;
    let finding = match (decision, on) {
        (Some(PolicyEvaluationDecisionType::Allowed), _) => Finding::ready(right, aspect),
        (Some(PolicyEvaluationDecisionType::ExplicitDeny), Some(on)) => {
            Finding::not_ready(right, aspect, format!("a policy of {us} denies it on {on}"))
        }
        (Some(PolicyEvaluationDecisionType::ImplicitDeny), Some(on)) if missing.is_empty() => {
            Finding::not_ready(right, aspect, format!("no policy of {us} allows it on {on}"))
        }
        (Some(PolicyEvaluationDecisionType::ImplicitDeny), Some(_)) => {
            Finding::unknown(right, aspect, format!("it hangs on conditions that only the real call has: {missing}"))
        }
        (Some(_), None) => Finding::unknown(
            right,
            aspect,
            format!("{us} may not do it on everything, and what it is needed on only AWS can name"),
        ),
        (decision, Some(_)) => {
            let said = decision.map_or("nothing", |decision| decision.as_str());
            Finding::unknown(right, aspect, format!("IAM's simulator answered {said}"))
        }
        (None, None) => Finding::unknown(right, aspect, "IAM's simulator answered nothing"),
    };
    finding.with("principal", us)
}
