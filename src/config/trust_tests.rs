use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

use super::*;

/// A directory that nobody else may write, whatever the umask.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    mode(folder.path(), 0o755);
    folder
}

fn mode(path: &FilePath, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn file(path: &FilePath, bits: u32) {
    std::fs::write(path, "x").unwrap();
    mode(path, bits);
}

fn codes(path: &FilePath, matter: Matter) -> Vec<(Level, &'static str)> {
    let own = rustix::process::geteuid().as_raw();
    look(path, matter, Some(own)).into_iter().map(|found| (found.level, found.code)).collect()
}

const ALL: (Level, &str) = (Level::Error, "writable_by_all");
const GROUP: (Level, &str) = (Level::Error, "writable_by_group");
const READ: (Level, &str) = (Level::Warning, "readable_by_all");
const OWNER: (Level, &str) = (Level::Error, "foreign_owner");

#[test]
fn what_others_may_write_is_refused_and_what_they_may_read_is_told() {
    let folder = folder();
    let path = folder.path().join("file");
    for (bits, decision, secret) in [
        (0o600, vec![], vec![]),
        (0o640, vec![], vec![]),
        (0o644, vec![], vec![READ]),
        (0o666, vec![ALL], vec![ALL]),
        (0o602, vec![ALL], vec![ALL]),
    ] {
        file(&path, bits);
        assert_eq!(codes(&path, Matter::Decision), decision, "{bits:o}");
        assert_eq!(codes(&path, Matter::Secret), secret, "{bits:o}");
    }
    mode(&path, 0o666);
    let found = &look(&path, Matter::Secret, None)[0];
    assert_eq!(found.fix, format!("chmod 0600 {}", path.display()));
    for part in ["(mode 0666, uid ", "everybody may write it", &path.display().to_string()] {
        assert!(found.message.contains(part), "{}", found.message);
    }
}

#[test]
fn a_group_may_write_only_where_nobody_else_can_be_in_it() {
    let folder = folder();
    let path = folder.path().join("file");
    file(&path, 0o660);
    // 100 is `users` nearly everywhere; nobody's own group.
    chown(&path, None, Some(100)).expect("the tests run as root");
    assert_eq!(codes(&path, Matter::Decision), [GROUP]);
    chown(&path, None, Some(0)).unwrap();
    assert!(codes(&path, Matter::Decision).is_empty(), "root's group");
}

#[test]
fn a_directory_in_which_others_may_replace_the_file_is_refused() {
    let folder = folder();
    let inner = folder.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let path = inner.join("file");
    file(&path, 0o600);
    mode(&inner, 0o777);
    assert_eq!(codes(&path, Matter::Secret), [ALL]);
    let found = &look(&path, Matter::Secret, None)[0];
    assert_eq!(found.path, inner);
    assert!(found.message.starts_with("a directory on the way to it, "), "{}", found.message);
    assert_eq!(found.fix, format!("chmod go-w {}", inner.display()));
    mode(&inner, 0o1777);
    assert!(codes(&path, Matter::Secret).is_empty(), "the sticky bit leaves each its own");
    mode(&inner, 0o755);
    mode(folder.path(), 0o777);
    assert_eq!(codes(&path, Matter::Secret), [ALL], "also further up");
}

#[test]
fn another_owner_is_refused_at_the_start_and_told_in_a_check() {
    let folder = folder();
    let path = folder.path().join("file");
    file(&path, 0o600);
    chown(&path, Some(4242), None).expect("the tests run as root");
    assert_eq!(codes(&path, Matter::Decision), [OWNER]);
    assert!(look(&path, Matter::Decision, Some(4242)).is_empty(), "the daemon's own");
    let found = &look(&path, Matter::Decision, None)[0];
    assert_eq!((found.level, found.code), (Level::Warning, "foreign_owner"));
    assert_eq!(found.fix, format!("chown -h root {}", path.display()));
    // Whoever owns the directory may replace what is in it.
    chown(&path, Some(0), None).unwrap();
    chown(folder.path(), Some(4242), None).unwrap();
    assert_eq!(codes(&path, Matter::Decision), [OWNER]);
}

/// As kubelet mounts a secret: `url → ..data/url`, `..data → ..2026_07_30`, in a directory that all may
/// write and that is sticky.
#[test]
fn a_secret_of_kubernetes_is_as_good_as_one_of_ours() {
    let folder = folder();
    let mount = folder.path().join("mount");
    let version = mount.join("..2026_07_30");
    std::fs::create_dir_all(&version).unwrap();
    mode(&mount, 0o1777);
    mode(&version, 0o755);
    file(&version.join("url"), 0o644);
    symlink("..2026_07_30", mount.join("..data")).unwrap();
    symlink("..data/url", mount.join("url")).unwrap();
    assert_eq!(codes(&mount.join("url"), Matter::Secret), [READ]);
    assert!(codes(&mount.join("url"), Matter::Decision).is_empty());
    // A link that somebody else has put there leads where they like.
    let stranger = mount.join("theirs");
    symlink("..data/url", &stranger).unwrap();
    lchown(&stranger, Some(4242), None).expect("the tests run as root");
    assert_eq!(codes(&stranger, Matter::Decision), [OWNER]);
    // And what the link leads to is looked at, too.
    mode(&version, 0o777);
    assert_eq!(codes(&mount.join("url"), Matter::Decision), [ALL]);
}

/// As systemd hands out credentials: a directory and files that only the user may read.
#[test]
fn a_credential_of_systemd_is_good() {
    let folder = folder();
    let inner = folder.path().join("credentials");
    std::fs::create_dir(&inner).unwrap();
    file(&inner.join("url"), 0o400);
    mode(&inner, 0o500);
    assert!(codes(&inner.join("url"), Matter::Secret).is_empty());
    mode(&inner, 0o700);
}

/// A volume in Kubernetes belongs to root, and the pod's group may write it.
#[test]
fn a_group_of_our_own_may_write_where_we_keep_our_files() {
    let folder = folder();
    let group = rustix::process::getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw());
    let own = group.chain([rustix::process::getegid().as_raw()]).max().unwrap_or_default();
    mode(folder.path(), 0o2775);
    chown(folder.path(), None, Some(own)).unwrap();
    assert!(codes(folder.path(), Matter::Ours).is_empty());
    chown(folder.path(), None, Some(4243)).expect("the tests run as root");
    assert_eq!(codes(folder.path(), Matter::Ours), [GROUP]);
    mode(folder.path(), 0o777);
    assert_eq!(codes(folder.path(), Matter::Ours), [ALL]);
}

#[test]
fn links_in_a_circle_and_files_that_are_not_there_are_no_findings() {
    let folder = folder();
    let (one, two) = (folder.path().join("one"), folder.path().join("two"));
    symlink(&two, &one).unwrap();
    symlink(&one, &two).unwrap();
    for path in [&one, &folder.path().join("nowhere/file")] {
        assert!(codes(path, Matter::Secret).is_empty(), "{}", path.display());
    }
    // What is not there may be made by others, where they may write the directory.
    mode(folder.path(), 0o777);
    assert_eq!(codes(&folder.path().join("nowhere"), Matter::Decision), [ALL]);
}
