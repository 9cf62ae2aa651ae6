//! What a person sees who follows a link: on a phone, at night.

use minijinja::{AutoEscape, Environment, UndefinedBehavior, context};

use super::{Claim, Worthless};
use crate::core::view::{IncidentView, ScenarioView};
use crate::model::HumanDuration;

const TEMPLATE: &str = include_str!("page.html");

/// What is asked, as it stands now.
pub(super) struct Shown {
    pub(super) incident: IncidentView,
    pub(super) scenario: ScenarioView,
}

fn render(context: minijinja::Value) -> String {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    let page = environment.add_template("page", TEMPLATE).and_then(|()| environment.get_template("page"));
    page.and_then(|page| page.render(context)).unwrap_or_else(|error| {
        tracing::error!(%error, "the page of a link cannot be made");
        "<!doctype html><title>failoverd</title><p>The page cannot be shown: use `failoverd approve`.".to_owned()
    })
}

/// One thing is said.
pub(super) fn told(title: &str, text: &str) -> String {
    render(context! { title, text, asks => false })
}

/// The link is worth nothing.
pub(super) fn worthless(why: Worthless) -> String {
    let text = why.to_string();
    let text = text.replace('`', "");
    told("This link does not work", &capital(&text))
}

/// There is nothing to answer any more.
pub(super) fn over(claim: &Claim, incident: Option<&IncidentView>) -> String {
    let what = match incident {
        Some(incident) if incident.closed.is_some() => "it is over".to_owned(),
        Some(incident) => match (&incident.run, &incident.decision) {
            (Some(run), _) => format!("run {run} was started for it"),
            (None, Some(decision)) => format!("now: {decision}"),
            (None, None) => "something else is asked now".to_owned(),
        },
        None => "the daemon does not know it".to_owned(),
    };
    told("Nothing to answer any more", &format!("{}: {what}.", claim.incident))
}

/// The question, with its two buttons.
pub(super) fn question(claim: &Claim, shown: &Shown) -> String {
    let Shown { incident, scenario } = shown;
    let loss = scenario.predicted_loss;
    let above = scenario.rpo.is_some_and(|rpo| loss.is_none_or(|loss| loss > rpo));
    // Rounded up to seconds: it goes on growing a little while somebody reads.
    let allow = loss.map(|loss| HumanDuration::secs(loss.get().as_secs() + 1));
    let asked = incident.approval.as_ref();
    render(context! {
        asks => true,
        title => format!("{} {}", incident.severity, incident.scenario),
        text => format!("Fail over by plan {}?", scenario.plan.as_ref().map_or("", |plan| plan.as_str())),
        person => claim.person.as_str(),
        incident => incident.id.to_string(),
        condition => scenario.condition.as_str(),
        hash => claim.plan_hash.short().to_string(),
        until => claim.until.to_string(),
        stakes => scenario.stakes.iter().map(|line| capital(line)).collect::<Vec<_>>(),
        needed => asked.map_or(1, |asked| asked.needed),
        given => asked.map(|asked| asked.given.clone()).unwrap_or_default(),
        loss_above => above,
        loss_unknown => above && loss.is_none(),
        rpo => scenario.rpo.map(|rpo| rpo.to_string()).unwrap_or_default(),
        allow_ms => allow.map_or(0, |allow| u64::try_from(allow.get().as_millis()).unwrap_or(u64::MAX)),
        allow => allow.map(|allow| allow.to_string()).unwrap_or_default(),
        seen => incident.timeline.iter().rev().take(6).map(|line| format!("{} {}", line.at, line.text)).collect::<Vec<_>>(),
    })
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
