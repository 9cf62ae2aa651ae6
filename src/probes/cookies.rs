//! The cookies of one attempt: kept for the host that set them, bounded, and gone with the attempt.

use url::Url;

/// So many are kept; a server that sets more goes without the rest.
const MOST: usize = 32;

/// A longer one is not kept, in bytes (RFC 6265, 6.1, has at least 4096).
const LONGEST: usize = 4096;

/// See the module.
#[derive(Default)]
pub(super) struct Cookies(Vec<Cookie>);

struct Cookie {
    host: String,
    secure: bool,
    name: String,
    value: String,
}

impl Cookies {
    /// Those that an answer sets. `Domain` and `Path` are read over: what is kept for one host alone
    /// goes to nobody who should not see it.
    pub(super) fn take(&mut self, url: &Url, set: &[String]) {
        let Some(host) = url.host_str() else { return };
        for text in set {
            let mut parts = text.split(';').map(str::trim);
            let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else { continue };
            let (name, value) = (name.trim(), value.trim());
            if name.is_empty() || text.len() > LONGEST {
                continue;
            }
            let attributes: Vec<String> = parts.map(str::to_ascii_lowercase).collect();
            let deleted = attributes.iter().any(|one| {
                one.strip_prefix("max-age=").and_then(|age| age.parse::<i64>().ok()).is_some_and(|age| age <= 0)
            });
            self.0.retain(|cookie| cookie.host != host || cookie.name != name);
            if !deleted && self.0.len() < MOST {
                self.0.push(Cookie {
                    host: host.to_owned(),
                    secure: attributes.iter().any(|one| one == "secure"),
                    name: name.to_owned(),
                    value: value.to_owned(),
                });
            }
        }
    }

    /// The value of the header `cookie` for a request to this address.
    pub(super) fn header(&self, url: &Url) -> Option<String> {
        let fits = |cookie: &&Cookie| {
            url.host_str() == Some(cookie.host.as_str()) && (!cookie.secure || url.scheme() == "https")
        };
        let pairs: Vec<String> =
            self.0.iter().filter(fits).map(|cookie| format!("{}={}", cookie.name, cookie.value)).collect();
        (!pairs.is_empty()).then(|| pairs.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(cookies: &mut Cookies, url: &str, lines: &[String]) {
        cookies.take(&url.parse().unwrap(), lines);
    }

    fn sent(cookies: &Cookies, url: &str) -> Option<String> {
        cookies.header(&url.parse().unwrap())
    }

    #[test]
    fn a_cookie_goes_back_to_its_host_alone() {
        let mut cookies = Cookies::default();
        set(
            &mut cookies,
            "https://a.example/login",
            &["s=1; Path=/; Domain=example; HttpOnly".into(), "t=2; Secure".into()],
        );
        assert_eq!(sent(&cookies, "https://a.example:8443/x").as_deref(), Some("s=1; t=2"));
        assert_eq!(sent(&cookies, "http://a.example/").as_deref(), Some("s=1"));
        assert_eq!(sent(&cookies, "https://b.example/"), None);
        set(&mut cookies, "https://a.example/", &["s=3".into(), "t=; Max-Age=0".into()]);
        assert_eq!(sent(&cookies, "https://a.example/").as_deref(), Some("s=3"));
    }

    #[test]
    fn what_a_server_sets_is_bounded() {
        let mut cookies = Cookies::default();
        let many: Vec<String> = (0..100).map(|n| format!("c{n}=1")).collect();
        set(&mut cookies, "https://a.example/", &many);
        assert_eq!(sent(&cookies, "https://a.example/").unwrap().split("; ").count(), 32);
        let mut cookies = Cookies::default();
        set(&mut cookies, "https://a.example/", &[format!("a={}", "x".repeat(5000)), "nothing".into(), "=x".into()]);
        assert_eq!(sent(&cookies, "https://a.example/"), None);
    }
}
