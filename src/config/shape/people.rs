//! Severities, templates, and mail: what people are promised, and in which words they are told.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::secret::SecretText;
use crate::model::{Audience, DutyFrom, HumanDuration, NoticeKind};

/// A severity, under your own word for it. A scenario picks it with `severity`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SeverityTable {
    /// The recovery-time objective of its scenarios that name none of their own.
    #[serde(default)]
    pub rto: Option<HumanDuration>,
    /// The recovery-point objective of its scenarios that have `replication` and name none of their own.
    #[serde(default)]
    pub rpo: Option<HumanDuration>,
    /// Within so long after an incident opened somebody has to answer (ack, approve or deny).
    #[serde(default)]
    pub respond_within: Option<HumanDuration>,
    /// So often people are told how it stands, until it is over.
    #[serde(default)]
    pub update_every: Option<HumanDuration>,
    /// The routes that hear of its incidents (default: all but those that only its ladder names).
    #[serde(default)]
    pub routes: Option<Vec<String>>,
    /// Who is told while nobody answers.
    #[serde(default)]
    pub escalate: Vec<RungTable>,
    /// What people have to do afterwards.
    #[serde(default)]
    pub duties: Vec<DutyTable>,
}

/// A rung of the escalation ladder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RungTable {
    /// So long after the incident opened.
    pub after: HumanDuration,
    /// Who it is, in your words: `L1`.
    #[serde(default)]
    pub to: Option<String>,
    /// The routes that they are told through.
    pub routes: Vec<String>,
}

/// Something that people have to do for an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DutyTable {
    /// Its name, for `failoverd duty done INCIDENT NAME`.
    pub name: String,
    /// So long it may take.
    pub after: HumanDuration,
    /// From when on: `opened` or `closed`.
    pub from: DutyFrom,
    /// The job, in your words.
    pub message: String,
    /// So long before it is due it is told again (default: a quarter of `after`).
    #[serde(default)]
    pub remind_before: Option<HumanDuration>,
}

/// The words for each audience; what is left out is said in those that are built in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Templates {
    /// For whoever operates it.
    #[serde(default)]
    pub internal: Option<AudienceTemplates>,
    /// For whoever answers for it.
    #[serde(default)]
    pub executives: Option<AudienceTemplates>,
    /// For whoever uses it.
    #[serde(default)]
    pub customers: Option<AudienceTemplates>,
    /// For a public status page.
    #[serde(default, rename = "status-page")]
    pub status_page: Option<AudienceTemplates>,
}

impl Templates {
    /// Those of an audience.
    pub fn of(&self, audience: Audience) -> Option<&AudienceTemplates> {
        match audience {
            Audience::Internal => self.internal.as_ref(),
            Audience::Executives => self.executives.as_ref(),
            Audience::Customers => self.customers.as_ref(),
            Audience::StatusPage => self.status_page.as_ref(),
        }
    }
}

/// The words for one audience.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AudienceTemplates {
    /// The line above.
    #[serde(default)]
    pub subject: Option<String>,
    /// The text.
    #[serde(default)]
    pub body: Option<String>,
    /// Other words for one kind of notice: `[templates.customers.kinds.incident_closed]`.
    #[serde(default)]
    pub kinds: BTreeMap<NoticeKind, Template>,
}

/// The words for one kind of notice.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// The line above (default: that of the audience).
    #[serde(default)]
    pub subject: Option<String>,
    /// The text (default: that of the audience).
    #[serde(default)]
    pub body: Option<String>,
}

/// Mail, through an SMTP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NotifyEmail {
    /// The server's name, as its certificate has it.
    pub host: String,
    /// Its port (default: 587 for `starttls`, 465 for `tls`, 25 for `none`).
    #[serde(default)]
    pub port: Option<u16>,
    /// How it is encrypted.
    #[serde(default)]
    pub security: EmailSecurity,
    /// The authorities that its certificate is checked with, in PEM (default: the system's).
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Who logs in; with `password`.
    #[serde(default)]
    pub username: Option<SecretText>,
    /// The password, by reference.
    #[serde(default)]
    pub password: Option<SecretText>,
    /// The sender: `failoverd@shop.example` or `Shop <failoverd@shop.example>`.
    pub from: String,
    /// The recipients.
    pub to: Vec<String>,
}

impl NotifyEmail {
    /// The port that holds.
    pub fn port(&self) -> u16 {
        self.port.unwrap_or(match self.security {
            EmailSecurity::Starttls => 587,
            EmailSecurity::Tls => 465,
            EmailSecurity::None => 25,
        })
    }
}

/// How mail is encrypted on its way to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EmailSecurity {
    /// By STARTTLS, which the server must offer (default).
    #[default]
    Starttls,
    /// From the first byte on.
    Tls,
    /// Not at all: for a server on this host.
    None,
}
