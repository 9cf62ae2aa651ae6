//! `kubernetes.set_env`, `rollout_restart`, `rollout_undo`, `rollout_status`.

use std::time::Duration;

use anyhow::{Result, ensure};
use failoverd::model::Observed;
use serde_json::{Value, json};

use super::super::{accepted, before, done, impossible, refused};
use super::{cut_off_after, deployed, in_progress, kubectl, not_yet, quiet, reader, rolled_out, shows, subject};
use crate::fleet::kube::Kube;

const ENV: &str = "kubernetes.set_env";
const RESTART: &str = "kubernetes.rollout_restart";
const UNDO: &str = "kubernetes.rollout_undo";
const STATUS: &str = "kubernetes.rollout_status";

#[tokio::test]
async fn against_the_real_api_server() -> Result<()> {
    let kube = Kube::real().await?;
    sets_variables(&kube).await?;
    refuses_what_it_cannot_set(&kube).await?;
    restarts_each_once(&kube).await?;
    goes_back_once(&kube).await
}

async fn variables(kube: &Kube, name: &str) -> Result<Value> {
    let text = kubectl(kube, &format!("-n env get deployment {name} -o json")).await?;
    Ok(serde_json::from_str::<Value>(&text)?["spec"]["template"]["spec"]["containers"][0]["env"].take())
}

async fn sets_variables(kube: &Kube) -> Result<()> {
    deployed(kube, "env", "api", 2).await?;
    kubectl(kube, "-n env create configmap where --from-literal=DB_HOST=old").await?;
    kubectl(kube, "-n env set env deployment/api KEEP=1 GONE=1 SAME=s").await?;
    kubectl(kube, "-n env set env deployment/api --from=configmap/where").await?;
    rolled_out(kube, "env", "api").await?;
    let params = json!({
        "deployment": "env/api", "env": { "DB_HOST": "new.db", "SAME": "s", "EMPTY": "" }, "unset": ["GONE", "NEVER"],
    });
    let env = subject(kube, ENV, "step", params.clone());
    kube.set_ready_delay(Duration::MAX);
    let Observed::NotDone { evidence, .. } = env.observe().await else { panic!("it is not done") };
    ensure!(evidence.contains("has not yet: DB_HOST, EMPTY, GONE") && !evidence.contains("new.db"), "{evidence}");
    accepted(env.apply().await)?;
    in_progress(env.observe().await)?;
    not_yet(env.verify_once().await)?;
    // Whoever does not wait is done; whoever only looks is told.
    let mut hasty = params.clone();
    hasty["wait"] = json!(false);
    done(subject(kube, ENV, "step", hasty).observe().await)?;
    let status = subject(kube, STATUS, "status", json!({ "deployment": "env/api" }));
    in_progress(status.observe().await)?;
    refused(status.apply().await, false)?;
    kube.set_ready_delay(Duration::ZERO);
    env.verify().await?;
    done(env.observe().await)?;
    status.verify().await?;
    done(subject(kube, STATUS, "status", json!({ "namespace": "env" })).observe().await)?;

    let now = variables(kube, "api").await?;
    let find =
        |name: &str| now.as_array().and_then(|all| all.iter().find(|variable| variable["name"] == name)).cloned();
    assert_eq!(find("DB_HOST"), Some(json!({ "name": "DB_HOST", "value": "new.db" })));
    assert_eq!(find("KEEP"), Some(json!({ "name": "KEEP", "value": "1" })));
    assert_eq!((find("GONE"), find("EMPTY").is_some()), (None, true));
    assert_eq!(shows(kube, "-n env get deployment api", ".metadata.annotations.failoverd/epoch").await?, "5");
    // Again: nothing is called.
    accepted(env.apply().await)?;
    assert_eq!(env.permits.asked(), 1);
    Ok(())
}

async fn refuses_what_it_cannot_set(kube: &Kube) -> Result<()> {
    let set = |extra: Value| {
        let mut params = json!({ "deployment": "env/api", "env": { "A": "1" } });
        params.as_object_mut().expect("a table").extend(extra.as_object().expect("a table").clone());
        params
    };
    let missing = subject(kube, ENV, "step", set(json!({ "deployment": "env/nothing" })));
    ensure!(impossible(missing.observe().await)?.contains("404"));
    refused(missing.apply().await, false)?;
    let container = subject(kube, ENV, "step", set(json!({ "container": "side" })));
    ensure!(impossible(container.observe().await)?.contains("no container side, it has main"));
    let reader = reader(kube, ENV, set(json!({})));
    before(reader.observe().await)?;
    ensure!(refused(reader.apply().await, false)?.contains("`patch` on deployments.apps is needed"));
    let overtaken = subject(kube, ENV, "step", set(json!({}))).overtaken();
    overtaken.apply().await.expect_err("overtaken");
    let old = subject(kube, ENV, "step", set(json!({}))).at_epoch(4);
    ensure!(impossible(old.observe().await)?.contains("fenced by epoch 5"));
    ensure!(refused(old.apply().await, false)?.contains("fenced by epoch 5"));

    let two = r#"[{"op":"add","path":"/spec/template/spec/containers/-","value":{"name":"side","image":"registry.invalid/side:1"}}]"#;
    kubectl(kube, &format!("-n env patch deployment api --type=json -p {two}")).await?;
    ensure!(impossible(subject(kube, ENV, "step", set(json!({}))).observe().await)?.contains("main, side"));
    let side = subject(kube, ENV, "step", set(json!({ "container": "side" })));
    rolled_out(kube, "env", "api").await?;
    side.run().await?;
    assert_eq!(shows(kube, "-n env get deployment api", ".spec.template.spec.containers[1].env[0].name").await?, "A");
    kubectl(kube, "-n env rollout pause deployment/api").await?;
    for kind in [ENV, RESTART, UNDO] {
        let params = if kind == ENV { set(json!({ "container": "main" })) } else { json!({ "deployment": "env/api" }) };
        let reason = impossible(subject(kube, kind, "other", params).observe().await)?;
        ensure!(reason.contains("kubectl rollout resume"), "{reason}");
    }
    Ok(())
}

async fn revision(kube: &Kube, name: &str) -> Result<String> {
    let path = r".metadata.annotations.deployment\.kubernetes\.io/revision";
    shows(kube, &format!("-n restart get deployment {name}"), path).await
}

async fn restarts_each_once(kube: &Kube) -> Result<()> {
    for name in ["a", "b", "c"] {
        deployed(kube, "restart", name, 1).await?;
    }
    let all = json!({ "namespace": "restart" });
    let mut restart = subject(kube, RESTART, "step", all.clone());
    // Cut off after the first one, and begun anew by another process.
    cut_off_after(&mut restart, 1).await?;
    let Observed::NotDone { evidence, .. } = restart.observe().await else { panic!("two are left") };
    ensure!(evidence.contains("2 of 3"), "{evidence}");
    not_yet(restart.verify_once().await)?;
    for name in ["a", "b", "c"] {
        quiet(kube, "restart", name).await?;
    }
    let restart = subject(kube, RESTART, "step", all.clone());
    restart.run().await?;
    assert_eq!(restart.permits.asked(), 2, "the first one is not restarted again");
    accepted(restart.apply().await)?;
    for name in ["a", "b", "c"] {
        assert_eq!(revision(kube, name).await?, "2", "{name} was restarted once");
    }
    for name in ["a", "b", "c"] {
        quiet(kube, "restart", name).await?;
    }
    // Another step restarts again, and only what it selects.
    let some = json!({ "namespace": "restart", "selector": "app in (a,b)" });
    kube.set_ready_delay(Duration::MAX);
    let again = subject(kube, RESTART, "again", some.clone());
    accepted(again.apply().await)?;
    in_progress(again.observe().await)?;
    let mut hasty = some.clone();
    hasty["wait"] = json!(false);
    done(subject(kube, RESTART, "again", hasty).observe().await)?;
    kube.set_ready_delay(Duration::ZERO);
    again.verify().await?;
    assert_eq!((revision(kube, "b").await?, revision(kube, "c").await?), ("3".into(), "2".into()));
    quiet(kube, "restart", "c").await?;
    subject(kube, RESTART, "list", json!({ "deployments": ["restart/c"] })).run().await?;
    assert_eq!(revision(kube, "c").await?, "3");

    for nothing in [json!({ "namespace": "restart", "selector": "app=no" }), json!({ "namespace": "nowhere" })] {
        ensure!(impossible(subject(kube, RESTART, "step", nothing.clone()).observe().await)?.contains("no Deployment"));
        refused(subject(kube, RESTART, "step", nothing.clone()).apply().await, false)?;
        impossible(subject(kube, STATUS, "step", nothing).observe().await)?;
    }
    let reader = reader(kube, RESTART, json!({ "deployment": "restart/a" }));
    ensure!(refused(reader.apply().await, false)?.contains("403"));
    Ok(())
}

async fn image(kube: &Kube) -> Result<String> {
    shows(kube, "-n undo get deployment api", ".spec.template.spec.containers[0].image").await
}

async fn goes_back_once(kube: &Kube) -> Result<()> {
    deployed(kube, "undo", "api", 1).await?;
    let back = |step: &str, to: Option<u32>| {
        let params = json!({ "deployment": "undo/api", "to_revision": to });
        subject(kube, UNDO, step, params)
    };
    ensure!(impossible(back("step", None).observe().await)?.contains("earlier ones that are kept: none"));
    for version in [2, 3] {
        kubectl(kube, &format!("-n undo set image deployment/api main=registry.invalid/main:{version}")).await?;
        kubectl(kube, &format!("-n undo set env deployment/api ONLY_{version}=x")).await?;
        rolled_out(kube, "undo", "api").await?;
    }
    // Revisions: 1 is :1, 2 is :2, 3 is :2 with its variable, 4 is :3, 5 is :3 with its variable.
    let reason = impossible(back("step", Some(99)).observe().await)?;
    ensure!(reason.contains("1, 2, 3, 4"), "{reason}");
    let undo = back("step", Some(3));
    undo.run().await?;
    assert_eq!(image(kube).await?, "registry.invalid/main:2");
    let names = shows(kube, "-n undo get deployment api", ".spec.template.spec.containers[0].env[*].name").await?;
    assert_eq!(names, "ONLY_2", "the whole template, and not a merge");
    let labels = shows(kube, "-n undo get deployment api", ".spec.template.metadata.labels").await?;
    ensure!(!labels.contains("pod-template-hash"), "{labels}");
    // Applied twice it does not flip back, although revision 3 is now called 6.
    accepted(undo.apply().await)?;
    assert_eq!(undo.permits.asked(), 1);
    done(undo.observe().await)?;

    quiet(kube, "undo", "api").await?;
    kube.set_ready_delay(Duration::MAX);
    let before_it = back("second", None);
    accepted(before_it.apply().await)?;
    in_progress(before_it.observe().await)?;
    kube.set_ready_delay(Duration::ZERO);
    before_it.verify().await?;
    assert_eq!(image(kube).await?, "registry.invalid/main:3");
    accepted(before_it.apply().await)?;
    assert_eq!(image(kube).await?, "registry.invalid/main:3", "it went back once");
    done(back("third", Some(7)).observe().await)?;
    let old = back("old", None).at_epoch(3);
    ensure!(impossible(old.observe().await)?.contains("fenced by epoch 5"));
    Ok(())
}
