//! Takes secrets out of texts that come back from outside (S14): a server may quote what it was
//! sent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use percent_encoding::percent_decode_str;
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
        self.hide_user(&url);
        self.add(url.path());
        for segment in url.path_segments().into_iter().flatten() {
            self.add(segment);
            self.add(&percent_decode_str(segment).decode_utf8_lossy());
        }
        if let Some(query) = url.query() {
            self.add(query);
        }
        for (_, value) in url.query_pairs() {
            self.add(&value);
        }
    }

    /// User and password as the URL has them, as they were meant, and as they are sent (RFC 7617).
    fn hide_user(&mut self, url: &Url) {
        let (user, password) = (url.username(), url.password().unwrap_or_default());
        for part in [user, password] {
            self.add(part);
            self.add(&percent_decode_str(part).decode_utf8_lossy());
        }
        if !user.is_empty() || !password.is_empty() {
            let pair: Vec<u8> = percent_decode_str(user).chain(*b":").chain(percent_decode_str(password)).collect();
            // Without its padding, which not everybody repeats.
            self.add(&STANDARD_NO_PAD.encode(pair));
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
    use base64::engine::general_purpose::STANDARD;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

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

    /// Some servers answer with what they were sent.
    #[tokio::test]
    async fn credentials_of_an_address_are_hidden_in_what_a_server_echoes() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = server.local_addr().expect("its address");
        tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.expect("a client");
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.expect("a request");
            let echo = String::from_utf8_lossy(&request[..length]).into_owned();
            let decoded = echo
                .lines()
                .find_map(|line| line.strip_prefix("authorization: Basic "))
                .map(|basic| String::from_utf8(STANDARD.decode(basic.trim()).expect("Base64")).expect("text"));
            let body = format!("{echo}{}", decoded.expect("credentials"));
            let head = format!("HTTP/1.1 400 Bad Request\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(format!("{head}{body}").as_bytes()).await.expect("an answer");
        });
        let url = format!("http://canary-user:canary%21p%40ss@{address}/canary%20path");
        let mut redactor = Redactor::default();
        redactor.hide_url(&url);
        let client = crate::clients::Clients::new(&Default::default()).http(None).expect("a client");
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let answer = crate::clients::http::send("http", until, client.get(url)).await.expect("an answer");
        for secret in
            ["canary%20path", "canary-user", "canary!p@ss", &STANDARD_NO_PAD.encode("canary-user:canary!p@ss")]
        {
            assert!(answer.body.contains(secret), "{}", answer.body);
            assert!(!redactor.clean(&answer.body).contains(secret), "{}", redactor.clean(&answer.body));
        }
        assert!(!redactor.clean("/canary path").contains("canary"), "also as it was meant");
    }

    #[test]
    fn short_words_stay() {
        let mut redactor = Redactor::default();
        redactor.hide_url("https://a.example/v1/ok");
        assert_eq!(redactor.clean("status ok v1"), "status ok v1");
    }
}
