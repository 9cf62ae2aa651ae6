//! What is probed and killed: a process of its own (this program once more) that answers on several
//! ports and writes down when it was asked, so that the phase of each prober is known from outside.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::figures::micros;
use crate::fleet::child::{Proc, command};
use crate::fleet::{START, scratch_dir};

/// The argument that makes this program a target.
pub const FLAG: &str = "--target";

/// How a port answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Accepts and closes.
    Tcp,
    /// Answers every request with 200.
    Http,
}

/// Serves the ports `tcp:PORT` and `http:PORT` until it is killed.
pub fn serve(ports: &[String]) -> ExitCode {
    let mut servers = Vec::new();
    for port in ports {
        let listener = port.split_once(':').and_then(|(kind, port)| {
            let listener = TcpListener::bind(("127.0.0.1", port.parse().ok()?)).ok()?;
            Some((kind == "http", port.to_owned(), listener))
        });
        let Some((http, port, listener)) = listener else {
            eprintln!("cannot serve {port}");
            return ExitCode::FAILURE;
        };
        servers.push(std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let port = port.clone();
                if http {
                    std::thread::spawn(move || answer(stream, &port));
                } else {
                    note(&port);
                }
            }
        }));
    }
    servers.into_iter().for_each(|server| drop(server.join()));
    ExitCode::SUCCESS
}

fn answer(mut stream: TcpStream, port: &str) {
    let mut buffer = [0; 4096];
    let mut head = Vec::new();
    while let Ok(length @ 1..) = stream.read(&mut buffer) {
        head.extend_from_slice(&buffer[..length]);
        if head.ends_with(b"\r\n\r\n") {
            note(port);
            head.clear();
            let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    }
}

/// One write: what was noted before a SIGKILL is in the file.
fn note(port: &str) {
    let line = format!("{port} {}\n", micros());
    let _nobody_reads = std::io::stdout().write_all(line.as_bytes());
}

/// A running target.
pub struct Target {
    ports: Vec<(Kind, u16)>,
    server: Option<Proc>,
    dir: TempDir,
    lives: u32,
}

impl Target {
    /// Starts it.
    pub async fn start(ports: &[(Kind, u16)]) -> Result<Self> {
        let mut this = Self { ports: ports.to_vec(), server: None, dir: scratch_dir("target")?, lives: 0 };
        this.restart().await?;
        Ok(this)
    }

    /// Starts it again on the same ports.
    pub async fn restart(&mut self) -> Result<()> {
        self.server = None;
        self.lives += 1;
        let mut program = command(std::env::current_exe()?);
        program.arg(FLAG);
        for (kind, port) in &self.ports {
            program.arg(format!("{}:{port}", if *kind == Kind::Http { "http" } else { "tcp" }));
        }
        let server = Proc::start_split("the target", program, &self.log(), &self.dir.path().join("stderr"))?;
        let ports = self.ports.clone();
        self.server
            .insert(server)
            .ready(START, "the target to listen", async || {
                for (_, port) in &ports {
                    TcpStream::connect(("127.0.0.1", *port))?;
                }
                Ok(())
            })
            .await
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join(format!("asked.{}", self.lives))
    }

    /// SIGKILL; tells when.
    pub fn kill(&mut self) -> Result<i64> {
        let at = micros();
        self.server.as_mut().context("the target is dead already")?.signal(Signal::KILL)?;
        Ok(at)
    }

    /// SIGSTOP: its connections stand, and nobody answers; tells when.
    pub fn hang(&mut self) -> Result<i64> {
        let at = micros();
        self.server.as_mut().context("the target is dead already")?.signal(Signal::STOP)?;
        Ok(at)
    }

    /// SIGCONT.
    pub fn go_on(&mut self) -> Result<()> {
        self.server.as_mut().context("the target is dead already")?.signal(Signal::CONT)
    }

    /// When each port was asked last in this life.
    pub fn last_asked(&self) -> Result<BTreeMap<u16, i64>> {
        let mut last = BTreeMap::new();
        for line in std::fs::read_to_string(self.log())?.lines() {
            if let Some((port, at)) = line.split_once(' ') {
                last.insert(port.parse()?, at.parse()?);
            }
        }
        Ok(last)
    }
}
