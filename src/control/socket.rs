//! Taking the path of the Unix socket, and giving it back.
//!
//! The socket's mode is 0666: who may connect is not the question, since the kernel tells who
//! calls and each request is checked against the lists of `[control]`. A narrower mode would need
//! one group that everybody in those lists is in, and would turn a clear "you are in no list" into
//! a bare "permission denied". Whoever wants the file mode as a second wall puts the socket into a
//! directory that only one group may enter.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net as std_net;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, Mode, OFlags};
use tokio::net::UnixListener;

/// Why the socket could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A live process answers on it.
    #[error(
        "{path} is in use by {holder}: a failoverd runs there already; look with `failoverd status`, or give this one \
         another `daemon.socket`"
    )]
    InUse {
        /// The socket.
        path: PathBuf,
        /// Who, as far as the kernel tells.
        holder: String,
    },
    /// Something that is not a socket is there.
    #[error("{path} is {what}, not a socket, and is left alone: move it away, or give `daemon.socket` another path")]
    NotASocket {
        /// The path.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// The directory does not exist.
    #[error(
        "the directory {parent} of the socket does not exist: create it (`install -d -m 0755 {parent}`), or let \
         systemd do it with `RuntimeDirectory=failoverd`"
    )]
    NoParent {
        /// The directory.
        parent: PathBuf,
    },
    /// The kernel takes paths of 107 bytes at most.
    #[error("{path} is {length} bytes long, and a socket's path may have 107: choose a shorter `daemon.socket`")]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// Anything else.
    #[error("cannot {doing} the socket {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The path while it is ours. Dropping it removes the socket, unless it is another one by then.
#[derive(Debug)]
pub struct SocketPath {
    path: PathBuf,
    identity: (u64, u64),
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        // A successor may have bound the path already; its socket is not ours to remove.
        if identity(&self.path).is_ok_and(|there| there == self.identity) {
            let _gone = fs::remove_file(&self.path);
        }
    }
}

/// Binds the socket.
///
/// A socket that nobody answers on was left by a process that was killed, and is replaced.
///
/// # Errors
/// [`SocketError`], which says what to do.
pub fn bind(path: &Path) -> Result<(UnixListener, SocketPath), SocketError> {
    let io = |doing: &'static str| move |source: io::Error| SocketError::Io { doing, path: path.into(), source };
    let length = path.as_os_str().len();
    if length > 107 {
        return Err(SocketError::TooLong { path: path.into(), length });
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(SocketError::NoParent { parent: parent.into() });
    }
    let _lock = lock(parent);
    clear(path)?;
    let listener = std_net::UnixListener::bind(path).map_err(io("bind"))?;
    let identity = identity(path).map_err(io("look at"))?;
    let ours = SocketPath { path: path.into(), identity };
    fs::set_permissions(path, fs::Permissions::from_mode(0o666)).map_err(io("open up"))?;
    listener.set_nonblocking(true).map_err(io("set up"))?;
    Ok((UnixListener::from_std(listener).map_err(io("listen on"))?, ours))
}

/// Removes what a dead process left; refuses what is alive or is no socket.
fn clear(path: &Path) -> Result<(), SocketError> {
    let io = |doing: &'static str| move |source: io::Error| SocketError::Io { doing, path: path.into(), source };
    let kind = match fs::symlink_metadata(path) {
        Ok(meta) => meta.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io("look at")(error)),
    };
    if !kind.is_socket() {
        let what = if kind.is_dir() {
            "a directory"
        } else if kind.is_symlink() {
            "a symbolic link"
        } else {
            "a file"
        };
        return Err(SocketError::NotASocket { path: path.into(), what });
    }
    match connect(path) {
        Ok(holder) => Err(SocketError::InUse { path: path.into(), holder }),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "removing the socket that an earlier process left");
            fs::remove_file(path).map_err(io("remove"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Its queue is full: somebody holds it, and is busy.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(SocketError::InUse { path: path.into(), holder: "a busy process".into() })
        }
        Err(error) => Err(io("connect to")(error)),
    }
}

/// Connects without waiting, and tells who answers.
fn connect(path: &Path) -> io::Result<String> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    let pid = rustix::net::sockopt::socket_peercred(&socket)?.pid.as_raw_nonzero();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Ok(if name.trim().is_empty() { format!("process {pid}") } else { format!("process {pid} ({})", name.trim()) })
}

/// Holds off another daemon that starts at the same moment: both would find the socket dead, and
/// the slower one would remove the faster one's. Where the lock cannot be had within two seconds
/// we go on: the journal's own lock already keeps two daemons apart.
fn lock(parent: &Path) -> Option<impl Sized + use<>> {
    let directory =
        rustix::fs::open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    for _ in 0..40 {
        if rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Some(directory);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let meta = fs::symlink_metadata(path)?;
    Ok((meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("control.sock");
        (dir, path)
    }

    #[tokio::test]
    async fn binds_opens_it_to_all_and_removes_it() {
        let (_dir, path) = place();
        let (listener, ours) = bind(&path).expect("free");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o666);
        drop((listener, ours));
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_live_one_is_refused_and_its_holder_named() {
        let (_dir, path) = place();
        let _held = bind(&path).expect("free");
        let error = bind(&path).expect_err("held").to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_dead_one_is_replaced() {
        let (_dir, path) = place();
        drop(std_net::UnixListener::bind(&path).expect("free"));
        assert!(path.exists(), "the standard library leaves the file, as a killed process does");
        let _ours = bind(&path).expect("dead");
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let (dir, path) = place();
        fs::write(&path, "precious").expect("written");
        let error = bind(&path).expect_err("a file").to_string();
        assert!(error.contains("is a file, not a socket"), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("there"), "precious");
        let link = dir.path().join("link.sock");
        std::os::unix::fs::symlink(&path, &link).expect("linked");
        assert!(bind(&link).expect_err("a link").to_string().contains("symbolic link"));
    }

    #[tokio::test]
    async fn says_what_to_do_about_a_missing_directory_and_a_long_path() {
        let (dir, _) = place();
        let error = bind(&dir.path().join("no/such.sock")).expect_err("missing").to_string();
        assert!(error.contains("RuntimeDirectory=failoverd"), "{error}");
        let error = bind(&dir.path().join("x".repeat(120))).expect_err("long").to_string();
        assert!(error.contains("107"), "{error}");
    }

    #[tokio::test]
    async fn a_successors_socket_is_not_removed() {
        let (_dir, path) = place();
        let (_listener, ours) = bind(&path).expect("free");
        fs::remove_file(&path).expect("removed");
        // The old inode lives on in the listener, so the successor's number differs.
        let _successor = std_net::UnixListener::bind(&path).expect("free");
        drop(ours);
        assert!(path.exists());
    }
}
