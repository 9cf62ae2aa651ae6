//! The writes to the cluster beside the journal. Each holds only on its condition, so that it may be sent twice.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, PutOptions, Txn, TxnOp};

use super::keeper::Shared;
use super::look::Look;
use super::remote::Unreachable;
use super::{Asked, MemberCard, Reply};
use crate::core::Refusal;
use crate::model::{Term, VantageId};

/// How long a member waits for what becomes of a command that it handed on.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long a command, and what became of it, lies in the cluster at most.
const KEPT: i64 = 20;
/// Between two looks for the answer.
const PAUSE: Duration = Duration::from_millis(100);

/// Was the condition met?
async fn transact(shared: &Shared, transaction: Txn) -> Result<bool, Unreachable> {
    let answer = shared
        .remote
        .call(|mut client| {
            let transaction = transaction.clone();
            async move { client.txn(transaction).await }
        })
        .await?;
    Ok(answer.succeeded())
}

fn revision(term: Term) -> i64 {
    i64::try_from(term.0).unwrap_or(i64::MAX)
}

/// Says that this member is there, as long as its lease is.
pub async fn put_card(shared: &Shared, me: &MemberCard, lease: i64) -> Result<(), Unreachable> {
    let (key, card) = (shared.keys.member(me.name.as_str()), serde_json::to_vec(me).unwrap_or_default());
    let put = TxnOp::put(key, card, Some(PutOptions::new().with_lease(lease)));
    transact(shared, Txn::new().and_then(vec![put])).await.map(drop)
}

/// Takes the lead where nobody has it.
pub async fn campaign(shared: &Shared, name: &VantageId, lease: i64) -> Result<(), Unreachable> {
    let nobody = Compare::create_revision(shared.keys.leader(), CompareOp::Equal, 0);
    let put = TxnOp::put(shared.keys.leader(), name.as_str(), Some(PutOptions::new().with_lease(lease)));
    transact(shared, Txn::new().when(vec![nobody]).and_then(vec![put])).await.map(drop)
}

/// Gives the lead of this term back; `heir` shall have it.
pub async fn resign(shared: &Shared, term: Term, heir: Option<&VantageId>) -> Result<(), Unreachable> {
    let ours = Compare::create_revision(shared.keys.leader(), CompareOp::Equal, revision(term));
    let mut changes = vec![TxnOp::delete(shared.keys.leader(), None)];
    if let Some(heir) = heir {
        // It goes by itself where the heir does not come.
        let ttl = i64::try_from(shared.ttl.as_secs()).unwrap_or(1).max(1);
        let granted = shared.remote.call(|mut client| async move { client.lease_grant(ttl, None).await }).await?;
        let options = PutOptions::new().with_lease(granted.id());
        changes.push(TxnOp::put(shared.keys.heir(), heir.as_str(), Some(options)));
    }
    transact(shared, Txn::new().when(vec![ours]).and_then(changes)).await.map(drop)
}

/// Raises the version of the journal to what every member that is there can read.
pub async fn raise_schema(shared: &Shared, term: Term, seen: &Look) -> Result<(), Unreachable> {
    let common = seen.members.iter().map(|member| member.schema).chain([shared.me.schema]).min();
    let Some(common) = common else { return Ok(()) };
    if seen.schema.is_some_and(|known| known >= common) {
        return Ok(());
    }
    let ours = Compare::create_revision(shared.keys.leader(), CompareOp::Equal, revision(term));
    let put = TxnOp::put(shared.keys.schema(), common.to_string(), None);
    transact(shared, Txn::new().when(vec![ours]).and_then(vec![put])).await.map(drop)
}

/// Takes a command that was handed on: `false` where it is gone.
pub async fn claim(shared: &Shared, id: &str) -> Result<bool, Unreachable> {
    let there = Compare::version(shared.keys.ask(id), CompareOp::Greater, 0);
    let delete = TxnOp::delete(shared.keys.ask(id), None);
    transact(shared, Txn::new().when(vec![there]).and_then(vec![delete])).await
}

/// Says what became of a command that was handed on.
pub async fn answer(shared: &Shared, id: &str, reply: &Reply) {
    let text = serde_json::to_vec(reply).unwrap_or_default();
    if let Err(why) = put_for_a_while(shared, shared.keys.answer(id), text).await {
        tracing::warn!(%why, id, "what became of a command that was handed on could not be said");
    }
}

async fn put_for_a_while(shared: &Shared, key: String, value: Vec<u8>) -> Result<(), Unreachable> {
    let granted = shared.remote.call(|mut client| async move { client.lease_grant(KEPT, None).await }).await?;
    let put = TxnOp::put(key, value, Some(PutOptions::new().with_lease(granted.id())));
    transact(shared, Txn::new().and_then(vec![put])).await.map(drop)
}

/// Hands a command on to the leader, and waits for what becomes of it.
pub async fn forward(shared: Arc<Shared>, asked: Asked) -> Reply {
    let runtime = shared.runtime.clone();
    let work = runtime.spawn(async move { tokio::time::timeout(PATIENCE, ask(&shared, &asked)).await });
    let refuse = |code: &str, message: String| Err(Refusal { code: code.to_owned(), message });
    match work.await {
        Ok(Ok(Ok(reply))) => reply,
        // The asking itself is a write whose answer may have been lost.
        Ok(Ok(Err(why))) => refuse(
            "unknown",
            format!(
                "the leader could not be asked: {why}; whether it was carried out is not known; see `failoverd status`"
            ),
        ),
        Ok(Err(_)) | Err(_) => refuse(
            "unknown",
            "the leader did not answer in time: whether it was carried out is not known; see `failoverd status`".into(),
        ),
    }
}

async fn put_ask(shared: &Shared, asked: &Asked) -> Result<(), Unreachable> {
    let text = serde_json::to_vec(asked).unwrap_or_default();
    put_for_a_while(shared, shared.keys.ask(&asked.id), text).await
}

/// Hands on what nobody waits for.
pub async fn note(shared: &Shared, asked: &Asked) {
    if let Err(why) = put_ask(shared, asked).await {
        tracing::warn!(%why, by = asked.by, "what was refused here could not be told to the leader");
    }
}

async fn ask(shared: &Shared, asked: &Asked) -> Result<Reply, Unreachable> {
    put_ask(shared, asked).await?;
    loop {
        tokio::time::sleep(PAUSE).await;
        let key = shared.keys.answer(&asked.id);
        let found = shared
            .remote
            .call(|mut client| {
                let key = key.clone();
                async move { client.get(key, None).await }
            })
            .await;
        // It was put: from here on, what cannot be read is not known.
        let Ok(found) = found else { continue };
        if let Some(reply) = found.kvs().first().and_then(|key| serde_json::from_slice(key.value()).ok()) {
            return Ok(reply);
        }
    }
}
