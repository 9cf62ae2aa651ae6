//! How the text of a secret is changed in places. What is said on failure names keys, never values.

use serde_json::Value;
use url::Url;

/// A JSON object with other values for some keys, and other hosts in the URLs of others.
///
/// # Errors
/// One line without a value, to be put behind the secret's name.
pub(super) fn changed<'k>(
    current: &str,
    values: Vec<(&'k str, String)>,
    hosts: impl Iterator<Item = (&'k str, &'k str)>,
) -> Result<String, String> {
    const NO_OBJECT: &str = "is not a JSON object: give `whole`, or `host` where it is one URL";
    // The error of the parser is left out: it may quote what it read.
    let Ok(Value::Object(mut object)) = serde_json::from_str::<Value>(current) else {
        return Err(NO_OBJECT.into());
    };
    for (key, value) in values {
        object.insert(key.to_owned(), Value::String(value));
    }
    for (key, host) in hosts {
        let Some(old) = object.get(key) else {
            return Err(format!("has no key `{key}` whose host could be replaced"));
        };
        let Value::String(old) = old else {
            return Err(format!("has no text under `{key}`"));
        };
        let new = with_host(old, host).map_err(|reason| format!("has a value under `{key}` that {reason}"))?;
        object.insert(key.to_owned(), Value::String(new));
    }
    Ok(Value::Object(object).to_string())
}

/// A URL with another host, and another port where `host` has one. Everything else stays byte for
/// byte, also what a parser would write otherwise.
///
/// # Errors
/// One line without the URL, to be put behind what it is.
pub(in crate::actions) fn with_host(url: &str, host: &str) -> Result<String, String> {
    const NO_URL: &str = "is not a URL with one host";
    let old = Url::parse(url).map_err(|_| NO_URL)?;
    let (scheme, rest) = url.split_once("://").ok_or(NO_URL)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (user, place) = match authority.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, authority),
    };
    let (old_host, old_port) = host_and_port(place);
    let parsed = old.host_str().ok_or(NO_URL)?;
    // What was cut out by hand has to be what the parser takes for the host: else a password with a
    // slash or the like in it would be taken apart.
    if old_host.is_empty() || !parsed.eq_ignore_ascii_case(old_host) || old_host.contains(',') {
        return Err(NO_URL.into());
    }
    let (new_host, new_port) = host_and_port(host);
    let user = user.map(|user| format!("{user}@")).unwrap_or_default();
    let port = new_port.or(old_port).map(|port| format!(":{port}")).unwrap_or_default();
    let new = format!("{scheme}://{user}{new_host}{port}{path}");
    let reads = Url::parse(&new).ok().filter(|read| {
        read.host_str().is_some_and(|read| read.eq_ignore_ascii_case(new_host))
            && read.username() == old.username()
            && read.password() == old.password()
            && read.path() == old.path()
    });
    reads.map(|_| new).ok_or_else(|| format!("would be no URL with the host {new_host:?}"))
}

/// `host:port`, `host`, `[::1]:port` or `[::1]`.
fn host_and_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') && (!host.contains(':') || host.ends_with(']')) => (host, Some(port)),
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_of_a_url_is_replaced() {
        for (url, host, new) in [
            (
                "postgres://u:p%40w@old:5432/shop?sslmode=require",
                "new",
                "postgres://u:p%40w@new:5432/shop?sslmode=require",
            ),
            ("postgres://u:p@w@old/shop", "new.example:6432", "postgres://u:p@w@new.example:6432/shop"),
            ("postgresql://old", "new", "postgresql://new"),
            ("redis://:p|{w@old:6379/0#x", "new", "redis://:p|{w@new:6379/0#x"),
            ("https://u:p@[::1]:8443/a", "[fe80::2]", "https://u:p@[fe80::2]:8443/a"),
            ("https://old/a", "[::1]:9", "https://[::1]:9/a"),
            ("HTTPS://OLD/A@b?c=http://x", "new", "HTTPS://new/A@b?c=http://x"),
        ] {
            assert_eq!(with_host(url, host).as_deref(), Ok(new), "{url}");
        }
    }

    #[test]
    fn what_is_no_url_with_one_host_is_refused_without_quoting_it() {
        for (url, host) in [
            ("canary-password", "new"),
            ("host=old password=canary-password", "new"),
            ("postgres://u:canary-password@a,b/shop", "new"),
            ("postgres://u:canary-password@a:1,b:2/shop", "new"),
            ("postgres://u:canary/password@old/shop", "new"),
            ("postgres:///canary-password", "new"),
            ("postgres://u:canary-password@old/shop", "new/x"),
            ("postgres://u:canary-password@old/shop", "x@new"),
            ("postgres://u:canary-password@old/shop", "new:port"),
            ("postgres://u:canary-password@old/shop", ""),
        ] {
            let reason = with_host(url, host).expect_err(url);
            assert!(!reason.contains("canary") && !reason.contains("password"), "{reason}");
        }
    }

    #[test]
    fn the_keys_that_are_not_named_stay() {
        let current = r#"{"password":"canary","DATABASE_URL":"postgres://u:p@old/shop","n":1,"deep":{"a":[1,null]}}"#;
        let new =
            changed(current, vec![("user", "me".into()), ("n", "2".into())], [("DATABASE_URL", "new")].into_iter());
        let new: Value = serde_json::from_str(&new.expect("changed")).expect("JSON");
        let wanted = serde_json::json!({
            "password": "canary", "DATABASE_URL": "postgres://u:p@new/shop", "n": "2", "deep": { "a": [1, null] },
            "user": "me",
        });
        assert_eq!(new, wanted);
        for text in ["canary", "[\"canary\"]", "\"canary\"", "{\"canary\":", ""] {
            let reason = changed(text, vec![("a", "b".into())], std::iter::empty()).expect_err(text);
            assert!(reason.contains("not a JSON object") && !reason.contains("canary"), "{reason}");
        }
        for (key, why) in [("none", "no key `none`"), ("n", "no text under `n`"), ("password", "not a URL")] {
            let reason = changed(current, Vec::new(), [(key, "new")].into_iter()).expect_err(key);
            assert!(reason.contains(why) && !reason.contains("canary"), "{reason}");
        }
    }
}
