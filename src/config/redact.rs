//! No secret in any output (S14): faults quote the file, and the file may hold one by mistake.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;

/// Keys whose value is secret wherever they stand: headers, parameters of a query, variables.
const SECRET_KEYS: &str = "authorization|proxy-authorization|cookie|x-api-key|api[_-]?key|apikey|x-auth-token|access[_-]?token|auth[_-]?token|token|password|passwd|pwd|passphrase|secret|secret[_-]?key|signature|sig|x-[a-z0-9-]*(?:token|secret|key|auth)[a-z0-9-]*|private-token|routing[_-]?key|integration[_-]?key";

/// What follows each of these is a secret; the group is what is hidden.
static SECRETS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    [
        // A password in an address; it may contain an `@` that was not escaped.
        r#"[A-Za-z][A-Za-z0-9+.-]*://[^\s"'/@:]*:([^\s"'/]+)@"#.to_owned(),
        // A key that names a secret, with its value.
        format!(r#"(?i)(?:^|[\s{{,."'_-])(?:{SECRET_KEYS})["']?\s*=\s*(?:"""|'''|["'])([^"'\r\n]+)"#),
        // The same inside of an address or a `key=value` string.
        format!(r#"(?i)(?:^|[\s?&"';_-])(?:{SECRET_KEYS})=([^\s&"'{{\[]+)"#),
        // Slack keeps the secret in the path.
        r#"hooks\.slack\.com/(?:services|workflows|triggers)/([^\s"']+)"#.to_owned(),
    ]
    .iter()
    .filter_map(|pattern| Regex::new(pattern).ok())
    .collect()
});

static KEY: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(&format!("(?i)^(?:{SECRET_KEYS})$")).ok());

/// Does a header, or a parameter of a query, of this name carry a secret?
pub fn is_secret_key(name: &str) -> bool {
    KEY.as_ref().is_some_and(|key| key.is_match(name))
}

/// Hides with `*` what looks like a secret, and the given ranges. Every byte keeps its place, so
/// that spans into the text still fit.
pub fn redact(text: &str, also: &[Range<usize>]) -> String {
    let mut hidden: Vec<Range<usize>> = also.to_vec();
    for pattern in SECRETS.iter() {
        hidden.extend(pattern.captures_iter(text).filter_map(|found| found.get(1)).map(|secret| secret.range()));
    }
    if hidden.is_empty() {
        return text.to_owned();
    }
    let mut result = String::with_capacity(text.len());
    for (place, character) in text.char_indices() {
        if hidden.iter().any(|range| range.contains(&place)) && !matches!(character, '\n' | '\r') {
            result.extend(std::iter::repeat_n('*', character.len_utf8()));
        } else {
            result.push(character);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_hidden_and_everything_keeps_its_place() {
        for (text, secret) in [
            ("url = \"postgresql://app:hünter2@db/shop\"", "hünter2"),
            ("url = \"postgresql://app:p@ss@db/shop\"", "p@ss"),
            ("headers = { authorization = \"Bearer abc\" }", "abc"),
            ("headers = { \"X-Api-Key\" = 'abc' }", "abc"),
            ("url = \"https://x/y?token=abc&z=1\"", "abc"),
            ("url = \"host=db password=abc user=x\"", "abc"),
            ("url = \"https://hooks.slack.com/services/T0/B0/abc\"", "abc"),
            ("DB_PASSWORD = \"abc\"", "abc"),
        ] {
            let redacted = redact(text, &[]);
            assert!(!redacted.contains(secret), "{redacted}");
            assert_eq!(redacted.len(), text.len());
        }
    }

    #[test]
    fn what_is_no_secret_stays() {
        for text in [
            "url = { env = \"PRIMARY_DB_URL\" }",
            "headers = { authorization = { file = \"/etc/x\" } }",
            "url = \"https://api.shop.example:8443/health?deep=1\"",
            "topic = \"arn:aws:sns:us-west-2:123456789012:critical\"",
            "url = \"redis://cache:6379\"\nother = \"a@b\"",
        ] {
            assert_eq!(redact(text, &[]), text);
        }
    }

    #[test]
    fn ranges_are_hidden_across_lines() {
        assert_eq!(redact("ab\ncd", std::slice::from_ref(&(1..4))), "a*\n*d");
    }
}
