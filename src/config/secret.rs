//! Secrets by reference: the file names where a secret is, never the secret.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

/// Where a secret is. Exactly one of the fields is set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Secret {
    /// In an environment variable of the daemon.
    Env(String),
    /// In a file; a trailing line break is cut.
    File(PathBuf),
    /// In a systemd credential (`LoadCredential=`), found below `$CREDENTIALS_DIRECTORY`.
    Credential(String),
}

/// Why a secret cannot be read. Never says what is in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// No such environment variable.
    #[error("the environment variable {0} is not set")]
    NoEnv(String),
    /// The file cannot be read.
    #[error("cannot read the secret file {path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// Not started by systemd with credentials.
    #[error(
        "the systemd credential {0} is not there: $CREDENTIALS_DIRECTORY is not set; add LoadCredential={0}:/path to the unit"
    )]
    NoCredentials(String),
}

impl Secret {
    /// Reads the secret now.
    ///
    /// # Errors
    /// [`SecretError`], which names the place and never the content.
    pub fn read(&self) -> Result<String, SecretError> {
        let from_file = |path: PathBuf| {
            std::fs::read_to_string(&path)
                .map(|text| text.trim_end_matches(['\n', '\r']).to_owned())
                .map_err(|error| SecretError::File { path: path.display().to_string(), reason: error.to_string() })
        };
        match (self, self.path()) {
            (Self::Env(name), _) => std::env::var(name).map_err(|_| SecretError::NoEnv(name.clone())),
            (_, Some(path)) => from_file(path),
            (secret, None) => Err(SecretError::NoCredentials(secret.name())),
        }
    }

    /// The file that it is in; `None` where it is in none, or nobody gave us credentials.
    pub fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Env(_) => None,
            Self::File(path) => Some(path.clone()),
            Self::Credential(name) => {
                std::env::var_os("CREDENTIALS_DIRECTORY").map(|folder| PathBuf::from(folder).join(name))
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Env(name) | Self::Credential(name) => name.clone(),
            Self::File(path) => path.display().to_string(),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Credential(name) => write!(f, "credential {name}"),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Secret;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("where the secret is: { env = \"NAME\" }, { file = \"/path\" } or { credential = \"name\" }; secrets are never written into the configuration")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
                let key: Option<String> = map.next_key()?;
                let secret = match key.as_deref() {
                    Some("env") => Secret::Env(map.next_value()?),
                    Some("file") => Secret::File(map.next_value()?),
                    Some("credential") => Secret::Credential(map.next_value()?),
                    Some(other) => return Err(de::Error::unknown_field(other, &["env", "file", "credential"])),
                    None => return Err(de::Error::custom("expected one of env, file, credential")),
                };
                if let Some(second) = map.next_key::<String>()? {
                    return Err(de::Error::custom(format!("`{second}` is one too many: a secret is in one place")));
                }
                Ok(secret)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// A text that may hold a secret (an address with a password): written plainly while it holds
/// none, else by reference.
#[derive(Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum SecretText {
    /// In the file as it is. `check` refuses one with a password in it.
    Plain(String),
    /// Somewhere else.
    Reference(Secret),
}

impl SecretText {
    /// Reads the text now.
    ///
    /// # Errors
    /// [`SecretError`].
    pub fn read(&self) -> Result<String, SecretError> {
        match self {
            Self::Plain(text) => Ok(text.clone()),
            Self::Reference(secret) => secret.read(),
        }
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(text) => f.write_str(text),
            Self::Reference(secret) => secret.fmt(f),
        }
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = SecretText;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text without a secret, or where it is: { env = \"NAME\" }, { file = \"/path\" } or { credential = \"name\" }")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<SecretText, E> {
                Ok(SecretText::Plain(text.to_owned()))
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<SecretText, A::Error> {
                Secret::deserialize(de::value::MapAccessDeserializer::new(map)).map(SecretText::Reference)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
