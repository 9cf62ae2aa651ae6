//! Mail through a real server: encrypted by an authority of our own, with a login, refusals and threads.

use std::sync::Arc;

use anyhow::{Result, ensure};
use failoverd::clients::Clients;
use failoverd::config::shape::{Limits, NotifyRoute, Templates};
use failoverd::model::{Importance, Notice, NoticeKind, Severity, WallTime};
use failoverd::notify::build;
use failoverd::ports::Notifier;
use serde_json::{Value, json};

use crate::fleet::mail::{LOGIN, Mail, REFUSED};
use crate::fleet::{START, eventually, scratch_dir};

struct Place {
    mail: Mail,
    dir: tempfile::TempDir,
}

impl Place {
    async fn new() -> Result<Self> {
        Ok(Self { mail: Mail::start().await?, dir: scratch_dir("email")? })
    }

    /// A route by STARTTLS, with something changed.
    fn route(&self, audience: &str, change: impl FnOnce(&mut Value)) -> Box<dyn Notifier> {
        let password = self.dir.path().join("password");
        if !password.exists() {
            std::fs::write(&password, LOGIN.1).unwrap();
        }
        let mut email = json!({
            "host": "localhost", "port": self.mail.starttls, "ca_file": self.mail.ca_file,
            "username": LOGIN.0, "password": { "file": password },
            "from": "Shop <failoverd@shop.example>", "to": ["ann@shop.example", "bob@shop.example"],
        });
        change(&mut email);
        let route: NotifyRoute = serde_json::from_value(json!({ "audience": audience, "email": email })).unwrap();
        build(&route, "shop", &Templates::default(), &Arc::new(Clients::new(&Limits::default()))).unwrap()
    }

    async fn delivered(&self, many: usize) -> Result<Vec<String>> {
        eventually(START, "the mail to be delivered", async || {
            let delivered = self.mail.delivered();
            ensure!(delivered.len() >= many, "{} of {many}", delivered.len());
            Ok(delivered)
        })
        .await
    }
}

fn notice(kind: NoticeKind, subject: &str) -> Notice {
    Notice {
        kind,
        importance: Importance::Page,
        at: WallTime(1_785_381_164_000),
        scenario: Some("regional-outage".into()),
        severity: Some(Severity("P0".into())),
        incident: Some("INC-20261128-001".into()),
        run: None,
        subject: subject.into(),
        body: "first bad observation of db.internal".into(),
        approval: None,
        routes: None,
        situation: None,
    }
}

/// A header of a message, unfolded.
fn header<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    let head = message.split("\n\n").next()?;
    head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
}

#[tokio::test]
async fn an_incident_is_one_thread_over_a_connection_that_is_encrypted_and_logged_in() -> Result<()> {
    let place = Place::new().await?;
    let route = place.route("internal", |_| {});
    route.deliver(&notice(NoticeKind::IncidentOpened, "P0 regional-outage: db is down — überall")).await.unwrap();
    route.deliver(&notice(NoticeKind::RunParked, "step promote waits")).await.unwrap();
    let wrapped = place.route("internal", |email| {
        email["port"] = place.mail.tls.into();
        email["security"] = "tls".into();
        email["to"] = json!(["cat@shop.example"]);
    });
    wrapped.deliver(&notice(NoticeKind::IncidentClosed, "over")).await.unwrap();
    let all = place.delivered(5).await?;
    assert!(all.iter().all(|message| message.contains("with esmtpsa")), "encrypted and logged in: {all:#?}");
    let of = |to: &str| -> Vec<&String> {
        let envelope = format!("Envelope-to: {to}@shop.example");
        all.iter().filter(|message| message.contains(&envelope)).collect()
    };
    let (ann, cat) = (of("ann"), of("cat"));
    assert_eq!((ann.len(), of("bob").len(), cat.len()), (2, 2, 1), "{all:#?}");
    let root = header(ann[0], "Message-ID").unwrap();
    assert!(root.starts_with("<INC-20261128-001") && root.ends_with("@shop.example>"), "{root}");
    for later in [ann[1], cat[0]] {
        assert_eq!((header(later, "References"), header(later, "In-Reply-To")), (Some(root), Some(root)));
        assert_eq!(header(later, "Subject"), Some("Re: P0 regional-outage (INC-20261128-001)"));
        assert_ne!(header(later, "Message-ID"), Some(root));
    }
    assert_eq!(header(ann[0], "Subject"), Some("P0 regional-outage (INC-20261128-001)"));
    assert!(ann[0].contains("=C3=BCberall") && ann[0].contains("charset=utf-8"), "plain text: {}", ann[0]);
    assert_eq!(header(ann[0], "To"), Some("ann@shop.example, bob@shop.example"));
    Ok(())
}

#[tokio::test]
async fn a_recipient_that_is_refused_for_good_keeps_it_from_nobody_else() -> Result<()> {
    let place = Place::new().await?;
    let refused = format!("{REFUSED}@shop.example");
    let route = place.route("internal", |email| email["to"] = json!([refused, "ann@shop.example"]));
    let opened = notice(NoticeKind::IncidentOpened, "P0");
    route.deliver(&opened).await.unwrap();
    // Nobody can be sure that it was delivered once; whoever has it does not get it again.
    route.deliver(&opened).await.unwrap();
    route.deliver(&notice(NoticeKind::RunParked, "parked")).await.unwrap();
    let all = place.delivered(2).await?;
    assert_eq!(all.len(), 2, "{all:#?}");
    let alone = place.route("internal", |email| email["to"] = json!([refused]));
    let error = alone.deliver(&opened).await.unwrap_err();
    assert!(error.contains(&refused) && error.contains("no such mailbox here"), "{error}");
    Ok(())
}

#[tokio::test]
async fn what_the_server_refuses_is_told_without_the_password() -> Result<()> {
    let place = Place::new().await?;
    let wrong = place.dir.path().join("wrong");
    std::fs::write(&wrong, "hunter-of-old")?;
    let route = place.route("internal", |email| email["password"] = json!({ "file": wrong }));
    let error = route.deliver(&notice(NoticeKind::IncidentOpened, "P0")).await.unwrap_err();
    assert!(error.contains("535") || error.contains("authentication"), "{error}");
    assert!(!error.contains("hunter-of-old") && !error.contains(LOGIN.1), "{error}");
    // One that was changed is found without a restart.
    std::fs::write(&wrong, LOGIN.1)?;
    route.deliver(&notice(NoticeKind::IncidentOpened, "P0")).await.unwrap();
    Ok(())
}

#[tokio::test]
async fn a_server_by_another_authority_is_told_nothing() -> Result<()> {
    let place = Place::new().await?;
    let other = Mail::start().await?;
    for security in ["starttls", "tls"] {
        let route = place.route("internal", |email| {
            email["ca_file"] = json!(other.ca_file);
            email["security"] = security.into();
            email["port"] = if security == "tls" { place.mail.tls } else { place.mail.starttls }.into();
        });
        let error = route.deliver(&notice(NoticeKind::IncidentOpened, "P0")).await.unwrap_err();
        assert!(error.contains("certificate"), "{security}: {error}");
    }
    let open = place.route("internal", |email| {
        email["security"] = "none".into();
        email["username"] = Value::Null;
        email["password"] = Value::Null;
    });
    let error = open.deliver(&notice(NoticeKind::IncidentOpened, "P0")).await.unwrap_err();
    assert!(error.contains("log in first"), "{error}");
    assert!(place.mail.delivered().is_empty());
    Ok(())
}

#[tokio::test]
async fn customers_are_mailed_in_their_own_words() -> Result<()> {
    let place = Place::new().await?;
    let route = place.route("customers", |email| email["to"] = json!(["user@shop.example"]));
    route.deliver(&notice(NoticeKind::IncidentOpened, "P0 regional-outage: db.internal is down")).await.unwrap();
    let all = place.delivered(1).await?;
    let text = all.concat();
    assert!(
        text.contains("Subject: Service disruption (INC-20261128-001)") && text.contains("looking into it"),
        "{text}"
    );
    assert!(!text.contains("db.internal") && !text.contains("regional-outage"), "{text}");
    Ok(())
}
