//! The runbook of firm-template.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use failoverd::core::view::StepStateView;
use failoverd::core::view::StepStateView::{Failed, Parked};
use serde_json::Value;
use tempfile::TempDir;

use super::stage::{Door, Ended, Stage, all_done_but};
use crate::fleet::child::{Proc, command};
use crate::fleet::dns::Dns;
use crate::fleet::http_app::{Answer, LocalApp};
use crate::fleet::moto::Moto;
use crate::fleet::postgres::{PASSWORD, PgOptions, Postgres, bin_dir};
use crate::fleet::prometheus::Prometheus;
use crate::fleet::{eventually, scratch_dir};

const EAST: &str = "us-east-1";
const BUCKET: &str = "firm-template-backups";
/// Long enough on a loaded machine.
const SOON: Duration = Duration::from_secs(60);
/// The tasks of `after-incident`, which stay open.
const REVIEW: [(&str, StepStateView); 3] =
    [("review.within-a-day", Parked), ("review.within-a-week", Parked), ("review.within-a-month", Parked)];

/// What all of its plans share.
struct Firm {
    stage: Stage,
    site: LocalApp,
    slack: LocalApp,
    status_page: LocalApp,
    /// What Prometheus scrapes.
    servers: LocalApp,
    /// The database, and the server on which a new one is provisioned.
    db1: Postgres,
    db2: Postgres,
    dns: Dns,
    moto: Moto,
    /// As far as a probe sees of it.
    balancer: Option<Door>,
    /// The others: they stay as they are.
    _others: (LocalApp, Prometheus),
    /// Where the scripts of the runbook are, and what they write down.
    home: TempDir,
}

impl Firm {
    async fn open() -> Result<Self> {
        let zone = ["@ 60 IN A 203.0.113.10", "db 60 IN CNAME db1", "db1 60 IN A 127.0.0.1", "db2 60 IN A 127.0.0.1"];
        let (moto, db1, db2, dns) = tokio::try_join!(
            Moto::start(),
            Postgres::primary(PgOptions::default()),
            Postgres::primary(PgOptions::default()),
            Dns::start("production-server.com", &zone),
        )?;
        let (site, slack, status_page, others, servers) = tokio::try_join!(
            LocalApp::start("site"),
            LocalApp::start("slack"),
            LocalApp::start("status"),
            LocalApp::start("others"),
            LocalApp::start("servers"),
        )?;
        servers.set_path("/metrics", Some(disk(50)));
        let prometheus = Prometheus::start(&format!("127.0.0.1:{}", servers.port()), None).await?;
        let balancer = Door::open().await?;
        let home = scratch_dir("firm")?;
        let mut stage = Stage::of("firm-template")?;
        for host in ["api", "analytics", "dev", "backup-server"] {
            stage.replace(&format!("https://{host}.production-server.com"), &others.at(""))?;
        }
        for client in ["client-one", "client-two"] {
            stage.replace(&format!("https://{client}.example/"), &others.at(&format!("/{client}")))?;
        }
        stage.replace("https://production-server.com", &site.at(""))?;
        stage.replace("https://status.production-server.com", &status_page.at(""))?;
        stage.replace("lb.production-server.com:443", balancer.address())?;
        stage.replace("http://monitoring.production-server.com:9090", &prometheus.url())?;
        stage.replace("198.51.100.53:53", &dns.addr().to_string())?;
        stage.replace("/opt/firm-template", &home.path().display().to_string())?;
        stage.replace("https://github.com/TrevorPlam/firm-template", &home.path().display().to_string())?;
        stage.replace("/usr/bin/pnpm", &home.path().join("scripts/pnpm.sh").display().to_string())?;
        let job =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/examples/firm-template/job.sh"))?;
        executable(&stage.file("/etc/failoverd/job.sh", &job)?)?;
        stage.file("/etc/failoverd/database.url", &db1.url())?;
        stage.file("/etc/failoverd/db1.url", &db1.url())?;
        stage.file("/etc/failoverd/db2.url", &named(&db2, "firm"))?;
        stage.file("/etc/failoverd/scratch.url", &named(&db2, "scratch"))?;
        stage.file("/etc/failoverd/dns.key", &dns.key().secret)?;
        stage.file("/etc/failoverd/slack.url", &slack.url())?;
        stage.pager("arn:aws:sns:us-east-1:123456789012:pagerduty")?;
        stage.file("/etc/failoverd/status-page.authorization", "Bearer canary")?;
        std::fs::create_dir_all(stage.path("/var/lib/failoverd/restore"))?;
        // So long the fence of a dead database is tried.
        stage.replace("fence = \"best-effort\"\ntimeout = \"20s\"", "fence = \"best-effort\"\ntimeout = \"3s\"")?;
        stage.env(moto.env());
        stage.quick();
        let firm = Self {
            stage,
            site,
            slack,
            status_page,
            servers,
            db1,
            db2,
            dns,
            moto,
            balancer: Some(balancer),
            _others: (others, prometheus),
            home,
        };
        firm.databases().await?;
        firm.scripts()?;
        Ok(firm)
    }

    async fn databases(&self) -> Result<()> {
        let url = self.db1.url();
        psql(&url, "CREATE ROLE firm_app LOGIN; CREATE TABLE clients (id int PRIMARY KEY, name text)")?;
        psql(&url, "INSERT INTO clients SELECT i, 'client ' || i FROM generate_series(1, 1000) i")?;
        psql(&url, "CREATE TABLE users (id int PRIMARY KEY, client int REFERENCES clients)")?;
        psql(&url, "INSERT INTO users SELECT i, i FROM generate_series(1, 500) i")?;
        psql(&url, "GRANT SELECT, INSERT, UPDATE, DELETE ON clients, users TO firm_app")?;
        psql(&self.db2.url(), "CREATE ROLE firm_app LOGIN")?;
        psql(&self.db2.url(), "CREATE DATABASE scratch")?;
        // The newest backup.
        let dump = self.home.path().join("newest.dump");
        let mut pg_dump = command(bin_dir().join("pg_dump"));
        let output = pg_dump.args(["-F", "custom", "-f"]).arg(&dump).args(["-d", &url]).output()?;
        ensure!(output.status.success(), "pg_dump: {}", String::from_utf8_lossy(&output.stderr));
        self.moto.cli(EAST, &["s3api", "create-bucket", "--bucket", BUCKET]).await?;
        let body = dump.display().to_string();
        let put = ["s3api", "put-object", "--bucket", BUCKET, "--key", "daily/db-2026.dump", "--body", &body];
        self.moto.cli(EAST, &put).await?;
        for topic in ["pagerduty", "security"] {
            self.moto.cli(EAST, &["sns", "create-topic", "--name", topic]).await?;
        }
        Ok(())
    }

    /// The scripts of the runbook. The runbook does not have them: these do what it says that they do,
    /// as far as that can be done here, and write down that they did.
    fn scripts(&self) -> Result<()> {
        let bin = bin_dir().display().to_string();
        let home = self.home.path().display().to_string();
        let provision = format!("{bin}/psql -XAtq -d '{}' -c 'CREATE DATABASE firm'", self.db2.url());
        let pitr = format!("{provision}\n{bin}/pg_restore -d \"$DATABASE_URL\" {home}/newest.dump");
        let backup = format!(
            "mkdir -p {home}/backups\n{bin}/pg_dump -Fc -f {home}/backups/$FAILOVERD_RUN.dump \"$DATABASE_URL\""
        );
        let ask =
            |statement: &str| format!("{bin}/psql -XAtq -v ON_ERROR_STOP=1 -d \"$DATABASE_URL\" -c '{statement}'");
        let orphans = ask("SELECT count(*) FROM users WHERE client NOT IN (SELECT id FROM clients)");
        let nothing = String::new;
        for (name, body) in [
            ("scripts/database/health-check.sh", ask("SELECT 1")),
            ("scripts/database/backup.sh", backup),
            ("scripts/database/verify.sh", ask("SELECT 1 / (count(*) > 0)::int FROM clients")),
            ("scripts/database/find-corruption.sh", orphans),
            ("scripts/database/restore-pitr.sh", pitr),
            ("scripts/infra/provision-database.sh", provision),
            ("scripts/deploy/failover.sh", nothing()),
            ("scripts/deploy/restart-services.sh", nothing()),
            ("scripts/deploy/emergency-deploy.sh", nothing()),
            ("scripts/monitoring/check-lb.sh", nothing()),
            ("scripts/security/block-ip.sh", nothing()),
            ("scripts/security/audit-access.sh", "echo 17 logins from elsewhere".into()),
            ("scripts/security/check-unauthorized.sh", nothing()),
            ("scripts/pnpm.sh", nothing()),
        ] {
            let path = self.home.path().join(name);
            std::fs::create_dir_all(path.parent().context("a folder")?)?;
            let short = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            std::fs::write(&path, format!("#!/bin/sh\nset -eu\necho {short} \"$@\" >>{home}/ran\n{body}\n"))?;
            executable(&path)?;
        }
        for arguments in [
            &["init", "--quiet"][..],
            &["add", "scripts"],
            &["-c", "user.name=Ada", "-c", "user.email=ada@example.com", "commit", "--quiet", "-m", "a recent change"],
        ] {
            let output = command("git").arg("-C").arg(self.home.path()).args(arguments).output()?;
            ensure!(output.status.success(), "git: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// The scripts that ran since the last look, with their arguments, in alphabetical order.
    fn ran(&self) -> Result<Vec<String>> {
        let path = self.home.path().join("ran");
        let text = std::fs::read_to_string(&path)?;
        std::fs::remove_file(&path)?;
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }

    /// What a job of a run wrote.
    fn log(&self, ended: &Ended, step: &str) -> Result<String> {
        let path: PathBuf = self.stage.path(&format!("/var/lib/failoverd/jobs/{}/{step}/log", ended.run.id));
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }

    fn slack_was_told(&self, needle: &str) -> bool {
        self.slack.seen().iter().any(|seen| seen.body.contains(needle))
    }

    fn status_page(&self) -> Vec<String> {
        let told = self.status_page.seen();
        let told = told.iter().filter_map(|seen| serde_json::from_str::<Value>(&seen.body).ok());
        told.filter_map(|told| told["status"].as_str().map(str::to_owned)).collect()
    }

    async fn task(&self, step: &str) -> Result<String> {
        let open = |status: &failoverd::core::view::StatusView| {
            status.tasks.iter().find(|task| task.step.as_str() == step).map(|task| task.message.clone())
        };
        let status = self.stage.sees("the task", |status| open(status).is_some()).await?;
        open(&status).context("it was there")
    }
}

/// What an exporter says of a disk that is so full, in percent.
fn disk(full: u32) -> Answer {
    let body = format!(
        "node_filesystem_size_bytes{{mountpoint=\"/\"}} 100\nnode_filesystem_avail_bytes{{mountpoint=\"/\"}} {}\n",
        100 - full
    );
    Answer { body, ..Answer::status(200) }
}

fn named(server: &Postgres, database: &str) -> String {
    server.url().replace("/postgres?", &format!("/{database}?"))
}

/// A statement by `psql`.
fn psql(url: &str, statement: &str) -> Result<String> {
    let mut psql = command(bin_dir().join("psql"));
    let output = psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]).arg(url).output()?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn executable(path: &Path) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).with_context(|| path.display().to_string())
}

fn asked(ended: &Ended) -> Vec<&str> {
    ended.asked.iter().map(String::as_str).collect()
}

const COUNTS: &str = "SELECT (SELECT count(*) FROM clients) || ' ' || (SELECT count(*) FROM users)";

/// Scenario 1.
#[tokio::test]
async fn a_lost_database_comes_back_from_its_backup() -> Result<()> {
    let mut firm = Firm::open().await?;
    let pager = firm.moto.create_inbox(EAST, "pagerduty").await?;
    firm.stage.open().await?;
    let _daemon = firm.stage.start().await?;
    firm.db1.kill9();
    let ended = firm.stage.approve("database-lost").await?;
    let others = [("server-status", Failed), ("stop-old", Failed), ("review-backups", Parked)];
    all_done_but(&ended, &others)?;
    assert_eq!(asked(&ended), ["lost"]);
    let new = named(&firm.db2, "firm");
    assert_eq!(psql(&new, COUNTS)?, "1000 500");
    psql(&new, "INSERT INTO users VALUES (501, 1)")?;
    assert_eq!(firm.dns.dig("db.production-server.com", "CNAME").await?, ["db2.production-server.com."]);
    let ran = firm.ran()?;
    let wanted =
        ["health-check.sh", "pnpm.sh test:integration", "provision-database.sh", "restart-services.sh", "verify.sh"];
    assert_eq!(ran, wanted);
    ensure!(firm.slack_was_told("INCIDENT: CRITICAL complete database loss"), "{:?}", firm.slack.seen());
    ensure!(firm.slack_was_told("RESOLVED: the database is back"), "{:?}", firm.slack.seen());
    assert_eq!(firm.status_page(), ["investigating", "resolved"]);
    pager.wait_for(SOON, "database-lost").await?;
    let message = firm.task("review-backups").await?;
    ensure!(message.contains("was the newest backup"), "{message}");
    Ok(())
}

/// Scenario 2.
#[tokio::test]
async fn the_backup_server_takes_over() -> Result<()> {
    let mut firm = Firm::open().await?;
    firm.stage.open().await?;
    firm.stage.plan("switch-to-backup-server", &[]).await?;
    let _daemon = firm.stage.start().await?;
    firm.site.set(Some(Answer::status(502)));
    let (dns, site) = (&firm.dns, &firm.site);
    let moved = async {
        eventually(SOON, "the record", async || {
            let seen = dns.dig("production-server.com", "A").await?;
            ensure!(seen == ["203.0.113.20"], "{seen:?}");
            Ok(())
        })
        .await?;
        // Who asks for the name gets the backup server now.
        site.set(None);
        anyhow::Ok(())
    };
    let (ended, moved) = tokio::join!(firm.stage.approve("server-failure"), moved);
    moved?;
    all_done_but(&ended?, &[("way-back", Parked)])?;
    for endpoint in ["/health", "/login", "/status"] {
        ensure!(firm.site.seen_at(endpoint) > 0, "{endpoint} was not looked at");
    }
    assert_eq!(firm.ran()?, ["check-lb.sh", "failover.sh"]);
    let sentinel = firm.dns.dig("_failoverd.production-server.com", "TXT").await?;
    ensure!(sentinel.len() == 1, "{sentinel:?}");
    assert_eq!(firm.status_page(), ["investigating", "resolved"]);
    Ok(())
}

/// Scenario 3, and the monthly test of the backups.
#[tokio::test]
async fn damaged_data_is_restored_selected_and_corrected() -> Result<()> {
    let mut firm = Firm::open().await?;
    firm.stage.open().await?;
    for plan in ["test-restore", "correct-by-hand"] {
        firm.stage.plan(plan, &[]).await?;
    }
    firm.stage.plan("restore-table", &[("table", "clients")]).await?;
    // What only looks looks in a dry run, too.
    firm.ran()?;
    let _daemon = firm.stage.start().await?;
    let (live, scratch) = (firm.db1.url(), named(&firm.db2, "scratch"));

    let ended = firm.stage.execute("test-restore", &[]).await?;
    all_done_but(&ended, &[])?;
    assert_eq!(asked(&ended), ["sure"]);
    assert_eq!(psql(&scratch, COUNTS)?, "1000 500");
    psql(&scratch, "DROP TABLE users; DROP TABLE clients")?;
    assert_eq!(firm.ran()?, ["verify.sh"]);

    // Option B. The rows come back by the hand of a person, who is played here.
    psql(&live, "ALTER TABLE users DROP CONSTRAINT users_client_fkey; DELETE FROM clients")?;
    let may = "SELECT has_table_privilege('firm_app', 'clients', 'INSERT')";
    let rows = firm.home.path().join("rows");
    let bring_back = async {
        eventually(SOON, "the rows beside the database", async || {
            ensure!(psql(&scratch, "SELECT count(*) FROM clients")? == "1000", "not all yet");
            Ok(())
        })
        .await?;
        assert_eq!(psql(&live, may)?, "f");
        psql(&scratch, &format!("\\copy clients TO {}", rows.display()))?;
        psql(&live, &format!("\\copy clients FROM {}", rows.display()))
    };
    let given = [("table", "clients")];
    let (ended, back) = tokio::join!(firm.stage.execute("restore-table", &given), bring_back);
    back?;
    let ended = ended?;
    all_done_but(&ended, &REVIEW)?;
    assert_eq!(asked(&ended), ["isolate.scope", "rows-back", "sure"]);
    assert_eq!(psql(&live, COUNTS)?, "1000 500");
    assert_eq!(psql(&live, may)?, "t");
    assert_eq!(psql(&scratch, "SELECT to_regclass('users') IS NULL")?, "t", "only what was named");
    assert_eq!(firm.log(&ended, "isolate.find-corruption")?.trim(), "500", "the users without a client");
    let snapshot = firm.home.path().join(format!("backups/{}.dump", ended.run.id));
    ensure!(snapshot.exists(), "no snapshot of what was damaged");

    // Option C.
    let ended = firm.stage.execute("correct-by-hand", &[]).await?;
    all_done_but(&ended, &REVIEW)?;
    assert_eq!(asked(&ended), ["correct", "isolate.scope"]);

    // Option A.
    psql(&live, "UPDATE clients SET name = 'wrong'")?;
    firm.ran()?;
    let at = "2024-01-15T14:30:00Z";
    let ended = firm.stage.execute("restore-point-in-time", &[("at", at)]).await?;
    all_done_but(&ended, &REVIEW)?;
    assert_eq!(asked(&ended), ["isolate.scope", "sure"]);
    ensure!(firm.ran()?.contains(&format!("restore-pitr.sh {at}")));
    assert_eq!(psql(&named(&firm.db2, "firm"), "SELECT count(*) FROM clients WHERE name LIKE 'client %'")?, "1000");
    assert_eq!(firm.dns.dig("db.production-server.com", "CNAME").await?, ["db2.production-server.com."]);
    let refused = psql(&live, "DELETE FROM clients").expect_err("the old database takes writes");
    ensure!(refused.to_string().contains("read-only transaction"), "{refused}");
    Ok(())
}

/// Scenario 4.
#[tokio::test]
async fn a_breach_is_contained_and_assessed() -> Result<()> {
    let mut firm = Firm::open().await?;
    psql(&firm.db1.url(), &format!("CREATE ROLE mallory LOGIN PASSWORD '{PASSWORD}'"))?;
    let theirs = firm.db1.url().replace("postgres:", "mallory:").replace("mallory://", "postgres://");
    let log = tempfile::NamedTempFile::new()?;
    let mut session = command(bin_dir().join("psql"));
    session.args(["-XAtq", "-d", &theirs, "-c", "SELECT pg_sleep(300)"]);
    let mut session = Proc::start("psql", session, log.path())?;
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'mallory'";
    eventually(SOON, "the session", async || {
        ensure!(psql(&firm.db1.url(), sessions)? == "1", "not yet");
        Ok(())
    })
    .await?;
    let team = firm.moto.create_inbox(EAST, "security").await?;
    firm.stage.open().await?;
    let given = [("role", "mallory"), ("ip", "198.51.100.7")];
    firm.stage.plan("security-breach", &given).await?;
    let _daemon = firm.stage.start().await?;

    let ended = firm.stage.execute("security-breach", &given).await?;
    all_done_but(&ended, &[&[("legal", Parked), ("forensics", Parked)][..], &REVIEW[..]].concat())?;
    assert_eq!(asked(&ended), ["assess", "isolate", "revoke-others"]);
    team.wait_for(SOON, "role mallory").await?;
    session.wait_exit(SOON).await?;
    assert_eq!(psql(&firm.db1.url(), sessions)?, "0");
    let refused = psql(&theirs, "SELECT 1").expect_err("the role may log in");
    ensure!(refused.to_string().contains("not permitted to log in"), "{refused}");
    let wanted = ["audit-access.sh", "block-ip.sh 198.51.100.7", "check-unauthorized.sh"];
    assert_eq!(firm.ran()?, wanted);
    assert_eq!(firm.log(&ended, "access")?.trim(), "17 logins from elsewhere");
    ensure!(firm.log(&ended, "changes")?.contains("a recent change"));
    let message = firm.task("legal").await?;
    ensure!(message.contains("72 hours"), "{message}");
    Ok(())
}

/// Scenario 5.
#[tokio::test]
async fn everything_is_rebuilt_elsewhere() -> Result<()> {
    let mut firm = Firm::open().await?;
    firm.stage.open().await?;
    let _daemon = firm.stage.start().await?;
    firm.db1.kill9();
    firm.site.set(Some(Answer::status(503)));
    drop(firm.balancer.take());
    let ended = firm.stage.approve("infrastructure-lost").await?;
    all_done_but(&ended, &[("stop-old", Failed)])?;
    assert_eq!(asked(&ended), ["certificates", "integrations", "load-balancers", "lost"]);
    assert_eq!(psql(&named(&firm.db2, "firm"), COUNTS)?, "1000 500");
    assert_eq!(firm.dns.dig("db.production-server.com", "CNAME").await?, ["db2.production-server.com."]);
    assert_eq!(firm.dns.dig("production-server.com", "A").await?, ["203.0.113.20"]);
    let clone = firm.stage.path("/var/lib/failoverd/rebuild");
    let pnpm = |what: &str| format!("pnpm.sh --dir {} {what}", clone.display());
    let mut wanted = vec![
        pnpm("build"),
        pnpm("install"),
        pnpm("test"),
        "emergency-deploy.sh".into(),
        "failover.sh".into(),
        "pnpm.sh test:integration".into(),
        "provision-database.sh".into(),
        "restart-services.sh".into(),
        "verify.sh".into(),
    ];
    wanted.sort();
    assert_eq!(firm.ran()?, wanted);
    ensure!(clone.join(".git").exists(), "no clone");
    assert_eq!(firm.status_page(), ["investigating", "resolved"]);
    Ok(())
}

/// The critical alerts that a real Prometheus measures.
#[tokio::test]
async fn a_full_disk_alerts_and_nothing_is_done() -> Result<()> {
    let mut firm = Firm::open().await?;
    firm.stage.open().await?;
    let _daemon = firm.stage.start().await?;
    firm.servers.set_path("/metrics", Some(disk(95)));
    eventually(SOON, "the chat to be told of the disk", async || {
        ensure!(firm.slack_was_told("resources"), "not yet");
        Ok(())
    })
    .await?;
    let status = firm.stage.sees("the disk", |status| {
        status.probes.iter().any(|probe| probe.name.as_str() == "disk" && !probe.why.is_empty())
    });
    let status = status.await?;
    ensure!(status.run.is_none(), "{:?}", status.run);
    Ok(())
}
