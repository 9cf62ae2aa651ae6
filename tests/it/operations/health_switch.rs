//! The health switches as the daemon serves them, asked as a DNS provider's health checkers ask.

use std::io::Read;
use std::net::TcpStream;

use anyhow::{Result, ensure};
use failoverd::model::RunResult;
use rustix::process::Signal;

use super::shop::{SOON, Shop, Sketch, has};
use crate::fleet::{child, eventually, port};

const PLAN: &str = r#"
[plans.failover]
[plans.failover.steps.backup-on]
health_switch.set = { name = "west", on = true }
estimate = "100ms"
[plans.failover.steps.primary-off]
after = ["backup-on"]
health_switch.set = { name = "east", on = false }
estimate = "100ms"
"#;

/// A shop with the switches `east` (at first on) and `west` (at first off).
struct Switched {
    shop: Shop,
    port: u16,
}

impl Switched {
    async fn open() -> Result<Self> {
        let switched = Self { shop: Shop::open(Sketch::default()).await?, port: port()? };
        switched.configure("east = { initially = \"on\" }\nwest = { initially = \"off\" }")?;
        Ok(switched)
    }

    fn configure(&self, switches: &str) -> Result<()> {
        let more = format!(
            "[health_switch]\nlisten = \"127.0.0.1:{}\"\ndirectory = \"{}/health\"\n[health_switch.switches]\n{switches}",
            self.port,
            self.shop.dir().display(),
        );
        self.shop.configure(Sketch { plan: PLAN, more: &more, ..Sketch::default() })
    }

    /// What a checker is answered: the status, or `000` where it gets no answer. From another address
    /// of loopback it is another caller.
    async fn curl(&self, name: &str, extra: &[&str]) -> String {
        let url = format!("http://127.0.0.1:{}/health/{name}", self.port);
        let mut curl = child::command("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "--max-time", "5"]).args(extra).arg(url);
        child::run(curl, SOON).await.unwrap_or_else(|_| "000".to_owned())
    }

    async fn both(&self) -> (String, String) {
        (self.curl("east", &[]).await, self.curl("west", &[]).await)
    }

    /// Waits for these answers.
    async fn answer(&self, east: &str, west: &str) -> Result<()> {
        eventually(SOON, "the switches", async || {
            let answered = self.both().await;
            ensure!(answered == (east.to_owned(), west.to_owned()), "{answered:?}");
            Ok(())
        })
        .await
    }
}

fn pair(east: &str, west: &str) -> (String, String) {
    (east.to_owned(), west.to_owned())
}

#[tokio::test]
async fn a_run_flips_what_health_checkers_are_answered_and_a_crash_keeps_it() -> Result<()> {
    let switched = Switched::open().await?;
    let shop = &switched.shop;
    let mut daemon = shop.start().await?;
    assert_eq!(switched.both().await, pair("200", "503"));
    assert_eq!(switched.curl("north", &[]).await, "404");
    for method in ["PUT", "POST", "DELETE"] {
        assert_eq!(switched.curl("east", &["-X", method]).await, "405");
    }
    shop.break_api();
    assert_eq!(shop.ended().await?.result, Some(RunResult::Done));
    switched.answer("503", "200").await?;

    daemon.kill9();
    assert_eq!(switched.both().await, pair("000", "000"), "nobody answers for a daemon that is gone");
    let mut daemon = shop.up_again().await?;
    assert_eq!(switched.both().await, pair("503", "200"), "from the first answer on");

    // Another initial state takes back nothing that a run has set.
    switched
        .configure("east = { initially = \"on\" }\nwest = { initially = \"off\" }\nnorth = { initially = \"on\" }")?;
    daemon.signal(Signal::HUP)?;
    eventually(SOON, "the new switch", async || {
        let answered = switched.curl("north", &[]).await;
        ensure!(answered == "200", "{answered}");
        Ok(())
    })
    .await?;
    assert_eq!(switched.both().await, pair("503", "200"));
    Ok(())
}

/// A health check that lies moves traffic.
#[tokio::test]
async fn a_setting_that_cannot_be_read_is_answered_as_before_and_after_a_restart_by_503() -> Result<()> {
    let switched = Switched::open().await?;
    let shop = &switched.shop;
    let mut daemon = shop.start().await?;
    shop.break_api();
    assert_eq!(shop.ended().await?.result, Some(RunResult::Done));
    switched.answer("503", "200").await?;
    for name in ["east", "west"] {
        std::fs::write(shop.dir().join(format!("health/{name}.json")), "{")?;
    }
    daemon.wait_log(SOON, "it answers as before").await?;
    assert_eq!(switched.both().await, pair("503", "200"));
    daemon.kill9();
    let daemon = shop.up_again().await?;
    assert_eq!(switched.both().await, pair("503", "503"), "`east` is on at first, and its file says that it was set");
    has(&daemon.stderr(), &["put it right, or delete it", "it answers 503"]);
    let (_, metrics) = shop.get("/metrics").await?;
    has(&metrics, &["failoverd_health_switch{switch=\"east\"} -1", "failoverd_health_switch{switch=\"west\"} -1"]);
    Ok(())
}

#[tokio::test]
async fn one_caller_does_not_keep_the_others_out() -> Result<()> {
    let switched = Switched::open().await?;
    let _daemon = switched.shop.start().await?;
    let silent: Vec<TcpStream> =
        (0..64).map(|_| TcpStream::connect(("127.0.0.1", switched.port))).collect::<std::io::Result<_>>()?;
    eventually(SOON, "the caller to be turned away", async || {
        let answered = switched.curl("east", &[]).await;
        ensure!(answered == "000", "{answered}");
        Ok(())
    })
    .await?;
    assert_eq!(switched.curl("east", &["--interface", "127.0.0.2"]).await, "200");
    // Who asks nothing is not waited for.
    eventually(SOON, "the silent connections to end", async || {
        let answered = switched.curl("east", &[]).await;
        ensure!(answered == "200", "{answered}");
        Ok(())
    })
    .await?;
    for mut stream in silent {
        stream.set_read_timeout(Some(SOON))?;
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)));
    }
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() -> Result<()> {
    let switched = Switched::open().await?;
    let _taken = std::net::TcpListener::bind(("127.0.0.1", switched.port))?;
    let done = switched.shop.verb(&["run"]).run(SOON).await?;
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    has(&done.stderr, &[&format!("127.0.0.1:{}", switched.port), "health_switch.listen"]);
    Ok(())
}
