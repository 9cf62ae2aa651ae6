//! Logs: to stderr, in the form that suits who reads it, and never at the cost of the main loop.
//!
//! A line is handed to a thread of its own. When whoever reads stderr stands still (a stuck log
//! driver, a stopped journald), lines are dropped and counted; the daemon goes on. A failover that
//! waits for its own log would be the outage.

use std::ffi::OsStr;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt as layer};

use crate::config::shape::{Log, LogFormat};
use crate::model::WallTime;

/// The variables that override the configured filter, the strongest first.
const FILTER_VARIABLES: [&str; 2] = ["FAILOVERD_LOG", "RUST_LOG"];

/// So many lines may wait for a slow reader; a few megabytes at most.
const QUEUE: usize = 8192;

/// How long leaving waits for the last lines to be read.
const FLUSH: Duration = Duration::from_secs(1);

/// Why there are no logs.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// A filter cannot be read.
    #[error(
        "{place}: `{filter}` is not a log filter ({reason}); write a level (error, warn, info, debug, trace) or `failoverd=debug,info`"
    )]
    Filter {
        /// The variable or the setting that it stands in.
        place: &'static str,
        /// The filter.
        filter: String,
        /// Why not.
        reason: String,
    },
    /// The writing thread could not be started.
    #[error("cannot start the thread that writes the log: {0}")]
    Thread(#[from] io::Error),
    /// Logs were set up before, in this process.
    #[error("logging was set up twice")]
    Twice,
}

/// Keeps the log going; what was logged is written out when it is dropped. `std::process::exit`
/// drops nothing.
#[must_use = "the last lines of the log are lost without it"]
#[derive(Debug)]
pub struct LogGuard {
    queue: Queue,
    style: Style,
}

impl LogGuard {
    /// Do people read it as it is, and not programs?
    pub fn is_for_people(&self) -> bool {
        matches!(self.style, Style::Human { .. })
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.queue.flush(FLUSH);
    }
}

/// Sets up the log of this process: stderr, by `log`, overridden by `FAILOVERD_LOG` or `RUST_LOG`.
///
/// # Errors
/// [`LoggingError`].
pub fn init(log: &Log) -> Result<LogGuard, LoggingError> {
    let filter = filter(log, |name| std::env::var(name).ok())?;
    let style = Style::of_stderr(log.format.unwrap_or_default());
    let queue = Queue::start(io::stderr(), style)?;
    Registry::default()
        .with(style.layer(queue.clone()).with_filter(filter))
        .try_init()
        .map_err(|_| LoggingError::Twice)?;
    Ok(LogGuard { queue, style })
}

fn filter(log: &Log, variable: impl Fn(&str) -> Option<String>) -> Result<EnvFilter, LoggingError> {
    let (place, text) = FILTER_VARIABLES
        .into_iter()
        .find_map(|name| variable(name).filter(|text| !text.trim().is_empty()).map(|text| (name, text)))
        .or_else(|| log.filter.clone().map(|text| ("log.filter", text)))
        .unwrap_or_else(|| ("log.filter", "info".to_owned()));
    EnvFilter::builder().parse(&text).map_err(|error| LoggingError::Filter {
        place,
        reason: error.to_string(),
        filter: text,
    })
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Style {
    Human { colour: bool },
    Json,
    Journald,
}

impl Style {
    fn of_stderr(format: LogFormat) -> Self {
        let stderr = io::stderr();
        let journal = std::env::var("JOURNAL_STREAM").ok().is_some_and(|stream| {
            rustix::fs::fstat(&stderr).is_ok_and(|about| is_journal(&stream, about.st_dev, about.st_ino))
        });
        let set = |name: &str| std::env::var_os(name);
        let colour = stderr.is_terminal() && may_colour(set("NO_COLOR").as_deref(), set("TERM").as_deref());
        Self::choose(format, journal, stderr.is_terminal(), colour)
    }

    fn choose(format: LogFormat, journal: bool, terminal: bool, colour: bool) -> Self {
        match format {
            LogFormat::Human => Self::Human { colour },
            LogFormat::Json => Self::Json,
            LogFormat::Journald => Self::Journald,
            LogFormat::Auto if journal => Self::Journald,
            LogFormat::Auto if terminal => Self::Human { colour },
            LogFormat::Auto => Self::Json,
        }
    }

    fn layer<W>(self, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
    where
        W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
    {
        match self {
            Self::Human { colour } => {
                layer::layer().with_ansi(colour).with_target(false).with_timer(Clock).with_writer(writer).boxed()
            }
            // One flat object: what is searched for (`run`, `step`, `probe`) is at the top.
            Self::Json => layer::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_timer(Clock)
                .with_writer(writer)
                .boxed(),
            Self::Journald => {
                layer::layer().with_ansi(false).event_format(Prioritized::default()).with_writer(writer).boxed()
            }
        }
    }

    /// The line that stands for those that were dropped.
    fn dropped(self, lines: u64) -> String {
        let message = format!("{lines} log lines were dropped: whoever reads stderr is too slow");
        match self {
            Self::Human { .. } => format!("{} WARN {message}\n", now()),
            Self::Json => format!(r#"{{"timestamp":"{}","level":"WARN","message":"{message}"}}{}"#, now(), '\n'),
            Self::Journald => format!("<4>{message}\n"),
        }
    }
}

/// Is stderr the stream that journald gave us (systemd.exec(5))? A child may inherit the variable
/// and not the stream.
fn is_journal(stream: &str, device: u64, inode: u64) -> bool {
    stream.split_once(':').is_some_and(|(d, i)| d.parse() == Ok(device) && i.parse() == Ok(inode))
}

/// Colour on this terminal? See <https://no-color.org>.
fn may_colour(no_color: Option<&OsStr>, term: Option<&OsStr>) -> bool {
    no_color.is_none_or(OsStr::is_empty) && term.is_none_or(|term| term.as_bytes() != b"dumb")
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The time as everywhere else in failoverd: UTC, to the millisecond.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", now())
    }
}

/// Lines as journald reads them from a stream (sd-daemon(3)): `<N>` and the message. It adds the
/// time itself.
struct Prioritized {
    inner: Format<Full, ()>,
}

impl Default for Prioritized {
    fn default() -> Self {
        Self { inner: Format::default().without_time().with_level(false).with_ansi(false) }
    }
}

impl<S, N> FormatEvent<S, N> for Prioritized
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut text = String::new();
        self.inner.format_event(context, Writer::new(&mut text), event)?;
        // A line break would begin an entry of its own, with a priority that outside text chose.
        let text = text.trim_end_matches('\n').replace('\n', "\\n").replace('\r', "\\r");
        writeln!(writer, "<{}>{text}", priority(event.metadata().level()))
    }
}

/// syslog(3)'s severity.
fn priority(level: &Level) -> u8 {
    match *level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// Lines on their way to the writing thread.
#[derive(Clone, Debug)]
struct Queue {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

enum Message {
    Line(Vec<u8>),
    Flush(SyncSender<()>),
}

impl Queue {
    fn start(target: impl Write + Send + 'static, style: Style) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&dropped);
        thread::Builder::new().name("log".into()).spawn(move || write_out(target, style, &receiver, &count))?;
        Ok(Self { lines: sender, dropped })
    }

    fn flush(&self, within: Duration) {
        let deadline = Instant::now() + within;
        let (done, wait) = sync_channel(1);
        let mut message = Message::Flush(done);
        // `send` would wait for ever where nobody reads.
        while let Err(TrySendError::Full(back)) = self.lines.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            thread::sleep(Duration::from_millis(2));
            message = back;
        }
        let _ = wait.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

fn write_out(mut target: impl Write, style: Style, receiver: &Receiver<Message>, dropped: &AtomicU64) {
    // Nothing can be done about a stderr that takes no more, and nobody can be told.
    while let Ok(message) = receiver.recv() {
        match message {
            Message::Line(line) => drop(target.write_all(&line)),
            Message::Flush(done) => {
                let _ = target.flush();
                let _ = done.try_send(());
            }
        }
        match dropped.swap(0, Ordering::Relaxed) {
            0 => {}
            lines => drop(target.write_all(style.dropped(lines).as_bytes())),
        }
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Queue {
    /// tracing-subscriber writes each event in one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.lines.try_send(Message::Line(line.to_vec())) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Written {
        type Writer = Self;
        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn logged(style: Style, log: impl FnOnce()) -> String {
        let written = Written::default();
        let filter = filter(&Log::default(), |_| None).unwrap();
        let subscriber = Registry::default().with(style.layer(written.clone()).with_filter(filter));
        tracing::subscriber::with_default(subscriber, log);
        written.text()
    }

    fn one_of_each() {
        tracing::debug!("not by default");
        let _span = tracing::info_span!("run", run = "RUN-1").entered();
        tracing::info!(step = "promote", took_ms = 12, "step ended");
        tracing::error!("first line\nSTOPPING=1");
    }

    #[test]
    fn for_people() {
        let text = logged(Style::Human { colour: false }, one_of_each);
        let first = text.lines().next().unwrap();
        assert_eq!(&first[10..11], "T", "{first}");
        assert!(first.contains("Z  INFO run{run=\"RUN-1\"}: step ended step=\"promote\" took_ms=12"), "{first}");
        assert!(!text.contains('\u{1b}') && !text.contains("not by default"), "{text}");
        assert!(logged(Style::Human { colour: true }, one_of_each).contains('\u{1b}'));
    }

    #[test]
    fn for_programs() {
        let text = logged(Style::Json, one_of_each);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!((&lines[0]["level"], &lines[0]["message"]), (&"INFO".into(), &"step ended".into()));
        assert_eq!((&lines[0]["step"], &lines[0]["took_ms"]), (&"promote".into(), &12.into()));
        assert_eq!(lines[0]["spans"][0]["run"], "RUN-1");
        let time: WallTime = serde_json::from_value(lines[0]["timestamp"].clone()).unwrap();
        assert!(now().since(time) < Duration::from_secs(60));
        assert_eq!(lines[1]["message"], "first line\nSTOPPING=1");
    }

    #[test]
    fn for_journald() {
        let text = logged(Style::Journald, one_of_each);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[0].starts_with("<6>run{run=\"RUN-1\"}: "), "{text}");
        assert!(lines[0].ends_with("step ended step=\"promote\" took_ms=12"), "{text}");
        assert!(lines[1].starts_with("<3>") && lines[1].ends_with("first line\\nSTOPPING=1"), "{text}");
    }

    #[test]
    fn the_format_follows_the_reader() {
        let choose = Style::choose;
        assert_eq!(choose(LogFormat::Auto, true, false, false), Style::Journald);
        assert_eq!(choose(LogFormat::Auto, false, true, true), Style::Human { colour: true });
        assert_eq!(choose(LogFormat::Auto, false, false, false), Style::Json);
        assert_eq!(choose(LogFormat::Json, true, true, true), Style::Json);
        assert_eq!(choose(LogFormat::Human, true, false, false), Style::Human { colour: false });
        assert_eq!(choose(LogFormat::Journald, false, true, true), Style::Journald);
        assert!(is_journal("8:1234", 8, 1234) && !is_journal("8:1234", 8, 1235) && !is_journal("x", 8, 1234));
        assert!(may_colour(None, None) && may_colour(Some(OsStr::new("")), Some(OsStr::new("xterm"))));
        assert!(!may_colour(Some(OsStr::new("1")), None) && !may_colour(None, Some(OsStr::new("dumb"))));
    }

    #[test]
    fn the_environment_overrides_the_configured_filter() {
        let log = Log { filter: Some("warn".into()), format: None };
        let read = |set: &'static [(&str, &str)]| {
            filter(&log, |name| set.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned()))
        };
        assert_eq!(read(&[]).unwrap().to_string(), "warn");
        assert_eq!(read(&[("RUST_LOG", "debug")]).unwrap().to_string(), "debug");
        assert_eq!(read(&[("RUST_LOG", "debug"), ("FAILOVERD_LOG", "trace")]).unwrap().to_string(), "trace");
        assert_eq!(read(&[("RUST_LOG", " ")]).unwrap().to_string(), "warn");
        let error = read(&[("FAILOVERD_LOG", "failoverd=loud")]).unwrap_err().to_string();
        assert!(error.starts_with("FAILOVERD_LOG: `failoverd=loud` is not a log filter"), "{error}");
    }

    /// Takes nothing until it is let go.
    struct Stuck(Receiver<()>, Written);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_stands_still_costs_lines_and_no_time() {
        let (go, stop) = sync_channel(0);
        let written = Written::default();
        let mut queue = Queue::start(Stuck(stop, written.clone()), Style::Json).unwrap();
        let begin = Instant::now();
        for _ in 0..QUEUE + 500 {
            queue.write_all(b"{}\n").unwrap();
        }
        assert!(begin.elapsed() < Duration::from_secs(2));
        queue.flush(Duration::from_millis(50));
        assert!(begin.elapsed() < Duration::from_secs(2), "leaving does not wait for it either");
        drop(go);
        queue.flush(Duration::from_secs(10));
        let text = written.text();
        let told = text.lines().find(|line| line.contains("dropped")).unwrap();
        let told: serde_json::Value = serde_json::from_str(told).unwrap();
        assert!(
            told["message"].as_str().unwrap().ends_with("log lines were dropped: whoever reads stderr is too slow")
        );
    }
}
