//! `postgres.follow`.
//!
//! Several changes, in an order in which a look tells what is left after a crash at any point: the
//! data is rewound (which writes `standby.signal` as its last, and is not done again where that is
//! there), the server is started, its settings are put right. A server is never started without
//! `standby.signal`: it would be a second primary.

mod data;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use serde_json::Value;

use self::data::{Data, Place, Process};
use super::literal;
use crate::actions::{LOOK, until};
use crate::clients::Failure;
use crate::clients::postgres::{Session, connect};
use crate::clients::postgres_program::{Program, Target};
use crate::config::action::{OnDiverged, PostgresFollow};
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// How long the start may take: it replays what the rewind left.
const START: Duration = Duration::from_secs(120);

/// Brings an old primary back as a standby.
pub(super) struct Follow {
    params: PostgresFollow,
    data: Data,
}

/// How the standby stands.
struct Standby {
    /// It streams from the new primary.
    streams: bool,
    /// Its slot is the one that was said, and it would take writes once it is promoted.
    settled: bool,
    told: String,
}

/// Why there is nothing to go on with.
enum Stopped {
    Failed(Failure),
    Denied(Denied),
    /// A program ended with an error: for a person.
    Said(String),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Follow {
    pub(super) fn new(params: PostgresFollow) -> Self {
        Self { data: Data::new(&params.data_directory), params }
    }

    async fn standby(&self, target: &Target, session: &Session, until: Instant) -> Result<Standby, Failure> {
        if session.value("SELECT pg_is_in_recovery()::text", until).await? != "true" {
            return Err(Failure::refused("it takes writes: it runs as a primary; stop it first"));
        }
        let slot = literal(self.params.slot.as_deref().unwrap_or_default());
        let sql = format!(
            "SELECT (current_setting('primary_slot_name') = {slot} AND NOT EXISTS (SELECT 1 FROM pg_settings WHERE \
             name = 'default_transaction_read_only' AND setting = 'on' AND source = 'configuration file'))::text"
        );
        let settled = session.value(&sql, until).await? == "true";
        let sql = "SELECT coalesce(status, ''), coalesce(sender_host, ''), coalesce(sender_port::text, ''), \
                   coalesce(slot_name, ''), coalesce(received_tli::text, '') FROM pg_stat_wal_receiver";
        let Some(row) = session.run(sql, until).await?.first else {
            let told = "in recovery; receives nothing yet".into();
            return Ok(Standby { streams: false, settled, told });
        };
        let row: Vec<String> = row.into_iter().flatten().collect();
        let [status, host, port, slot, timeline] = row.as_slice() else {
            return Err(Failure::unknown("postgres: the receiver of WAL is not told whole"));
        };
        let slot = if slot.is_empty() { String::new() } else { format!(" through the slot {slot}") };
        let told = format!("in recovery; {status} from {host}:{port}{slot} on timeline {timeline}");
        Ok(Standby { streams: status == "streaming" && target.is_at(host, port), settled, told })
    }

    async fn look(&self, context: &ActionContext) -> Result<Standby, Failure> {
        let until = until(context, LOOK);
        let target = Target::read(&self.params.source)?;
        let session = connect(&self.params.url, self.params.ca_file.as_deref(), until).await?;
        self.standby(&target, &session, until).await
    }

    /// The new primary takes writes, is of the same cluster, and has the slot.
    async fn source(&self, context: &ActionContext, owner: (u32, u32)) -> Result<(), Failure> {
        let until = until(context, LOOK);
        let session = connect(&self.params.source, self.params.ca_file.as_deref(), until).await?;
        if session.value("SELECT pg_is_in_recovery()::text", until).await? == "true" {
            return Err(Failure::refused("the source is in recovery: it is no primary to follow"));
        }
        let theirs = session.value("SELECT system_identifier::text FROM pg_control_system()", until).await?;
        let mut control = self.program("pg_controldata", owner);
        control.arguments = vec!["-D".into(), self.data.path().into()];
        let told = control.run(until, None).await?;
        let ours = self.data.identifier(&told.output).ok_or_else(|| {
            Failure::refused(format!(
                "the system identifier of the data directory is not known: {}: {}",
                told.how, told.said
            ))
        })?;
        if ours != theirs {
            return Err(Failure::refused(format!(
                "another cluster: the system identifier of the source is {theirs}, that of the data directory {ours}"
            )));
        }
        let Some(slot) = &self.params.slot else { return Ok(()) };
        let sql = format!(
            "SELECT count(*)::text FROM pg_replication_slots WHERE slot_type = 'physical' AND slot_name = {}",
            literal(slot)
        );
        match session.value(&sql, until).await?.as_str() {
            "1" => Ok(()),
            _ => Err(Failure::refused(format!(
                "the source has no slot {slot}; make it with SELECT pg_create_physical_replication_slot('{slot}', true)"
            ))),
        }
    }

    fn program(&self, name: &str, owner: (u32, u32)) -> Program {
        Program {
            path: self.params.bin_directory.join(name),
            arguments: Vec::new(),
            environment: Vec::new(),
            owner: Some(owner),
        }
    }

    /// Is there anything that can be done? Of a stopped server, with what it needs.
    async fn ready(&self, context: &ActionContext) -> Result<Place, Failure> {
        let place = self.data.place()?;
        match self.data.process() {
            Process::Primary { pid } => Err(Failure::refused(format!(
                "the old server runs (process {pid} of {}), and is no standby: stop it first",
                self.data.path().display()
            ))),
            Process::Standby { .. } => Ok(place),
            Process::None => {
                if let Place::Whole { owner } = place {
                    self.source(context, owner).await?;
                }
                Ok(place)
            }
        }
    }

    /// All that is left to do.
    async fn bring_back(&self, context: &ActionContext) -> Result<String, Stopped> {
        let target = Target::read(&self.params.source)?;
        let place = self.ready(context).await?;
        let mut told = String::from("it runs");
        if let Process::None = self.data.process() {
            told = match place {
                // The rewind writes it as its last; a second one would refuse what is a standby already.
                Place::Whole { .. } if self.data.has_signal() => "it was rewound already".into(),
                Place::Whole { owner } => self.rewind(context, &target, owner).await?,
                Place::Swapping { .. } => self.swap(context).await?,
            };
            self.start(context, place.owner()).await?;
        }
        self.settle(context, &target).await?;
        Ok(told)
    }

    async fn rewind(&self, context: &ActionContext, target: &Target, owner: (u32, u32)) -> Result<String, Stopped> {
        let mut program = self.program("pg_rewind", owner);
        program.arguments = vec!["--target-pgdata".into(), self.data.path().into(), "--source-server".into()];
        program.arguments.extend([target.url.clone().into(), "--write-recovery-conf".into()]);
        if let Some(folder) = &self.params.config_directory {
            let mut option = std::ffi::OsString::from("--config-file=");
            option.push(folder.join("postgresql.conf"));
            program.arguments.push(option);
        }
        program.environment = target.environment();
        context.permit().map_err(Stopped::Denied)?;
        let ended = program.run(until(context, context.left()), Some(target)).await?;
        if ended.well && self.data.has_signal() {
            return Ok(ended.said);
        }
        let reason = format!("{}: {}", ended.how, ended.said);
        match self.params.on_diverged {
            OnDiverged::Refuse => Err(Stopped::Said(format!(
                "it cannot be rewound; `on_diverged = \"base_backup\"` would make a new copy in its place: {reason}"
            ))),
            OnDiverged::BaseBackup => {
                self.copy(context, target, owner).await?;
                self.swap(context).await
            }
        }
    }

    /// Makes a copy of the new primary beside the data directory.
    async fn copy(&self, context: &ActionContext, target: &Target, owner: (u32, u32)) -> Result<(), Stopped> {
        context.permit().map_err(Stopped::Denied)?;
        let folder = self.data.new_folder(owner).await?;
        let mut program = self.program("pg_basebackup", owner);
        program.arguments = ["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-password"]
            .map(Into::into)
            .into();
        program.arguments.extend(["--pgdata".into(), folder.into(), "--dbname".into(), target.url.clone().into()]);
        if let Some(slot) = &self.params.slot {
            program.arguments.extend(["--slot".into(), slot.into()]);
        }
        program.environment = target.environment();
        context.permit().map_err(Stopped::Denied)?;
        let ended = program.run(until(context, context.left()), Some(target)).await?;
        if !ended.well {
            return Err(Stopped::Said(format!("{}: {}", ended.how, ended.said)));
        }
        Ok(self.data.is_ready().await?)
    }

    /// Puts the copy in the place of the data directory, which is kept.
    async fn swap(&self, context: &ActionContext) -> Result<String, Stopped> {
        context.permit().map_err(Stopped::Denied)?;
        let aside = self.data.swap().await?;
        Ok(format!("a new copy of the source is in its place; what was there is in {}", aside.display()))
    }

    async fn start(&self, context: &ActionContext, owner: (u32, u32)) -> Result<(), Stopped> {
        if !self.data.has_signal() {
            return Err(Stopped::Said("it has no standby.signal, and would start as a primary".into()));
        }
        let program = match self.params.start.split_first() {
            Some((path, arguments)) => Program {
                path: path.into(),
                arguments: arguments.iter().map(Into::into).collect(),
                environment: Vec::new(),
                owner: None,
            },
            None => {
                let folder = self.params.config_directory.as_deref().unwrap_or(self.data.path());
                let seconds = START.min(context.left() / 2).as_secs().max(1).to_string();
                let log = self.data.path().join("failoverd-start.log");
                let mut program = self.program("pg_ctl", owner);
                program.arguments = vec!["start".into(), "-w".into(), "-t".into(), seconds.into(), "-D".into()];
                program.arguments.extend([folder.into(), "-l".into(), log.into()]);
                program
            }
        };
        context.permit().map_err(Stopped::Denied)?;
        let ended = program.run(until(context, START), None).await?;
        if ended.well {
            return Ok(());
        }
        // It may be on its way all the same.
        Err(Failure::unknown(format!("{}: {}", ended.how, ended.said)).into())
    }

    /// The rewind copies the new primary's own settings: its slot from when it was a standby. And an
    /// old fence would still hold when this server is promoted some day.
    async fn settle(&self, context: &ActionContext, target: &Target) -> Result<(), Stopped> {
        let by = until(context, LOOK);
        let session = connect(&self.params.url, self.params.ca_file.as_deref(), by).await?;
        if self.standby(target, &session, by).await?.settled {
            return Ok(());
        }
        let slot = match &self.params.slot {
            Some(slot) => format!("ALTER SYSTEM SET primary_slot_name = {}", literal(slot)),
            None => "ALTER SYSTEM SET primary_slot_name = ''".to_owned(),
        };
        for sql in [slot.as_str(), "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"] {
            context.permit().map_err(Stopped::Denied)?;
            session.run(sql, by).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Action for Follow {
    async fn observe(&self, context: &ActionContext) -> Observed {
        let not_done = |evidence: String| Observed::NotDone { evidence, before: Value::Null };
        if let Err(failure) = self.ready(context).await {
            return failure.observed();
        }
        let Process::Standby { pid } = self.data.process() else {
            return not_done("the server is stopped".into());
        };
        match self.look(context).await {
            Ok(Standby { streams: true, settled: true, told }) => Observed::Done { evidence: told },
            Ok(Standby { settled: false, told, .. }) => {
                not_done(format!("{told}; its settings are not as they should be"))
            }
            Ok(Standby { told, .. }) => Observed::InProgress { evidence: told },
            Err(Failure { kind: crate::clients::FailureKind::Refused, reason, .. }) => Observed::Impossible { reason },
            // It may well be on its way.
            Err(failure) => {
                Observed::Unknown { reason: format!("the server runs (process {pid}): {}", failure.reason) }
            }
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        match self.bring_back(context).await {
            Ok(told) => Ok(Applied::Accepted { evidence: told }),
            Err(Stopped::Denied(denied)) => Err(denied),
            Err(Stopped::Said(reason)) => Ok(Applied::Refused { reason, again: false }),
            Err(Stopped::Failed(failure)) => Ok(failure.applied()),
        }
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        match self.look(context).await {
            Ok(Standby { streams: true, settled: true, told }) => Verified::yes(told),
            Ok(Standby { told, .. }) => Verified::NotYet { evidence: told },
            Err(failure) => failure.verified(),
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}
