//! `autoscaling.set_desired`, `ecs.update_service` and `eks.wait_cluster`.

use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::model::{Observed, Verified};
use serde_json::{Value, json};

use super::{Subject, accepted, aws, before, done, going, impossible, refused, unknown};
use crate::fleet::moto::{Fault, HOLD, Kind, Moto};

const WEST: &str = "us-west-2";

async fn scaling_group(moto: &Moto) -> Result<()> {
    let launch = [("LaunchConfigurationName", "web"), ("ImageId", "ami-12c6146b"), ("InstanceType", "t3.micro")];
    moto.query("autoscaling", WEST, "CreateLaunchConfiguration", &launch).await?;
    let group = [
        ("AutoScalingGroupName", "web"),
        ("LaunchConfigurationName", "web"),
        ("MinSize", "0"),
        ("MaxSize", "4"),
        ("DesiredCapacity", "1"),
        ("AvailabilityZones.member.1", "us-west-2a"),
    ];
    moto.query("autoscaling", WEST, "CreateAutoScalingGroup", &group).await.map(drop)
}

#[tokio::test]
async fn a_group_grows_once_and_is_waited_for() -> Result<()> {
    let moto = Moto::start().await?;
    scaling_group(&moto).await?;
    moto.set_delay("autoscaling_launch", HOLD).await?;
    let clients = aws(moto.port());
    let to = |group: &str, desired: u32| {
        let params = json!({ "region": WEST, "group": group, "desired": desired });
        Subject::new("autoscaling.set_desired", params, &clients)
    };
    let subject = to("web", 3);
    let stood = before(subject.observe().await)?;
    assert_eq!(stood["desired"], 1);
    moto.fault(Fault::new(Kind::SuccessThenReset).action("SetDesiredCapacity")).await?;
    unknown(subject.apply().await)?;
    done(subject.observe().await)?;
    // Wanted is not yet there.
    ensure!(matches!(subject.verify_once().await, Verified::NotYet { .. }), "instances that are pending do not serve");
    moto.set_delay("autoscaling_launch", Duration::ZERO).await?;
    subject.verify().await?;
    assert_eq!(moto.calls_of("SetDesiredCapacity").await?.len(), 1);
    moto.clear_faults().await?;
    let look = ["autoscaling", "describe-auto-scaling-groups", "--auto-scaling-group-names", "web"];
    let seen = &moto.cli(WEST, &look).await?["AutoScalingGroups"][0];
    assert_eq!(seen["DesiredCapacity"], 3);
    assert_eq!(seen["Instances"].as_array().map(Vec::len), Some(3));
    accepted(subject.compensate(&stood).await)?;
    assert_eq!(moto.cli(WEST, &look).await?["AutoScalingGroups"][0]["DesiredCapacity"], 1);
    refused(subject.compensate(&Value::Null).await, false)?;
    for (group, desired, why) in [("web", 5, "may have 0 to 4"), ("none", 1, "no Auto Scaling group")] {
        let reason = impossible(to(group, desired).observe().await)?;
        ensure!(reason.contains(why), "{reason}");
        refused(to(group, desired).apply().await, false)?;
    }
    moto.fault(Fault::error(400, "ScalingActivityInProgress").action("SetDesiredCapacity").times(1)).await?;
    refused(subject.apply().await, true)?;
    to("web", 2).overtaken().apply().await.expect_err("the epoch was overtaken");
    Ok(())
}

async fn ecs(moto: &Moto, target: &str, body: Value) -> Result<()> {
    let target = format!("AmazonEC2ContainerServiceV20141113.{target}");
    moto.json("ecs", WEST, &target, body).await.map(drop)
}

async fn service(moto: &Moto) -> Result<()> {
    ecs(moto, "CreateCluster", json!({ "clusterName": "shop" })).await?;
    let task = json!({ "family": "api", "containerDefinitions": [{ "name": "api", "image": "api", "memory": 128 }] });
    ecs(moto, "RegisterTaskDefinition", task).await?;
    let create = json!({ "cluster": "shop", "serviceName": "api", "taskDefinition": "api", "desiredCount": 0 });
    ecs(moto, "CreateService", create).await
}

async fn ecs_seen(moto: &Moto) -> Result<Value> {
    let seen = moto.cli(WEST, &["ecs", "describe-services", "--cluster", "shop", "--services", "api"]).await?;
    Ok(seen["services"][0].clone())
}

#[tokio::test]
async fn a_service_runs_as_many_tasks_as_it_shall() -> Result<()> {
    let moto = Moto::start().await?;
    service(&moto).await?;
    moto.set_delay("ecs_deploy", HOLD).await?;
    let clients = aws(moto.port());
    let update = |more: Value| {
        let mut params = json!({ "region": WEST, "cluster": "shop", "service": "api" });
        params.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
        Subject::new("ecs.update_service", params, &clients)
    };
    let subject = update(json!({ "desired_count": 3 }));
    let stood = before(subject.observe().await)?;
    moto.fault(Fault::new(Kind::SuccessThen500).action("UpdateService").times(1)).await?;
    unknown(subject.apply().await)?;
    done(subject.observe().await)?;
    ensure!(matches!(subject.verify_once().await, Verified::NotYet { .. }), "no task runs yet");
    moto.set_delay("ecs_deploy", Duration::ZERO).await?;
    subject.verify().await?;
    assert_eq!(moto.calls_of("UpdateService").await?.len(), 1);
    assert_eq!(ecs_seen(&moto).await?["runningCount"], 3);

    moto.set_delay("ecs_deploy", HOLD).await?;
    let anew = update(json!({ "force_new_deployment": true }));
    assert_eq!(anew.observe().await, Observed::Unobservable);
    accepted(anew.apply().await)?;
    ensure!(matches!(anew.verify_once().await, Verified::NotYet { .. }), "two deployments are not one");
    moto.set_delay("ecs_deploy", Duration::ZERO).await?;
    anew.verify().await?;
    assert_eq!(ecs_seen(&moto).await?["deployments"].as_array().map(Vec::len), Some(1));

    accepted(subject.compensate(&stood).await)?;
    assert_eq!(ecs_seen(&moto).await?["desiredCount"], 0);
    for (more, why) in [
        (json!({ "service": "none", "desired_count": 1 }), "no ECS service none"),
        (json!({ "cluster": "none", "desired_count": 1 }), "ClusterNotFound"),
    ] {
        let reason = impossible(update(more).observe().await)?;
        ensure!(reason.contains(why), "{reason}");
    }
    update(json!({ "desired_count": 1 })).overtaken().apply().await.expect_err("the epoch was overtaken");
    Ok(())
}

#[tokio::test]
async fn a_cluster_is_waited_for_and_never_changed() -> Result<()> {
    let moto = Moto::start().await?;
    let create = [
        "eks",
        "create-cluster",
        "--name",
        "shop",
        "--role-arn",
        "arn:aws:iam::123456789012:role/eks",
        "--resources-vpc-config",
        "subnetIds=subnet-1,subnet-2",
    ];
    moto.cli(WEST, &create).await?;
    moto.set_eks_status(WEST, "shop", "CREATING").await?;
    moto.forget_calls().await?;
    let clients = aws(moto.port());
    let wait = |name: &str| Subject::new("eks.wait_cluster", json!({ "region": WEST, "cluster": name }), &clients);
    let subject = wait("shop");
    going(subject.observe().await)?;
    ensure!(matches!(subject.verify_once().await, Verified::NotYet { .. }), "it is being created");
    moto.set_eks_status(WEST, "shop", "ACTIVE").await?;
    let (_, outputs) = subject.yields().await?;
    ensure!(outputs["endpoint"].starts_with("https://"), "{outputs:?}");
    done(subject.observe().await)?;
    refused(subject.apply().await, false)?;
    moto.set_eks_status(WEST, "shop", "FAILED").await?;
    impossible(subject.observe().await)?;
    subject.verify().await.expect_err("it will not come");
    let reason = impossible(wait("none").observe().await)?;
    ensure!(reason.contains("ResourceNotFound"), "{reason}");
    let calls = moto.calls().await?;
    ensure!(calls.iter().all(|call| call.action.as_deref() == Some("DescribeCluster")), "{calls:?}");
    Ok(())
}
