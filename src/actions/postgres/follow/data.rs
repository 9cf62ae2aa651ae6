//! A data directory on this machine, and the process that it belongs to.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use crate::clients::Failure;

/// A data directory, and its names while a copy takes its place.
pub(super) struct Data {
    path: PathBuf,
}

/// What is at its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A data directory.
    Whole { owner: (u32, u32) },
    /// Nothing: the copy that is to take its place is ready, and the old one was put aside.
    Swapping { owner: (u32, u32) },
}

impl Place {
    /// The user and group that its server runs as: PostgreSQL takes no other.
    pub fn owner(self) -> (u32, u32) {
        match self {
            Self::Whole { owner } | Self::Swapping { owner } => owner,
        }
    }
}

/// Its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Process {
    /// It does not run.
    None,
    /// It runs, and was not started as a standby.
    Primary { pid: i32 },
    /// It runs, and was started as a standby.
    Standby { pid: i32 },
}

impl Data {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(end);
        path.into()
    }

    /// A copy in the making.
    fn new_path(&self) -> PathBuf {
        self.beside(".failoverd-new")
    }

    /// A copy that is whole.
    fn ready_path(&self) -> PathBuf {
        self.beside(".failoverd-ready")
    }

    /// What was put aside.
    fn old_path(&self) -> PathBuf {
        self.beside(".failoverd-old")
    }

    pub fn place(&self) -> Result<Place, Failure> {
        let shown = self.path.display();
        match fs::metadata(self.path.join("PG_VERSION")).and_then(|_| fs::metadata(&self.path)) {
            Ok(folder) => Ok(Place::Whole { owner: (folder.uid(), folder.gid()) }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let gone = !self.path.exists();
                match fs::metadata(self.ready_path()).ok().filter(|_| gone) {
                    Some(ready) => Ok(Place::Swapping { owner: (ready.uid(), ready.gid()) }),
                    None => Err(Failure::refused(format!("{shown} is not a data directory of PostgreSQL"))),
                }
            }
            Err(error) => Err(Failure::refused(format!("cannot look into {shown}: {error}"))),
        }
    }

    /// Was it made a standby?
    pub fn has_signal(&self) -> bool {
        self.path.join("standby.signal").exists()
    }

    pub fn process(&self) -> Process {
        let pid = fs::read_to_string(self.path.join("postmaster.pid"))
            .ok()
            .and_then(|text| text.lines().next()?.trim().parse().ok())
            .filter(|pid| is_postgres(*pid));
        match pid {
            None => Process::None,
            Some(pid) if self.has_signal() => Process::Standby { pid },
            Some(pid) => Process::Primary { pid },
        }
    }

    /// The system identifier in what `pg_controldata` says.
    pub fn identifier(&self, said: &str) -> Option<String> {
        let words: Vec<&str> = said.split_whitespace().collect();
        let at = words.windows(3).position(|three| three == ["Database", "system", "identifier:"])?;
        words.get(at + 3).map(|word| (*word).to_owned())
    }

    /// An empty folder for a copy; a copy that was not finished is removed.
    pub async fn new_folder(&self, owner: (u32, u32)) -> Result<PathBuf, Failure> {
        let (new, ready, old) = (self.new_path(), self.ready_path(), self.old_path());
        if old.exists() {
            return Err(Failure::refused(format!("{} is there from an earlier time: move it away", old.display())));
        }
        blocking(move || {
            for left in [&new, &ready] {
                match fs::remove_dir_all(left) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(told("remove", left, &error)),
                    _ => {}
                }
            }
            fs::DirBuilder::new().create(&new).map_err(|error| told("make", &new, &error))?;
            std::os::unix::fs::chown(&new, Some(owner.0), Some(owner.1)).map_err(|error| told("own", &new, &error))?;
            fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o700))
                .map_err(|error| told("close", &new, &error))?;
            Ok(new)
        })
        .await
    }

    /// The copy is whole.
    pub async fn is_ready(&self) -> Result<(), Failure> {
        let (new, ready) = (self.new_path(), self.ready_path());
        blocking(move || fs::rename(&new, &ready).map_err(|error| told("rename", &new, &error))).await
    }

    /// Puts the copy in its place, and what is there aside.
    pub async fn swap(&self) -> Result<PathBuf, Failure> {
        let (path, ready, old) = (self.path.clone(), self.ready_path(), self.old_path());
        blocking(move || {
            if path.exists() {
                fs::rename(&path, &old).map_err(|error| told("put aside", &path, &error))?;
            }
            fs::rename(&ready, &path).map_err(|error| told("rename", &ready, &error))?;
            Ok(old)
        })
        .await
    }
}

fn told(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::refused(format!("cannot {what} {}: {error}", path.display()))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::unknown(format!("the work on files was not finished: {error}"))))
}

/// Does this process live, and is it a server? After a restart of the machine, another may bear its
/// number. One that cannot be looked at counts as a server.
fn is_postgres(pid: i32) -> bool {
    let Some(process) = Pid::from_raw(pid.saturating_abs()) else { return false };
    if rustix::process::test_kill_process(process) == Err(rustix::io::Errno::SRCH) {
        return false;
    }
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // `pid (name) state …`; a zombie holds nothing any more.
        Ok(stat) => {
            let (name, rest) = stat.rsplit_once(')').unwrap_or((&stat, ""));
            let server = name.contains("(postgres") || name.contains("(postmaster");
            server && !rest.trim_start().starts_with('Z')
        }
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_another_program_bears_is_not_a_server() {
        let folder = tempfile::tempdir().unwrap();
        let data = Data::new(&folder.path().join("data"));
        assert!(data.place().is_err());
        fs::create_dir(data.path()).unwrap();
        assert!(data.place().is_err(), "an empty folder is no data directory");
        fs::write(data.path().join("PG_VERSION"), "15\n").unwrap();
        assert!(matches!(data.place(), Ok(Place::Whole { .. })));
        for pid in [std::process::id().to_string(), "999999999".into(), "x".into()] {
            fs::write(data.path().join("postmaster.pid"), format!("{pid}\n/x\n")).unwrap();
            assert_eq!(data.process(), Process::None, "{pid}");
        }
    }

    #[tokio::test]
    async fn a_swap_that_was_cut_off_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let data = Data::new(&folder.path().join("data"));
        fs::create_dir(data.path()).unwrap();
        fs::write(data.path().join("PG_VERSION"), "old").unwrap();
        let Ok(Place::Whole { owner }) = data.place() else { panic!("whole") };
        let new = data.new_folder(owner).await.unwrap();
        fs::write(new.join("PG_VERSION"), "new").unwrap();
        data.is_ready().await.unwrap();
        // The crash: put aside, and nothing in its place.
        fs::rename(data.path(), data.old_path()).unwrap();
        assert_eq!(data.place(), Ok(Place::Swapping { owner }));
        data.swap().await.unwrap();
        let version = |path: &Path| fs::read_to_string(path.join("PG_VERSION")).unwrap();
        assert_eq!((version(data.path()), version(&data.old_path())), ("new".into(), "old".into()));
        let failure = data.new_folder(owner).await.unwrap_err();
        assert!(failure.reason.contains("move it away"), "{failure}");
    }

    #[test]
    fn the_identifier_is_read_from_one_line_of_words() {
        let data = Data::new(Path::new("/x"));
        let said = "pg_control version number: 1300 Database system identifier: 7123 Database cluster state: shut down";
        assert_eq!(data.identifier(said).as_deref(), Some("7123"));
        assert_eq!(data.identifier("nothing"), None);
    }
}
