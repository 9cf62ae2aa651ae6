//! `failoverd audit` on a journal that is whole, changed, written anew, and cut off.

use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context, Result};
use failoverd::model::{Entry, Record, WallTime};
use failoverd::ports::Journal;
use failoverd::state::SqliteState;

struct Desk {
    dir: tempfile::TempDir,
}

impl Desk {
    fn new(records: u64, by: &str) -> Result<Self> {
        let desk = Self { dir: tempfile::tempdir()? };
        desk.write(records, by)?;
        let first = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples/first.toml"))?;
        let state = format!("[daemon]\nstate = \"sqlite:{}\"", desk.state().display());
        std::fs::write(desk.config(), first.replacen("[daemon]", &state, 1))?;
        Ok(desk)
    }

    fn state(&self) -> std::path::PathBuf {
        self.dir.path().join("state.db")
    }

    fn config(&self) -> std::path::PathBuf {
        self.dir.path().join("failoverd.toml")
    }

    fn write(&self, records: u64, by: &str) -> Result<()> {
        let (mut journal, _outbox, _authority) = SqliteState::open(&self.state())?.split();
        journal.replay()?;
        for seq in 1..=records {
            let entry = Entry::Command { by: by.into(), command: "pause".into(), result: "done".into() };
            journal.append(&[Record { seq, at: WallTime(1_785_381_164_000), entry }])?;
        }
        Ok(())
    }

    fn audit(&self, args: &[&str]) -> Result<Output> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_failoverd"));
        Ok(command.arg("audit").args(args).arg("--config").arg(self.config()).output()?)
    }

    /// The anchor that a good verification prints.
    fn anchor(&self) -> Result<String> {
        let output = self.audit(&["verify"])?;
        let said = String::from_utf8(output.stdout)?;
        assert!(output.status.success() && said.contains("is whole: 5 records"), "{said}");
        let anchor = said.lines().find_map(|line| line.strip_prefix("Keep elsewhere: --anchor "));
        Ok(anchor.context("no anchor")?.to_owned())
    }
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn what_was_changed_written_anew_or_cut_off_is_seen() -> Result<()> {
    let desk = Desk::new(5, "root")?;
    let anchor = desk.anchor()?;
    assert_eq!(desk.audit(&["verify", "--anchor", &anchor])?.status.code(), Some(0));
    let listed = desk.audit(&["list", "--last", "2"])?;
    let said = told(&listed);
    assert!(said.contains("command") && said.contains("root") && !said.contains(" 3 "), "{said}");
    assert_eq!(desk.audit(&["verify", "--anchor", "5:beef"])?.status.code(), Some(2));

    // Somebody with the file changes one word.
    let sql = |text: &str| -> Result<()> {
        let ran = Command::new("python3")
            .args([
                "-c",
                &format!(
                    "import sqlite3; c=sqlite3.connect('{}'); c.execute(\"{text}\"); c.commit()",
                    desk.state().display()
                ),
            ])
            .status()?;
        anyhow::ensure!(ran.success(), "python3");
        Ok(())
    };
    sql("UPDATE journal SET entry = replace(entry, 'root', 'nobody') WHERE seq = 3")?;
    let changed = desk.audit(&["verify"])?;
    assert_eq!(changed.status.code(), Some(1));
    assert!(told(&changed).contains("record 3"), "{}", told(&changed));
    sql("UPDATE journal SET entry = replace(entry, 'nobody', 'root') WHERE seq = 3")?;

    // The end is cut off: the chain alone cannot tell.
    sql("DELETE FROM journal WHERE seq = 5")?;
    assert_eq!(desk.audit(&["verify"])?.status.code(), Some(0));
    let cut = desk.audit(&["verify", "--anchor", &anchor])?;
    assert_eq!(cut.status.code(), Some(1));
    assert!(told(&cut).contains("cut off"), "{}", told(&cut));

    // All of it is written anew, with checksums that fit.
    let anew = Desk::new(5, "nobody")?;
    let other = anew.audit(&["verify", "--anchor", &anchor])?;
    assert_eq!(other.status.code(), Some(1));
    assert!(told(&other).contains("written anew"), "{}", told(&other));
    Ok(())
}
