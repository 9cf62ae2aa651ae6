//! The journal of a member: written to the cluster, then to its own copy.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp, TxnOpResponse};

use super::keeper::Shared;
use super::roll::{row_text, tail_text};
use crate::core::lease::MayNot;
use crate::model::{Epoch, Record, Term};
use crate::ports::{Authority, Denied, Journal, JournalError};
use crate::state::chain::{Row, Tail};
use crate::state::crash;
use crate::state::{SqliteAuthority, SqliteJournal};

/// So many records are written in one transaction: etcd takes 128 operations by default.
const ROWS: usize = 100;
/// Between two times that the same transaction is sent.
const PAUSE: Duration = Duration::from_millis(50);

/// The journal of a member.
pub struct EtcdJournal {
    pub(super) shared: Arc<Shared>,
    pub(super) local: SqliteJournal,
}

impl EtcdJournal {
    fn error(&self, reason: impl Into<String>) -> JournalError {
        JournalError::Write { path: self.shared.shown.clone(), reason: reason.into() }
    }

    /// Writes to the cluster, and waits for it; the renewals go on meanwhile.
    fn write(&self, rows: Vec<Row>, tail: Tail) -> Result<(), JournalError> {
        let (done, outcome) = std::sync::mpsc::channel();
        let shared = Arc::clone(&self.shared);
        self.shared.runtime.spawn(async move {
            let _nobody_waits = done.send(append(&shared, &rows, &tail).await);
        });
        // The task ends by itself with the half of the lease in which it may write.
        outcome.recv().map_err(|_| self.error("the thread of the store has ended"))?.map_err(|why| self.error(why))
    }
}

impl Journal for EtcdJournal {
    fn sound(&self) -> Result<(), JournalError> {
        self.local.sound()
    }

    fn newest(&self) -> Option<(u64, String)> {
        self.local.newest()
    }

    fn append(&mut self, records: &[Record]) -> Result<(), JournalError> {
        for records in records.chunks(ROWS) {
            let mut tail = self.local.tail();
            let mut rows = Vec::with_capacity(records.len());
            for record in records {
                let (row, next) = tail
                    .follow(record)
                    .map_err(|reason| self.error(format!("record {} was refused: {reason}", record.seq)))?;
                rows.push(row);
                tail = next;
            }
            crash::point(format_args!("cluster:before"));
            self.write(rows, tail.clone())?;
            crash::point(format_args!("cluster:after"));
            self.local.append(records)?;
        }
        Ok(())
    }

    fn replicate(&mut self, records: &[Record]) -> Result<(), JournalError> {
        self.local.replicate(records)
    }

    fn replay(&mut self) -> Result<Vec<Record>, JournalError> {
        self.local.replay()
    }
}

/// Writes rows behind the tail that the cluster has, under our own term; sends the same transaction again until
/// its outcome is known, or until we may not write any more.
async fn append(shared: &Shared, rows: &[Row], tail: &Tail) -> Result<(), String> {
    loop {
        let term = shared.may_act().map_err(|why| format!("{why}"))?;
        let known = shared.tail_revision();
        let transaction = transaction(shared, term, known, rows, tail);
        let sent = shared
            .remote
            .call(|mut client| {
                let transaction = transaction.clone();
                async move { client.txn(transaction).await }
            })
            .await;
        match sent {
            Ok(answer) if answer.succeeded() => {
                let revision = answer.header().map_or(known, etcd_client::ResponseHeader::revision);
                shared.set_tail(tail.clone(), revision);
                return Ok(());
            }
            Ok(answer) => return settled(shared, &answer.op_responses(), tail),
            Err(why) => {
                tracing::warn!(%why, "the outcome of a write to the journal is not known: the same is sent again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// The transaction did not hold: because an earlier sending of it did, or because this member leads no more.
fn settled(shared: &Shared, found: &[TxnOpResponse], tail: &Tail) -> Result<(), String> {
    let value = |place: usize| match found.get(place) {
        Some(TxnOpResponse::Get(answer)) => answer.kvs().first().cloned(),
        _ => None,
    };
    if let Some(end) = value(0)
        && end.value() == tail_text(tail).as_bytes()
    {
        shared.set_tail(tail.clone(), end.mod_revision());
        return Ok(());
    }
    let leader = value(1).map_or("nobody".to_owned(), |key| String::from_utf8_lossy(key.value()).into_owned());
    Err(format!("{leader} leads, by the cluster"))
}

fn transaction(shared: &Shared, term: Term, known: i64, rows: &[Row], tail: &Tail) -> Txn {
    let keys = &shared.keys;
    let leader = i64::try_from(term.0).unwrap_or(i64::MAX);
    let holds = vec![
        Compare::create_revision(keys.leader(), CompareOp::Equal, leader),
        Compare::mod_revision(keys.tail(), CompareOp::Equal, known),
    ];
    let seq = |row: &Row| u64::try_from(row.seq).unwrap_or(0);
    let mut writes: Vec<TxnOp> =
        rows.iter().map(|row| TxnOp::put(keys.record(seq(row)), row_text(row), None::<PutOptions>)).collect();
    writes.push(TxnOp::put(keys.tail(), tail_text(tail), None));
    let looks = vec![TxnOp::get(keys.tail(), None), TxnOp::get(keys.leader(), None)];
    Txn::new().when(holds).and_then(writes).or_else(looks)
}

/// Who may call, for a member: the one that leads, in the first half of its lease, under the highest epoch.
#[derive(Clone)]
pub struct EtcdAuthority {
    pub(super) shared: Arc<Shared>,
    pub(super) local: SqliteAuthority,
}

impl Authority for EtcdAuthority {
    fn permit(&self, epoch: Epoch) -> Result<(), Denied> {
        self.local.permit(epoch)?;
        // Last: nothing that takes time comes between this and the call.
        self.shared.may_act().map_err(|why| match why {
            MayNot::NotLeading | MayNot::Waning { .. } | MayNot::Over { .. } => Denied::LeaseOver,
        })?;
        crash::point(format_args!("permitted"));
        Ok(())
    }
}

impl Shared {
    /// The term under which this member may act now.
    pub(super) fn may_act(&self) -> Result<Term, MayNot> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).may_act(super::keeper::now())
    }

    fn tail_revision(&self) -> i64 {
        lock(&self.tail).1
    }

    pub(super) fn set_tail(&self, tail: Tail, revision: i64) {
        *lock(&self.tail) = (tail, revision);
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
