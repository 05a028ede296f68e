//! The log, in the lines that nats-server's users and their tools know: `[PID] 2026/01/02 15:04:05.000000 [INF] text`.
//!
//! A `tracing` subscriber of our own, because that format is a contract (tools wait for its lines) and the ready-made ones cost more than all of
//! this. Fields follow the text as ` key=value`. Spans are not recorded. A line is written with one call, so that lines of threads never mix.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// What is logged, and where.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The least important level that is shown; `TRACE` shows the protocol.
    pub level: Level,
    /// Appended to; `None`: standard error.
    pub file: Option<PathBuf>,
    /// Lines begin with the time.
    pub show_time: bool,
    /// Times are UTC instead of local time.
    pub utc: bool,
}

/// The handle that reopens the file, for USR1.
#[derive(Clone, Debug)]
pub struct Log(std::sync::Arc<Sink>);

#[derive(Debug)]
struct Sink {
    options: LogOptions,
    file: Mutex<Option<File>>,
}

impl Log {
    /// Opens the file, if there is one, and makes this the process's log.
    ///
    /// # Errors
    /// When the file can't be opened, or a log was installed before.
    pub fn install(options: LogOptions) -> io::Result<Log> {
        let log = Log(std::sync::Arc::new(Sink { file: Mutex::new(open(&options)?), options }));
        tracing::subscriber::set_global_default(log.clone()).map_err(io::Error::other)?;
        Ok(log)
    }

    /// Opens the file anew under its name: whoever rotates logs has moved the old one.
    ///
    /// # Errors
    /// When it can't be opened; the old file is kept.
    pub fn reopen(&self) -> io::Result<()> {
        let file = open(&self.0.options)?;
        *self.0.file.lock().unwrap_or_else(PoisonError::into_inner) = file;
        Ok(())
    }
}

fn open(options: &LogOptions) -> io::Result<Option<File>> {
    options.file.as_ref().map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose()
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.0.options.level
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = format!("[{}] ", std::process::id());
        if self.0.options.show_time {
            push_time(&mut line, self.0.options.utc);
        }
        let mut text = Text::default();
        event.record(&mut text);
        let label = if text.fatal { "FTL" } else { label(*event.metadata().level()) };
        let _ = writeln!(line, "[{label}] {}{}", text.message, text.fields);
        let mut file = self.0.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A log that can't be written has nobody to tell.
        let _ = match &mut *file {
            Some(file) => file.write_all(line.as_bytes()),
            None => io::stderr().write_all(line.as_bytes()),
        };
    }
}

fn label(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERR",
        Level::WARN => "WRN",
        Level::INFO => "INF",
        Level::DEBUG => "DBG",
        Level::TRACE => "TRC",
    }
}

/// The message and the fields behind it. The field `fatal` makes the line `[FTL]`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
    fatal: bool,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
        // A peer's text must not begin a line of its own.
        for text in [&mut self.message, &mut self.fields] {
            if text.contains(['\n', '\r']) {
                *text = text.replace(['\n', '\r'], " ");
            }
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "fatal" {
            self.fatal = value;
        } else {
            self.record_debug(field, &value);
        }
    }
}

/// `2026/01/02 15:04:05.000000 `
#[allow(clippy::disallowed_methods)] // a log line tells the wall clock; nothing is decided by it
fn push_time(line: &mut String, utc: bool) {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    let (year, month, day, hour, minute, second) = if utc { civil(seconds) } else { local(seconds) };
    let _ = write!(line, "{year}/{month:02}/{day:02} {hour:02}:{minute:02}:{second:02}.{:06} ", since.subsec_micros());
}

pub(crate) type Civil = (i64, u32, u32, u32, u32, u32);

/// The date of a Unix time in UTC, by the days-from-civil algorithm.
pub(crate) fn civil(seconds: i64) -> Civil {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400) as u32);
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = (day_of_year - (153 * shifted_month + 2) / 5 + 1) as u32;
    let month = (if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 }) as u32;
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day, rest / 3600, rest / 60 % 60, rest % 60)
}

/// The same in the time zone of the process.
fn local(seconds: i64) -> Civil {
    civil(seconds + local_offset(seconds))
}

/// Seconds that local time is ahead of UTC.
#[allow(unsafe_code)] // the C library alone knows the time zone; one call per line, no allocation
fn local_offset(seconds: i64) -> i64 {
    #[allow(irrefutable_let_patterns)] // where time_t has 32 bits it can fail
    let Ok(time) = libc::time_t::try_from(seconds) else { return 0 };
    // SAFETY: both pointers are to live locals of the right types; `localtime_r` writes only through the second. `tm` is plain data, for which
    // zeroes are valid.
    unsafe {
        let mut parts: libc::tm = std::mem::zeroed();
        if libc::localtime_r(&raw const time, &raw mut parts).is_null() { 0 } else { parts.tm_gmtoff }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(civil(0), (1970, 1, 1, 0, 0, 0));
        assert_eq!(civil(951_827_696), (2000, 2, 29, 12, 34, 56));
        assert_eq!(civil(1_767_366_245), (2026, 1, 2, 15, 4, 5));
        assert_eq!(civil(-1), (1969, 12, 31, 23, 59, 59));
    }

    #[test]
    fn a_line_has_the_known_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let options = LogOptions { level: Level::INFO, file: Some(path.clone()), show_time: true, utc: true };
        let log = Log(std::sync::Arc::new(Sink { file: Mutex::new(open(&options).unwrap()), options }));
        tracing::subscriber::with_default(log.clone(), || {
            tracing::info!("Server is ready");
            tracing::debug!("not shown");
            tracing::warn!(connection = 5, "two\nlines");
            std::fs::rename(&path, folder.path().join("old")).unwrap();
            log.reopen().unwrap();
            tracing::error!(fatal = true, "the end");
        });
        let old = std::fs::read_to_string(folder.path().join("old")).unwrap();
        let lines: Vec<&str> = old.lines().collect();
        assert_eq!(lines.len(), 2, "{old}");
        assert!(lines[0].starts_with(&format!("[{}] 20", std::process::id())), "{old}");
        assert!(lines[0].ends_with(" [INF] Server is ready"), "{old}");
        assert!(lines[1].ends_with(" [WRN] two lines connection=5"), "{old}");
        assert!(std::fs::read_to_string(&path).unwrap().ends_with(" [FTL] the end\n"));
    }
}
