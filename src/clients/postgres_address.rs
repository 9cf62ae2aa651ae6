//! A PostgreSQL connection string, as libpq reads it, where `tokio-postgres` reads less of it. The
//! one reader of probes and actions: what a probe has watched for months is what is promoted.
//!
//! Both forms are read, `postgresql://…` and `key=value …`. What needs a word:
//! - **TLS** as in libpq (<https://www.postgresql.org/docs/current/libpq-ssl.html>): `disable`;
//!   `allow` and `prefer` (TLS where offered); `require` (TLS, the certificate unchecked unless a
//!   CA is named); `verify-ca`; `verify-full`. `sslrootcert` names the CA, and `system` the
//!   system's, with `verify-full` only. A `ca_file` of the configuration goes before both: its
//!   owner wrote it, and `check` looks at it, while the address may come from elsewhere.
//! - **One server.** A second host is refused: it would be chance which of them is watched, and
//!   which is promoted. `hostaddr` is where to connect, `host` the name on the certificate.
//! - `target_session_attrs` is not followed: a promotion has to reach the standby, and it is for
//!   the probe to say that the role is wrong.

use std::path::{Path, PathBuf};

use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode};

use super::tls::Check;

/// Where to connect, and how.
pub struct Address {
    /// User, password, database, options, and exactly one host.
    pub config: Config,
    /// The server.
    pub place: Place,
    /// TLS; `None`: without.
    pub tls: Option<Check>,
    /// The authorities to trust; `None`: the system's.
    pub ca_file: Option<PathBuf>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
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

impl Address {
    /// Reads a connection string.
    ///
    /// # Errors
    /// The reason, as the end of a sentence that begins with "the address". It never repeats any
    /// of the text: it holds a password.
    pub fn parse(text: &str, ca_file: Option<&Path>) -> Result<Self, &'static str> {
        const FORM: &str = "is not a PostgreSQL connection string; write postgresql://user@host:port/database and percent-encode what is special in the password";
        let (text, ours) = take_ours(text.trim()).ok_or(FORM)?;
        let mut config: Config = text.parse().map_err(|_| FORM)?;
        if config.get_application_name().is_none() {
            config.application_name("failoverd");
        }
        config.load_balance_hosts(LoadBalanceHosts::Disable);
        let place = place(&mut config)?;
        let root = match ca_file {
            Some(path) => Root::File(path.to_owned()),
            None => ours.root.map_or(Root::Unnamed, |root| match root.as_str() {
                "system" => Root::System,
                _ => Root::File(root.into()),
            }),
        };
        let (mode, tls) = match place {
            Place::Unix(_) => (SslMode::Disable, None),
            Place::Tcp { .. } => tls(ours.mode.as_deref(), &root)?,
        };
        config.ssl_mode(mode);
        let ca_file = match root {
            Root::File(path) => Some(path),
            Root::System | Root::Unnamed => None,
        };
        Ok(Self { config, place, tls, ca_file })
    }
}

/// Which authorities the owner named.
enum Root {
    Unnamed,
    System,
    File(PathBuf),
}

fn tls(mode: Option<&str>, root: &Root) -> Result<(SslMode, Option<Check>), &'static str> {
    let unchecked = match root {
        // libpq: with a CA at hand, `require` checks the chain.
        Root::File(_) => Check::Chain,
        Root::Unnamed => Check::Nothing,
        // libpq: every authority of the system vouches for somebody, so that only the name tells.
        Root::System => {
            return match mode {
                None | Some("verify-full") => Ok((SslMode::Require, Some(Check::Full))),
                Some(_) => Err("has sslrootcert=system, which goes with sslmode=verify-full only"),
            };
        }
    };
    Ok(match mode {
        Some("disable") => (SslMode::Disable, None),
        None | Some("allow" | "prefer") => (SslMode::Prefer, Some(unchecked)),
        Some("require") => (SslMode::Require, Some(unchecked)),
        Some("verify-ca") => (SslMode::Require, Some(Check::Chain)),
        Some("verify-full") => (SslMode::Require, Some(Check::Full)),
        Some(_) => {
            return Err("has an unknown sslmode; it is one of disable, allow, prefer, require, verify-ca, verify-full");
        }
    })
}

fn place(config: &mut Config) -> Result<Place, &'static str> {
    if config.get_hosts().len() > 1 || config.get_hostaddrs().len() > 1 || config.get_ports().len() > 1 {
        return Err("names several hosts or ports; write the one server that is meant");
    }
    let port = config.get_ports().first().copied().unwrap_or(5432);
    let address = config.get_hostaddrs().first().map(ToString::to_string);
    match (config.get_hosts().first().cloned(), address) {
        (Some(Host::Tcp(host)), address) => {
            let address = address.unwrap_or_else(|| host.clone());
            Ok(Place::Tcp { host, address, port })
        }
        (Some(Host::Unix(folder)), _) => Ok(Place::Unix(folder.join(format!(".s.PGSQL.{port}")))),
        (None, Some(address)) => {
            // So that there is a name for the certificate, as with libpq.
            config.host(&address);
            Ok(Place::Tcp { host: address.clone(), address, port })
        }
        (None, None) => Err("names no host"),
    }
}

/// The parameters that we read ourselves.
#[derive(Default)]
struct Ours {
    mode: Option<String>,
    root: Option<String>,
}

/// To whom a parameter goes.
enum Taken {
    ByUs,
    Left,
}

impl Ours {
    fn take(&mut self, name: &str, value: &str) -> Taken {
        match name {
            "sslmode" => self.mode = Some(value.to_owned()),
            "sslrootcert" => self.root = Some(value.to_owned()),
            "target_session_attrs" => {}
            _ => return Taken::Left,
        }
        Taken::ByUs
    }
}

/// Cuts our parameters out of either form of a connection string; `None` where it is neither.
fn take_ours(text: &str) -> Option<(String, Ours)> {
    match ["postgres://", "postgresql://"].iter().find_map(|scheme| text.strip_prefix(scheme)) {
        Some(rest) => Some(take_from_url(rest)),
        None => take_from_words(text),
    }
}

fn take_from_url(rest: &str) -> (String, Ours) {
    let mut ours = Ours::default();
    // A password may hold a question mark, and a parameter an `@`: credentials end at the first
    // `@`, unless a path and its parameters have begun before it.
    let path = rest.find('/').unwrap_or(rest.len());
    let path_end = rest[path..].find('?').map_or(rest.len(), |at| path + at);
    let host = rest[..path_end].find('@').map_or(0, |at| at + 1);
    let Some(at) = rest[host..].find('?').map(|at| host + at) else { return (format!("postgresql://{rest}"), ours) };
    let mut left = Vec::new();
    for pair in rest[at + 1..].split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if let Taken::Left = ours.take(name, &percent_encoding::percent_decode_str(value).decode_utf8_lossy()) {
            // tokio-postgres takes everything before any `@` for the user.
            left.push(pair.replace('@', "%40"));
        }
    }
    let question = if left.is_empty() { "" } else { "?" };
    (format!("postgresql://{}{question}{}", &rest[..at], left.join("&")), ours)
}

/// `key=value key = 'quoted \'value\''`.
fn take_from_words(text: &str) -> Option<(String, Ours)> {
    let mut ours = Ours::default();
    let mut left = String::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = word(after.trim_start())?;
        if let Taken::Left = ours.take(name.trim_end(), &value) {
            let quoted = value.replace('\\', "\\\\").replace('\'', "\\'");
            left.push_str(&format!("{}='{quoted}' ", name.trim_end()));
        }
        rest = after.trim_start();
    }
    Some((left, ours))
}

/// The value that a text begins with, and what comes after it; `None` where its quote stays open.
fn word(text: &str) -> Option<(String, &str)> {
    let quoted = text.strip_prefix('\'');
    let text = quoted.unwrap_or(text);
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' if quoted.is_some() => return Some((value, &text[at + 1..])),
            c if quoted.is_none() && c.is_whitespace() => return Some((value, &text[at..])),
            c => value.push(c),
        }
    }
    quoted.is_none().then_some((value, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, ca: Option<&str>) -> Address {
        Address::parse(text, ca.map(Path::new)).unwrap_or_else(|reason| panic!("{text} {reason}"))
    }

    #[test]
    fn sslmode_is_read_as_libpq_does() {
        for (mode, ca, expected) in [
            ("disable", None, (SslMode::Disable, None)),
            ("disable", Some("/ca.pem"), (SslMode::Disable, None)),
            ("allow", None, (SslMode::Prefer, Some(Check::Nothing))),
            ("prefer", None, (SslMode::Prefer, Some(Check::Nothing))),
            ("prefer", Some("/ca.pem"), (SslMode::Prefer, Some(Check::Chain))),
            ("require", None, (SslMode::Require, Some(Check::Nothing))),
            ("require", Some("/ca.pem"), (SslMode::Require, Some(Check::Chain))),
            ("verify-ca", None, (SslMode::Require, Some(Check::Chain))),
            ("verify-full", None, (SslMode::Require, Some(Check::Full))),
        ] {
            for text in [
                format!("postgresql://u:p@h:5433/d?sslmode={mode}&application_name=x"),
                format!("postgresql://u:p@h:5433/d?target_session_attrs=standby&sslmode={mode}"),
                format!("host=h port=5433 user=u sslmode='{mode}' dbname=d"),
            ] {
                let address = parse(&text, ca);
                assert_eq!((address.config.get_ssl_mode(), address.tls), expected, "{text} {ca:?}");
                let place = Place::Tcp { host: "h".into(), address: "h".into(), port: 5433 };
                assert_eq!((address.place, address.ca_file.as_deref()), (place, ca.map(Path::new)));
            }
        }
        assert_eq!(parse("postgresql://u@h/d", None).tls, Some(Check::Nothing), "prefer, as with libpq");
        for text in ["postgresql://u@%2Ftmp/d?sslmode=require", "postgresql:///d?host=/tmp&sslmode=verify-full"] {
            let address = parse(text, None);
            assert_eq!(
                (address.config.get_ssl_mode(), address.tls),
                (SslMode::Disable, None),
                "not over a Unix socket"
            );
            assert_eq!(address.place, Place::Unix("/tmp/.s.PGSQL.5432".into()));
        }
    }

    #[test]
    fn the_authorities_are_those_of_ca_file_else_of_sslrootcert() {
        let file = |text: &str, ca| parse(text, ca).ca_file;
        let url = "postgres://u@h/d?sslrootcert=%2Fca+x.pem";
        assert_eq!(file(url, None), Some("/ca+x.pem".into()));
        assert_eq!(file(url, Some("/own.pem")), Some("/own.pem".into()));
        assert_eq!(parse(url, None).tls, Some(Check::Chain));
        assert_eq!(file("host=h sslrootcert='/a b.pem'", None), Some("/a b.pem".into()));
        let system = parse("postgres://u@h/d?sslrootcert=system", None);
        assert_eq!((system.tls, system.ca_file), (Some(Check::Full), None));
        assert!(Address::parse("postgres://u@h/d?sslrootcert=system&sslmode=require", None).is_err());
        assert_eq!(
            file("postgres://u@h/d?sslrootcert=system&sslmode=require", Some("/own.pem")),
            Some("/own.pem".into())
        );
    }

    #[test]
    fn a_name_is_checked_where_a_literal_address_is_dialled() {
        for (text, host) in [
            ("postgresql://u@db.example:5433/d?hostaddr=192.0.2.1", "db.example"),
            ("host=db.example hostaddr=192.0.2.1 port=5433", "db.example"),
            ("hostaddr=192.0.2.1 port=5433", "192.0.2.1"),
        ] {
            let address = parse(text, None);
            let place = Place::Tcp { host: host.into(), address: "192.0.2.1".into(), port: 5433 };
            assert_eq!(address.place, place, "{text}");
            assert_eq!(address.config.get_hosts(), [Host::Tcp(host.into())], "{text}");
        }
    }

    #[test]
    fn a_password_may_hold_what_is_special_elsewhere() {
        for (text, password) in [
            ("postgresql://u:a?b@h/d?sslmode=verify-full", "a?b"),
            ("postgresql://u:a?b/c@h/d?sslmode=verify-full", "a?b/c"),
            ("postgresql://u:a%40b@h?application_name=x@y&sslmode=verify-full", "a@b"),
            (r"host=h user=u password='a sslmode=disable \' \\' sslmode = verify-full", r"a sslmode=disable ' \"),
        ] {
            let address = parse(text, None);
            assert_eq!(address.config.get_password(), Some(password.as_bytes()), "{text}");
            assert_eq!((address.config.get_user(), address.tls), (Some("u"), Some(Check::Full)), "{text}");
        }
        let address = parse("postgresql://h/d?application_name=x@y&sslmode=require", None);
        assert_eq!((address.config.get_user(), address.config.get_application_name()), (None, Some("x@y")));
    }

    #[test]
    fn what_is_wrong_is_named_without_the_text() {
        for text in [
            "postgres://u:hunter2@h:port/d",
            "postgres://u:hunter2@h/d?hunter2=1",
            "postgres://u:hunter2@a,b/d",
            "postgres://u:hunter2@a/d?host=b",
            "postgres://u:hunter2@a/d?hostaddr=192.0.2.1,192.0.2.2",
            "host=a,b password=hunter2",
            "host=a port=1,2 password=hunter2",
            "host=a password='hunter2",
            "password=hunter2",
            "postgres://u@a/d?sslmode=hunter2",
            "hunter2",
            "",
        ] {
            let reason = Address::parse(text, None).err().unwrap_or_else(|| panic!("{text} was taken"));
            assert!(!reason.contains("hunter2"));
        }
    }
}
