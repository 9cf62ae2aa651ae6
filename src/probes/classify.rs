//! Whose fault is it? From an error to a cause.
//!
//! One rule: `Down` only where the target, its name or the way to it failed; `Unknown` where we
//! could not look. The errno values are those of connect(2), socket(7) and ip(7).
//!
//! Two of them need a word:
//! - `EHOSTUNREACH` is Down: ARP to a neighbour failed, or a router said (ICMP) that the host is
//!   unreachable. Where our own gateway is gone every target says so, and the anchors tell.
//! - `ENETUNREACH` and `ENETDOWN` are Unknown: mostly our own routing table has no route. A router
//!   far away can say so too; `dial` asks our routing table which of the two it was, and makes it
//!   Down where we do have a route.

use std::error::Error;
use std::io;

use h2::Reason;
use rustix::io::Errno;

use crate::model::{CauseKind, Observation};

/// Why an attempt did not see Up, and on whose side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// On our side: we could not look.
    pub ours: bool,
    /// The kind.
    pub kind: CauseKind,
    /// For people; never a secret, so never a URL.
    pub detail: String,
}

impl Fault {
    /// The target's.
    pub fn theirs(kind: CauseKind, detail: impl Into<String>) -> Self {
        Self { ours: false, kind, detail: detail.into() }
    }

    /// Our own.
    pub fn ours(kind: CauseKind, detail: impl Into<String>) -> Self {
        Self { ours: true, kind, detail: detail.into() }
    }

    /// True where a connection that stood was cut: on a kept connection this says nothing yet
    /// about the server, which may have restarted since.
    pub fn is_cut(&self) -> bool {
        self.kind == CauseKind::ConnectionReset
    }

    /// True where the network said that there is no way.
    pub fn is_no_network(&self) -> bool {
        self.ours && self.kind == CauseKind::Unreachable
    }
}

impl From<Fault> for Observation {
    fn from(fault: Fault) -> Self {
        if fault.ours {
            // `Unreachable` is a cause of Down only; on our side it is a lack of a route.
            let kind = if fault.is_no_network() { CauseKind::LocalResource } else { fault.kind };
            Self::unknown(kind, fault.detail)
        } else {
            Self::down(fault.kind, fault.detail)
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.kind, self.detail)
    }
}

/// What an operating-system error means.
pub fn io_fault(error: &io::Error) -> Fault {
    // A custom error carries the real one inside (rustls does so).
    if let Some(inner) = error.get_ref()
        && let Some(fault) = find(inner)
    {
        return fault;
    }
    let detail = || error.to_string();
    if let Some(errno) = Errno::from_io_error(error) {
        match errno {
            Errno::MFILE
            | Errno::NFILE
            | Errno::NOBUFS
            | Errno::NOMEM
            | Errno::ADDRNOTAVAIL
            | Errno::ADDRINUSE
            | Errno::ACCESS
            | Errno::PERM
            | Errno::AFNOSUPPORT
            | Errno::AGAIN => return Fault::ours(CauseKind::LocalResource, detail()),
            // Marked as ours and unreachable, so that `dial` can look whose network it is.
            Errno::NETUNREACH | Errno::NETDOWN => return Fault::ours(CauseKind::Unreachable, detail()),
            Errno::HOSTUNREACH | Errno::HOSTDOWN => return Fault::theirs(CauseKind::Unreachable, detail()),
            _ => {}
        }
    }
    match error.kind() {
        // NotFound: a Unix socket that nobody made.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            Fault::theirs(CauseKind::ConnectionRefused, detail())
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::NotConnected
        | io::ErrorKind::UnexpectedEof => Fault::theirs(CauseKind::ConnectionReset, detail()),
        io::ErrorKind::TimedOut => Fault::theirs(CauseKind::Timeout, detail()),
        io::ErrorKind::HostUnreachable => Fault::theirs(CauseKind::Unreachable, detail()),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::NetworkDown => Fault::ours(CauseKind::Unreachable, detail()),
        io::ErrorKind::PermissionDenied
        | io::ErrorKind::AddrNotAvailable
        | io::ErrorKind::AddrInUse
        | io::ErrorKind::OutOfMemory => Fault::ours(CauseKind::LocalResource, detail()),
        _ => Fault::theirs(CauseKind::Protocol, detail()),
    }
}

/// The fault of a failed TLS handshake: the certificate, the protocol, or the connection below it.
pub fn tls_fault(error: &rustls::Error) -> Fault {
    Fault::theirs(CauseKind::Tls, error.to_string())
}

/// Walks an error and its sources down to one that tells whose fault it is.
pub fn find(error: &(dyn Error + 'static)) -> Option<Fault> {
    let mut next = Some(error);
    // A chain of errors is short; a loop in a foreign `source()` must not hold us.
    for _ in 0..16 {
        let error = next?;
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(tls_fault(error));
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(io_fault(error));
        }
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return Some(h2_fault(error));
        }
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            // Above an I/O error hyper only says where it happened; alone it says what.
            if error.source().and_then(find).is_none() {
                return Some(hyper_fault(error));
            }
        }
        next = error.source();
    }
    None
}

fn hyper_fault(error: &hyper::Error) -> Fault {
    let kind = if error.is_parse() {
        CauseKind::Protocol
    } else if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        CauseKind::ConnectionReset
    } else if error.is_timeout() {
        CauseKind::Timeout
    } else {
        CauseKind::Protocol
    };
    Fault::theirs(kind, error.to_string())
}

fn h2_fault(error: &h2::Error) -> Fault {
    if let Some(error) = error.get_io() {
        return io_fault(error);
    }
    // What a server says that goes away, or has no room now, and not what it says of a broken peer.
    let gone = [Reason::NO_ERROR, Reason::CANCEL, Reason::REFUSED_STREAM];
    let kind = match error.reason() {
        Some(reason) if error.is_remote() && gone.contains(&reason) => CauseKind::ConnectionReset,
        _ => CauseKind::Protocol,
    };
    Fault::theirs(kind, error.to_string())
}

/// [`find`], or a protocol fault with the given words where nothing in the chain is known.
pub fn find_or(error: &(dyn Error + 'static), detail: impl Into<String>) -> Fault {
    find(error).unwrap_or_else(|| Fault::theirs(CauseKind::Protocol, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(errno: Errno) -> Observation {
        io_fault(&io::Error::from_raw_os_error(errno.raw_os_error())).into()
    }

    #[test]
    fn errors_of_the_target_are_down() {
        for (errno, kind) in [
            (Errno::CONNREFUSED, CauseKind::ConnectionRefused),
            (Errno::CONNRESET, CauseKind::ConnectionReset),
            (Errno::PIPE, CauseKind::ConnectionReset),
            (Errno::HOSTUNREACH, CauseKind::Unreachable),
            (Errno::TIMEDOUT, CauseKind::Timeout),
        ] {
            assert!(matches!(os(errno), Observation::Down { cause, .. } if cause.kind == kind), "{errno:?}");
        }
    }

    #[test]
    fn our_own_lack_is_unknown() {
        for errno in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::ADDRNOTAVAIL,
            Errno::ACCESS,
            Errno::PERM,
            Errno::NETUNREACH,
            Errno::NETDOWN,
        ] {
            assert!(
                matches!(os(errno), Observation::Unknown { cause } if cause.kind == CauseKind::LocalResource),
                "{errno:?}"
            );
        }
    }

    #[test]
    fn the_chain_is_walked_through_wrapped_errors() {
        let tls = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        assert_eq!(io_fault(&tls).kind, CauseKind::Tls);
        let outer = io::Error::other(io::Error::other(rustls::Error::DecryptError));
        assert_eq!(find(&outer).map(|fault| fault.kind), Some(CauseKind::Tls));
        assert_eq!(find(&std::fmt::Error), None);
    }
}
