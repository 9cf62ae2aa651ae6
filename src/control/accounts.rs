//! The users and groups of this host, as `/etc/passwd` and `/etc/group` have them.
//!
//! Read directly and not through the C library: a directory service that hangs must not hang the
//! socket during an outage. Users and groups that only a directory knows are named by number.

use std::path::Path;
use std::time::SystemTime;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// No host needs a longer file, and a wrong one must not eat the memory.
const LONGEST: u64 = 16 * 1024 * 1024;

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The number of the primary group.
    pub gid: u32,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The name.
    pub name: String,
    /// The number.
    pub gid: u32,
    /// The names of its members; those whose primary group it is are not repeated here.
    pub members: Vec<String>,
}

/// The users and groups of this host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
}

/// Tells whether the files have changed since they were read.
pub type Stamp = [Option<(SystemTime, u64)>; 2];

impl Accounts {
    /// Parses the text of both files. A line that is not understood is passed over, as the C
    /// library does: one bad line must not shut everybody out.
    pub fn parse(passwd: &str, group: &str) -> Self {
        let users = passwd.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| is_name(name))?.to_owned();
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(User { name, uid, gid })
        });
        let groups = group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| is_name(name))?.to_owned();
            let gid = fields.nth(1)?.parse().ok()?;
            let members = fields.next().unwrap_or_default().split(',');
            let members = members.map(str::trim).filter(|member| !member.is_empty()).map(str::to_owned).collect();
            Some(Group { name, gid, members })
        });
        Self { users: users.collect(), groups: groups.collect() }
    }

    /// Reads both files; one that cannot be read counts as empty (a container may have none).
    pub fn read() -> Self {
        Self::parse(&read(PASSWD.as_ref()), &read(GROUP.as_ref()))
    }

    /// What changes when a file is edited.
    pub fn stamp() -> Stamp {
        [PASSWD, GROUP].map(|path| {
            let meta = std::fs::metadata(path).ok()?;
            Some((meta.modified().ok()?, meta.len()))
        })
    }

    /// The user of this name.
    pub fn user(&self, name: &str) -> Option<&User> {
        self.users.iter().find(|user| user.name == name)
    }

    /// The user of this number.
    pub fn uid(&self, uid: u32) -> Option<&User> {
        self.users.iter().find(|user| user.uid == uid)
    }

    /// The group of this name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }
}

/// A name that can be meant: no comment, and no NIS inclusion (`+`, `-`).
fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['#', '+', '-'])
}

fn read(path: &Path) -> String {
    match std::fs::metadata(path) {
        Ok(meta) if meta.len() <= LONGEST => {}
        Ok(_) | Err(_) => return String::new(),
    }
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_users_and_groups() {
        let accounts = Accounts::parse(
            "root:x:0:0:root:/root:/bin/bash\nalice:x:1000:100:Alice,,,:/home/alice:/bin/sh\n",
            "root:x:0:\nsre:x:2000:alice, bob\nempty:x:2001:\nshort:x:2002\n",
        );
        assert_eq!(accounts.user("alice"), Some(&User { name: "alice".into(), uid: 1000, gid: 100 }));
        assert_eq!(accounts.uid(0).map(|user| user.name.as_str()), Some("root"));
        assert_eq!(accounts.group("sre").map(|group| group.members.clone()), Some(vec!["alice".into(), "bob".into()]));
        assert_eq!(accounts.group("empty").map(|group| group.members.len()), Some(0));
        assert_eq!(accounts.group("short").map(|group| group.gid), Some(2002));
        assert_eq!(accounts.group("nobody"), None);
    }

    #[test]
    fn passes_over_lines_that_it_does_not_understand() {
        let accounts = Accounts::parse(
            "# a comment\n\n+::::::\n:x:5:5::\nbroken\nbig:x:99999999999:1::\nneg:x:-1:1::\nok:x:7:7::\n",
            "+:::\n-x:x:1:\nodd:x:abc:\nok:x:8:a,,b,\n",
        );
        assert_eq!(accounts.users.len(), 1);
        assert_eq!(accounts.user("ok").map(|user| user.uid), Some(7));
        assert_eq!(accounts.groups, [Group { name: "ok".into(), gid: 8, members: vec!["a".into(), "b".into()] }]);
    }
}
