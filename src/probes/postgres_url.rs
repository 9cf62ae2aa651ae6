//! A PostgreSQL connection string, as libpq reads it, where `tokio-postgres` reads less of it.
//!
//! `sslmode` as in libpq (<https://www.postgresql.org/docs/current/libpq-ssl.html>): `disable`;
//! `allow` and `prefer` (TLS where offered); `require` (TLS, the certificate unchecked unless a CA
//! is named); `verify-ca`; `verify-full`. `sslrootcert` names the CA like `ca_file`.

use std::path::{Path, PathBuf};

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use super::tls::Check;

/// Where to connect, and how.
pub(super) struct Target {
    /// User, password, database, options.
    pub config: Config,
    /// The server.
    pub place: Place,
    /// TLS; `None`: without.
    pub tls: Option<Check>,
    /// The authorities to trust.
    pub ca_file: Option<PathBuf>,
}

/// One server.
pub(super) enum Place {
    /// `host` is the name that the certificate has to bear, `address` what is connected to.
    Tcp {
        /// The name.
        host: String,
        /// A literal address or the name again.
        address: String,
        /// The port.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// Reads a connection string. The reason never repeats any of it: it holds a password.
pub(super) fn parse(text: &str, ca_file: Option<&Path>) -> Result<Target, &'static str> {
    let (text, parameters) = take_tls_parameters(text.trim());
    let mut config: Config = text.parse().map_err(
        |_| "is not a PostgreSQL connection string; write postgresql://user@host:port/database and percent-encode what is special in the password",
    )?;
    // It is for us to tell a primary from a replica, and to wait.
    config.target_session_attrs(TargetSessionAttrs::Any);
    if config.get_application_name().is_none() {
        config.application_name("failoverd");
    }
    let place = place(&config)?;
    let ca_file = parameters.root.map(PathBuf::from).or_else(|| ca_file.map(Path::to_owned));
    // libpq: with a CA at hand, `require` checks the chain.
    let unchecked = if ca_file.is_some() { Check::Chain } else { Check::Nothing };
    let (mode, tls) = match parameters.mode.as_deref() {
        _ if matches!(place, Place::Unix(_)) => (SslMode::Disable, None),
        Some("disable") => (SslMode::Disable, None),
        None | Some("allow" | "prefer") => (SslMode::Prefer, Some(unchecked)),
        Some("require") => (SslMode::Require, Some(unchecked)),
        Some("verify-ca") => (SslMode::Require, Some(Check::Chain)),
        Some("verify-full") => (SslMode::Require, Some(Check::Full)),
        Some(_) => return Err("sslmode is one of disable, allow, prefer, require, verify-ca, verify-full"),
    };
    config.ssl_mode(mode);
    Ok(Target { config, place, tls, ca_file })
}

fn place(config: &Config) -> Result<Place, &'static str> {
    let port = config.get_ports().first().copied().unwrap_or(5432);
    if config.get_hosts().len() > 1 || config.get_hostaddrs().len() > 1 {
        return Err("names several hosts; a probe watches one server, so that it can say which one is down");
    }
    let address = config.get_hostaddrs().first().map(ToString::to_string);
    match (config.get_hosts().first(), address) {
        (Some(Host::Tcp(host)), address) => {
            Ok(Place::Tcp { host: host.clone(), address: address.unwrap_or_else(|| host.clone()), port })
        }
        (Some(Host::Unix(folder)), _) => Ok(Place::Unix(folder.join(format!(".s.PGSQL.{port}")))),
        (None, Some(address)) => Ok(Place::Tcp { host: address.clone(), address, port }),
        (None, None) => Err("names no host"),
    }
}

#[derive(Default)]
struct TlsParameters {
    mode: Option<String>,
    root: Option<String>,
}

impl TlsParameters {
    /// True where it was one of ours, and is taken out.
    fn take(&mut self, name: &str, value: &str) -> bool {
        let place = match name {
            "sslmode" => &mut self.mode,
            "sslrootcert" => &mut self.root,
            _ => return false,
        };
        *place = Some(value.to_owned());
        true
    }
}

/// Cuts `sslmode` and `sslrootcert` out of either form of a connection string.
fn take_tls_parameters(text: &str) -> (String, TlsParameters) {
    let mut found = TlsParameters::default();
    let url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    if !url {
        // `key=value key='quoted value'`: our two never need quotes, so a word is enough.
        let words: Vec<&str> = text
            .split(' ')
            .filter(|word| word.split_once('=').is_none_or(|(name, value)| !found.take(name, value.trim_matches('\''))))
            .collect();
        return (words.join(" "), found);
    }
    // A question mark inside a password has to be percent-encoded, so that the first one begins
    // the parameters.
    let Some((base, parameters)) = text.split_once('?') else { return (text.to_owned(), found) };
    let mut left = Vec::new();
    for pair in parameters.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded: String = url::form_urlencoded::parse(format!("v={}", value.replace('+', "%2B")).as_bytes())
            .next()
            .map(|(_, value)| value.into_owned())
            .unwrap_or_default();
        if !found.take(name, &decoded) {
            left.push(pair);
        }
    }
    let text = if left.is_empty() { base.to_owned() } else { format!("{base}?{}", left.join("&")) };
    (text, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(text: &str, ca: Option<&str>) -> Option<Check> {
        parse(text, ca.map(Path::new)).unwrap_or_else(|reason| panic!("{reason}")).tls
    }

    #[test]
    fn sslmode_is_read_as_libpq_does() {
        let url = |mode: &str| format!("postgresql://u:p@h:5432/d?sslmode={mode}&application_name=x");
        assert_eq!(tls(&url("disable"), None), None);
        assert_eq!(tls(&url("require"), None), Some(Check::Nothing));
        assert_eq!(tls(&url("require"), Some("/ca.pem")), Some(Check::Chain));
        assert_eq!(tls(&url("verify-ca"), None), Some(Check::Chain));
        assert_eq!(tls(&url("verify-full"), None), Some(Check::Full));
        assert_eq!(tls("host=h user=u sslmode=verify-full", None), Some(Check::Full));
        assert_eq!(tls("postgresql://u@%2Ftmp/d?sslmode=require", None), None, "not over a Unix socket");
        let target = parse("postgres://u@h/d?sslrootcert=%2Fca+x.pem", None).unwrap_or_else(|r| panic!("{r}"));
        assert_eq!(target.ca_file.as_deref(), Some(Path::new("/ca+x.pem")));
    }

    #[test]
    fn what_is_wrong_is_named_without_the_text() {
        for text in ["postgres://u:hunter2@h:port/d", "postgres://u:hunter2@h/d?hunter2=1", "hunter2", ""] {
            let reason = parse(text, None).err().unwrap_or_else(|| panic!("{text} was taken"));
            assert!(!reason.contains("hunter2"));
        }
        assert!(parse("postgres://u@a,b/d", None).is_err());
        assert!(parse("postgres://u@a/d?sslmode=maybe", None).is_err());
    }
}
