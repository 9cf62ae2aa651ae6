//! One stream that waits between the attempts of a probe, at the cost of a stream: no task, no
//! buffer.
//!
//! A kept connection hides a dead listener, so it serves a bounded number of attempts. While it
//! waits its socket is watched: when the server cuts it, the runner is nudged to look at once instead
//! of at the next interval. That is no bad look by itself (a reload closes connections too): it
//! makes the next look come sooner, over a fresh connection. What is kept with a task of its own
//! (a driver that moves bytes) is in [`super::kept`].

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::runner::Nudge;

/// What lies on a socket.
pub(super) trait OnSocket {
    /// The socket.
    fn socket(&self) -> &TcpStream;
    /// May the server send something unasked that is no answer (a session ticket of TLS)?
    fn may_speak_unasked(&self) -> bool;
}

/// The place where a stream waits. Attempts that overlap open their own.
pub(super) struct Parked<S> {
    stream: Mutex<Option<S>>,
    watch: Arc<Watch>,
}

struct Watch {
    nudge: Option<Nudge>,
    /// Something waits here now.
    armed: AtomicBool,
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.armed.swap(false, Ordering::SeqCst)
            && let Some(nudge) = &self.nudge
        {
            nudge.now();
        }
    }
}

impl<S: OnSocket> Parked<S> {
    /// Nothing waits yet.
    pub(super) fn new(nudge: Option<Nudge>) -> Self {
        Self { stream: Mutex::new(None), watch: Arc::new(Watch { nudge, armed: AtomicBool::new(false) }) }
    }

    /// The stream that waits, where it still stands.
    pub(super) fn take(&self) -> Option<S> {
        self.watch.armed.store(false, Ordering::SeqCst);
        let stream = self.lock().take()?;
        stands(&stream, Waker::noop()).then_some(stream)
    }

    /// Lets a stream wait that has just served an attempt well.
    pub(super) fn park(&self, stream: S) {
        // Armed first: it may be cut while it is looked at.
        self.watch.armed.store(true, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&self.watch));
        if stands(&stream, &waker) {
            *self.lock() = Some(stream);
        } else {
            waker.wake_by_ref();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<S>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has it been neither cut nor spoken on? `waker` is woken when that changes.
fn stands<S: OnSocket>(stream: &S, waker: &Waker) -> bool {
    let mut byte = [0];
    let mut byte = ReadBuf::new(&mut byte);
    match stream.socket().poll_peek(&mut Context::from_waker(waker), &mut byte) {
        Poll::Pending => true,
        Poll::Ready(Ok(length)) => length > 0 && stream.may_speak_unasked(),
        Poll::Ready(Err(_)) => false,
    }
}
