//! Takes secrets out of texts that come back from outside (S14): a server may quote what it was
//! sent.

use url::Url;

/// Shorter parts are left alone: they are words, and redacting words tells more than it hides.
const SHORTEST: usize = 6;

/// What must not be seen.
#[derive(Clone, Default)]
pub struct Redactor {
    secrets: Vec<String>,
}

impl Redactor {
    /// Hides a value, and each of its words (`Bearer xyz` hides `xyz`, too).
    pub fn hide(&mut self, secret: &str) {
        self.add(secret);
        for word in secret.split_whitespace() {
            self.add(word);
        }
    }

    /// Hides an address and all in it that may be secret: credentials, path, query.
    pub fn hide_url(&mut self, text: &str) {
        self.add(text);
        let Ok(url) = Url::parse(text) else { return };
        self.add(url.as_str());
        if let Some(password) = url.password() {
            self.add(password);
        }
        self.add(url.username());
        self.add(url.path());
        for segment in url.path_segments().into_iter().flatten() {
            self.add(segment);
        }
        if let Some(query) = url.query() {
            self.add(query);
        }
        for (_, value) in url.query_pairs() {
            self.add(&value);
        }
    }

    fn add(&mut self, secret: &str) {
        if secret.len() >= SHORTEST && !self.secrets.iter().any(|known| known == secret) {
            self.secrets.push(secret.to_owned());
            // The longest first, so that a part never breaks the whole apart.
            self.secrets.sort_by_key(|known| std::cmp::Reverse(known.len()));
        }
    }

    /// The text without what must not be seen.
    pub fn clean(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for secret in &self.secrets {
            if clean.contains(secret.as_str()) {
                clean = clean.replace(secret.as_str(), "[redacted]");
            }
        }
        clean
    }
}

impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Redactor of {} texts", self.secrets.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_quotes_is_hidden() {
        let mut redactor = Redactor::default();
        redactor.hide("Bearer canary-token");
        redactor.hide_url("https://user:canary-password@hooks.example/services/T00000/canarypath?key=canaryquery");
        let said = "got Bearer canary-token, canary-token, canary-password, /services/T00000/canarypath, canarypath, canaryquery";
        let clean = redactor.clean(said);
        assert!(!clean.contains("canary"), "{clean}");
        assert!(!format!("{redactor:?}").contains("canary"));
    }

    #[test]
    fn short_words_stay() {
        let mut redactor = Redactor::default();
        redactor.hide_url("https://a.example/v1/ok");
        assert_eq!(redactor.clean("status ok v1"), "status ok v1");
    }
}
