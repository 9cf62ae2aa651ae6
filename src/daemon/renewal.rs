//! Certificates that are renewed while they are in use.
//!
//! Whoever puts new ones in the place of the old (cert-manager, a timer) seldom tells the daemon too. Without a look
//! at the files those in use run out while those on disk are well, and no vantage is heard any more.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::looping::Loop;
use crate::config::fault::Level;
use crate::config::load::Loaded;
use crate::config::shape::File;
use crate::config::trust::{self, Matter};

/// The files are read this often.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// Files that are read again and again, and what each is for us.
type Files = Vec<(PathBuf, Matter)>;

/// Reads the files of `[vantage_tls]` again and again.
pub(super) struct Renewals {
    /// The configuration that holds.
    file: File,
    files: watch::Sender<Files>,
}

impl Renewals {
    /// Begins to look. What comes through the channel is to be answered.
    pub(super) fn start(file: &File, user: Option<u32>, stop: &CancellationToken) -> (Self, mpsc::Receiver<Renewal>) {
        let (wanted, renewals) = mpsc::channel(1);
        let (files, of_now) = watch::channel(of_vantage(file));
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = keep_looking(of_now, user, EVERY, wanted) => {}
            }
        });
        (Self { file: file.clone(), files }, renewals)
    }

    /// Another configuration holds from now on.
    pub(super) fn replace(&mut self, file: &File) {
        self.file = file.clone();
        self.files.send_replace(of_vantage(file));
    }

    /// The configuration that holds.
    pub(super) fn file(&self) -> &File {
        &self.file
    }
}

fn of_vantage(file: &File) -> Files {
    let all = file.vantage_tls.iter().flat_map(|tls| {
        [
            (tls.ca_file.clone(), Matter::Decision),
            (tls.certificate_file.clone(), Matter::Decision),
            (tls.key_file.clone(), Matter::Secret),
        ]
    });
    all.collect()
}

/// What was read. Holds a key: never shown.
#[derive(PartialEq)]
struct Look {
    texts: Vec<Option<Vec<u8>>>,
    /// Why it is not to be used: others may write it.
    refused: Vec<String>,
}

impl Look {
    fn at(files: &Files, user: Option<u32>) -> Self {
        let found = files.iter().flat_map(|(path, matter)| trust::look(path, *matter, user));
        let refused = found.filter(|found| found.level == Level::Error);
        Self {
            texts: files.iter().map(|(path, _)| std::fs::read(path).ok()).collect(),
            refused: refused
                .map(|found| format!("{}: {}; {}", found.path.display(), found.message, found.fix))
                .collect(),
        }
    }
}

/// Wants the files to be used, and to hear what came of it: whether they are other ones than before, or why they
/// cannot be used.
pub(super) type Renewal = oneshot::Sender<Result<bool, String>>;

/// Asks for the files to be used whenever they may be other ones than those in use, until nobody hears it any more.
pub(super) async fn keep_looking(
    mut files: watch::Receiver<Files>,
    user: Option<u32>,
    every: Duration,
    wanted: mpsc::Sender<Renewal>,
) {
    let (mut known, mut is_used) = (None, false);
    loop {
        let of_now = files.borrow_and_update().clone();
        if !of_now.is_empty()
            && let Ok(look) = tokio::task::spawn_blocking(move || Look::at(&of_now, user)).await
        {
            let is_new = known.as_ref() != Some(&look);
            // One that is not valid yet will be, without another change of the file.
            if is_new || !is_used {
                let Some(came) = want(&look, &wanted).await else { return };
                is_used = came.is_ok();
                match came {
                    Ok(true) => tracing::info!("the certificates were renewed: the new ones are used from now on"),
                    Ok(false) => {}
                    Err(why) if is_new => {
                        tracing::warn!("certificates on disk are not used, the former ones hold: {why}");
                    }
                    Err(_) => {}
                }
                known = Some(look);
            }
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            // They are taken by the reload itself: what was known before says nothing of them.
            Ok(()) = files.changed() => known = None,
        }
    }
}

/// What came of it; `None` where nobody hears it.
async fn want(look: &Look, wanted: &mpsc::Sender<Renewal>) -> Option<Result<bool, String>> {
    if !look.refused.is_empty() {
        return Some(Err(look.refused.join("; ")));
    }
    let (answer, came) = oneshot::channel();
    wanted.send(answer).await.ok()?;
    came.await.ok()
}

impl Loop {
    /// Asks the other vantages, and is asked by them, as the configuration says now; `false` where one of both stays
    /// as it was.
    pub(super) fn reload_vantages(&mut self, loaded: &Loaded) -> bool {
        let asked = self.witnesses.reload(&loaded.file, &loaded.settings);
        if let Err(error) = &asked {
            tracing::error!("the witnesses are asked as before: {error}");
        }
        let name = &loaded.settings.name;
        let told = self.members.as_mut().map_or(Ok(false), |members| members.reload(&loaded.file, name));
        if let Err(error) = &told {
            tracing::error!("the others are told our votes under the former certificate: {error}");
        }
        self.renewals.replace(&loaded.file);
        asked.is_ok() && told.is_ok()
    }

    /// Takes the certificates that are on disk now, where they are other ones than before.
    pub(super) fn renew(&mut self, renewal: Renewal) {
        let (file, settings) = (self.renewals.file(), self.brain.settings());
        let asked = self.witnesses.renew(file, settings);
        let told = self.members.as_mut().map_or(Ok(false), |members| members.reload(file, &settings.name));
        // Who looks at the files ends with the daemon.
        drop(renewal.send(asked.and_then(|asked| told.map(|told| asked || told))));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use tokio::time::timeout;

    use super::*;

    const OFTEN: Duration = Duration::from_millis(20);
    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_change_is_told_until_it_is_used_and_what_others_may_write_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str| std::fs::write(file(name), text).expect("written");
        let mode = |name: &str, mode: u32| {
            std::fs::set_permissions(file(name), std::fs::Permissions::from_mode(mode)).expect("set");
        };
        let all = ["ca.pem", "own.pem", "own.key"];
        all.iter().for_each(|name| write(name, "one"));
        all.iter().for_each(|name| mode(name, 0o600));
        let files = all.map(|name| (file(name), Matter::Decision)).to_vec();
        let (configured, of_now) = watch::channel(Vec::new());
        let (wanted, mut renewals) = mpsc::channel(1);
        tokio::spawn(keep_looking(of_now, None, OFTEN, wanted));
        let mut wants = async |within| timeout(within, renewals.recv()).await.ok().flatten();
        assert!(wants(OFTEN * 3).await.is_none(), "there are none");
        configured.send_replace(files);
        let renewal: Renewal = wants(SOON).await.expect("nothing is known of those in use");
        renewal.send(Ok(false)).expect("heard");
        for name in all {
            assert!(wants(OFTEN * 3).await.is_none(), "nothing has changed");
            write(name, "another");
            let renewal = wants(SOON).await.unwrap_or_else(|| panic!("{name} has changed"));
            renewal.send(Err("it is not valid yet".to_owned())).expect("heard");
            let renewal = wants(SOON).await.unwrap_or_else(|| panic!("{name} was not used"));
            renewal.send(Ok(true)).expect("heard");
        }
        mode("own.pem", 0o666);
        write("own.pem", "a stranger's");
        assert!(wants(OFTEN * 3).await.is_none(), "anybody may have written it");
        mode("own.pem", 0o600);
        assert!(wants(SOON).await.is_some(), "it is ours again");
    }
}
