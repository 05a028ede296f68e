//! Where and how much is logged.

use std::path::PathBuf;

use nats_conf::{Block, Report};

use super::files;

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// `log_file`, `logfile`, `-l`. Default: standard error.
    pub file: Option<PathBuf>,
    /// `logfile_size_limit`, `log_size_limit`: bytes after which a new file begins. Default: 0, never.
    pub size_limit: u64,
    /// `logfile_max_num`: files kept of those. Default: 0, all.
    pub max_files: u64,
    /// `debug`. Default: false.
    pub debug: bool,
    /// `trace`: the protocol, line by line. Default: false.
    pub trace: bool,
    /// `logtime`. Default: true.
    pub time: bool,
    /// `logtime_utc`. Default: false, local time.
    pub utc: bool,
    /// `max_traced_msg_len`: longest payload in a trace, bytes. Default: 0, whole.
    pub max_traced_length: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            file: None,
            size_limit: 0,
            max_files: 0,
            debug: false,
            trace: false,
            time: true,
            utc: false,
            max_traced_length: 0,
        }
    }
}

pub(super) fn read(block: &mut Block<'_>, log: &mut Log, report: &mut Report) {
    if let Some(field) = block.field(&["logfile", "log_file"]) {
        log.file = files::path(&field, report);
    }
    if let Some(field) = block.field(&["logfile_size_limit", "log_size_limit"]) {
        log.size_limit = field.size(0..=u64::MAX, report).unwrap_or_default();
    }
    if let Some(field) = block.field(&["logfile_max_num", "log_max_num"]) {
        log.max_files = field.size(0..=u64::MAX, report).unwrap_or_default();
    }
    if let Some(field) = block.field(&["max_traced_msg_len"]) {
        log.max_traced_length = field.size(0..=u64::MAX, report).unwrap_or_default();
    }
    for (name, switch) in [
        ("debug", &mut log.debug),
        ("trace", &mut log.trace),
        ("logtime", &mut log.time),
        ("logtime_utc", &mut log.utc),
    ] {
        if let Some(value) = block.field(&[name]).and_then(|field| field.boolean(report)) {
            *switch = value;
        }
    }
    if let Some(true) = block.field(&["trace_verbose"]).and_then(|field| field.boolean(report)) {
        log.trace = true;
    }
    block.without_effect(&["trace_headers"], "traces show headers", report);
}
