//! Two persons answer by signed links, as from their phones; and what is worth nothing is refused.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::shop::{SOON, Shop, Sketch, stop};
use crate::fleet::{eventually, http, port};

/// A key that nothing may ever show.
const KEY: &str = "canary-5c1b0f8e7d6a49382716ffeeddccbbaa";

async fn open() -> Result<Shop> {
    let listen = port()?;
    let dir = crate::fleet::scratch_dir("links")?;
    let key = dir.path().join("link.key");
    std::fs::write(&key, KEY)?;
    let key = key.display().to_string();
    let shop = Shop::open(Sketch::default()).await?;
    let kept = shop.dir().join("link.key");
    std::fs::rename(&key, &kept)?;
    let more = format!(
        "[links]\nurl = \"http://127.0.0.1:{listen}\"\nlisten = \"127.0.0.1:{listen}\"\nkey = {{ file = \"{}\" }}\n\
         [notify.alice]\napprover = \"alice\"\nwebhook = {{ url = \"HOOKS/alice\" }}\n\
         [notify.bob]\napprover = \"bob\"\nwebhook = {{ url = \"HOOKS/bob\" }}\n",
        kept.display()
    );
    shop.configure(Sketch { mode: "approve", scenario: "approvals = 2", more: &more, ..Sketch::default() })?;
    Ok(shop)
}

/// The link that a person was sent.
async fn link(shop: &Shop, person: &str) -> Result<String> {
    eventually(SOON, &format!("the link of {person}"), async || {
        let seen = shop.hooks.seen();
        let of_person = seen.iter().filter(|seen| seen.path == format!("/{person}"));
        let body = of_person
            .filter_map(|seen| serde_json::from_str::<Value>(&seen.body).ok())
            .find_map(|notice| notice["body"].as_str().filter(|body| body.starts_with("Answer as")).map(str::to_owned))
            .context("no link yet")?;
        let link = body.lines().next().and_then(|line| line.split_once(": ")).context("no link in it")?.1.to_owned();
        Ok(link)
    })
    .await
}

async fn press(link: &str, form: &str) -> Result<(u16, String)> {
    let request = http().post(link).header("content-type", "application/x-www-form-urlencoded");
    let answer = request.body(form.to_owned()).send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[tokio::test]
async fn two_persons_approve_from_their_phones() -> Result<()> {
    let shop = open().await?;
    let daemon = shop.start().await?;
    shop.break_api();
    let incident = shop.asks().await?;
    let (alice, bob) = (link(&shop, "alice").await?, link(&shop, "bob").await?);

    // Programs look at links before people do.
    for _ in 0..2 {
        let page = http().get(&alice).send().await?;
        ensure!(page.status() == 200, "{}", page.status());
        let policy = page.headers()["content-security-policy"].to_str()?.to_owned();
        ensure!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
        ensure!(page.headers()["cache-control"] == "no-store");
        let text = page.text().await?;
        ensure!(text.contains("Approve as alice") && text.contains(incident.id.as_str()), "{text}");
        ensure!(text.contains("Waiting: down for") && text.contains("2 persons have to say yes"), "{text}");
    }
    ensure!(shop.commands()?.is_empty(), "to look is not to answer");

    let (status, said) = press(&alice, "answer=approve").await?;
    ensure!(status == 200 && said.contains("1 of 2 approvals"), "{status} {said}");
    let (status, said) = press(&alice, "answer=approve").await?;
    ensure!(status == 200 && said.contains("1 of 2 approvals"), "alice is one person: {status} {said}");
    for rubbish in ["", "answer=maybe", "answer=approve&allow_loss_ms=-1", "x=y"] {
        ensure!(press(&bob, rubbish).await?.0 == 400, "{rubbish:?}");
    }
    let (status, said) = press(&bob, "answer=approve").await?;
    ensure!(status == 200 && said.contains("approved: run"), "{status} {said}");
    let run = shop.ended().await?;
    ensure!(run.trigger.contains("alice (signed link) and bob (signed link)"), "{}", run.trigger);

    // The same links afterwards answer nothing.
    let (status, said) = press(&bob, "answer=deny").await?;
    ensure!(status == 410 && said.contains("was started for it"), "{status} {said}");

    // Neither the key nor a link lies anywhere.
    let token = alice.rsplit('/').next().context("a token")?;
    let log = daemon.stderr();
    let mut folders = vec![shop.dir().join("state")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let bytes = std::fs::read(&path)?;
            for secret in [KEY, token] {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                ensure!(!found, "{} holds {secret}", path.display());
            }
        }
    }
    ensure!(!log.contains(KEY) && !log.contains(token), "the log holds a secret: {log}");
    Ok(())
}

#[tokio::test]
async fn what_is_no_link_is_refused_and_written_down_and_a_no_holds() -> Result<()> {
    let shop = open().await?;
    let mut daemon = shop.start().await?;
    shop.break_api();
    shop.asks().await?;
    let alice = link(&shop, "alice").await?;
    let (base, token) = alice.rsplit_once('/').context("a token")?;
    let forged = format!("{base}/{}", token.replace('.', "x."));
    ensure!(press(&forged, "answer=approve").await?.0 == 404);
    ensure!(http().get(format!("{base}/")).send().await?.status() == 404);
    eventually(SOON, "the audit of a forged link", async || {
        let commands = shop.commands()?;
        let audited = |(by, what, _): &(String, String, String)| {
            by == "somebody at 127.0.0.1" && what.contains("no link of this daemon")
        };
        ensure!(commands.iter().any(audited), "{commands:?}");
        Ok(())
    })
    .await?;
    let (status, said) = press(&alice, "answer=deny").await?;
    ensure!(status == 200 && said.contains("denied"), "{status} {said}");
    let incident = shop.incident("the no", |incident| incident.decision.is_some()).await?;
    ensure!(incident.run.is_none());

    // Another key, and every link that was sent is worth nothing.
    std::fs::write(shop.dir().join("link.key"), format!("{KEY}-another"))?;
    daemon.signal(rustix::process::Signal::HUP)?;
    eventually(SOON, "the new key", async || {
        let status = http().get(&alice).send().await?.status();
        ensure!(status == 404, "{status}");
        Ok(())
    })
    .await?;
    Ok(())
}

/// A certificate of its own for the pages, in the place of the one before.
fn certificate(shop: &Shop) -> Result<reqwest::Certificate> {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()])?;
    std::fs::write(shop.dir().join("links-key.pem"), made.signing_key.serialize_pem())?;
    std::fs::write(shop.dir().join("links.pem"), made.cert.pem())?;
    Ok(reqwest::Certificate::from_pem(made.cert.pem().as_bytes())?)
}

/// One that trusts this certificate only; a connection of its own.
async fn opens(listen: u16, trusted: &reqwest::Certificate) -> Result<u16> {
    let client = reqwest::Client::builder().tls_certs_only([trusted.clone()]).no_proxy().build()?;
    Ok(client.get(format!("https://127.0.0.1:{listen}/a/x")).timeout(SOON).send().await?.status().as_u16())
}

#[tokio::test]
async fn the_pages_show_a_certificate_that_was_renewed_without_being_told() -> Result<()> {
    let listen = port()?;
    let shop = Shop::open(Sketch::default()).await?;
    let file = |name: &str| shop.dir().join(name).display().to_string();
    std::fs::write(file("link.key"), KEY)?;
    let first = certificate(&shop)?;
    let more = format!(
        "[links]\nurl = \"https://127.0.0.1:{listen}\"\nlisten = \"127.0.0.1:{listen}\"\nkey = {{ file = {:?} }}\n\
         tls = {{ certificate_file = {:?}, key_file = {:?} }}\n",
        file("link.key"),
        file("links.pem"),
        file("links-key.pem")
    );
    shop.configure(Sketch { more: &more, ..Sketch::default() })?;
    let mut daemon = shop.start().await?;
    opens(listen, &first).await?;
    let second = certificate(&shop)?;
    daemon.wait_log(SOON, "the certificates were renewed").await?;
    opens(listen, &second).await?;
    ensure!(opens(listen, &first).await.is_err(), "it is shown no more");
    stop(&mut daemon).await
}
