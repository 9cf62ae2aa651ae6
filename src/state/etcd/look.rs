//! One look at everything that decides who leads, at one instant of the cluster.

use etcd_client::{GetOptions, KeyValue, Txn, TxnOp, TxnOpResponse};

use super::keys::Keys;
use super::remote::{Remote, Unreachable};
use super::{Asked, MemberCard};

/// So many commands that were handed on are taken at one go.
const ASKED: i64 = 16;
/// So many members are shown.
const MEMBERS: i64 = 64;

/// What was seen.
#[derive(Debug, Default)]
pub struct Look {
    /// The leader's key.
    pub leader: Option<KeyValue>,
    /// Who shall lead next.
    pub heir: Option<KeyValue>,
    /// Where the journal ends.
    pub tail: Option<KeyValue>,
    /// The version of the journal.
    pub schema: Option<u32>,
    /// Who is there.
    pub members: Vec<MemberCard>,
    /// What was handed on.
    pub asked: Vec<Asked>,
}

/// Looks: a transaction of reads, which the cluster answers as of one instant and never with what is stale.
///
/// # Errors
/// [`Unreachable`].
pub async fn look(remote: &Remote, keys: &Keys) -> Result<Look, Unreachable> {
    let below = |limit| Some(GetOptions::new().with_prefix().with_limit(limit));
    let reads = Txn::new().and_then(vec![
        TxnOp::get(keys.leader(), None),
        TxnOp::get(keys.heir(), None),
        TxnOp::get(keys.tail(), None),
        TxnOp::get(keys.schema(), None),
        TxnOp::get(keys.members(), below(MEMBERS)),
        TxnOp::get(keys.asks(), below(ASKED)),
    ]);
    let answer = remote
        .call(|mut client| {
            let reads = reads.clone();
            async move { client.txn(reads).await }
        })
        .await?;
    let mut found = answer.op_responses().into_iter().map(|response| match response {
        TxnOpResponse::Get(mut answer) => answer.take_kvs(),
        _ => Vec::new(),
    });
    let mut next = || found.next().unwrap_or_default();
    let (leader, heir, tail) = (next().pop(), next().pop(), next().pop());
    let schema = next().pop();
    let schema = schema.map(|key| key.value_str().ok().and_then(|text| text.parse().ok()).unwrap_or(u32::MAX));
    // What is not understood is of another version, and no member and no command of ours.
    let members = next().iter().filter_map(|key| serde_json::from_slice(key.value()).ok()).collect();
    let asked = next().iter().filter_map(|key| serde_json::from_slice(key.value()).ok()).collect();
    Ok(Look { leader, heir, tail, schema, members, asked })
}
