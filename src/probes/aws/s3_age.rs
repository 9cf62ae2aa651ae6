//! How old the newest object below a prefix is.

use std::time::Instant;

use async_trait::async_trait;
use jiff::Timestamp;

use super::Account;
use crate::clients::s3::{self, Newest};
use crate::clients::{Api, failure::one_line};
use crate::config::probe::S3AgeProbe;
use crate::model::{Cause, CauseKind, Observation};
use crate::ports::Probe;
use crate::probes::classify::Fault;
use crate::probes::{ProbeContext, judged, young_enough};

/// The most pages of a prefix that are read, of 1000 keys each.
const PAGES: usize = 20;

/// See [`S3AgeProbe`].
pub struct S3Age {
    account: Account,
    config: S3AgeProbe,
}

impl S3Age {
    /// Calls nothing.
    pub fn new(config: &S3AgeProbe, context: &ProbeContext) -> Self {
        Self { account: Account::new(context, &config.region, Api::Aws), config: config.clone() }
    }

    async fn newest(&self, until: Instant) -> Result<Newest, Fault> {
        let mut newest = Newest::of_at_least(self.config.at_least_bytes);
        let mut token = None;
        for _ in 0..PAGES {
            let clients = self.account.clients(until).await?;
            let request = clients
                .s3()
                .list_objects_v2()
                .bucket(&self.config.bucket)
                .prefix(&self.config.prefix)
                .set_continuation_token(token);
            let page = self.account.ask("s3 ListObjectsV2", until, request.send()).await?;
            s3::page(&page).for_each(|object| newest.take(object));
            token = page.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                return Ok(newest);
            }
        }
        let text = format!("there are more than {} objects below {}: write a longer prefix", PAGES * 1000, self.what());
        Err(Fault::ours(CauseKind::QueryFailed, text))
    }

    fn what(&self) -> String {
        format!("s3://{}/{}", self.config.bucket, self.config.prefix)
    }

    async fn look(&self) -> Result<Option<Cause>, Fault> {
        let newest = self.newest(self.account.until()).await?;
        let smaller = match newest.smaller() {
            0 => String::new(),
            count => format!(" ({count} smaller than {} bytes do not count)", self.config.at_least_bytes),
        };
        let Some(object) = newest.found() else {
            let text = format!("there is no object below {}{smaller}", self.what());
            return Err(Fault::theirs(CauseKind::NotFound, text));
        };
        let what = format!("s3://{}/{}{smaller}", self.config.bucket, one_line(&object.key));
        young_enough(&what, object.modified, Timestamp::now(), self.config.max_age)?;
        Ok(None)
    }
}

#[async_trait]
impl Probe for S3Age {
    async fn attempt(&self) -> Observation {
        let started = Instant::now();
        judged(self.look().await, started.elapsed())
    }
}
