//! `redis.command`.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, Value as Reply, cmd};
use serde_json::Value;

use super::epoch::{self, When};
use crate::actions::{CHANGE, LOOK, only_looks, output, until, value};
use crate::clients::redis::{connect, query};
use crate::clients::{Failure, Redactor};
use crate::config::SecretText;
use crate::config::action::RedisCommand;
use crate::config::action::redis_command::Treated;
use crate::model::{Applied, Observed, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// How much of an answer is told as evidence, in characters.
const TOLD_CHARS: usize = 120;

/// One command.
pub(super) struct Command {
    params: RedisCommand,
    treated: Treated,
}

/// Its words, with the secret ones read; and what keeps them out of sight.
struct Words {
    all: Vec<String>,
    redactor: Redactor,
}

impl Words {
    /// Those from this place on.
    fn from(&self, place: usize) -> &[String] {
        self.all.get(place..).unwrap_or_default()
    }

    fn at(&self, place: usize) -> &str {
        self.all.get(place).map_or("", String::as_str)
    }

    fn command(&self) -> Cmd {
        let mut command = Cmd::new();
        command.arg(&self.all);
        command
    }

    /// A failure without the secret words: a server may quote them.
    fn clean(&self, failure: Failure) -> Failure {
        Failure { reason: self.redactor.clean(&failure.reason), ..failure }
    }
}

impl Command {
    pub(super) fn new(params: RedisCommand) -> Result<Self, String> {
        let treated = params.treated().map_err(|(message, fix)| format!("{message}; {fix}"))?;
        Ok(Self { params, treated })
    }

    fn words(&self) -> Result<Words, Failure> {
        let (mut all, mut redactor) = (Vec::new(), Redactor::default());
        for text in &self.params.command {
            let word = text.read().map_err(|error| Failure::refused(error.to_string()))?;
            if let SecretText::Reference(_) = text {
                redactor.hide(&word);
            }
            all.push(word);
        }
        Ok(Words { all, redactor })
    }

    /// Is it as the command would have it?
    async fn is_done(
        &self,
        words: &Words,
        connection: &mut MultiplexedConnection,
        until: Instant,
    ) -> Result<bool, Failure> {
        let key = words.at(1);
        Ok(match self.treated {
            Treated::Look => false,
            Treated::Set => {
                let now: Option<Vec<u8>> = query(connection, cmd("GET").arg(key), until).await?;
                now.as_deref() == Some(words.at(2).as_bytes())
            }
            Treated::Members(wanted) => {
                let members: Vec<bool> =
                    query(connection, cmd("SMISMEMBER").arg(key).arg(words.from(2)), until).await?;
                members.len() == words.from(2).len() && members.iter().all(|member| *member == wanted)
            }
            Treated::Fields => {
                let pairs: Vec<_> = words.from(2).chunks_exact(2).collect();
                let mut command = cmd("HMGET");
                command.arg(key);
                for pair in &pairs {
                    command.arg(&pair[0]);
                }
                let now: Vec<Option<Vec<u8>>> = query(connection, &command, until).await?;
                now.len() == pairs.len()
                    && now.iter().zip(&pairs).all(|(now, pair)| now.as_deref() == Some(pair[1].as_bytes()))
            }
            Treated::NoFields => {
                let now: Vec<Option<Vec<u8>>> =
                    query(connection, cmd("HMGET").arg(key).arg(words.from(2)), until).await?;
                now.iter().all(Option::is_none)
            }
            Treated::NoKeys => query::<u64>(connection, cmd("EXISTS").arg(words.from(1)), until).await? == 0,
            Treated::Expire => {
                let left: i64 = query(connection, cmd("TTL").arg(key), until).await?;
                if left == -2 {
                    return Err(Failure::refused("redis: there is no such key, which could expire"));
                }
                left >= 0 && self.params.seconds().is_some_and(|seconds| left <= seconds)
            }
            Treated::Persist => match query::<i64>(connection, cmd("TTL").arg(key), until).await? {
                -2 => return Err(Failure::refused("redis: there is no such key, which could be kept")),
                left => left == -1,
            },
            Treated::Setting => {
                let setting = self.params.setting().unwrap_or_default();
                let now: Vec<String> = query(connection, cmd("CONFIG").arg("GET").arg(setting), until).await?;
                now.get(1).is_some_and(|now| now.eq_ignore_ascii_case(words.at(3)))
            }
        })
    }

    async fn look(&self, context: &ActionContext) -> Result<bool, Failure> {
        let until = until(context, LOOK);
        let words = self.words()?;
        let looked = async {
            let mut connection = connect(&self.params.url, until).await?;
            self.is_done(&words, &mut connection, until).await
        };
        looked.await.map_err(|failure| words.clean(failure))
    }

    /// The answer to a command that looks; secret words are taken out of it.
    async fn ask(&self, context: &ActionContext) -> Result<(String, String), Failure> {
        let until = until(context, LOOK);
        let words = self.words()?;
        let asked = async {
            let mut connection = connect(&self.params.url, until).await?;
            query::<Reply>(&mut connection, &words.command(), until).await
        };
        let reply = asked.await.map_err(|failure| words.clean(failure))?;
        let plain = text(reply);
        let shown = words.redactor.clean(&plain);
        Ok((plain, shown))
    }
}

/// An answer as text; what is nothing is empty.
fn text(reply: Reply) -> String {
    match reply {
        Reply::Nil => String::new(),
        Reply::Int(number) => number.to_string(),
        Reply::Okay => "OK".into(),
        other => String::from_redis_value(other).unwrap_or_else(|_| "an answer that is no text".into()),
    }
}

fn short(text: &str) -> String {
    format!("{:?}", value(text).chars().take(TOLD_CHARS).collect::<String>())
}

#[async_trait]
impl Action for Command {
    async fn observe(&self, context: &ActionContext) -> Observed {
        if self.treated == Treated::Look {
            return Observed::InProgress { evidence: "looking".into() };
        }
        match self.look(context).await {
            Ok(true) => Observed::Done { evidence: format!("{}: it is so", self.params.shown()) },
            Ok(false) => Observed::NotDone {
                evidence: format!("{}: it is not so yet", self.params.shown()),
                before: Value::Null,
            },
            Err(failure) => failure.observed(),
        }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        if self.treated == Treated::Look {
            return Ok(only_looks());
        }
        let until = until(context, CHANGE);
        let ready = async {
            let words = self.words()?;
            let connection = connect(&self.params.url, until).await?;
            Ok((words, connection))
        };
        let (words, mut connection) = match ready.await {
            Ok(ready) => ready,
            Err(failure) => return Ok(Failure::not_sent(failure)),
        };
        let sent = epoch::change(context, &mut connection, &[words.command()], When::Before, until).await?;
        Ok(match sent {
            Ok(told) => Applied::Accepted {
                evidence: format!("{}: it was taken{}", self.params.shown(), words.redactor.clean(&told)),
            },
            Err(Applied::Refused { reason, again }) => {
                Applied::Refused { reason: words.redactor.clean(&reason), again }
            }
            Err(Applied::Unknown { reason }) => Applied::Unknown { reason: words.redactor.clean(&reason) },
            Err(other) => other,
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        if self.treated != Treated::Look {
            return match self.look(context).await {
                Ok(true) => Verified::yes(format!("{}: it is so", self.params.shown())),
                Ok(false) => Verified::NotYet { evidence: format!("{}: it is not so yet", self.params.shown()) },
                Err(failure) => failure.verified(),
            };
        }
        match self.ask(context).await {
            Ok((answer, shown)) => {
                let expected = self.params.expect.as_ref().is_none_or(|wanted| answer == *wanted);
                let contained = self.params.contains.as_ref().is_none_or(|wanted| answer.contains(wanted));
                if expected && contained {
                    let evidence = format!("{} answered {}", self.params.shown(), short(&shown));
                    Verified::Yes { evidence, outputs: output("value", &shown) }
                } else {
                    Verified::NotYet { evidence: format!("{} answered {}", self.params.shown(), short(&shown)) }
                }
            }
            Err(failure) => failure.verified(),
        }
    }

    fn verify_interval(&self) -> Duration {
        Duration::from_millis(500)
    }
}
