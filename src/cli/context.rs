//! What the verbs that talk to the daemon share.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use super::args::{DEFAULT_CONFIG, Global};
use super::exit::{Exit, Failure};
use super::render::Style;
use crate::config::{self, LoadOptions};
use crate::control::Client;
use crate::model::WallTime;

/// Where the socket is when nobody says anything.
const DEFAULT_SOCKET: &str = "/run/failoverd/failoverd.sock";

/// A configuration that is longer is none.
const LONGEST_CONFIG: u64 = 4 * 1024 * 1024;

/// What the verbs that talk to the daemon share.
pub struct Context {
    /// The daemon.
    pub client: Client,
    /// Print JSON?
    pub json: bool,
    /// How text is dressed.
    pub style: Style,
}

impl Context {
    /// Finds the socket and makes a client for it. Nothing is connected yet.
    ///
    /// # Errors
    /// [`Failure`] where the client cannot be made.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let client = Client::new(&socket(global))?;
        Ok(Self { client, json: global.json, style: Style::detect() })
    }
}

/// The configuration's path.
pub fn config_path(global: &Global) -> PathBuf {
    global.config.clone().unwrap_or_else(|| DEFAULT_CONFIG.into())
}

/// Where the journal is, as the configuration says; nothing that it names is looked at.
///
/// # Errors
/// [`Failure`]: the configuration is wrong.
pub fn state_path(options: &LoadOptions) -> Result<PathBuf, Failure> {
    let loaded =
        config::load(options).map_err(|faults| Failure::new(Exit::Usage, "configuration", faults.render(false)))?;
    Ok(loaded.file.local_state().unwrap_or_else(|| loaded.file.daemon.state.as_str().into()))
}

/// The socket: as told, or as the configuration says, or the usual one. The configuration is not
/// checked for this, and need not even be whole: a typo in it must not keep anybody from `abort`.
fn socket(global: &Global) -> PathBuf {
    let told = global.socket.clone();
    let layered = || std::env::var_os("FAILOVERD__DAEMON__SOCKET").filter(|path| !path.is_empty()).map(PathBuf::from);
    told.or_else(layered).or_else(|| configured_socket(&config_path(global))).unwrap_or_else(|| DEFAULT_SOCKET.into())
}

/// What the file, or a later one in `conf.d` beside it, says.
fn configured_socket(config: &Path) -> Option<PathBuf> {
    let beside = config.parent().and_then(|parent| std::fs::read_dir(parent.join("conf.d")).ok());
    let mut later: Vec<PathBuf> = beside
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    later.sort();
    later.iter().rev().map(PathBuf::as_path).chain([config]).find_map(socket_in)
}

fn socket_in(file: &Path) -> Option<PathBuf> {
    let mut text = String::new();
    std::fs::File::open(file).ok()?.take(LONGEST_CONFIG).read_to_string(&mut text).ok()?;
    let (table, _faults) = toml::de::DeTable::parse_recoverable(&text);
    Some(table.get_ref().get("daemon")?.get_ref().get("socket")?.get_ref().as_str()?.into())
}

/// The wall clock.
pub fn now() -> WallTime {
    WallTime(jiff::Timestamp::now().as_millisecond())
}

/// Asks on the terminal. The question goes to standard error, so that the output stays clean.
///
/// # Errors
/// [`Failure`] where nobody can answer: then the verb wants `--yes`.
pub fn confirm(question: &str) -> Result<(), Failure> {
    if !std::io::stdin().is_terminal() || !std::io::stderr().is_terminal() {
        return Err(Failure::usage("there is no terminal to ask on: say --yes if it is meant"));
    }
    let unread = |error: std::io::Error| Failure::new(Exit::Failed, "input", format!("cannot ask: {error}"));
    write!(std::io::stderr(), "{question} [y/N] ").map_err(unread)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(unread)?;
    if matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, "declined", "nothing was done"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_socket_even_in_a_broken_configuration() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("failoverd.toml");
        for (text, expected) in [
            ("[daemon]\nsocket = \"/run/a.sock\"\n", Some("/run/a.sock")),
            ("[daemon]\nsocket = \"/run/a.sock\"\n[probes.x]\nhttp = {{{\n", Some("/run/a.sock")),
            ("[daemon]\nname = \"x\"\n", None),
            ("daemon = 5\n", None),
            ("", None),
        ] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(configured_socket(&path), expected.map(PathBuf::from), "{text}");
        }
        assert_eq!(configured_socket(&dir.path().join("none")), None);
        assert_eq!(configured_socket(dir.path()), None, "a directory");
        std::fs::create_dir(dir.path().join("conf.d")).expect("made");
        std::fs::write(dir.path().join("conf.d/10.toml"), "daemon.socket = \"/run/b.sock\"").expect("written");
        std::fs::write(dir.path().join("conf.d/20.toml"), "daemon.name = \"x\"").expect("written");
        assert_eq!(configured_socket(&path), Some("/run/b.sock".into()), "a later layer wins");
    }

    #[test]
    fn what_is_told_goes_first() {
        let global = Global { config: None, socket: Some("/x.sock".into()), json: false };
        assert_eq!(socket(&global), PathBuf::from("/x.sock"));
        assert_eq!(config_path(&global), PathBuf::from(DEFAULT_CONFIG));
    }
}
