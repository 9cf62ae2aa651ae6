//! What every action of RDS asks of an instance, and the tags by which a run knows again what it made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_sdk_rds::types::{DbInstance, Tag};

use crate::actions::fenced;
use crate::clients::{Api, Clients, Failure, FailureKind, aws};
use crate::model::Outputs;
use crate::ports::{ActionContext, Denied};

/// The run that made a thing.
pub(super) const RUN: &str = "failoverd:run";
/// Its step.
pub(super) const STEP: &str = "failoverd:step";
/// The epoch that it was made under.
pub(super) const EPOCH: &str = "failoverd:epoch";
/// What it was made from.
pub(super) const FROM: &str = "failoverd:from";

/// How long the change waits for the epoch to be written down.
const MARK: Duration = Duration::from_secs(3);

/// The clients of a region once the limit of RDS has room for a call.
pub(super) async fn rds(clients: &Clients, region: &str, until: Instant) -> Result<Arc<aws::Region>, Failure> {
    let clients_of = clients.aws(region, until).await?;
    clients.pace(Api::Rds, until).await?;
    Ok(clients_of)
}

/// An instance as it is now; [`FailureKind::Missing`] where there is none.
pub(super) async fn instance(
    clients: &Clients,
    region: &str,
    name: &str,
    until: Instant,
) -> Result<DbInstance, Failure> {
    let client = rds(clients, region, until).await?;
    let request = client.rds().describe_db_instances().db_instance_identifier(name);
    let answer = aws::call("rds DescribeDBInstances", until, request.send()).await?;
    let found = answer.db_instances.unwrap_or_default().into_iter().next();
    found.ok_or_else(|| Failure::unknown(format!("rds DescribeDBInstances: an empty list for {name}")))
}

/// The same, `None` where there is none.
pub(super) async fn instance_if_there(
    clients: &Clients,
    region: &str,
    name: &str,
    until: Instant,
) -> Result<Option<DbInstance>, Failure> {
    match instance(clients, region, name, until).await {
        Ok(found) => Ok(Some(found)),
        Err(failure) if failure.kind == FailureKind::Missing => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Its status for people and for decisions.
pub(super) fn status(instance: &DbInstance) -> &str {
    instance.db_instance_status().unwrap_or("unknown")
}

/// The value of one of its tags.
pub(super) fn tag<'i>(instance: &'i DbInstance, key: &str) -> Option<&'i str> {
    instance.tag_list().iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value)
}

/// Was it made by this very step of this very run? Never in a dry run.
pub(super) fn is_ours(instance: &DbInstance, context: &ActionContext) -> bool {
    let run = context.run.as_ref().map(|run| plain(run.as_str()));
    run.is_some() && tag(instance, RUN) == run.as_deref() && tag(instance, STEP) == Some(&plain(context.step.as_str()))
}

/// The tags of what this step makes, with those of the owner.
pub(super) fn marks(context: &ActionContext, from: &str, own: &BTreeMap<String, String>) -> Vec<Tag> {
    let run = context.run.as_ref().map_or_else(String::new, |run| plain(run.as_str()));
    let ours =
        [(RUN, run), (STEP, plain(context.step.as_str())), (EPOCH, context.epoch.0.to_string()), (FROM, plain(from))];
    let own = own.iter().map(|(key, value)| (key.as_str(), value.clone()));
    ours.into_iter().chain(own).map(|(key, value)| Tag::builder().key(key).value(value).build()).collect()
}

/// The epoch in the tags of an instance or a cluster; 0 where there is none that can be read.
pub(super) fn epoch(tags: &[Tag]) -> u64 {
    let held = tags.iter().find(|tag| tag.key() == Some(EPOCH)).and_then(Tag::value);
    held.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Refuses what a higher epoch than ours has changed.
pub(super) fn ours(context: &ActionContext, what: &str, tags: &[Tag]) -> Result<(), Failure> {
    let theirs = epoch(tags);
    // A dry run has no epoch of its own yet.
    if context.run.is_some() && theirs > context.epoch.0 {
        return Err(Failure::refused(fenced(what, theirs, context.epoch.0)));
    }
    Ok(())
}

/// Writes our epoch into the tags of an instance or a cluster, before it is changed; they were looked at
/// with [`ours`]. RDS compares nothing: a call that was held up between its permit and RDS is carried out.
/// What this keeps away is one that has yet to look. So the change does not wait for it either: says why
/// it could not be written.
pub(super) async fn mark(
    context: &ActionContext,
    region: &aws::Region,
    arn: Option<&str>,
    tags: &[Tag],
    until: Instant,
) -> Result<String, Denied> {
    if epoch(tags) == context.epoch.0 {
        return Ok(String::new());
    }
    let tag = Tag::builder().key(EPOCH).value(context.epoch.to_string()).build();
    let request = region.rds().add_tags_to_resource().set_resource_name(arn.map(str::to_owned)).tags(tag);
    context.permit()?;
    let sent = aws::call("rds AddTagsToResource", until.min(Instant::now() + MARK), request.send()).await;
    Ok(sent.map_or_else(|failure| format!("; the epoch could not be written down: {failure}"), |_| String::new()))
}

/// A text as a tag of RDS takes it: letters, digits, spaces and `_.:/=+-@`, at most 256 of them.
/// <https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Tagging.html>
pub(super) fn plain(text: &str) -> String {
    let allowed = |c: char| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c);
    text.chars().take(256).map(|c| if allowed(c) { c } else { '_' }).collect()
}

/// What later steps need to connect; `None` while RDS does not tell it yet.
pub(super) fn outputs(instance: &DbInstance) -> Option<Outputs> {
    let endpoint = instance.endpoint()?;
    let address = endpoint.address().filter(|address| !address.is_empty())?;
    let name = instance.db_instance_identifier().unwrap_or_default();
    Some(Outputs::from([
        ("endpoint".to_owned(), address.to_owned()),
        ("port".to_owned(), endpoint.port()?.to_string()),
        ("instance".to_owned(), name.to_owned()),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_what_rds_takes() {
        assert_eq!(plain("RUN-1 a_b.c:/=+-@ü"), "RUN-1 a_b.c:/=+-@ü");
        assert_eq!(plain("a\"b\n{"), "a_b__");
        assert_eq!(plain(&"x".repeat(300)).len(), 256);
    }
}
