//! `arc.routing_control`, against a double: moto does not know the API (it answers 500), and there is
//! no other server for it. The double follows the pages that it names; it is not AWS.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, ensure};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::{Subject, accepted, aws, before, done, impossible, refused, unknown, unseen};
use crate::fleet::moto::SECRET_KEY;

const PANEL: &str = "arn:aws:route53-recovery-control::123456789012:controlpanel/p/routingcontrol";
const RULE: &str = "arn:aws:route53-recovery-control::123456789012:controlpanel/p/safetyrule/one-is-on";

fn control(name: &str) -> String {
    format!("{PANEL}/{name}")
}

/// How an endpoint behaves.
#[derive(Clone, Copy, PartialEq)]
enum Mood {
    Well,
    /// 503, as API_UpdateRoutingControlStates names it: `EndpointTemporarilyUnavailableException`.
    Unavailable,
    /// It takes the request and never answers.
    Silent,
    /// It does what is asked, and answers 500.
    DoneBut500,
}

/// A cluster as a double: five endpoints that share their states.
/// <https://docs.aws.amazon.com/routing-control/latest/APIReference/API_UpdateRoutingControlStates.html>
struct Cluster {
    states: Mutex<BTreeMap<String, String>>,
    /// The bodies of the updates that came, with the endpoint that they came to.
    updates: Mutex<Vec<(usize, Value)>>,
    moods: Mutex<[Mood; 5]>,
}

impl Cluster {
    fn state(&self, name: &str) -> String {
        self.states.lock().expect("a lock")[&control(name)].clone()
    }

    fn mood(&self, endpoint: usize, mood: Mood) {
        self.moods.lock().expect("a lock")[endpoint] = mood;
    }

    fn updates(&self) -> Vec<(usize, Value)> {
        self.updates.lock().expect("a lock").clone()
    }

    fn get(&self, body: &Value) -> Response {
        let states = self.states.lock().expect("a lock");
        let arn = body["RoutingControlArn"].as_str().unwrap_or_default();
        match states.get(arn) {
            Some(state) => answer(StatusCode::OK, &json!({ "RoutingControlArn": arn, "RoutingControlState": state })),
            None => error(StatusCode::BAD_REQUEST, "ResourceNotFoundException"),
        }
    }

    /// All of them or none. A safety rule that does not hold afterwards, and is not overridden, is a
    /// `ConflictException`; this one wants one control to be on ("assertion rule" with ATLEAST 1).
    /// <https://docs.aws.amazon.com/r53recovery/latest/dg/routing-control.safety-rules.html>
    fn update(&self, endpoint: usize, body: &Value) -> Response {
        self.updates.lock().expect("a lock").push((endpoint, body.clone()));
        let mut states = self.states.lock().expect("a lock");
        let mut new = states.clone();
        for entry in body["UpdateRoutingControlStateEntries"].as_array().into_iter().flatten() {
            let arn = entry["RoutingControlArn"].as_str().unwrap_or_default();
            let Some(state) = new.get_mut(arn) else {
                return error(StatusCode::BAD_REQUEST, "ResourceNotFoundException");
            };
            *state = entry["RoutingControlState"].as_str().unwrap_or_default().to_owned();
        }
        let overridden = body["SafetyRulesToOverride"].as_array().is_some_and(|rules| rules.contains(&json!(RULE)));
        if !overridden && new.values().all(|state| state == "Off") {
            return error(StatusCode::CONFLICT, "ConflictException");
        }
        *states = new;
        answer(StatusCode::OK, &json!({}))
    }
}

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [("content-type", "application/x-amz-json-1.0")], body.to_string()).into_response()
}

fn error(status: StatusCode, code: &str) -> Response {
    answer(status, &json!({ "__type": code, "message": "told by the double" }))
}

async fn serve(State((cluster, endpoint)): State<(Arc<Cluster>, usize)>, headers: HeaderMap, body: String) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    assert!(header("authorization").contains("/route53-recovery-cluster/aws4_request"), "not signed for it");
    let mood = cluster.moods.lock().expect("a lock")[endpoint];
    match mood {
        Mood::Silent => std::future::pending::<()>().await,
        Mood::Unavailable => return error(StatusCode::SERVICE_UNAVAILABLE, "EndpointTemporarilyUnavailableException"),
        Mood::Well | Mood::DoneBut500 => {}
    }
    let body: Value = serde_json::from_str(&body).unwrap_or_default();
    match header("x-amz-target") {
        "ToggleCustomerAPI.GetRoutingControlState" => cluster.get(&body),
        "ToggleCustomerAPI.UpdateRoutingControlStates" => {
            let done = cluster.update(endpoint, &body);
            if mood == Mood::DoneBut500 {
                error(StatusCode::INTERNAL_SERVER_ERROR, "InternalServerException")
            } else {
                done
            }
        }
        _ => error(StatusCode::BAD_REQUEST, "ValidationException"),
    }
}

/// The cluster and its endpoints, as the step names them.
async fn cluster() -> Result<(Arc<Cluster>, Value)> {
    let states = [("east", "On"), ("west", "Off")].map(|(name, state)| (control(name), state.to_owned()));
    let cluster = Arc::new(Cluster {
        states: Mutex::new(states.into()),
        updates: Mutex::default(),
        moods: Mutex::new([Mood::Well; 5]),
    });
    let mut endpoints = Vec::new();
    for (index, region) in
        ["us-east-1", "us-west-2", "eu-west-1", "ap-northeast-1", "ap-southeast-2"].iter().enumerate()
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let app = axum::Router::new().fallback(serve).with_state((cluster.clone(), index));
        tokio::spawn(async move { axum::serve(listener, app).await });
        endpoints.push(json!({ "region": region, "url": format!("http://127.0.0.1:{port}/v1") }));
    }
    Ok((cluster, json!(endpoints)))
}

fn subject(endpoints: &Value, more: Value) -> Subject {
    let states = json!({ control("east"): "Off", control("west"): "On" });
    let mut params = json!({ "endpoints": endpoints, "states": states });
    params.as_object_mut().expect("a table").extend(more.as_object().expect("a table").clone());
    // The endpoints are in the parameters: nothing is asked at this port.
    Subject::new("arc.routing_control", params, &aws(9))
}

#[tokio::test]
async fn all_controls_move_in_one_call_and_back() -> Result<()> {
    let (cluster, endpoints) = cluster().await?;
    let subject = subject(&endpoints, json!({}));
    let stood = before(subject.observe().await)?;
    accepted(subject.apply().await)?;
    assert_eq!(subject.permits.asked(), 1);
    subject.verify().await?;
    done(subject.observe().await)?;
    assert_eq!((cluster.state("east").as_str(), cluster.state("west").as_str()), ("Off", "On"));
    let updates = cluster.updates();
    assert_eq!(updates.len(), 1);
    ensure!(updates[0].1.get("SafetyRulesToOverride").is_none(), "{updates:?}");
    accepted(subject.compensate(&stood).await)?;
    assert_eq!((cluster.state("east").as_str(), cluster.state("west").as_str()), ("On", "Off"));
    refused(subject.compensate(&Value::Null).await, false)?;
    ensure!(!format!("{updates:?}").contains(SECRET_KEY), "a secret was sent");
    Ok(())
}

#[tokio::test]
async fn the_endpoints_are_tried_in_turn() -> Result<()> {
    let (cluster, mut endpoints) = cluster().await?;
    endpoints[0]["url"] = json!("http://127.0.0.1:9/v1");
    cluster.mood(1, Mood::Unavailable);
    cluster.mood(2, Mood::Silent);
    let subject = subject(&endpoints, json!({}));
    subject.run().await?;
    let updates = cluster.updates();
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].0, 3, "the first that answers");
    for endpoint in 1..5 {
        cluster.mood(endpoint, Mood::Unavailable);
    }
    let reason = unseen(subject.observe().await)?;
    ensure!(reason.contains("no endpoint of the cluster answered"), "{reason}");
    refused(subject.apply().await, true)?;
    Ok(())
}

#[tokio::test]
async fn a_safety_rule_holds_unless_it_is_named() -> Result<()> {
    let (cluster, endpoints) = cluster().await?;
    let off = json!({ control("east"): "Off", control("west"): "Off" });
    let held = subject(&endpoints, json!({ "states": off }));
    let reason = refused(held.apply().await, false)?;
    ensure!(reason.contains("Conflict"), "{reason}");
    assert_eq!(cluster.state("east"), "On");
    let named = subject(&endpoints, json!({ "states": off, "overrides": [RULE] }));
    named.run().await?;
    assert_eq!((cluster.state("east").as_str(), cluster.state("west").as_str()), ("Off", "Off"));
    Ok(())
}

#[tokio::test]
async fn an_unknown_outcome_is_looked_at() -> Result<()> {
    let (cluster, endpoints) = cluster().await?;
    cluster.mood(0, Mood::DoneBut500);
    let subject = subject(&endpoints, json!({})).within(Duration::from_secs(10));
    unknown(subject.apply().await)?;
    done(subject.observe().await)?;
    assert_eq!(cluster.updates().len(), 1);
    Ok(())
}

#[tokio::test]
async fn what_is_not_there_or_not_permitted_changes_nothing() -> Result<()> {
    let (cluster, endpoints) = cluster().await?;
    let missing = subject(&endpoints, json!({ "states": { control("none"): "On" } }));
    let reason = impossible(missing.observe().await)?;
    ensure!(reason.contains("ResourceNotFound"), "{reason}");
    refused(missing.apply().await, false)?;
    subject(&endpoints, json!({})).overtaken().apply().await.expect_err("the epoch was overtaken");
    ensure!(cluster.updates().is_empty(), "something was changed");
    Ok(())
}
