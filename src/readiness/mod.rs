//! Plans looked at without doing them, for the daemon (all day) and for `failoverd readiness --local`.
//!
//! Lives here: who looks at what, how many at once and for how long ([`Evaluator`]), and what is kept of
//! it from one life to the next ([`Kept`]), and of the certificates of others ([`Presented`]). Does not live here: what an action looks at (its `ready`), what
//! findings come to ([`crate::core::readiness`]), when it is done and who is told (the daemon).
//!
//! Every look is as of a dry run: no permit is ever given in it, so that an action which changed something
//! while it looks would be refused.

mod kept;
mod presented;
mod subject;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

pub use kept::{Kept, KeptError, kept_path};
pub use presented::Presented;
pub use subject::Subject;

use crate::actions;
use crate::actions::ready::reach::lasts;
use crate::actions::ready::{access, iam, needs};
use crate::clients::Clients;
use crate::core::readiness::{
    LagHistory, Need, combine, drift, excuse_what_is_made_before, is_dispensable, lost, no_quorum, prove,
};
use crate::core::view::StatusView;
use crate::model::{
    ActionSpec, Aspect, Epoch, Finding, Health, HumanDuration, Looked, Place, Plan, PlanReadiness, ProbeName,
    Readiness, Reference, Step, StepGuard, StepReadiness, WallTime, Work,
};
use crate::ports::{ActionContext, Authority, Denied, ReadyContext, ReadyLimits};

/// So many steps are looked at at once: all day, beside everything else.
const AT_ONCE: usize = 2;

/// Denies everything: the second wall, should an action ever change something while it looks.
struct NothingMayChange;

impl Authority for NothingMayChange {
    fn permit(&self, _: Epoch) -> Result<(), Denied> {
        Err(Denied::StoreInDoubt("this is a look, which changes nothing".into()))
    }
}

/// Looks at plans.
pub struct Evaluator {
    clients: Arc<Clients>,
    presented: Presented,
}

impl Evaluator {
    /// One that calls through these clients, and knows what other vantages have presented.
    pub fn new(clients: Arc<Clients>, presented: Presented) -> Self {
        Self { clients, presented }
    }

    /// Looks at a plan. `status` and `lags` are what the daemon's probes know; without them nothing is said
    /// of what only they know.
    pub async fn evaluate(
        &self,
        subject: &Subject,
        plan: &Plan,
        at: WallTime,
        status: Option<&StatusView>,
        lags: &BTreeMap<ProbeName, LagHistory>,
        good: Option<&PlanReadiness>,
    ) -> PlanReadiness {
        let began = Instant::now();
        let looks: Vec<_> = plan.steps.iter().map(|step| self.step(subject, step, status).boxed()).collect();
        let mut steps: Vec<StepReadiness> = futures::stream::iter(looks).buffered(AT_ONCE).collect().await;
        excuse_what_is_made_before(plan, &mut steps);
        let lost = lost(plan, &subject.primaries);
        let proof = prove(&self.needs(subject, plan).await, &lost, &subject.here, &subject.table.accepts);
        let mut found = PlanReadiness {
            plan: plan.name.clone(),
            hash: plan.hash(),
            at,
            took: HumanDuration::ZERO,
            verdict: Readiness::Ready,
            steps,
            general: self.certificates(subject).await,
            lost,
            proof,
            last_good: good.map(|good| good.at),
            drift: Vec::new(),
        };
        found.general.extend(status.map(|status| general(subject, plan, status, lags)).unwrap_or_default());
        found.verdict = combine(found.findings());
        found.drift = good.map(|good| drift(&found, good)).unwrap_or_default();
        found.took = HumanDuration(began.elapsed());
        found
    }

    /// The certificates of the daemon and of the other vantages, where they end soon. That they are well says nothing
    /// of the plan.
    async fn certificates(&self, subject: &Subject) -> Vec<Finding> {
        let mut found = own_certificates(subject).await;
        let left = limits(subject).certificate_left;
        let shown = self.presented.all().into_iter();
        found.extend(shown.map(|(name, shown)| lasts(format!("certificate of vantage {name}"), &shown, left)));
        found.retain(|finding| finding.verdict != Readiness::Ready);
        found
    }

    async fn step(&self, subject: &Subject, step: &Step, status: Option<&StatusView>) -> StepReadiness {
        let looked = match &step.work {
            Work::VerifyProbe { probe, .. } => watched(probe, status),
            Work::Action(spec) => match before_the_run(step, spec) {
                Some(looked) => looked,
                None => self.action(subject, step, spec).await,
            },
            Work::Wait { .. } | Work::Approval { .. } | Work::Gather { .. } | Work::Task { .. } => Looked::Own,
        };
        StepReadiness { step: step.name.clone(), kind: step.work.kind(), looked }
    }

    async fn action(&self, subject: &Subject, step: &Step, spec: &ActionSpec) -> Looked {
        let action = match actions::build(spec, &self.clients) {
            Ok(action) => action,
            Err(error) => {
                return Looked::Found(vec![Finding::not_ready(&spec.target, Aspect::Matches, error.to_string())]);
            }
        };
        let limit = subject.table.step_timeout.get();
        let deadline = Instant::now() + limit;
        let look = ReadyContext {
            context: ActionContext {
                run: None,
                step: step.name.clone(),
                epoch: Epoch(0),
                attempt: 1,
                deadline,
                authority: Arc::new(NothingMayChange),
            },
            subject: spec.target.clone(),
            limits: limits(subject),
        };
        let until = deadline.checked_sub(limit / 20).unwrap_or(deadline);
        let of_iam = async {
            if subject.table.iam_simulation { iam::permitted(spec, &self.clients, until).await } else { Vec::new() }
        };
        let all = async { tokio::join!(action.ready(&look), of_iam, access::permitted(spec, &self.clients, until)) };
        let Ok((mut findings, of_iam, of_kubernetes)) = tokio::time::timeout_at(deadline.into(), all).await else {
            let reason = format!("no answer within {}", subject.table.step_timeout);
            return Looked::Found(vec![Finding::unknown(&spec.target, Aspect::Exists, reason)]);
        };
        findings.extend(of_iam.into_iter().chain(of_kubernetes));
        if findings.is_empty() {
            return Looked::Later { why: "nothing tells beforehand whether it can be done".into() };
        }
        Looked::Found(findings)
    }

    /// What the plan and the daemon hang on.
    async fn needs(&self, subject: &Subject, plan: &Plan) -> Vec<Need> {
        let mut all: Vec<Need> = subject
            .own
            .iter()
            .map(|dependency| Need { step: None, dependency: dependency.clone(), dispensable: false })
            .collect();
        for step in &plan.steps {
            let Some(spec) = step.work.action() else { continue };
            let limit = subject.table.step_timeout.get();
            let found = tokio::time::timeout(limit, needs::needs(spec, &self.clients)).await.unwrap_or_default();
            all.extend(found.into_iter().map(|dependency| Need {
                step: Some(step.name.clone()),
                dependency: subject.placed(dependency),
                dispensable: is_dispensable(step),
            }));
        }
        all
    }
}

fn limits(subject: &Subject) -> ReadyLimits {
    ReadyLimits {
        certificate_left: Duration::from_secs(u64::from(subject.table.certificate_days) * 86_400),
        backup_age: subject.table.backup_age.get(),
        ports: subject.table.ports.clone(),
    }
}

/// Why a step cannot be looked at before the run, where it cannot.
fn before_the_run(step: &Step, spec: &ActionSpec) -> Option<Looked> {
    let left_out = |guard: &&StepGuard| match guard {
        StepGuard::Parameter { value, is, .. } => Reference::of(value).is_none() && !is.contains(value),
        StepGuard::Step { .. } | StepGuard::Holds(_) => false,
    };
    if let Some(guard) = step.terms.when.iter().find(left_out) {
        return Some(Looked::LeftOut { why: format!("{guard} does not hold") });
    }
    let open: Vec<String> = Reference::all_in(&spec.params).iter().map(|(_, open)| open.to_string()).collect();
    (!open.is_empty()).then(|| Looked::Later { why: format!("works on {}", open.join(", ")) })
}

/// A probe that a step waits for: it need not be up yet, but it has to see.
fn watched(probe: &ProbeName, status: Option<&StatusView>) -> Looked {
    let Some(status) = status else {
        return Looked::Later { why: format!("the daemon's probe {probe} tells") };
    };
    let subject = format!("probe {probe}");
    let found = match status.probes.iter().find(|view| view.name == *probe) {
        None => Finding::not_ready(subject, Aspect::Exists, "there is no such probe"),
        Some(view) if view.health == Health::Unknown => {
            let why = if view.why.is_empty() { "it has not looked yet" } else { view.why.as_str() };
            Finding::unknown(subject, Aspect::Exists, why)
        }
        Some(view) => Finding::ready(subject, Aspect::Exists).measuring("health", view.health),
    };
    Looked::Found(vec![found])
}

/// The certificates of the daemon itself. Without them no other vantage is heard, and nothing is decided.
async fn own_certificates(subject: &Subject) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (setting, path) in &subject.certificates {
        let name = format!("certificate of {setting} ({})", path.display());
        let finding = match tokio::fs::read(path).await.map(|pem| CertificateDer::from_pem_slice(&pem)) {
            Ok(Ok(certificate)) => lasts(name, &certificate, limits(subject).certificate_left),
            Ok(Err(_)) => Finding::not_ready(name, Aspect::Exists, "it holds no certificate in PEM"),
            Err(error) => Finding::not_ready(name, Aspect::Exists, error.to_string()),
        };
        findings.push(finding);
    }
    findings
}

/// What the brain knows: the quorum, the lag of the standbys, and certificates near their end.
fn general(
    subject: &Subject,
    plan: &Plan,
    status: &StatusView,
    lags: &BTreeMap<ProbeName, LagHistory>,
) -> Vec<Finding> {
    let of_plan = subject.scenarios.iter().filter(|scenario| scenario.plan.as_ref() == Some(&plan.name));
    // After a stall all votes are dropped: that nobody is heard then says nothing.
    let quorum = status.tilt_until.is_none().then(|| no_quorum(subject.quorum, &status.vantages)).flatten();
    let mut findings: Vec<Finding> = quorum.into_iter().collect();
    for scenario in of_plan {
        let Some(rpo) = scenario.rpo else { continue };
        for pair in &scenario.replication {
            let unsampled = LagHistory::default();
            let lag = lags.get(&pair.standby).unwrap_or(&unsampled);
            let finding = lag.judge(pair.standby.as_str(), rpo);
            if !findings.contains(&finding) {
                findings.push(finding);
            }
        }
    }
    let elsewhere =
        |region: Option<&crate::model::RegionName>| region.is_none_or(|region| !subject.primaries.contains(region));
    let ending = status.probes.iter().filter(|view| view.degraded && elsewhere(view.region.as_ref()));
    let ending = ending.filter(|view| view.why.contains("certificate ends"));
    findings
        .extend(ending.map(|view| Finding::not_ready(format!("probe {}", view.name), Aspect::Fresh, view.why.clone())));
    findings
}

/// Where this host is, by what the owner says.
fn here(domain: Option<&str>) -> Place {
    domain.map_or(Place::Unsaid, |domain| Place::Region(domain.into()))
}
