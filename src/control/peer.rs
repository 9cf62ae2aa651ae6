//! Who calls, by the kernel's word (`SO_PEERCRED`), and what they may do.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::accounts::{Accounts, Stamp};
use crate::core::Command;
use crate::model::Mode;

/// What somebody may do; each may also do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Look.
    Viewer,
    /// Pause, resume, acknowledge, abort, answer for a parked step.
    Operator,
    /// Approve, deny, fail over, and let the daemon act by itself.
    Approver,
}

impl Role {
    /// The list in `[control]` that gives this role.
    pub fn list(self) -> &'static str {
        match self {
            Self::Viewer => "viewers",
            Self::Operator => "operators",
            Self::Approver => "approvers",
        }
    }

    /// The role that a command needs. What moves the service, or lets the daemon move it alone, is
    /// for approvers; what holds it back, or looks after a run that was approved, is for operators.
    pub fn needed(command: &Command) -> Self {
        match command {
            Command::Approve { .. }
            | Command::Deny { .. }
            | Command::Failover { .. }
            | Command::Failback { .. }
            | Command::Execute { .. }
            | Command::Drill { .. }
            | Command::StepApprove { .. }
            // What is left out may be the very question, or the promotion that a route waits for.
            | Command::StepSkip { .. }
            // `None` gives the mode back to the configuration, which may say `auto`.
            | Command::Mode { mode: None | Some(Mode::Auto) } => Self::Approver,
            Command::Pause
            | Command::Resume
            | Command::Ack { .. }
            | Command::Abort { .. }
            | Command::StepRetry { .. }
            | Command::StepDone { .. }
            | Command::DutyDone { .. }
            | Command::Grade { .. }
            | Command::HandOver { .. }
            | Command::Mode { mode: Some(Mode::Approve | Mode::AlertOnly) } => Self::Operator,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
        })
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The user.
    pub uid: u32,
    /// The primary group of the calling process.
    pub gid: u32,
}

/// The lists of `[control]`: user names, `@group`, or numbers where only a directory knows the name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// May look.
    pub viewers: Vec<String>,
    /// May also pause, resume, acknowledge, and abort.
    pub operators: Vec<String>,
    /// May also approve and fail over.
    pub approvers: Vec<String>,
}

/// The lists, resolved to numbers.
#[derive(Debug, Default)]
struct Rules {
    users: HashMap<u32, Role>,
    groups: HashMap<u32, Role>,
    accounts: Accounts,
}

impl Rules {
    /// Resolves the lists, and says which names nobody has.
    fn resolve(lists: &Lists, accounts: Accounts) -> (Self, Vec<String>) {
        let mut rules = Self { accounts, ..Self::default() };
        let mut warnings = Vec::new();
        let all =
            [(Role::Viewer, &lists.viewers), (Role::Operator, &lists.operators), (Role::Approver, &lists.approvers)];
        for (role, entries) in all {
            for entry in entries {
                if let Err(what) = rules.add(role, entry) {
                    warnings.push(format!(
                        "control.{}: no {what} on this host, so nobody is admitted by it; correct the name, or write \
                         the number where only a directory service knows it",
                        role.list()
                    ));
                }
            }
        }
        (rules, warnings)
    }

    fn add(&mut self, role: Role, entry: &str) -> Result<(), String> {
        if let Some(name) = entry.strip_prefix('@') {
            let group = self.accounts.group(name);
            let gid = group.map(|group| group.gid).or_else(|| name.parse().ok());
            let gid = gid.ok_or_else(|| format!("group `{name}`"))?;
            let members: Vec<u32> = group
                .map(|group| {
                    group.members.iter().filter_map(|member| self.accounts.user(member)).map(|user| user.uid).collect()
                })
                .unwrap_or_default();
            raise(&mut self.groups, gid, role);
            for uid in members {
                raise(&mut self.users, uid, role);
            }
        } else {
            let uid = self.accounts.user(entry).map(|user| user.uid).or_else(|| entry.parse().ok());
            raise(&mut self.users, uid.ok_or_else(|| format!("user `{entry}`"))?, role);
        }
        Ok(())
    }

    fn role(&self, peer: Peer) -> Option<Role> {
        let primary = self.accounts.uid(peer.uid).map(|user| user.gid);
        [self.users.get(&peer.uid), self.groups.get(&peer.gid), primary.and_then(|gid| self.groups.get(&gid))]
            .into_iter()
            .flatten()
            .max()
            .copied()
    }
}

fn raise(map: &mut HashMap<u32, Role>, number: u32, role: Role) {
    map.entry(number).and_modify(|held| *held = (*held).max(role)).or_insert(role);
}

/// Decides who may do what. Follows edits of `/etc/passwd` and `/etc/group` by itself.
#[derive(Debug)]
pub struct Gate {
    own_uid: u32,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    lists: Lists,
    stamp: Stamp,
    rules: Rules,
    refusals: HashMap<u32, (Instant, u32)>,
}

/// So many refusals of one user are audited a minute; the rest is counted only, so that somebody
/// who may do nothing cannot fill the disk with the record of it.
const AUDITED_A_MINUTE: u32 = 20;

impl Gate {
    /// A gate for these lists, with a warning for each name that nobody has. `own_uid` is the
    /// daemon's own user; it and root may do everything.
    pub fn new(own_uid: u32, lists: Lists) -> (Self, Vec<String>) {
        let stamp = Accounts::stamp();
        let (rules, warnings) = Rules::resolve(&lists, Accounts::read());
        (Self { own_uid, inner: Mutex::new(Inner { lists, stamp, rules, refusals: HashMap::new() }) }, warnings)
    }

    /// A gate for the user that this process runs as.
    pub fn for_this_process(lists: Lists) -> (Self, Vec<String>) {
        Self::new(rustix::process::geteuid().as_raw(), lists)
    }

    /// Takes other lists, from now on.
    pub fn reload(&self, lists: Lists) -> Vec<String> {
        let mut inner = self.lock();
        inner.stamp = Accounts::stamp();
        let (rules, warnings) = Rules::resolve(&lists, Accounts::read());
        inner.rules = rules;
        inner.lists = lists;
        warnings
    }

    /// Is it root or the daemon's own user? They are let in even when the socket is crowded.
    pub fn is_privileged(&self, peer: Peer) -> bool {
        peer.uid == 0 || peer.uid == self.own_uid
    }

    /// What this caller may do; `None` where it may do nothing.
    pub fn role(&self, peer: Peer) -> Option<Role> {
        if self.is_privileged(peer) {
            return Some(Role::Approver);
        }
        self.fresh().rules.role(peer)
    }

    /// How the caller is named in the audit: `alice (uid 1000)`.
    pub fn name(&self, peer: Peer) -> String {
        match self.fresh().rules.accounts.uid(peer.uid) {
            Some(user) => format!("{} (uid {})", user.name, peer.uid),
            None => format!("uid {}", peer.uid),
        }
    }

    /// Why the caller may not, and what to do about it.
    pub fn refusal(&self, peer: Peer, needed: Role) -> String {
        let name = self.name(peer);
        let list = needed.list();
        match self.role(peer) {
            None => format!(
                "{name} is in no list of [control], so this needs somebody else: run it as root or as the daemon's \
                 user, or have the name added to `{list}` under [control] in the configuration and reload"
            ),
            Some(role) => format!(
                "{name} is {role}; this needs {needed}: run it as root or as the daemon's user, or have the name \
                 added to `{list}` under [control] in the configuration and reload"
            ),
        }
    }

    /// Is this refusal to be audited, or has this user had enough of them within the minute?
    pub fn audits(&self, peer: Peer) -> bool {
        let now = Instant::now();
        let mut inner = self.lock();
        if inner.refusals.len() > 1024 {
            inner.refusals.clear();
        }
        let (since, count) = inner.refusals.entry(peer.uid).or_insert((now, 0));
        if now.duration_since(*since) > Duration::from_secs(60) {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        *count <= AUDITED_A_MINUTE
    }

    /// The inner part, after a look whether the host's accounts were edited.
    fn fresh(&self) -> std::sync::MutexGuard<'_, Inner> {
        let stamp = Accounts::stamp();
        let mut inner = self.lock();
        if inner.stamp != stamp {
            inner.rules = Rules::resolve(&inner.lists, Accounts::read()).0;
            inner.stamp = stamp;
        }
        inner
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accounts() -> Accounts {
        Accounts::parse(
            "root:x:0:0::\nalice:x:1000:100::\nbob:x:1001:2000::\ncarol:x:1002:100::\ndave:x:1003:100::\n",
            "users:x:100:\nsre:x:2000:carol,ghost\n",
        )
    }

    fn lists(viewers: &[&str], operators: &[&str], approvers: &[&str]) -> Lists {
        let own = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Lists { viewers: own(viewers), operators: own(operators), approvers: own(approvers) }
    }

    fn peer(uid: u32, gid: u32) -> Peer {
        Peer { uid, gid }
    }

    #[test]
    fn users_and_groups_get_the_highest_role_of_their_lists() {
        let (rules, warnings) = Rules::resolve(&lists(&["alice", "@sre"], &["carol"], &["bob"]), accounts());
        assert!(warnings.is_empty());
        assert_eq!(rules.role(peer(1000, 100)), Some(Role::Viewer));
        assert_eq!(rules.role(peer(1001, 2000)), Some(Role::Approver), "in two lists: the higher one");
        assert_eq!(rules.role(peer(1002, 100)), Some(Role::Operator));
        assert_eq!(rules.role(peer(1003, 100)), None);
    }

    #[test]
    fn a_group_admits_members_primary_members_and_processes_that_run_under_it() {
        let (rules, _) = Rules::resolve(&lists(&[], &["@sre"], &[]), accounts());
        assert_eq!(rules.role(peer(1002, 100)), Some(Role::Operator), "named in /etc/group");
        assert_eq!(rules.role(peer(1001, 100)), Some(Role::Operator), "its primary group in /etc/passwd");
        assert_eq!(rules.role(peer(4242, 2000)), Some(Role::Operator), "the process's group");
        assert_eq!(rules.role(peer(1000, 100)), None);
    }

    #[test]
    fn numbers_stand_for_what_only_a_directory_knows() {
        let (rules, warnings) = Rules::resolve(&lists(&["70001"], &["@70002"], &[]), accounts());
        assert!(warnings.is_empty());
        assert_eq!(rules.role(peer(70001, 1)), Some(Role::Viewer));
        assert_eq!(rules.role(peer(5, 70002)), Some(Role::Operator));
    }

    #[test]
    fn an_unknown_name_admits_nobody_and_is_told() {
        let (rules, warnings) = Rules::resolve(&lists(&["mallory"], &["@nogroup"], &[""]), accounts());
        assert_eq!(warnings.len(), 3);
        assert!(warnings[0].starts_with("control.viewers: no user `mallory` on this host"), "{}", warnings[0]);
        assert!(warnings[1].starts_with("control.operators: no group `nogroup`"), "{}", warnings[1]);
        assert!(rules.users.is_empty() && rules.groups.is_empty());
    }

    #[test]
    fn root_and_the_daemons_user_may_everything() {
        let (gate, _) = Gate::new(998, Lists::default());
        assert_eq!(gate.role(peer(0, 0)), Some(Role::Approver));
        assert_eq!(gate.role(peer(998, 5)), Some(Role::Approver));
        assert_eq!(gate.role(peer(64_999, 64_999)), None);
        let text = gate.refusal(peer(64_999, 64_999), Role::Operator);
        assert!(text.contains("uid 64999") && text.contains("`operators`"), "{text}");
    }

    #[test]
    fn refusals_of_one_user_are_audited_within_bounds() {
        let (gate, _) = Gate::new(998, Lists::default());
        let audited = (0..1000).filter(|_| gate.audits(peer(7, 7))).count();
        assert_eq!(audited, 20);
        assert!(gate.audits(peer(8, 8)), "another user is not affected");
    }

    #[test]
    fn what_moves_the_service_is_for_approvers() {
        use crate::model::{IncidentId, ScenarioName};
        let incident = IncidentId::from("INC-20260730-001");
        for command in [
            Command::Approve { incident: incident.clone(), plan_hash: None, epoch: None, allow_data_loss: None },
            Command::Deny { incident: incident.clone() },
            Command::Failover { scenario: ScenarioName::from("x"), allow_data_loss: None },
            Command::StepApprove { run: None, step: "s".into() },
            Command::StepSkip { run: None, step: "s".into() },
            Command::Mode { mode: Some(Mode::Auto) },
            Command::Mode { mode: None },
        ] {
            assert_eq!(Role::needed(&command), Role::Approver, "{command:?}");
        }
        for command in [
            Command::Pause,
            Command::Resume,
            Command::Ack { incident },
            Command::Abort { run: None },
            Command::StepRetry { run: None, step: "s".into() },
            Command::Mode { mode: Some(Mode::AlertOnly) },
            Command::Mode { mode: Some(Mode::Approve) },
        ] {
            assert_eq!(Role::needed(&command), Role::Operator, "{command:?}");
        }
    }
}
