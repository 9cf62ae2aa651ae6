//! `s3.fetch`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use aws_sdk_s3::types::ChecksumMode;
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::rds_restore::young_enough;
use crate::actions::{LOOK, until};
use crate::clients::s3::{Object, page, timestamp};
use crate::clients::{Api, Clients, Failure, FailureKind, aws};
use crate::config::action::S3Fetch;
use crate::model::{Applied, Observed, Outputs, Verified};
use crate::ports::{Action, ActionContext, Denied};

/// The default of `max_bytes`.
const MAX_BYTES: u64 = 100 * 1024 * 1024 * 1024;

/// The most pages of a prefix that are read, of 1000 keys each.
const PAGES: usize = 200;

/// How long S3 may say nothing in the middle of an object.
const SILENCE: Duration = Duration::from_secs(30);

/// Downloads an object.
///
/// What links the file to the object is its size and its time, which is set to the object's: so the
/// file that a crash left behind is known again, or is not in its place yet. It gets its name only when
/// it is whole, and is on disk by then.
/// <https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html>
pub struct Fetch {
    params: S3Fetch,
    clients: Arc<Clients>,
}

impl Fetch {
    /// The action for these parameters.
    ///
    /// # Errors
    /// Where it is not said which object is meant, or the file is no absolute path.
    pub fn new(params: S3Fetch, clients: Arc<Clients>) -> Result<Self, String> {
        if params.key.is_some() == params.prefix.is_some() {
            return Err("one of `key` and `prefix` says which object is meant".into());
        }
        if !params.to.is_absolute() || params.to.file_name().is_none() {
            return Err("`to` is not an absolute path of a file".into());
        }
        Ok(Self { params, clients })
    }

    async fn client(&self, until: Instant) -> Result<Arc<aws::Region>, Failure> {
        let client = self.clients.aws(&self.params.region, until).await?;
        self.clients.pace(Api::Aws, until).await?;
        Ok(client)
    }

    /// The objects that may be meant, the newest last.
    async fn objects(&self, until: Instant) -> Result<Vec<Object>, Failure> {
        let S3Fetch { bucket, key, prefix, .. } = &self.params;
        if let Some(key) = key {
            let client = self.client(until).await?;
            let answer =
                aws::call("s3 HeadObject", until, client.s3().head_object().bucket(bucket).key(key).send()).await;
            let answer = answer.map_err(|failure| self.plain(failure))?;
            let object = Object::new(Some(key), answer.content_length(), answer.last_modified());
            return object
                .map(|object| vec![object])
                .ok_or_else(|| Failure::unknown("s3 HeadObject: no size or no time"));
        }
        let mut found = Vec::new();
        let mut token = None;
        for _ in 0..PAGES {
            let client = self.client(until).await?;
            let request =
                client.s3().list_objects_v2().bucket(bucket).set_prefix(prefix.clone()).set_continuation_token(token);
            let answer =
                aws::call("s3 ListObjectsV2", until, request.send()).await.map_err(|failure| self.plain(failure))?;
            found.extend(page(&answer));
            token = answer.next_continuation_token().map(str::to_owned);
            if token.is_none() {
                found.sort_by(|one: &Object, other| one.age().cmp(&other.age()));
                return Ok(found);
            }
        }
        Err(Failure::refused(format!("there are too many objects below {}: write a longer prefix", self.what())))
    }

    /// S3 tells of a missing key with a bare status where it is asked by HEAD.
    fn plain(&self, failure: Failure) -> Failure {
        let bare = |status: &str| failure.kind == FailureKind::Unknown && failure.reason.contains(status);
        if bare("status 404 without") || (failure.kind == FailureKind::Missing && self.params.key.is_some()) {
            Failure::new(FailureKind::Missing, format!("there is no object {}", self.what()))
        } else if bare("status 403 without") {
            Failure::new(FailureKind::Denied, format!("S3 denies {}", self.what()))
        } else {
            failure
        }
    }

    fn what(&self) -> String {
        let path = self.params.key.as_deref().or(self.params.prefix.as_deref()).unwrap_or_default();
        format!("s3://{}/{path}", self.params.bucket)
    }

    /// The object that is meant, where the owner's limits let it be.
    async fn chosen(&self, until: Instant) -> Result<Object, Failure> {
        let Some(newest) = self.objects(until).await?.pop() else {
            return Err(Failure::refused(format!("there is no object below {}", self.what())));
        };
        let limit = self.params.max_bytes.unwrap_or(MAX_BYTES);
        if newest.size > limit {
            return Err(Failure::refused(format!(
                "s3://{}/{} has {} bytes, and may have {limit} at most",
                self.params.bucket, newest.key, newest.size
            )));
        }
        let what = format!("s3://{}/{}", self.params.bucket, newest.key);
        young_enough(&what, Some(newest.modified), self.params.max_age)?;
        Ok(newest)
    }

    /// Is the file this object?
    async fn holds(&self, object: &Object) -> Result<bool, Failure> {
        match tokio::fs::metadata(&self.params.to).await {
            Ok(found) => Ok(found.is_file() && found.len() == object.size && modified(&found) == Some(object.modified)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Failure::refused(format!("{}: {error}", self.params.to.display()))),
        }
    }

    /// Beside the file, so that putting it in its place is one rename.
    fn part(&self) -> PathBuf {
        let mut name = self.params.to.file_name().unwrap_or_default().to_owned();
        name.push(".failoverd-part");
        self.params.to.with_file_name(name)
    }

    /// The object's bytes into the file beside.
    async fn download(&self, object: &Object, part: &Path, until: Instant) -> Result<(), Failure> {
        let client = self.client(until).await?;
        let request =
            client.s3().get_object().bucket(&self.params.bucket).key(&object.key).checksum_mode(ChecksumMode::Enabled);
        let answer = aws::call("s3 GetObject", until, request.send()).await.map_err(|failure| self.plain(failure))?;
        let same = answer.content_length().and_then(|size| u64::try_from(size).ok()) == Some(object.size)
            && answer.last_modified().and_then(timestamp) == Some(object.modified);
        if !same {
            return Err(Failure::again(format!("s3://{}/{} has just been replaced", self.params.bucket, object.key)));
        }
        let local = |error: std::io::Error| Failure::refused(format!("cannot write {}: {error}", part.display()));
        let mut file = private_file(part).await.map_err(local)?;
        let (mut body, mut written) = (answer.body, 0_u64);
        loop {
            let patience = until.min(Instant::now() + SILENCE);
            let next = tokio::time::timeout_at(patience.into(), body.try_next()).await;
            // A broken connection and a wrong checksum both come as an error of the stream. Nothing was
            // changed by either: the file is not in its place.
            let chunk = match next {
                Err(_) => return Err(Failure::again(format!("S3 sent {written} of {} bytes in time", object.size))),
                Ok(Err(error)) => {
                    return Err(Failure::again(format!(
                        "S3 broke off after {written} of {} bytes: {error}",
                        object.size
                    )));
                }
                Ok(Ok(None)) => break,
                Ok(Ok(Some(chunk))) => chunk,
            };
            written += chunk.len() as u64;
            if written > object.size {
                return Err(Failure::again(format!("S3 sent more than the {} bytes it announced", object.size)));
            }
            file.write_all(&chunk).await.map_err(local)?;
        }
        if written != object.size {
            return Err(Failure::again(format!("S3 sent {written} of {} bytes", object.size)));
        }
        file.flush().await.map_err(local)?;
        let file = file.into_std().await;
        let time = SystemTime::from(object.modified);
        let finish = move || file.set_modified(time).and_then(|()| file.sync_all());
        let finished = tokio::task::spawn_blocking(finish).await;
        finished.map_err(|error| Failure::again(error.to_string()))?.map_err(local)
    }
}

async fn private_file(path: &Path) -> std::io::Result<tokio::fs::File> {
    // One left by an attempt before is not written over: somebody may have put a link in its place.
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    tokio::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await
}

fn modified(found: &std::fs::Metadata) -> Option<Timestamp> {
    Timestamp::try_from(found.modified().ok()?).ok()
}

#[async_trait]
impl Action for Fetch {
    async fn warm(&self) {
        if let Ok(region) = self.clients.aws(&self.params.region, Instant::now() + LOOK).await {
            region.s3();
        }
    }

    async fn observe(&self, context: &ActionContext) -> Observed {
        let looked = async {
            let object = self.chosen(until(context, LOOK)).await?;
            let holds = self.holds(&object).await?;
            Ok((object, holds))
        };
        let (object, holds) = match looked.await {
            Ok(looked) => looked,
            Err(failure) => return Failure::observed(failure),
        };
        let what = format!("s3://{}/{} of {}", self.params.bucket, object.key, object.modified);
        let file = self.params.to.display();
        if holds {
            return Observed::Done { evidence: format!("{file} is {what}") };
        }
        // Its own folder is made, no more of the path: a file system that is not mounted is seen.
        let folder = self.params.to.parent();
        if !folder.is_some_and(|folder| folder.is_dir() || folder.parent().is_some_and(Path::is_dir)) {
            return Observed::Impossible { reason: format!("there is no folder for {file}") };
        }
        Observed::NotDone { evidence: format!("{file} is to be {what}, {} bytes", object.size), before: Value::Null }
    }

    async fn apply(&self, context: &ActionContext, _before: &Value) -> Result<Applied, Denied> {
        // As long as the step has: a backup takes its time.
        let until = until(context, Duration::MAX);
        let part = self.part();
        if let Some(folder) = self.params.to.parent().filter(|folder| !folder.is_dir()) {
            context.permit()?;
            if let Err(error) = tokio::fs::DirBuilder::new().mode(0o700).create(folder).await {
                return Ok(Failure::refused(format!("cannot make {}: {error}", folder.display())).applied());
            }
        }
        let ready = async {
            let object = self.chosen(until).await?;
            self.download(&object, &part, until).await?;
            Ok(object)
        };
        let object = match ready.await {
            Ok(object) => object,
            Err(failure) => {
                let _ = tokio::fs::remove_file(&part).await;
                return Ok(Failure::not_sent(failure));
            }
        };
        // Nothing is waited for between the permit and the change.
        context.permit().inspect_err(|_| {
            let _ = std::fs::remove_file(&part);
        })?;
        Ok(match tokio::fs::rename(&part, &self.params.to).await {
            Ok(()) => Applied::Accepted {
                evidence: format!("{} is s3://{}/{}", self.params.to.display(), self.params.bucket, object.key),
            },
            Err(error) => Failure::refused(format!("cannot write {}: {error}", self.params.to.display())).applied(),
        })
    }

    async fn verify(&self, context: &ActionContext) -> Verified {
        let until = until(context, LOOK);
        let file = self.params.to.display().to_string();
        let objects = match self.objects(until).await {
            Ok(objects) => objects,
            Err(failure) => return failure.verified(),
        };
        // The newest may be another one by now: what was fetched is looked for from there backwards.
        for object in objects.iter().rev() {
            match self.holds(object).await {
                Ok(true) => {
                    let outputs = Outputs::from([
                        ("path".to_owned(), file.clone()),
                        ("key".to_owned(), object.key.clone()),
                        ("modified".to_owned(), object.modified.to_string()),
                    ]);
                    let what = format!("s3://{}/{}", self.params.bucket, object.key);
                    return Verified::Yes { evidence: format!("{file} is {what} of {}", object.modified), outputs };
                }
                Ok(false) => {}
                Err(failure) => return failure.verified(),
            }
        }
        Verified::NotYet { evidence: format!("{file} is no object of {}", self.what()) }
    }
}
