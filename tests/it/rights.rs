//! `failoverd iam` and `failoverd rbac`: what they print, and that it is enough and not too much, asked of a
//! real Kubernetes. IAM's evaluation has a double beside the code that writes the policies.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::actions::{SOON, Subject, clients};
use crate::fleet::eventually;
use crate::fleet::kube::{BACKUP_CONTEXT, Kube};

const US: &str = "system:serviceaccount:failoverd:failoverd";

fn program(args: &[&str]) -> Result<(i32, String, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_failoverd"));
    let output = command.args(args).current_dir(env!("CARGO_MANIFEST_DIR")).env("NO_COLOR", "1").output()?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr)))
}

#[test]
fn the_tables_say_why_and_programs_get_json() -> Result<()> {
    let example = "config/examples/minimal.toml";
    let (code, table, err) = program(&["iam", example])?;
    assert_eq!(code, 0, "{err}");
    for word in ["rds:PromoteReadReplica", "db:shop-replica", "plan regional-failover, step", "route critical", "6144"]
    {
        ensure!(table.contains(word), "{word} is not in\n{table}");
    }
    let (code, json, _) = program(&["iam", "--json", "--config", example, "--account", "123456789012"])?;
    let read: Value = serde_json::from_str(&json)?;
    assert_eq!((code, &read["policies"][0]["document"]["Version"]), (0, &json!("2012-10-17")));
    let (code, table, _) = program(&["rbac", example])?;
    ensure!(code == 0 && table.contains("backup-cluster") && table.contains("deployments.apps"), "{table}");
    let (code, _, err) = program(&["rbac", example, "--document=elsewhere"])?;
    ensure!(code == 2 && err.contains("there is no cluster elsewhere; there are backup-cluster"), "{err}");
    assert_eq!(program(&["iam", example, "--account", "12"])?.0, 2);
    assert_eq!(program(&["iam", "/nonexistent.toml"])?.0, 2);
    let (code, nothing, _) = program(&["rbac", "config/examples/first.toml"])?;
    ensure!(code == 0 && nothing.contains("needs no right of Kubernetes"), "{nothing}");
    Ok(())
}

/// The same cluster, as failoverd's own service account.
fn impersonating(kube: &Kube) -> Result<tempfile::NamedTempFile> {
    let mut config: Value = serde_saphyr::from_str(&std::fs::read_to_string(kube.kubeconfig())?)?;
    let folder = kube.kubeconfig().parent().context("it is in a folder")?;
    for user in config["users"].as_array_mut().context("users")? {
        user["user"]["as"] = json!(US);
    }
    for cluster in config["clusters"].as_array_mut().context("clusters")? {
        if let Some(file) = cluster["cluster"]["certificate-authority"].as_str().map(Path::new) {
            cluster["cluster"]["certificate-authority"] = json!(folder.join(file));
        }
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), config.to_string())?;
    Ok(file)
}

#[tokio::test]
async fn the_generated_roles_let_the_plan_pass_and_nothing_beside_it() -> Result<()> {
    let kube = Kube::real().await?;
    for (namespace, name) in [("shop", "api"), ("shop", "web"), ("other", "api")] {
        kube.create_deployment(namespace, name, 1).await?;
    }
    let client = kube.client(BACKUP_CONTEXT).await?;
    let (_, yaml, _) = program(&["rbac", "config/examples/minimal.toml", "--document"])?;
    for document in yaml.split("---\n").skip(1) {
        let manifest: Value = serde_saphyr::from_str(document)?;
        let namespace = manifest["metadata"]["namespace"].as_str().context("a namespace")?.to_owned();
        if manifest["kind"] == "Role" {
            let api: Api<Role> = Api::namespaced(client.clone(), &namespace);
            api.create(&PostParams::default(), &serde_json::from_value(manifest)?).await?;
        } else {
            let api: Api<RoleBinding> = Api::namespaced(client.clone(), &namespace);
            api.create(&PostParams::default(), &serde_json::from_value(manifest)?).await?;
        }
    }
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let may = async |verb: &str, group: &str, resource: &str, namespace: &str, name: &str| -> Result<bool> {
        let attributes =
            json!({ "verb": verb, "group": group, "resource": resource, "namespace": namespace, "name": name });
        let review = json!({ "metadata": {}, "spec": { "user": US, "resourceAttributes": attributes } });
        let answer = reviews.create(&PostParams::default(), &serde_json::from_value(review)?).await?;
        Ok(answer.status.is_some_and(|status| status.allowed))
    };
    eventually(SOON, "the roles to hold", async || {
        ensure!(may("patch", "apps", "deployments", "shop", "api").await?, "not yet");
        Ok(())
    })
    .await?;
    ensure!(may("list", "", "resourcequotas", "shop", "").await?, "readiness looks at them");
    for (verb, group, resource, namespace, name) in [
        ("patch", "apps", "deployments", "shop", "web"),
        ("patch", "apps", "deployments", "other", "api"),
        ("delete", "apps", "deployments", "shop", "api"),
        ("list", "apps", "deployments", "shop", ""),
        ("get", "", "secrets", "shop", "api"),
        ("create", "", "pods/exec", "shop", "api"),
        ("list", "", "resourcequotas", "other", ""),
    ] {
        ensure!(!may(verb, group, resource, namespace, name).await?, "{verb} {resource} {namespace}/{name}");
    }

    // The step itself, with no other rights than these.
    let config = impersonating(&kube)?;
    let scale = |deployment: &str| {
        let params = json!({
            "kubeconfig": config.path(), "context": BACKUP_CONTEXT, "deployment": deployment, "replicas": 2,
        });
        Subject::new("kubernetes.scale", params, &Arc::new(clients()))
    };
    scale("shop/api").run().await?;
    assert_eq!(kube.replicas("shop", "api").await?, 2);
    for other in ["shop/web", "other/api"] {
        let refused = scale(other).apply().await;
        ensure!(format!("{refused:?}").contains("Refused"), "{other}: {refused:?}");
    }
    assert_eq!((kube.replicas("shop", "web").await?, kube.replicas("other", "api").await?), (1, 1));
    Ok(())
}
