//! The epoch that last changed a server, in a key of its own. It is watched from the look at it until
//! the change, and written in the same transaction: a newer epoch that came in between makes the server
//! refuse the whole.
//!
//! A replica takes no write, also not in the transaction that makes it a master: Redis refuses it when
//! it is queued. A script it takes, and looks at what the script writes only when it runs, which is
//! after the promotion. So the key is written by a script.
//!
//! What it cannot stop: a user whose rights do not reach so far, a server that answers no looks at all
//! (`replica-serve-stale-data no` without a master) and a cluster in which the key lies elsewhere get the
//! change without it, and the evidence says so.

use std::time::Instant;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value as Reply, cmd};

use crate::actions::{Halt, fenced};
use crate::clients::redis::query;
use crate::clients::{Failure, FailureKind};
use crate::model::Applied;
use crate::ports::{ActionContext, Denied};

/// The key. With the colon in it no step's name leads to it.
pub(super) const KEY: &str = "failoverd:fence:epoch";

/// Writes the key and answers in any case: what keeps it from being written keeps nothing else from
/// being done.
const SCRIPT: &str = "local said = redis.pcall('SET', KEYS[1], ARGV[1]) \
                      if type(said) == 'table' and said.err then return said.err end return 'OK'";

/// When the key is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// While the server still takes writes.
    Before,
    /// When it does, or has been emptied.
    After,
}

/// Why a server cannot be asked for its epoch.
enum Look {
    Newest(u64),
    Without(String),
}

/// Refuses a server that a higher epoch has changed.
pub(super) async fn ours(
    context: &ActionContext,
    connection: &mut MultiplexedConnection,
    until: Instant,
) -> Result<(), Halt> {
    match look(connection, until).await? {
        Look::Newest(newest) => judged(context, newest),
        Look::Without(_) => Ok(()),
    }
}

fn judged(context: &ActionContext, newest: u64) -> Result<(), Halt> {
    // A dry run has no epoch of its own yet.
    if context.run.is_some() && newest > context.epoch.0 {
        return Err(Halt::Overtaken(fenced("the server", newest, context.epoch.0)));
    }
    Ok(())
}

async fn look(connection: &mut MultiplexedConnection, until: Instant) -> Result<Look, Failure> {
    let held: Option<Vec<u8>> = match query(connection, cmd("GET").arg(KEY), until).await {
        Ok(held) => held,
        Err(failure) if failure.kind == FailureKind::Unknown => return Err(failure),
        Err(failure) => return Ok(Look::Without(failure.reason)),
    };
    let Some(held) = held else { return Ok(Look::Newest(0)) };
    let number = std::str::from_utf8(&held).ok().and_then(|text| text.parse().ok());
    number.map(Look::Newest).ok_or_else(|| Failure::refused(format!("redis: the key {KEY} holds no number; remove it")))
}

/// Makes a change of one command or several, all or nothing, unless a higher epoch has changed the
/// server: what came of it, and what there is to say of the epoch. The permit is asked for immediately
/// before that which makes it happen.
pub(super) async fn change(
    context: &ActionContext,
    connection: &mut MultiplexedConnection,
    commands: &[Cmd],
    when: When,
    until: Instant,
) -> Result<Result<String, Applied>, Denied> {
    let without = match prepared(context, connection, commands, when, until).await {
        Ok(None) => return executed(context, connection, when, until).await,
        Ok(Some(without)) => without,
        Err(halt) => return Ok(Err(halt.not_sent())),
    };
    let told = format!("; an older epoch is not kept away: {without}");
    let [one] = commands else {
        let multi = [cmd("MULTI")].into_iter().chain(commands.iter().cloned()).collect::<Vec<_>>();
        if let Err(failure) = queue(connection, &multi, until).await {
            return Ok(Err(failure.not_sent()));
        }
        context.permit()?;
        let sent = query::<Reply>(connection, &cmd("EXEC"), until).await;
        return Ok(sent.map(|_| told).map_err(Failure::applied));
    };
    context.permit()?;
    Ok(query::<Reply>(connection, one, until).await.map(|_| told).map_err(Failure::applied))
}

/// Queues the change and the key. `Some` is why it has to go without the key.
async fn prepared(
    context: &ActionContext,
    connection: &mut MultiplexedConnection,
    commands: &[Cmd],
    when: When,
    until: Instant,
) -> Result<Option<String>, Halt> {
    match query::<Reply>(connection, cmd("WATCH").arg(KEY), until).await {
        Ok(_) => {}
        Err(failure) if failure.kind == FailureKind::Unknown => return Err(failure.into()),
        Err(failure) => return Ok(Some(failure.reason)),
    }
    match look(connection, until).await? {
        Look::Newest(newest) => judged(context, newest)?,
        Look::Without(reason) => return Ok(Some(reason)),
    }
    let mut write = cmd("EVAL");
    write.arg(SCRIPT).arg(1).arg(KEY).arg(context.epoch.0);
    let mut all = commands.to_vec();
    all.insert(if when == When::Before { 0 } else { all.len() }, write);
    let Err(failure) = query::<Reply>(connection, &cmd("MULTI"), until).await.map(drop) else {
        return queued(connection, &all, until).await;
    };
    if failure.kind == FailureKind::Unknown { Err(failure.into()) } else { Ok(Some(failure.reason)) }
}

/// Queues them all. `Some` is why it has to go without the key.
async fn queued(
    connection: &mut MultiplexedConnection,
    commands: &[Cmd],
    until: Instant,
) -> Result<Option<String>, Halt> {
    if let Err(failure) = queue(connection, commands, until).await {
        if failure.kind == FailureKind::Unknown {
            return Err(failure.into());
        }
        // Without EXEC nothing is done. Is it the key, or is it the change itself, that is refused? The
        // change says so once more when it goes alone.
        query::<Reply>(connection, &cmd("DISCARD"), until).await?;
        return Ok(Some(failure.reason));
    }
    Ok(None)
}

/// One after the other: what is refused while it is queued would else not be told in its own words.
async fn queue(connection: &mut MultiplexedConnection, commands: &[Cmd], until: Instant) -> Result<(), Failure> {
    for command in commands {
        query::<Reply>(connection, command, until).await?;
    }
    Ok(())
}

async fn executed(
    context: &ActionContext,
    connection: &mut MultiplexedConnection,
    when: When,
    until: Instant,
) -> Result<Result<String, Applied>, Denied> {
    context.permit()?;
    let answers = match query::<Reply>(connection, &cmd("EXEC"), until).await {
        Ok(Reply::Array(answers)) => answers,
        Ok(_) => {
            // The key was written since we looked at it, so that nothing was done.
            let newer = ours(context, connection, until).await.map_err(Halt::not_sent);
            let again = || Failure::again(format!("redis: the key {KEY} was written in between")).applied();
            return Ok(newer.and_then(|()| Err(again())));
        }
        Err(failure) => return Ok(Err(failure.applied())),
    };
    let said = if when == When::Before { answers.first() } else { answers.last() };
    Ok(Ok(match said {
        Some(Reply::BulkString(said)) if said == b"OK" => String::new(),
        Some(Reply::SimpleString(said)) if said == "OK" => String::new(),
        Some(Reply::Okay) => String::new(),
        Some(Reply::BulkString(said)) => {
            let said = Failure::refused(String::from_utf8_lossy(said)).reason;
            format!("; the epoch could not be written down: {said}")
        }
        _ => "; the epoch could not be written down".to_owned(),
    }))
}
