//! `redis.command`: the commands that may be sent, and how each is seen to be done.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Output, Parameters, shown};
use crate::config::check::secrets;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::{EffectKind, HumanDuration};

/// `redis.command`: sends one command of those that do no harm when they are repeated.
///
/// Those that look wait, within the step's time, until the answer is as `expect` or `contains` say:
/// PING, GET, HGET, EXISTS, TTL, TYPE, LLEN, SCARD, SISMEMBER, DBSIZE, INFO (one section).
///
/// Those that change something are seen by another command, and not sent where it is so already: SET
/// key value (GET), SADD key member… and SREM (SMISMEMBER), HSET key field value… and HDEL (HMGET), DEL
/// and UNLINK key… (EXISTS), EXPIRE key seconds (TTL is at most that), PERSIST key (TTL is -1), and
/// CONFIG SET of `maxmemory-policy`, `min-replicas-to-write`, `min-replicas-max-lag`,
/// `replica-priority`, `replica-read-only`, `timeout` and `maxclients` (CONFIG GET; until a restart).
///
/// Every other command is refused. Arguments after the first are never shown, so that a key or a
/// token may be given as a secret, by reference. With an ACL, the user needs the command and the one
/// that sees it; and for the epoch what `redis.promote` needs for it. <https://redis.io/docs/latest/commands/>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedisCommand {
    /// The server: `redis://…`, by reference where it holds a password.
    pub url: SecretText,
    /// The command and its arguments: `["SADD", "blocked_api_keys", { env = "LEAKED_KEY" }]`.
    pub command: Vec<SecretText>,
    /// For one that looks: what the answer must be, as text.
    #[serde(default)]
    pub expect: Option<String>,
    /// For one that looks: what the answer must contain (`master_link_status:up`).
    #[serde(default)]
    pub contains: Option<String>,
}

/// The settings that `CONFIG SET` may change.
const SETTINGS: [&str; 7] = [
    "maxmemory-policy",
    "min-replicas-to-write",
    "min-replicas-max-lag",
    "replica-priority",
    "replica-read-only",
    "timeout",
    "maxclients",
];

/// How a command is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treated {
    /// It only looks.
    Look,
    /// `GET` answers the value.
    Set,
    /// All are members; else none is.
    Members(bool),
    /// All fields have their values.
    Fields,
    /// No field is there.
    NoFields,
    /// No key is there.
    NoKeys,
    /// The key lives no longer than so many seconds.
    Expire,
    /// The key does not expire.
    Persist,
    /// The setting has the value.
    Setting,
}

impl RedisCommand {
    /// How the command is treated.
    ///
    /// # Errors
    /// What is wrong with it, and the fix.
    pub fn treated(&self) -> Result<Treated, (String, &'static str)> {
        let Some(SecretText::Plain(name)) = self.command.first() else {
            return Err(("there is no command".into(), "write its name first, for example `PING`"));
        };
        let name = name.to_uppercase();
        let arguments = self.command.len() - 1;
        let (treated, fits) = match name.as_str() {
            "PING" | "DBSIZE" => (Treated::Look, arguments == 0),
            "INFO" | "GET" | "TTL" | "TYPE" | "LLEN" | "SCARD" => (Treated::Look, arguments == 1),
            "HGET" | "SISMEMBER" => (Treated::Look, arguments == 2),
            "EXISTS" => (Treated::Look, arguments >= 1),
            "SET" => (Treated::Set, arguments == 2),
            "SADD" => (Treated::Members(true), arguments >= 2),
            "SREM" => (Treated::Members(false), arguments >= 2),
            "HSET" => (Treated::Fields, arguments >= 3 && arguments % 2 == 1),
            "HDEL" => (Treated::NoFields, arguments >= 2),
            "DEL" | "UNLINK" => (Treated::NoKeys, arguments >= 1),
            "EXPIRE" => (Treated::Expire, arguments == 2 && self.seconds().is_some()),
            "PERSIST" => (Treated::Persist, arguments == 1),
            "CONFIG" => (Treated::Setting, arguments == 3 && self.setting().is_some()),
            _ => {
                return Err((
                    format!("`{name}` is not a command that may be sent"),
                    "see `failoverd actions redis.command` for those that may",
                ));
            }
        };
        if !fits {
            return Err((
                format!("`{name}` does not have the arguments that it needs"),
                "see `failoverd actions redis.command` for its form",
            ));
        }
        if treated != Treated::Look && (self.expect.is_some() || self.contains.is_some()) {
            return Err((
                format!("`{name}` changes something, and `expect` and `contains` are for what looks"),
                "leave them out: it is seen by itself",
            ));
        }
        Ok(treated)
    }

    /// A plain argument; 0 is the command.
    fn plain(&self, place: usize) -> Option<&str> {
        match self.command.get(place) {
            Some(SecretText::Plain(text)) => Some(text),
            _ => None,
        }
    }

    /// For how long `EXPIRE` lets the key live.
    pub fn seconds(&self) -> Option<i64> {
        self.plain(2)?.parse().ok().filter(|seconds| *seconds > 0)
    }

    /// The setting that `CONFIG SET` changes.
    pub fn setting(&self) -> Option<String> {
        let setting = self.plain(2)?.to_lowercase();
        (self.plain(1)?.eq_ignore_ascii_case("SET") && SETTINGS.contains(&setting.as_str())).then_some(setting)
    }

    /// The command and its first argument, which are all that is shown of it.
    pub fn shown(&self) -> String {
        let name = self.plain(0).unwrap_or_default().to_uppercase();
        let shown = match name.as_str() {
            "CONFIG" => 3,
            _ => 2,
        };
        let mut words = vec![name];
        for argument in self.command.iter().take(shown).skip(1) {
            words.push(match argument {
                SecretText::Plain(text) => text.clone(),
                SecretText::Reference(_) => "…".into(),
            });
        }
        if self.command.len() > shown {
            words.push("…".into());
        }
        words.join(" ")
    }
}

impl RedisCommand {
    /// What it hands on.
    pub const OUTPUTS: &'static [Output] =
        &[Output { name: "value", meaning: "the answer to a look, at most 1,000 characters", sample: "1" }];
}

impl Parameters for RedisCommand {
    fn effect(&self) -> EffectKind {
        match self.treated() {
            Ok(Treated::Look) => EffectKind::Verify,
            _ => EffectKind::Call,
        }
    }

    fn target(&self) -> String {
        format!("{} at Redis at {}", self.shown(), shown(&self.url))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(1)
    }

    fn outputs(&self) -> &'static [Output] {
        if self.treated() == Ok(Treated::Look) { Self::OUTPUTS } else { &[] }
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["redis", "rediss"]);
        if let Err((message, fix)) = self.treated() {
            report.error("bad_command", &at.key("command"), message, fix);
        }
    }
}
