//! Who else may write a file that we act on, or put another one in its place.
//!
//! What decides (the configuration, authorities, programs) and what is secret must belong to root or to
//! the user that failoverd runs as, and so must every directory and link on the way there: whoever may
//! write one of these directories may replace the file, but where the sticky bit leaves each its own.
//!
//! That others may *write* is refused, at the start and at a reload. That all may *read* a secret is a
//! warning: it changes nothing of what is done, secrets in containers are mounted so (mode 0644, root's, with
//! nobody else in there), and a guard that stays down is worse than a password that has to be changed.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path as FilePath, PathBuf};

use super::fault::{Fault, Level};
use super::path::Path;
use super::report::{Report, file_fault};

/// More links than this in one path are a circle (as for the kernel).
const MOST_LINKS: usize = 40;

/// What a file is for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Matter {
    /// It decides what is done: the configuration, an authority's certificate, a program.
    Decision,
    /// It holds a secret, and so also decides to whom we connect.
    Secret,
    /// A directory that we keep our own files in. A group that we are in may write it: so volumes are
    /// handed to containers.
    Ours,
}

impl Matter {
    fn consequence(self) -> &'static str {
        match self {
            Self::Decision => "and so decide what is done in an outage",
            Self::Secret => "and so choose where we connect and as whom",
            Self::Ours => "and so put another state in the place of ours",
        }
    }
}

/// Something that is wrong with a file, or with the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Is it refused?
    pub level: Level,
    /// A stable name.
    pub code: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What is wrong with it: mode and owner.
    pub message: String,
    /// The command that mends it.
    pub fix: String,
}

/// Looks at a file and the way to it. `user`: the one that failoverd runs as; `None` where that is not
/// known, since whoever checks a configuration may be another. What is not there is not told here.
pub fn look(file: &FilePath, matter: Matter, user: Option<u32>) -> Vec<Finding> {
    let met = way(file);
    let last = met.len().saturating_sub(1);
    let arrived = met.last().is_some_and(|(path, _)| std::fs::canonicalize(file).is_ok_and(|real| real == *path));
    let judge = Judge { matter, user };
    let each = met.iter().enumerate();
    each.filter_map(|(place, (path, metadata))| judge.judge(path, metadata, arrived && place == last)).collect()
}

/// The same, told where the configuration names the file.
pub fn check(report: &mut Report<'_>, at: &Path, file: &FilePath, matter: Matter) {
    if !report.inspects() {
        return;
    }
    for found in look(file, matter, report.user()) {
        match found.level {
            Level::Error => report.error(found.code, at, found.message, found.fix),
            Level::Warning => report.warn(found.code, at, found.message, found.fix),
        }
    }
}

/// The same for a file of the configuration itself.
pub fn of_the_configuration(file: &FilePath, user: Option<u32>) -> Vec<Fault> {
    let found = look(file, Matter::Decision, user).into_iter();
    found.map(|found| file_fault(&found.path, 1, found.code, found.level, found.message, found.fix)).collect()
}

/// The same for what the environment names: the credentials of AWS and Kubernetes. A kubeconfig and an AWS
/// profile may name a program that is run for a token.
pub fn of_the_environment(user: Option<u32>) -> Vec<Fault> {
    let single = ["AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"];
    let single = single.iter().filter_map(std::env::var_os).map(PathBuf::from);
    let several = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let files = single.chain(std::env::split_paths(&several)).filter(|file| !file.as_os_str().is_empty());
    files.flat_map(|file| of_the_configuration(&file, user)).collect()
}

/// Every directory and link that is met on the way, and last the file itself, as far as one comes.
fn way(file: &FilePath) -> Vec<(PathBuf, Metadata)> {
    let mut met = Vec::new();
    let Ok(whole) = std::path::absolute(file) else { return met };
    let mut left: VecDeque<OsString> = parts(&whole).collect();
    let mut at = PathBuf::from("/");
    let mut seen = BTreeSet::new();
    let mut links = 0;
    met.extend(std::fs::symlink_metadata(&at).ok().map(|metadata| (at.clone(), metadata)));
    while let Some(part) = left.pop_front() {
        if part == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        let Ok(metadata) = std::fs::symlink_metadata(&next) else { break };
        if metadata.is_symlink() {
            links += 1;
            let Ok(target) = std::fs::read_link(&next) else { break };
            if links > MOST_LINKS {
                break;
            }
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for part in parts(&target).collect::<Vec<_>>().into_iter().rev() {
                left.push_front(part);
            }
        } else {
            at.clone_from(&next);
        }
        // A directory may be passed twice; what comes last stays last.
        if seen.insert(next.clone()) || left.is_empty() {
            met.push((next, metadata));
        }
    }
    met
}

fn parts(path: &FilePath) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

struct Judge {
    matter: Matter,
    user: Option<u32>,
}

impl Judge {
    fn judge(&self, path: &FilePath, metadata: &Metadata, itself: bool) -> Option<Finding> {
        let (mode, shown) = (metadata.mode() & 0o7777, path.display());
        let owner = metadata.uid();
        let found = |level, code, who: &str, fix: String| {
            let what = if itself { String::new() } else { format!("{} on the way to it, ", kind(metadata)) };
            let consequence = self.matter.consequence();
            let message = format!("{what}{shown} (mode {mode:04o}, uid {owner}): {who}, {consequence}");
            Some(Finding { level, code, path: path.to_owned(), message, fix })
        };
        let ours = self.user.unwrap_or_else(|| rustix::process::geteuid().as_raw());
        if owner != 0 && owner != ours {
            // Whoever checks need not be who runs it.
            let level = if self.user.is_some() { Level::Error } else { Level::Warning };
            let who = format!("it belongs to uid {owner}, neither root nor uid {ours}, who may write it");
            return found(level, "foreign_owner", &who, format!("chown -h root {shown}"));
        }
        // What is written to it is gone: `AWS_CONFIG_FILE=/dev/null`.
        if metadata.file_type().is_char_device() && metadata.rdev() == rustix::fs::makedev(1, 3) {
            return None;
        }
        // The mode of a link says nothing, and the sticky bit leaves each its own.
        if metadata.is_symlink() || (metadata.is_dir() && mode & 0o1000 != 0) {
            return None;
        }
        let secret = itself && self.matter == Matter::Secret && metadata.is_file();
        let fix = if secret { format!("chmod 0600 {shown}") } else { format!("chmod go-w {shown}") };
        if mode & 0o002 != 0 {
            return found(Level::Error, "writable_by_all", "everybody may write it", fix);
        }
        if mode & 0o020 != 0 && self.is_strange(metadata) {
            let who = format!("the group {} may write it", metadata.gid());
            return found(Level::Error, "writable_by_group", &who, fix);
        }
        if secret && mode & 0o004 != 0 {
            let message = format!("everybody may read the secret file {shown} (mode {mode:04o}, uid {owner})");
            let path = path.to_owned();
            return Some(Finding { level: Level::Warning, code: "readable_by_all", path, message, fix });
        }
        None
    }

    /// May others be in the group that may write this?
    fn is_strange(&self, metadata: &Metadata) -> bool {
        let group = metadata.gid();
        // Who is in root's group is root's doing, as is all else.
        if group == 0 {
            return false;
        }
        if self.matter == Matter::Ours && is_in(group) {
            return false;
        }
        !(group == metadata.uid() && has_no_members(group))
    }
}

fn kind(metadata: &Metadata) -> &'static str {
    if metadata.is_dir() {
        "a directory"
    } else if metadata.is_symlink() {
        "a link"
    } else {
        "a file"
    }
}

fn is_in(group: u32) -> bool {
    rustix::process::getegid().as_raw() == group
        || rustix::process::getgroups().is_ok_and(|groups| groups.iter().any(|of| of.as_raw() == group))
}

/// The group that many systems make for each user, and give new files to: is there nobody in it beside
/// the user?
fn has_no_members(group: u32) -> bool {
    let text = std::fs::read_to_string("/etc/group").unwrap_or_default();
    text.lines().any(|line| match line.split(':').collect::<Vec<_>>().as_slice() {
        [name, _, number, members] if number.parse() == Ok(group) => {
            members.split(',').all(|member| member.is_empty() || member == *name)
        }
        _ => false,
    })
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
