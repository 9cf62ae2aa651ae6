//! Addresses and headers that may hold a secret: S14 begins in the file.

use std::collections::BTreeMap;
use std::path::Path as FilePath;

use crate::config::path::Path;
use crate::config::redact::{is_secret_key, redact};
use crate::config::report::Report;
use crate::config::secret::{Secret, SecretText};
use crate::config::trust::{self, Matter};

/// An address: its scheme, and no secret in it. Never echoes the address: a mistyped one may hold
/// a password all the same.
pub fn address(report: &mut Report<'_>, path: &Path, text: &SecretText, schemes: &[&str]) {
    let plain = match text {
        SecretText::Plain(plain) => plain,
        SecretText::Reference(secret) => return reference(report, path, secret),
    };
    let wanted = schemes.iter().map(|scheme| format!("`{scheme}://…`")).collect::<Vec<_>>().join(" or ");
    let parsed = url::Url::parse(plain);
    let secret = redact(plain, &[]) != *plain
        || parsed.as_ref().is_ok_and(|url| {
            url.password().is_some_and(|password| !password.is_empty())
                // A token in place of the user; elsewhere a user alone is no secret.
                || (!url.username().is_empty() && matches!(url.scheme(), "http" | "https"))
                || url.query_pairs().any(|(key, _)| is_secret_key(&key))
        });
    if secret {
        report.error_in_secret(
            "plain_secret",
            path,
            "a secret is written plainly into the configuration",
            "move the whole address into a file of mode 0600 and write { file = \"/path\" }, or { env = \"NAME\" } or { credential = \"name\" }; then change the secret: it was readable",
        );
        return;
    }
    let scheme = plain.split_once("://").map(|(scheme, _)| scheme);
    if !scheme.is_some_and(|scheme| schemes.contains(&scheme)) {
        report.error_in_secret(
            "bad_url",
            path,
            format!("this is not an address of the form {wanted}"),
            format!("write {wanted}"),
        );
        return;
    }
    if schemes.contains(&"postgresql") && hosts(plain) > 1 {
        report.error_in_secret(
            "several_hosts",
            path,
            "this address names several hosts, and it would be chance which of them is meant",
            "write one address for each server: one is watched, or promoted, at a time",
        );
        return;
    }
    match parsed {
        Err(error) => {
            report.error_in_secret(
                "bad_url",
                path,
                format!("this is not an address: {error}"),
                format!("write {wanted}"),
            );
        }
        Ok(url) if url.host_str().is_none_or(str::is_empty) && !plain.contains("host=") => {
            report.error_in_secret("bad_url", path, "this address has no host", format!("write {wanted}"));
        }
        Ok(_) => {}
    }
}

/// How many servers a PostgreSQL URL names: libpq takes lists, before the path and as parameters.
fn hosts(plain: &str) -> usize {
    let rest = plain.split_once("://").map_or(plain, |(_, rest)| rest);
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let listed = |text: &str| text.split(',').filter(|host| !host.is_empty()).count();
    let in_query = |name: &str| {
        url::form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == name)
            .map(|(_, value)| listed(&value))
            .sum::<usize>()
    };
    let authority = before.split('/').next().unwrap_or_default();
    (listed(authority) + in_query("host")).max(in_query("hostaddr"))
}

/// Headers: those that carry a secret by reference, and names that are names.
pub fn headers(report: &mut Report<'_>, path: &Path, headers: &BTreeMap<String, SecretText>) {
    for (name, value) in headers {
        let at = path.key(name);
        header_name(report, &at, name);
        match value {
            SecretText::Plain(_) if is_secret_key(name) => report.error_in_secret(
                "plain_secret",
                &at,
                format!("the secret of the header `{name}` is written plainly into the configuration"),
                "write { file = \"/path\" }, { env = \"NAME\" } or { credential = \"name\" }; then change the secret: it was readable",
            ),
            SecretText::Plain(text) if text.contains(['\r', '\n']) => {
                report.error("bad_header", &at, "a header cannot hold a line break", "write it on one line");
            }
            SecretText::Plain(_) => {}
            SecretText::Reference(secret) => reference(report, &at, secret),
        }
    }
}

/// The name of a header.
pub fn header_name(report: &mut Report<'_>, at: &Path, name: &str) {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)) {
        report.error_at_key("bad_header", at, format!("{name:?} is not the name of a header"), "see RFC 9110, 5.1");
    }
}

/// A text under a name: where it is a secret, by reference.
pub fn text(report: &mut Report<'_>, path: &Path, name: &str, text: &SecretText) {
    let plain = match text {
        SecretText::Plain(plain) => plain,
        SecretText::Reference(secret) => return reference(report, path, secret),
    };
    let has_password =
        url::Url::parse(plain).is_ok_and(|url| url.password().is_some_and(|password| !password.is_empty()));
    if is_secret_key(name) || has_password || redact(plain, &[]) != *plain {
        report.error_in_secret(
            "plain_secret",
            path,
            "a secret is written plainly into the configuration",
            "write { file = \"/path\" }, { env = \"NAME\" } or { credential = \"name\" }; then change the secret: it was readable",
        );
    }
}

/// A value that is nothing but a secret: never written plainly.
pub fn secret(report: &mut Report<'_>, path: &Path, value: &SecretText) {
    match value {
        SecretText::Plain(_) => report.error_in_secret(
            "plain_secret",
            path,
            "a secret is written plainly into the configuration",
            "write { file = \"/path\" }, { env = \"NAME\" } or { credential = \"name\" }; then change the secret: it was readable",
        ),
        SecretText::Reference(secret) => reference(report, path, secret),
    }
}

/// A variable of a program's environment: its name, and no secret in its value.
pub fn variable(report: &mut Report<'_>, path: &Path, name: &str, value: &SecretText) {
    let at = path.key(name);
    let mut chars = name.chars();
    let starts_well = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !starts_well || !chars.all(|c| c.is_ascii_alphanumeric() || c == '_') {
        let text = format!("{name:?} is not the name of a variable");
        report.error_at_key("bad_variable", &at, text, "use letters, digits and `_`, not a digit first");
    }
    let as_written = |text: &str| format!("{name}=\"{text}\"");
    match value {
        SecretText::Plain(text) if redact(&as_written(text), &[]) != as_written(text) => report.error_in_secret(
            "plain_secret",
            &at,
            format!("the secret of the variable `{name}` is written plainly into the configuration"),
            "write { file = \"/path\" }, { env = \"NAME\" } or { credential = \"name\" }; then change the secret: it was readable",
        ),
        SecretText::Plain(_) => {}
        SecretText::Reference(secret) => reference(report, &at, secret),
    }
}

/// What a reference points to. That it is not there is only a warning: `check` may run on another
/// machine, or in another environment.
pub fn reference(report: &mut Report<'_>, path: &Path, secret: &Secret) {
    if let Secret::Env(name) | Secret::Credential(name) = secret
        && name.is_empty()
    {
        report.error("empty", path, "the place of the secret has no name", "write its name");
        return;
    }
    if !report.inspects() {
        return;
    }
    match secret {
        Secret::File(file) => secret_file(report, path, file),
        Secret::Env(name) if std::env::var_os(name).is_none() => report.warn(
            "secret_not_there",
            path,
            format!("the environment variable {name} is not set here"),
            "set it for the daemon (systemd: Environment= or EnvironmentFile=)",
        ),
        Secret::Credential(_) if std::env::var_os("CREDENTIALS_DIRECTORY").is_some() => {
            if let Err(error) = secret.read() {
                report.warn("secret_not_there", path, error.to_string(), "add LoadCredential= to the unit");
            }
            if let Some(file) = secret.path() {
                trust::check(report, path, &file, Matter::Secret);
            }
        }
        // Without systemd there is nothing to look at.
        Secret::Env(_) | Secret::Credential(_) => {}
    }
}

/// A file that is nothing but a secret. That it is not there is only a warning, as above.
pub fn secret_file(report: &mut Report<'_>, path: &Path, file: &FilePath) {
    if !report.inspects() {
        return;
    }
    if let Err(error) = std::fs::metadata(file) {
        report.warn(
            "secret_not_there",
            path,
            format!("cannot read the secret file {}: {error}", file.display()),
            "create it with mode 0600, owned by the user that failoverd runs as",
        );
    }
    trust::check(report, path, file, Matter::Secret);
}
