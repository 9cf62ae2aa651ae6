//! S3: the objects of a listing, and the newest of them; the same for probes and for actions.

use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::primitives::DateTime;
use jiff::Timestamp;

/// An object as S3 lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub size: u64,
    /// When it was written, in whole seconds.
    pub modified: Timestamp,
}

impl Object {
    /// `None` where S3 leaves out what an object has to have.
    pub fn new(key: Option<&str>, size: Option<i64>, modified: Option<&DateTime>) -> Option<Self> {
        let (key, size) = (key?.to_owned(), u64::try_from(size?).ok()?);
        Some(Self { key, size, modified: modified.and_then(timestamp)? })
    }

    /// What they are ordered by: of those of one second the last one by its key is the newest.
    pub fn age(&self) -> (Timestamp, &str) {
        (self.modified, &self.key)
    }
}

/// The objects of a page. What ends with a slash is what consoles make for a folder.
pub fn page(page: &ListObjectsV2Output) -> impl Iterator<Item = Object> {
    let objects = page.contents().iter().filter_map(|one| Object::new(one.key(), one.size(), one.last_modified()));
    objects.filter(|object| !object.key.ends_with('/'))
}

/// In whole seconds: a listing tells more of it than an object's own header.
pub fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::from_second(time.secs()).ok()
}

/// The newest object of a listing.
#[derive(Debug, Default)]
pub struct Newest {
    at_least: u64,
    smaller: usize,
    found: Option<Object>,
}

impl Newest {
    /// Of those that have at least so many bytes.
    pub fn of_at_least(bytes: u64) -> Self {
        Self { at_least: bytes, ..Self::default() }
    }

    /// Takes one of the listing.
    pub fn take(&mut self, object: Object) {
        if object.size < self.at_least {
            self.smaller += 1;
        } else if self.found.as_ref().is_none_or(|newest| newest.age() < object.age()) {
            self.found = Some(object);
        }
    }

    /// It, where there is one.
    pub fn found(self) -> Option<Object> {
        self.found
    }

    /// How many did not count, being too small.
    pub fn smaller(&self) -> usize {
        self.smaller
    }
}
