//! What tests do to AWS themselves: prepare it, and look at it from outside. Plain HTTP or the AWS
//! CLI, never the SDK that failoverd uses, so that one bug cannot hide behind itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::child::{command, run};
use super::moto::Moto;
use super::{eventually, http, venv_bin};

/// How this module's own calls are told apart in the call log.
pub const USER_AGENT: &str = "failoverd-fleet";

/// A DB instance as DescribeDBInstances tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Db {
    /// `available`, `modifying`, ...
    pub status: String,
    /// Its source while it is a read replica.
    pub source: Option<String>,
    /// Its read replicas.
    pub replicas: Vec<String>,
}

impl Moto {
    /// Calls an action of a query service (RDS, SNS); returns the XML, or an error with the
    /// service's code and message.
    pub async fn query(&self, service: &str, region: &str, action: &str, params: &[(&str, &str)]) -> Result<String> {
        let version = match service {
            "rds" => "2014-10-31",
            "sns" => "2010-03-31",
            "elasticache" => "2015-02-02",
            "iam" => "2010-05-08",
            "autoscaling" => "2011-01-01",
            _ => "2011-06-15",
        };
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", action).append_pair("Version", version).extend_pairs(params);
        let request = http()
            .post(self.endpoint())
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.finish());
        send(request, service, region).await.with_context(|| format!("{service} {action}"))
    }

    /// Calls an action of a JSON service (SQS, Secrets Manager, ECS).
    pub async fn json(&self, service: &str, region: &str, target: &str, body: Value) -> Result<Value> {
        let request = http()
            .post(self.endpoint())
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", target)
            .body(body.to_string());
        let text = send(request, service, region).await.with_context(|| target.to_owned())?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Runs the AWS CLI, e.g. `["rds", "describe-db-instances"]`, and returns its JSON (null when
    /// it printed nothing). Takes about a second: for checks from outside, not for setting up.
    pub async fn cli(&self, region: &str, args: &[&str]) -> Result<Value> {
        let mut aws = command(venv_bin("aws")?);
        aws.envs(self.env())
            .env("AWS_MAX_ATTEMPTS", "1")
            .env("AWS_PAGER", "")
            // Named here too: for RDS in us-east-1 the CLI does not heed the environment's.
            .args(["--endpoint-url", &self.endpoint(), "--region", region, "--output", "json"])
            .args(args);
        let out = run(aws, Duration::from_secs(30)).await?;
        if out.trim().is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_str(&out)?)
    }

    /// A PostgreSQL DB instance with backups on.
    pub async fn create_db(&self, region: &str, id: &str) -> Result<()> {
        let params = [
            ("DBInstanceIdentifier", id),
            ("DBInstanceClass", "db.t3.medium"),
            ("Engine", "postgres"),
            ("AllocatedStorage", "20"),
            ("BackupRetentionPeriod", "1"),
            ("MasterUsername", "postgres"),
            ("MasterUserPassword", "rds-s3cret-password"),
        ];
        self.query("rds", region, "CreateDBInstance", &params).await.map(drop)
    }

    /// A read replica in any region of an instance in any region.
    pub async fn create_replica(&self, region: &str, id: &str, source_region: &str, source: &str) -> Result<()> {
        let arn = db_arn(source_region, source);
        let source = if region == source_region { source } else { &arn };
        let params = [("DBInstanceIdentifier", id), ("SourceDBInstanceIdentifier", source)];
        self.query("rds", region, "CreateDBInstanceReadReplica", &params).await.map(drop)
    }

    /// An instance in us-east-1 and its read replica in us-west-2.
    pub async fn create_db_with_replica(&self, id: &str, replica: &str) -> Result<()> {
        self.create_db("us-east-1", id).await?;
        self.create_replica("us-west-2", replica, "us-east-1", id).await
    }

    /// A DB instance as it is now.
    pub async fn db(&self, region: &str, id: &str) -> Result<Db> {
        let params = [("DBInstanceIdentifier", id)];
        let xml = self.query("rds", region, "DescribeDBInstances", &params).await?;
        let one = |tag: &str| tags(&xml, tag).into_iter().next();
        Ok(Db {
            status: one("DBInstanceStatus").context("an instance has a status")?,
            source: one("ReadReplicaSourceDBInstanceIdentifier"),
            replicas: tags(&xml, "ReadReplicaDBInstanceIdentifier"),
        })
    }

    /// Waits until a DB instance has this status.
    pub async fn wait_db(&self, region: &str, id: &str, status: &str) -> Result<Db> {
        let what = format!("{region}/{id} to be {status}");
        eventually(Duration::from_secs(30), &what, async || {
            let db = self.db(region, id).await?;
            ensure!(db.status == status, "it is {}", db.status);
            Ok(db)
        })
        .await
    }

    /// Calls Route 53.
    pub async fn route53(&self, method: &str, path: &str, body: &str) -> Result<String> {
        let url = format!("{}/2013-04-01/{path}", self.endpoint());
        let request = http().request(method.parse()?, url).header("content-type", "text/xml").body(body.to_owned());
        send(request, "route53", "us-east-1").await.with_context(|| format!("route53 {method} {path}"))
    }

    /// A public hosted zone; returns its id without a prefix.
    pub async fn create_zone(&self, name: &str) -> Result<String> {
        let body = format!(
            "<CreateHostedZoneRequest xmlns=\"{ROUTE53}\"><Name>{name}</Name>\
             <CallerReference>{name}</CallerReference></CreateHostedZoneRequest>"
        );
        let xml = self.route53("POST", "hostedzone", &body).await?;
        let id = tags(&xml, "Id").into_iter().next().context("a zone id")?;
        Ok(id.trim_start_matches("/hostedzone/").to_owned())
    }

    /// Sends a change batch: pairs of action and record set (the inside of `ResourceRecordSet`).
    /// Returns the change's id.
    pub async fn change_records(&self, zone: &str, changes: &[(&str, &str)]) -> Result<String> {
        let changes: String = changes
            .iter()
            .map(|(action, record)| {
                format!("<Change><Action>{action}</Action><ResourceRecordSet>{record}</ResourceRecordSet></Change>")
            })
            .collect();
        let body = format!(
            "<ChangeResourceRecordSetsRequest xmlns=\"{ROUTE53}\"><ChangeBatch><Changes>{changes}</Changes>\
             </ChangeBatch></ChangeResourceRecordSetsRequest>"
        );
        let path = format!("hostedzone/{zone}/rrset");
        let xml = self.route53("POST", &path, &body).await?;
        let id = tags(&xml, "Id").into_iter().next().context("a change id")?;
        Ok(id.trim_start_matches("/change/").to_owned())
    }

    /// Deletes every record of a zone but those that it was born with.
    pub async fn forget_records(&self, zone: &str) -> Result<()> {
        let xml = self.route53("GET", &format!("hostedzone/{zone}/rrset"), "").await?;
        let records = tags(&xml, "ResourceRecordSet");
        let ours = records.iter().filter(|r| !r.contains("<Type>NS</Type>") && !r.contains("<Type>SOA</Type>"));
        let changes: Vec<_> = ours.map(|record| ("DELETE", record.as_str())).collect();
        if !changes.is_empty() {
            self.change_records(zone, &changes).await?;
        }
        Ok(())
    }

    /// Creates or replaces an alias A record.
    pub async fn upsert_alias(&self, zone: &str, name: &str, target: &str, target_zone: &str) -> Result<String> {
        let record = alias(name, target, target_zone);
        self.change_records(zone, &[("UPSERT", &record)]).await
    }

    /// A change's status: `PENDING` or `INSYNC`.
    pub async fn change_status(&self, change: &str) -> Result<String> {
        let xml = self.route53("GET", &format!("change/{change}"), "").await?;
        let status = tags(&xml, "Status").into_iter().next();
        status.context("a change has a status")
    }

    /// A record set as it is stored now, by its full name without the dot at the end.
    pub async fn record(&self, zone: &str, name: &str, kind: &str) -> Result<Option<Value>> {
        let state = self.state().await?;
        let records = state["route53"][zone]["records"].as_array().with_context(|| format!("no zone {zone}"))?;
        let name = format!("{name}.");
        let found = records.iter().find(|r| r["Name"] == name && r["Type"] == kind);
        Ok(found.cloned())
    }

    /// An SNS topic and a queue that gets whatever is published to it.
    pub async fn create_inbox(&self, region: &str, topic: &str) -> Result<Inbox<'_>> {
        let xml = self.query("sns", region, "CreateTopic", &[("Name", topic)]).await?;
        let arn = tags(&xml, "TopicArn").into_iter().next();
        let topic_arn = arn.context("a topic has an ARN")?;
        let queue = json!({ "QueueName": topic });
        let made = self.json("sqs", region, "AmazonSQS.CreateQueue", queue).await?;
        let queue_url = made["QueueUrl"].as_str().context("a queue has a URL")?;
        let params = [
            ("TopicArn", topic_arn.as_str()),
            ("Protocol", "sqs"),
            ("Endpoint", &format!("arn:aws:sqs:{region}:123456789012:{topic}")),
        ];
        self.query("sns", region, "Subscribe", &params).await?;
        Ok(Inbox { moto: self, region: region.to_owned(), queue_url: queue_url.to_owned(), topic_arn })
    }
}

/// A topic with a queue behind it.
pub struct Inbox<'a> {
    moto: &'a Moto,
    region: String,
    queue_url: String,
    /// The topic to publish to.
    pub topic_arn: String,
}

impl Inbox<'_> {
    /// The messages that have come since the last look, as SNS wraps them: `Subject`, `Message`,
    /// `MessageAttributes`, ...
    pub async fn take(&self) -> Result<Vec<Value>> {
        let mut messages = Vec::new();
        loop {
            let ask = json!({ "QueueUrl": self.queue_url, "MaxNumberOfMessages": 10, "WaitTimeSeconds": 0 });
            let batch = self.sqs("ReceiveMessage", ask).await?;
            let Some(batch) = batch["Messages"].as_array().filter(|b| !b.is_empty()) else {
                return Ok(messages);
            };
            for message in batch {
                let body = message["Body"].as_str().context("a body")?;
                messages.push(serde_json::from_str(body)?);
                let done = json!({ "QueueUrl": self.queue_url, "ReceiptHandle": message["ReceiptHandle"] });
                self.sqs("DeleteMessage", done).await?;
            }
        }
    }

    async fn sqs(&self, action: &str, body: Value) -> Result<Value> {
        let target = format!("AmazonSQS.{action}");
        self.moto.json("sqs", &self.region, &target, body).await
    }

    /// Waits for a message whose subject or text contains `needle`; what came before it is lost.
    pub async fn wait_for(&self, timeout: Duration, needle: &str) -> Result<Value> {
        let mut seen = Vec::new();
        eventually(timeout, &format!("a message with {needle:?}"), async || {
            seen.extend(self.take().await?);
            let has = |m: &&Value| m.to_string().contains(needle);
            let found = seen.iter().find(has).cloned();
            found.with_context(|| format!("so far: {seen:?}"))
        })
        .await
    }
}

const ROUTE53: &str = "https://route53.amazonaws.com/doc/2013-04-01/";

/// The ARN of a DB instance.
pub fn db_arn(region: &str, id: &str) -> String {
    format!("arn:aws:rds:{region}:123456789012:db:{id}")
}

/// The inside of an alias A record set.
pub fn alias(name: &str, target: &str, target_zone: &str) -> String {
    format!(
        "<Name>{name}</Name><Type>A</Type><AliasTarget><HostedZoneId>{target_zone}</HostedZoneId>\
         <DNSName>{target}</DNSName><EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget>"
    )
}

/// The inside of a record set with one value.
pub fn record(name: &str, kind: &str, ttl: u32, value: &str) -> String {
    format!(
        "<Name>{name}</Name><Type>{kind}</Type><TTL>{ttl}</TTL><ResourceRecords><ResourceRecord>\
         <Value>{value}</Value></ResourceRecord></ResourceRecords>"
    )
}

/// moto reads which service and region a request is for from its signature, and does not check it.
async fn send(request: reqwest::RequestBuilder, service: &str, region: &str) -> Result<String> {
    let answer = request
        .header(
            "authorization",
            format!(
                "AWS4-HMAC-SHA256 Credential=testing/20260101/{region}/{service}/aws4_request, \
                 SignedHeaders=host, Signature=0"
            ),
        )
        .header("user-agent", USER_AGENT)
        .send()
        .await?;
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status.is_success(), "{status}: {text}");
    Ok(text)
}

/// The texts of all elements of this name; enough for AWS' flat answers.
fn tags(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open).skip(1).filter_map(|rest| rest.split_once(&close)).map(|(text, _)| text.to_owned()).collect()
}
