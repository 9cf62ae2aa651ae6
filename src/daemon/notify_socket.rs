//! What the service manager is told: ready, reloading, stopping, alive (sd_notify(3)).
//!
//! Outside systemd every call does nothing. Nothing here runs by itself: the watchdog is fed by
//! the main loop's own heartbeat alone, so that a loop that stands still is not fed and the
//! service manager restarts the daemon.

use std::ffi::OsStr;
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, sendto, socket_with};
use sd_notify::NotifyState;

/// The line to the service manager. Not `Clone`: there is one main loop, and it owns this.
#[derive(Debug, Default)]
pub struct Systemd {
    line: Option<Line>,
    watchdog: Option<Duration>,
    /// A lost message is told once, not at every heartbeat.
    complained: AtomicBool,
}

#[derive(Debug)]
struct Line {
    socket: OwnedFd,
    /// Named in each message, not connected: the manager may make its socket anew.
    address: SocketAddrUnix,
}

impl Systemd {
    /// From `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. Without them, or with an address
    /// that cannot be used (which is logged), every call does nothing.
    pub fn from_env() -> Self {
        Self::new(std::env::var_os("NOTIFY_SOCKET").as_deref(), sd_notify::watchdog_enabled())
    }

    fn new(address: Option<&OsStr>, watchdog: Option<Duration>) -> Self {
        let line = address.filter(|address| !address.is_empty()).and_then(|address| {
            Line::open(address)
                .inspect_err(|error| {
                    tracing::warn!(?address, %error, "NOTIFY_SOCKET cannot be used: systemd will not learn that the daemon is ready");
                })
                .ok()
        });
        let watchdog = watchdog.filter(|every| line.is_some() && !every.is_zero());
        Self { line, watchdog, complained: AtomicBool::new(false) }
    }

    /// Is anybody listening?
    pub fn is_present(&self) -> bool {
        self.line.is_some()
    }

    /// Start-up, or a reload, is over.
    pub fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// One line for `systemctl status`.
    pub fn status(&self, text: &str) {
        self.tell(&[NotifyState::Status(&one_line(text))]);
    }

    /// A reload begins; [`Systemd::ready`] must follow, also where the new configuration was
    /// refused and the old one stays.
    pub fn reloading(&self) {
        // With `Type=notify-reload` the manager needs the time, to tell this reload from an
        // earlier one.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::warn!(%error, "the monotonic clock cannot be read"),
        }
    }

    /// The daemon is about to leave.
    pub fn stopping(&self, status: &str) {
        self.tell(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
    }

    /// Start-up or shutdown needs so much more time, counted from now; a long replay or a running
    /// step must not be taken for a hang.
    pub fn extend_timeout(&self, by: Duration) {
        let microseconds = u32::try_from(by.as_micros()).unwrap_or(u32::MAX);
        self.tell(&[NotifyState::ExtendTimeoutUsec(microseconds)]);
    }

    /// How often [`Systemd::feed`] has to be called: half of what the service manager allows.
    /// `None` where it does not watch.
    pub fn watchdog_interval(&self) -> Option<Duration> {
        self.watchdog.map(|allowed| allowed / 2)
    }

    /// The main loop is alive. To be called by that loop itself, never by a timer beside it: hence
    /// `&mut`, which only the loop has.
    pub fn feed(&mut self) {
        if self.watchdog.is_some() {
            self.tell(&[NotifyState::Watchdog]);
        }
    }

    fn tell(&self, what: &[NotifyState<'_>]) {
        let Some(line) = &self.line else { return };
        let message = what.iter().fold(String::new(), |mut message, state| {
            let _ = writeln!(message, "{state}");
            message
        });
        match line.send(message.as_bytes()) {
            Ok(()) => self.complained.store(false, Ordering::Relaxed),
            Err(error) if !self.complained.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "the service manager cannot be told");
            }
            Err(_) => {}
        }
    }
}

impl Line {
    fn open(address: &OsStr) -> Result<Self, Errno> {
        let address = match address.as_bytes() {
            [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
            [b'/', ..] => SocketAddrUnix::new(address)?,
            // `vsock:` is for virtual machines that tell their host.
            _ => return Err(Errno::AFNOSUPPORT),
        };
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        Ok(Self { socket, address })
    }

    /// Never waits: a service manager that does not read must not hold up the main loop.
    fn send(&self, message: &[u8]) -> Result<(), Errno> {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        loop {
            match sendto(&self.socket, message, flags, &self.address) {
                Err(Errno::INTR) => {}
                // A datagram is sent whole or not at all.
                other => return other.map(drop),
            }
        }
    }
}

/// A line break would begin another assignment, and a status may quote text from outside.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;

    fn heard(manager: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 4096];
        manager.set_nonblocking(true).unwrap();
        let length = manager.recv(&mut buffer).expect("nothing was said");
        String::from_utf8(buffer[..length].to_vec()).unwrap().lines().map(str::to_owned).collect()
    }

    fn silent(manager: &UnixDatagram) -> bool {
        manager.set_nonblocking(true).unwrap();
        manager.recv(&mut [0; 16]).is_err()
    }

    #[test]
    fn tells_the_manager_each_turn_of_its_life() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let mut systemd = Systemd::new(Some(path.as_os_str()), Some(Duration::from_secs(20)));
        assert!(systemd.is_present());
        systemd.ready("watching 7 probes");
        assert_eq!(heard(&manager), ["READY=1", "STATUS=watching 7 probes"]);
        systemd.status("incident INC-1\nSTOPPING=1");
        assert_eq!(heard(&manager), ["STATUS=incident INC-1 STOPPING=1"]);
        let before = rustix_monotonic();
        systemd.reloading();
        let said = heard(&manager);
        let at: i128 = said[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert_eq!(said[0], "RELOADING=1");
        assert!(before <= at && at <= rustix_monotonic(), "{before} {at}");
        systemd.stopping("leaving");
        assert_eq!(heard(&manager), ["STOPPING=1", "STATUS=leaving"]);
        systemd.extend_timeout(Duration::from_millis(1500));
        assert_eq!(heard(&manager), ["EXTEND_TIMEOUT_USEC=1500000"]);
        assert_eq!(systemd.watchdog_interval(), Some(Duration::from_secs(10)));
        systemd.feed();
        assert_eq!(heard(&manager), ["WATCHDOG=1"]);
    }

    fn rustix_monotonic() -> i128 {
        match NotifyState::monotonic_usec_now().unwrap() {
            NotifyState::MonotonicUsec(now) => now,
            _ => unreachable!(),
        }
    }

    #[test]
    fn a_socket_that_was_made_anew_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        drop(UnixDatagram::bind(&path).unwrap());
        let systemd = Systemd::new(Some(path.as_os_str()), None);
        systemd.status("nobody listens");
        std::fs::remove_file(&path).unwrap();
        let manager = UnixDatagram::bind(&path).unwrap();
        systemd.status("now");
        assert_eq!(heard(&manager), ["STATUS=now"]);
    }

    #[test]
    fn an_abstract_socket_is_found() {
        let name = format!("failoverd-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Systemd::new(Some(OsStr::new(&format!("@{name}"))), None).status("here");
        assert_eq!(heard(&manager), ["STATUS=here"]);
    }

    #[test]
    fn a_manager_that_does_not_read_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let _manager = UnixDatagram::bind(&path).unwrap();
        let mut systemd = Systemd::new(Some(path.as_os_str()), Some(Duration::from_secs(2)));
        let begin = std::time::Instant::now();
        (0..5000).for_each(|_| systemd.feed());
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }

    #[test]
    fn without_a_manager_nothing_happens() {
        for address in [None, Some(OsStr::new("")), Some(OsStr::new("vsock:2:1234")), Some(OsStr::new("relative"))] {
            let mut systemd = Systemd::new(address, Some(Duration::from_secs(2)));
            assert!(!systemd.is_present());
            assert_eq!(systemd.watchdog_interval(), None);
            systemd.ready("");
            systemd.feed();
        }
    }

    #[test]
    fn without_a_watchdog_nobody_is_fed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        for watchdog in [None, Some(Duration::ZERO)] {
            let mut systemd = Systemd::new(Some(path.as_os_str()), watchdog);
            assert_eq!(systemd.watchdog_interval(), None);
            systemd.feed();
            assert!(silent(&manager));
        }
    }
}
