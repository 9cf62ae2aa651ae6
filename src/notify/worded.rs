//! A route whose audience is told in words of its own.

use std::sync::Arc;

use async_trait::async_trait;

use crate::config::templates::Words;
use crate::model::{Notice, NoticeKind};
use crate::ports::{Notifier, Threads};

/// Says each notice in the words of an audience, and leaves out what is none of theirs.
pub struct Worded {
    words: Words,
    daemon: String,
    route: Box<dyn Notifier>,
}

impl Worded {
    /// This route, in these words.
    pub fn new(words: Words, daemon: &str, route: Box<dyn Notifier>) -> Self {
        Self { words, daemon: daemon.to_owned(), route }
    }
}

/// A notice in the words of an audience; to the public nothing but these words is left of it.
pub(super) fn worded(words: &Words, daemon: &str, notice: &Notice) -> Notice {
    let said = words.say(notice, daemon);
    let mut told = Notice { subject: said.subject, body: said.body, routes: None, ..notice.clone() };
    if words.audience().is_public() {
        told.scenario = None;
        told.severity = None;
        told.run = None;
        told.situation = None;
    }
    told
}

#[async_trait]
impl Notifier for Worded {
    async fn deliver(&self, notice: &Notice) -> Result<(), String> {
        // Several in one have been put into words already.
        if notice.kind == NoticeKind::Digest && !self.words.audience().is_public() {
            return self.route.deliver(notice).await;
        }
        self.route.deliver(&worded(&self.words, &self.daemon, notice)).await
    }

    fn follows_incidents(&self) -> bool {
        self.route.follows_incidents()
    }

    fn keep_threads(&self, threads: Arc<dyn Threads>) {
        self.route.keep_threads(threads);
    }

    async fn warm(&self) {
        self.route.warm().await;
    }
}
