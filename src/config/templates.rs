//! In which words each audience is told: the owner's templates, else those that are built in.
//!
//! What is told to the public knows no name of ours: a template of `customers` or `status-page` that
//! names a scenario, a plan or a host is refused when the configuration is loaded.

use std::collections::BTreeSet;

use minijinja::Environment;
use serde_json::{Value, json};

use super::shape::{AudienceTemplates, Templates};
use crate::core::values::fill;
use crate::model::{Audience, HumanDuration, Notice, NoticeKind, Stage, WallTime};

/// What every template can name.
const PUBLIC: [&str; 8] = ["kind", "stage", "incident", "at", "outage_start", "opened", "next_update", "duration"];
/// What only those can name that the public does not read.
const INTERNAL: [&str; 10] =
    ["daemon", "importance", "scenario", "severity", "run", "subject", "body", "known", "doing", "answered_by"];

/// What customers and a status page are told, where the owner says nothing else.
const PUBLIC_BODY: &str = "{% if stage == \"investigating\" %}We are looking into it.\
    {% elif stage == \"identified\" %}We know what it is, and are moving to our second site.\
    {% elif stage == \"monitoring\" %}It should work again. We are watching it.\
    {% else %}This is over.{% endif %}\
    {% if next_update %} Next update: {{ next_update }}.{% endif %}";
const EXECUTIVES_BODY: &str = "{{ subject }}\n\nSince:         {{ outage_start }} ({{ duration }})\n\
    State:         {{ stage }}\nKnown:         {{ known }}\nDone about it: {{ doing }}\n\
    Answered by:   {{ answered_by or \"nobody yet\" }}\n\
    {% if next_update %}Next update:   {{ next_update }}\n{% endif %}";

/// The words for one audience.
#[derive(Clone, Debug, Default)]
pub struct Words {
    audience: Audience,
    templates: AudienceTemplates,
}

/// A notice in the words of an audience.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The line above.
    pub subject: String,
    /// The text.
    pub body: String,
}

impl Words {
    /// Those of the file for an audience.
    pub fn new(audience: Audience, templates: &Templates) -> Self {
        Self { audience, templates: templates.of(audience).cloned().unwrap_or_default() }
    }

    /// For whom they are.
    pub fn audience(&self) -> Audience {
        self.audience
    }

    /// Does it say everything as the brain says it?
    pub fn is_plain(&self) -> bool {
        self.audience == Audience::Internal && self.templates == AudienceTemplates::default()
    }

    /// Is the line above the owner's?
    pub fn has_subject(&self, kind: NoticeKind) -> bool {
        let of_kind = self.templates.kinds.get(&kind).and_then(|template| template.subject.as_ref());
        of_kind.or(self.templates.subject.as_ref()).is_some()
    }

    /// A notice in these words. A template that fails all the same is told, and the built-in words are said.
    pub fn say(&self, notice: &Notice, daemon: &str) -> Said {
        let values = values(notice, daemon, self.audience);
        let (subject, body) = self.templates_for(notice.kind);
        let (usual_subject, usual_body) = built_in(self.audience);
        let say = |template: &str, usual: &str| {
            fill(template, &values).unwrap_or_else(|error| {
                tracing::error!(audience = self.audience.name(), %error, "a template failed; the usual words are said");
                fill(usual, &values).unwrap_or_default()
            })
        };
        let subject = say(subject, usual_subject).replace(['\r', '\n'], " ");
        Said { subject: subject.trim().to_owned(), body: say(body, usual_body).trim_end().to_owned() }
    }

    fn templates_for(&self, kind: NoticeKind) -> (&str, &str) {
        let (usual_subject, usual_body) = built_in(self.audience);
        let of_kind = self.templates.kinds.get(&kind);
        let subject = of_kind.and_then(|template| template.subject.as_deref()).or(self.templates.subject.as_deref());
        let body = of_kind.and_then(|template| template.body.as_deref()).or(self.templates.body.as_deref());
        (subject.unwrap_or(usual_subject), body.unwrap_or(usual_body))
    }
}

fn built_in(audience: Audience) -> (&'static str, &'static str) {
    match audience {
        Audience::Internal => ("{{ subject }}", "{{ body }}"),
        Audience::Executives => ("{{ severity }} {{ scenario }}", EXECUTIVES_BODY),
        Audience::Customers | Audience::StatusPage => ("Service disruption", PUBLIC_BODY),
    }
}

/// What the templates of an audience can name.
pub fn names(audience: Audience) -> Vec<&'static str> {
    let internal = if audience.is_public() { &[][..] } else { &INTERNAL[..] };
    PUBLIC.iter().chain(internal).copied().collect()
}

/// What is wrong with a template of an audience, where anything is.
pub fn wrong(template: &str, audience: Audience) -> Option<String> {
    let environment = Environment::new();
    let parsed = match environment.template_from_str(template) {
        Ok(parsed) => parsed,
        Err(error) => {
            let detail = error.detail().map(|detail| format!(": {detail}")).unwrap_or_default();
            return Some(format!("this is no template: {}{detail}", error.kind()));
        }
    };
    let known: BTreeSet<&str> = names(audience).into_iter().collect();
    let unknown = parsed.undeclared_variables(false).into_iter().filter(|name| !known.contains(name.as_str())).min();
    if let Some(name) = unknown {
        let why = if audience.is_public() && INTERNAL.contains(&name.as_str()) {
            format!("`{name}` is ours, and {} must not read it", audience.name())
        } else {
            format!("there is no `{name}`")
        };
        return Some(format!("{why}; it can name {}", names(audience).join(", ")));
    }
    // As it would be said at each stage.
    let stages = [Stage::Investigating, Stage::Identified, Stage::Monitoring, Stage::Resolved];
    stages.into_iter().find_map(|stage| {
        let mut values = values(&sample(), "failoverd", audience);
        values["stage"] = stage.name().into();
        fill(template, &values).err()
    })
}

fn sample() -> Notice {
    Notice {
        kind: NoticeKind::IncidentOpened,
        importance: crate::model::Importance::Page,
        at: WallTime(0),
        scenario: None,
        severity: None,
        incident: None,
        run: None,
        subject: "subject".into(),
        body: "body".into(),
        approval: None,
        routes: None,
        situation: None,
    }
}

/// The stage that a notice tells of, where it does not say how its incident stands.
pub fn stage(notice: &Notice) -> Stage {
    match (&notice.situation, notice.kind) {
        (_, NoticeKind::IncidentClosed) => Stage::Resolved,
        (_, NoticeKind::RunRecovered) => Stage::Monitoring,
        (_, NoticeKind::RunStarted) => Stage::Identified,
        (Some(situation), _) => situation.stage,
        (None, _) => Stage::Investigating,
    }
}

fn values(notice: &Notice, daemon: &str, audience: Audience) -> Value {
    let situation = notice.situation.as_deref();
    let since = situation.map_or(notice.at, |situation| situation.outage_start);
    let text = |value: Option<String>| value.unwrap_or_default();
    let mut values = json!({
        "kind": notice.kind,
        "stage": stage(notice).name(),
        "incident": text(notice.incident.as_ref().map(ToString::to_string)),
        "at": minute(notice.at),
        "outage_start": minute(since),
        "opened": minute(situation.map_or(notice.at, |situation| situation.opened)),
        "next_update": text(situation.and_then(|situation| situation.next_update).map(minute)),
        "duration": HumanDuration::secs(notice.at.since(since).as_secs()).to_string(),
    });
    if audience.is_public() {
        return values;
    }
    values["daemon"] = daemon.into();
    values["importance"] = json!(notice.importance);
    values["scenario"] = text(notice.scenario.as_ref().map(ToString::to_string)).into();
    values["severity"] = text(notice.severity.as_ref().map(ToString::to_string)).into();
    values["run"] = text(notice.run.as_ref().map(ToString::to_string)).into();
    values["subject"] = notice.subject.as_str().into();
    values["body"] = notice.body.as_str().into();
    values["known"] = text(situation.map(|situation| situation.known.clone())).into();
    values["doing"] = text(situation.map(|situation| situation.doing.clone())).into();
    values["answered_by"] = text(situation.and_then(|situation| situation.answered_by.clone())).into();
    values
}

/// `2026-11-28 18:05 UTC`.
fn minute(at: WallTime) -> String {
    let text = at.to_string();
    format!("{} UTC", text.get(..16).unwrap_or(&text).replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Situation;

    fn notice(kind: NoticeKind) -> Notice {
        Notice {
            kind,
            at: WallTime(1_785_381_164_000),
            scenario: Some("regional-outage".into()),
            severity: Some(crate::model::Severity("P0".into())),
            incident: Some("INC-1".into()),
            subject: "P0 regional-outage: db.internal is down".into(),
            body: "first bad observation of db.internal".into(),
            situation: Some(Box::new(Situation {
                stage: Stage::Identified,
                outage_start: WallTime(1_785_380_564_000),
                opened: WallTime(1_785_380_574_000),
                answered_by: None,
                known: "db.internal is down".into(),
                doing: "plan move is being carried out".into(),
                next_update: Some(WallTime(1_785_382_364_000)),
            })),
            ..sample()
        }
    }

    #[test]
    fn the_public_is_told_the_stage_and_no_name_of_ours() {
        for audience in [Audience::Customers, Audience::StatusPage] {
            let said = Words::new(audience, &Templates::default()).say(&notice(NoticeKind::StatusUpdate), "shop");
            assert_eq!(said.subject, "Service disruption");
            assert!(
                said.body.starts_with("We know what it is") && said.body.contains("Next update: 2026-"),
                "{said:?}"
            );
            assert!(!format!("{said:?}").contains("internal"), "{said:?}");
        }
        let said = Words::new(Audience::Executives, &Templates::default()).say(&notice(NoticeKind::StatusUpdate), "x");
        assert!(
            said.body.contains("Known:         db.internal is down") && said.body.contains("nobody yet"),
            "{said:?}"
        );
    }

    #[test]
    fn a_kind_has_its_own_words_and_the_rest_the_audiences() {
        let text = "body = \"{{ stage }}\"\n[kinds.incident_closed]\nbody = \"Over after {{ duration }}.\"";
        let customers = Some(toml::from_str(text).unwrap());
        let words = Words::new(Audience::Customers, &Templates { customers, ..Templates::default() });
        assert_eq!(words.say(&notice(NoticeKind::RunStarted), "x").body, "identified");
        assert_eq!(words.say(&notice(NoticeKind::IncidentClosed), "x").body, "Over after 10m.");
    }

    #[test]
    fn a_template_that_says_too_much_is_refused_before_anybody_reads_it() {
        let told = |text: &str, audience| wrong(text, audience).unwrap_or_default();
        assert_eq!(told("{{ stage }} {{ next_update }}", Audience::Customers), "");
        assert!(
            told("{% if stage == 'resolved' %}{{ known }}{% endif %}", Audience::Customers).contains("must not read")
        );
        assert_eq!(told("{{ known }}", Audience::Executives), "");
        assert!(told("{{ knwon }}", Audience::Internal).contains("no `knwon`"));
        assert!(told("{{ stage", Audience::Customers).contains("no template"));
        assert!(told("{{ stage.x.y }}", Audience::Customers).contains("undefined"));
    }
}
