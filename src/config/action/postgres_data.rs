//! PostgreSQL's data: a server brought back as a standby, a dump restored, rows counted.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::postgres::{is_table_name, table_name};
use super::{Output, Parameters, shown};
use crate::config::check::common::{at_least_one, file_is_there, not_empty};
use crate::config::check::secrets;
use crate::config::path::Path;
use crate::config::report::Report;
use crate::config::secret::SecretText;
use crate::model::{EffectKind, HumanDuration};

/// `postgres.follow`: brings the old primary back as a standby of the new one, after the failover.
///
/// It works on the machine where the old server's data is: failoverd has to run there, as root or as
/// the owner of the data directory, and starts PostgreSQL's programs as that owner. In this order: the
/// old server must be stopped (it is refused while a process of `postmaster.pid` lives); `pg_rewind`
/// takes back what the new primary does not have, and writes `standby.signal` and `primary_conninfo`
/// (with the password of `source` in `postgresql.auto.conf`, as `pg_basebackup -R` does); the server
/// is started. Done when it streams from the new primary.
///
/// What the old primary committed and the new one never received is lost by the rewind. Where it
/// cannot be rewound (neither `wal_log_hints` nor checksums, or WAL that is gone), it is refused unless
/// `on_diverged = "base_backup"`: then a new copy is made beside the data directory, which is put
/// aside as `….failoverd-old` and not deleted. That needs the space for both, and a data directory
/// that can be renamed (no mount point, no further tablespaces).
///
/// Without `start` the server is started by `pg_ctl`, as a child of failoverd: under systemd it then
/// ends with failoverd's unit. Where systemd looks after PostgreSQL, write `start = ["systemctl",
/// "start", "postgresql@15-main"]`.
///
/// Needs PostgreSQL 13 or later, and of `source` a user with REPLICATION and the right to rewind
/// (superuser, or the functions that the page names).
/// <https://www.postgresql.org/docs/current/app-pgrewind.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresFollow {
    /// The server that is brought back, once it runs: `postgresql://…`, by reference where it holds a
    /// password.
    pub url: SecretText,
    /// The new primary: `postgresql://…` (this form only), by reference where it holds a password. Its
    /// host is what the standby will connect to.
    pub source: SecretText,
    /// The data directory of the server that is brought back.
    pub data_directory: PathBuf,
    /// Where `pg_rewind` and `pg_ctl` are: `/usr/lib/postgresql/15/bin`.
    pub bin_directory: PathBuf,
    /// Where `postgresql.conf` is, where that is not the data directory (Debian:
    /// `/etc/postgresql/15/main`).
    #[serde(default)]
    pub config_directory: Option<PathBuf>,
    /// A physical replication slot on the new primary. It must be there.
    #[serde(default)]
    pub slot: Option<String>,
    /// What happens where it cannot be rewound: `refuse` (default) or `base_backup`.
    #[serde(default)]
    pub on_diverged: OnDiverged,
    /// The program and its arguments that start the server, without a shell (default: `pg_ctl start`).
    #[serde(default)]
    pub start: Vec<String>,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// What happens where the old primary cannot be rewound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnDiverged {
    /// Nothing: a person decides.
    #[default]
    Refuse,
    /// A new copy of the new primary takes its place.
    BaseBackup,
}

impl Parameters for PostgresFollow {
    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn target(&self) -> String {
        format!("{} as a standby of PostgreSQL at {}", self.data_directory.display(), shown(&self.source))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(60)
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["postgresql", "postgres"]);
        secrets::address(report, &at.key("source"), &self.source, &["postgresql", "postgres"]);
        file_is_there(report, &at.key("ca_file"), self.ca_file.as_deref());
        let folders = [("data_directory", Some(&self.data_directory)), ("bin_directory", Some(&self.bin_directory))];
        for (key, folder) in folders.into_iter().chain([("config_directory", self.config_directory.as_ref())]) {
            absolute(report, &at.key(key), folder);
        }
        let slot = self.slot.as_deref().unwrap_or("x");
        if slot.is_empty() || !slot.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
            let message = format!("`{slot}` is not the name of a slot");
            report.error("bad_slot", &at.key("slot"), message, "write small letters, digits and `_`");
        }
        if let Some(program) = self.start.first() {
            not_empty(report, &at.key("start").index(0), program);
        }
    }
}

/// `postgres.restore`: restores a dump in PostgreSQL's own format (`pg_dump -Fc`) with `pg_restore`.
///
/// The database must be there and hold no tables of users, unless `clean` says that what the dump
/// holds is dropped first. Without `jobs` the restore is one transaction: all or nothing.
///
/// Done when `pg_restore` ended without an error. That is written down in the database itself, as a
/// line of its comment (`COMMENT ON DATABASE`; what people wrote there stays), one for each step of a
/// run: begun before `pg_restore` starts, ended after it. After a crash the line tells: ended, it is
/// done; begun, while a session of that `pg_restore` is still there, it is waited for; begun and no
/// session, it is done again, and what the first try left is dropped, since the line proves that it is
/// ours. No dump holds that comment, but one with `--create`.
///
/// A plain dump (`.sql`, `.sql.gz`) is refused: there is no telling how far it got. With `tables` only
/// these and their data are restored, not their indexes and constraints. Needs to own the
/// database, the roles that own the dump's objects (or `no_owner`), and a `pg_restore` that is not
/// older than the `pg_dump` that made the dump.
/// <https://www.postgresql.org/docs/current/app-pgrestore.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresRestore {
    /// The database to restore into: `postgresql://…/database` (this form only), by reference where it
    /// holds a password.
    pub url: SecretText,
    /// The dump, a file on this machine; often what an earlier step fetched.
    pub dump: PathBuf,
    /// Only these tables of the dump, as `table` or `schema.table`.
    #[serde(default)]
    pub tables: Vec<String>,
    /// Drop what is restored first (`--clean --if-exists`; default: false). An approval has to come
    /// before it.
    #[serde(default)]
    pub clean: bool,
    /// How many connections restore at once; then it is not one transaction.
    #[serde(default)]
    pub jobs: Option<u32>,
    /// Leave out owners and grants: everything belongs to the user of `url` (default: false).
    #[serde(default)]
    pub no_owner: bool,
    /// Where `pg_restore` is (default: `/usr/bin`).
    #[serde(default = "usr_bin")]
    pub bin_directory: PathBuf,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

impl Parameters for PostgresRestore {
    fn makes(&self) -> bool {
        true
    }

    fn effect(&self) -> EffectKind {
        EffectKind::Call
    }

    fn needs_approval(&self) -> bool {
        self.clean
    }

    fn target(&self) -> String {
        format!("{} into PostgreSQL at {}", self.dump.display(), shown(&self.url))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(600)
    }

    fn outputs(&self) -> &'static [Output] {
        &[Output { name: "tables", meaning: "how many tables the database has after it", sample: "12" }]
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["postgresql", "postgres"]);
        file_is_there(report, &at.key("ca_file"), self.ca_file.as_deref());
        at_least_one(report, &at.key("jobs"), self.jobs);
        absolute(report, &at.key("dump"), Some(&self.dump));
        absolute(report, &at.key("bin_directory"), Some(&self.bin_directory));
        for (place, table) in self.tables.iter().enumerate() {
            table_name(report, &at.key("tables").index(place), table);
        }
        let name = self.dump.to_string_lossy().to_lowercase();
        if [".sql", ".sql.gz", ".gz"].iter().any(|end| name.ends_with(end)) {
            report.error(
                "plain_dump",
                &at.key("dump"),
                "a plain dump cannot be restored: there is no telling how far it got",
                "make it with `pg_dump --format=custom`",
            );
        }
    }
}

/// `postgres.compare_counts`: looks until tables have as many rows as they should: as written in
/// `against`, or in a JSON file that was taken before (`{"companies": 1000, "filings": 52000}`). Done
/// when each table is within the tolerance; the evidence names each. All are counted in one snapshot,
/// and counting reads the whole of a table. Needs `SELECT` on the tables.
/// <https://www.postgresql.org/docs/current/functions-aggregate.html>
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresCompareCounts {
    /// The database: `postgresql://…/database`, by reference where it holds a password.
    pub url: SecretText,
    /// The rows that each table should have, by `table` or `schema.table`. Or `file`.
    #[serde(default)]
    pub against: BTreeMap<String, u64>,
    /// A JSON file with the same, on this machine. Or `against`.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// By how much a table may differ, in percent of what it should have (default: 0).
    #[serde(default)]
    pub tolerance_percent: f64,
    /// A PEM file of certificate authorities to trust instead of the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// How many tables are counted at most.
pub const MOST_TABLES: usize = 200;

impl PostgresCompareCounts {
    /// What is wrong with these counts.
    ///
    /// # Errors
    /// The message, and the fix.
    pub fn sound(counts: &BTreeMap<String, u64>) -> Result<(), (String, &'static str)> {
        if counts.is_empty() {
            return Err(("there is no table to count".into(), "name at least one with its rows"));
        }
        if counts.len() > MOST_TABLES {
            return Err((format!("{} tables are too many", counts.len()), "name at most 200: those that matter"));
        }
        match counts.keys().find(|name| !is_table_name(name)) {
            Some(name) => {
                Err((format!("`{name}` is not the name of a table"), "write `table` or `schema.table`, without quotes"))
            }
            None => Ok(()),
        }
    }
}

impl Parameters for PostgresCompareCounts {
    fn effect(&self) -> EffectKind {
        EffectKind::Verify
    }

    fn target(&self) -> String {
        format!("rows at PostgreSQL at {}", shown(&self.url))
    }

    fn estimate(&self) -> HumanDuration {
        HumanDuration::secs(10)
    }

    fn outputs(&self) -> &'static [Output] {
        &[Output {
            name: "differences",
            meaning: "the tables that differ within the tolerance, with both counts; `none` where there are none",
            sample: "none",
        }]
    }

    fn check(&self, at: &Path, report: &mut Report<'_>) {
        secrets::address(report, &at.key("url"), &self.url, &["postgresql", "postgres"]);
        file_is_there(report, &at.key("ca_file"), self.ca_file.as_deref());
        if report.touches_broken(&at.key("against")) {
            // What could not be read of it was told.
        } else if self.against.is_empty() == self.file.is_none() {
            let message = "exactly one of `against` and `file` has to be there";
            report.error("not_exactly_one", &at.key("against"), message, "write the one or the other");
        } else if self.file.is_none()
            && let Err((message, fix)) = Self::sound(&self.against)
        {
            report.error("bad_counts", &at.key("against"), message, fix);
        }
        if !(0.0..=100.0).contains(&self.tolerance_percent) {
            let message = format!("{} is not a tolerance", self.tolerance_percent);
            report.error("bad_tolerance", &at.key("tolerance_percent"), message, "write a number from 0 to 100");
        }
    }
}

/// A path from the root: the daemon's own folder is not where the file's owner stood.
fn absolute(report: &mut Report<'_>, at: &Path, path: Option<&PathBuf>) {
    if let Some(path) = path.filter(|path| !path.is_absolute()) {
        report.error("not_absolute", at, format!("`{}` does not begin at the root", path.display()), "begin with `/`");
    }
}

fn usr_bin() -> PathBuf {
    "/usr/bin".into()
}
