//! The last words of a daemon that cannot write its state: straight to every route, since the outbox
//! is on the same disk.
//!
//! A supervisor starts it again every few seconds, and each life would page anew for the same reason.
//! So what was said is noted beside the socket, on a memory file system that outlives the process but
//! not the machine, and is said again only after a while, or when it is something else.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::notices::Route;
use crate::model::{Importance, Notice, NoticeKind, RunId, WallTime};

/// The same is said again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(15 * 60);
/// So long a route has to take it.
const ATTEMPT: Duration = Duration::from_secs(5);

/// Says last words, and remembers them.
pub(super) struct LastWords {
    noted: PathBuf,
}

impl LastWords {
    /// Notes what was said beside this socket.
    pub(super) fn beside(socket: &Path) -> Self {
        Self { noted: socket.with_extension("last-words") }
    }

    /// A page that says what the daemon does no more, and why.
    pub(super) fn of(
        daemon: &str,
        does: &str,
        why: &dyn std::fmt::Display,
        at: WallTime,
        run: Option<RunId>,
    ) -> Notice {
        Notice {
            kind: NoticeKind::Daemon,
            importance: Importance::Page,
            at,
            scenario: None,
            severity: None,
            incident: None,
            run,
            subject: format!("{daemon} {does}: {why}"),
            body: "Nothing is watched and nothing is carried out until it is started again.".into(),
            approval: None,
            routes: None,
            situation: None,
        }
    }

    /// To every route at once, and once; a failure is only logged, there is nobody left to try again.
    pub(super) async fn say(&self, routes: &[Route], notice: &Notice) {
        if self.said_lately(&notice.subject) {
            let minutes = AGAIN_AFTER.as_secs() / 60;
            tracing::error!("{} (people were told within the last {minutes} min)", notice.subject);
            return;
        }
        // Of the daemon itself nobody outside has to know.
        let each = routes.iter().filter(|route| !route.audience.is_public()).map(|route| async {
            let delivery = tokio::time::timeout(ATTEMPT, route.notifier.deliver(notice)).await;
            let taken = matches!(delivery, Ok(Ok(())));
            if !taken {
                tracing::error!(route = %route.name, "the last words could not be delivered");
            }
            taken
        });
        // What nobody took is said by the next life too.
        if futures::future::join_all(each).await.contains(&true)
            && let Err(error) = self.note(&notice.subject)
        {
            tracing::warn!(%error, path = %self.noted.display(), "cannot note the last words; the next life may say them again");
        }
    }

    /// Is it one of those that were said within the last while? A failing store does not fail with
    /// the same words each time.
    fn said_lately(&self, subject: &str) -> bool {
        let at = std::fs::metadata(&self.noted).and_then(|noted| noted.modified());
        at.is_ok_and(|at| at.elapsed().is_ok_and(|ago| ago < AGAIN_AFTER))
            && std::fs::read_to_string(&self.noted).is_ok_and(|said| said.lines().any(|line| line == one_line(subject)))
    }

    fn note(&self, subject: &str) -> std::io::Result<()> {
        let at = std::fs::metadata(&self.noted).and_then(|noted| noted.modified());
        let stale = at.is_ok_and(|at| at.elapsed().is_ok_and(|ago| ago >= AGAIN_AFTER));
        let said = if stale { String::new() } else { std::fs::read_to_string(&self.noted).unwrap_or_default() };
        std::fs::write(&self.noted, format!("{said}{}\n", one_line(subject)))
    }
}

fn one_line(subject: &str) -> String {
    subject.replace('\n', " ")
}
