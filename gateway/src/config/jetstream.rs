//! `jetstream`: true, `enabled`, or a block; and where the store is.

use std::path::PathBuf;
use std::time::Duration;

use nats_conf::{Block, Field, Kind, Report};

use super::files;
use super::limits::positive;

/// Streams in memory hold this unless something is said: a box has little, and it is everybody's.
const MEMORY_STORE: u64 = 64 << 20;

/// JetStream, switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JetStream {
    /// `store_dir`, here or at the top level. Default: the platform's state folder ($STATE_DIRECTORY, else
    /// $XDG_STATE_HOME/edge-gateway, else ~/.local/state/edge-gateway).
    pub store_dir: PathBuf,
    /// `domain`. Default: none.
    pub domain: Option<String>,
    /// `max_memory_store`, bytes. Default: 64 MiB.
    pub max_memory: u64,
    /// `max_file_store`, bytes. Default: none, what the disk has.
    pub max_file: Option<u64>,
    /// `strict`: requests with unknown fields are refused. Default: true.
    pub strict: bool,
    /// `limits`.
    pub limits: JetStreamLimits,
    /// `account`: limits of the one account there is, with the keys of an account's `jetstream` block in nats-server.
    pub account: AccountLimits,
}

/// Limits that requests may not exceed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JetStreamLimits {
    /// `max_ack_pending` of a consumer. Default: none.
    pub max_ack_pending: Option<u64>,
    /// `max_request_batch` of a pull. Default: none.
    pub max_request_batch: Option<u64>,
    /// `duplicate_window`, the longest. Default: none.
    pub duplicate_window: Option<Duration>,
    /// `batch`.
    pub batches: BatchLimits,
}

/// Limits of batches. Default: nats-server's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchLimits {
    /// `max_inflight_per_stream`: open ones of one stream, of each kind.
    pub of_stream: Option<u64>,
    /// `max_inflight_total`: open ones of all streams, of each kind.
    pub total: Option<u64>,
    /// `max_msgs` of an atomic one.
    pub messages: Option<u64>,
    /// `timeout`: one that nothing is heard of for so long is given up.
    pub timeout: Option<Duration>,
}

/// Limits of the account. Default: none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// `max_memory`: bytes of all streams in memory.
    pub max_memory: Option<u64>,
    /// `max_store`: bytes of all streams on disk.
    pub max_store: Option<u64>,
    /// `max_streams`.
    pub max_streams: Option<u64>,
    /// `max_consumers` of a stream.
    pub max_consumers: Option<u64>,
    /// `max_ack_pending` of a consumer.
    pub max_ack_pending: Option<u64>,
    /// `mem_max_stream_bytes`: largest `max_bytes` of a stream in memory.
    pub max_memory_stream: Option<u64>,
    /// `disk_max_stream_bytes`: largest `max_bytes` of a stream on disk.
    pub max_disk_stream: Option<u64>,
    /// `max_bytes_required`: every stream must have `max_bytes`. Default: false.
    pub max_bytes_required: bool,
}

/// What is written, before the store's folder is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    /// `None`: nothing said.
    pub(super) enabled: Option<bool>,
    pub(super) store_dir: Option<PathBuf>,
    domain: Option<String>,
    max_memory: Option<u64>,
    max_file: Option<u64>,
    lenient: bool,
    limits: JetStreamLimits,
    account: AccountLimits,
}

impl Draft {
    /// Switched on, with every default.
    pub(super) fn enabled() -> Self {
        Self { enabled: Some(true), ..Self::default() }
    }

    pub(super) fn finish(self, store_dir: PathBuf) -> JetStream {
        JetStream {
            store_dir,
            domain: self.domain,
            max_memory: self.max_memory.unwrap_or(MEMORY_STORE),
            max_file: self.max_file,
            strict: !self.lenient,
            limits: self.limits,
            account: self.account,
        }
    }
}

pub(super) fn read(field: &Field<'_>, draft: &mut Draft, report: &mut Report) {
    if !matches!(field.value.kind, Kind::Map(_)) {
        draft.enabled = field.switch(report);
        return;
    }
    let Some(mut block) = field.block(report) else { return };
    draft.enabled = Some(true);
    if let Some(enabled) = block.field(&["enable", "enabled"]).and_then(|field| field.switch(report)) {
        draft.enabled = Some(enabled);
    }
    if let Some(field) = block.field(&["store", "store_dir", "storedir"]) {
        if draft.store_dir.is_some() {
            report.error(field.position, "Duplicate 'store_dir' configuration");
        }
        draft.store_dir = files::path(&field, report);
    }
    draft.domain = block.field(&["domain"]).and_then(|field| read_domain(&field, report));
    let memory = block.field(&["max_memory_store", "max_mem_store", "max_mem"]);
    draft.max_memory = memory.and_then(|field| field.storage_size(report)).flatten();
    let file = block.field(&["max_file_store", "max_file"]);
    draft.max_file = file.and_then(|field| field.storage_size(report)).flatten();
    draft.lenient = block.field(&["strict"]).and_then(|field| field.boolean(report)) == Some(false);
    if let Some(limits) = block.field(&["limits"]) {
        draft.limits = read_limits(&limits, report);
    }
    if let Some(account) = block.field(&["account"]) {
        draft.account = read_account(&account, report);
    }
    keys_of_stock(&mut block, report);
    block.finish(report);
}

/// A domain is one token of a subject.
pub(super) fn read_domain(field: &Field<'_>, report: &mut Report) -> Option<String> {
    let text = field.string(report)?;
    if subject::Filter::parse(text).is_ok_and(|filter| filter.is_literal()) && !text.contains('.') {
        return Some(text.to_owned());
    }
    report.error(field.position, format!("field {:?}: expected a name without '.', '*', '>' or blank", field.name));
    None
}

fn read_limits(field: &Field<'_>, report: &mut Report) -> JetStreamLimits {
    let mut limits = JetStreamLimits::default();
    let Some(mut block) = field.block(report) else { return limits };
    if let Some(field) = block.field(&["max_ack_pending"]) {
        limits.max_ack_pending = field.limit(report).flatten().filter(|limit| *limit > 0);
    }
    if let Some(field) = block.field(&["max_request_batch"]) {
        limits.max_request_batch = field.limit(report).flatten().filter(|limit| *limit > 0);
    }
    limits.duplicate_window = block.field(&["duplicate_window"]).and_then(|field| positive(&field, report));
    block.without_effect(&["max_ha_assets"], "there is no cluster here", report);
    if let Some(field) = block.field(&["batch"]) {
        limits.batches = read_batches(&field, report);
    }
    block.finish(report);
    limits
}

fn read_batches(field: &Field<'_>, report: &mut Report) -> BatchLimits {
    let mut limits = BatchLimits::default();
    let Some(mut block) = field.block(report) else { return limits };
    let mut count = |name: &'static str, report: &mut Report| {
        let limit = block.field(&[name]).and_then(|field| field.limit(report)).flatten();
        limit.filter(|limit| *limit > 0)
    };
    limits.of_stream = count("max_inflight_per_stream", report);
    limits.total = count("max_inflight_total", report);
    limits.messages = count("max_msgs", report);
    limits.timeout = block.field(&["timeout"]).and_then(|field| positive(&field, report));
    block.finish(report);
    limits
}

/// The keys have stock's other names as well.
fn read_account(field: &Field<'_>, report: &mut Report) -> AccountLimits {
    let mut limits = AccountLimits::default();
    let Some(mut block) = field.block(report) else { return limits };
    let mut size = |names: &[&'static str], report: &mut Report| {
        block.field(names).and_then(|field| field.storage_size(report)).flatten()
    };
    limits.max_memory = size(&["max_memory", "max_mem", "mem", "memory"], report);
    limits.max_store = size(&["max_store", "max_file", "max_disk", "store", "disk"], report);
    limits.max_memory_stream =
        size(&["mem_max_stream_bytes", "memory_max_stream_bytes"], report).filter(|limit| *limit > 0);
    limits.max_disk_stream =
        size(&["disk_max_stream_bytes", "store_max_stream_bytes"], report).filter(|limit| *limit > 0);
    let mut count = |names: &[&'static str], report: &mut Report| {
        let limit = block.field(names).and_then(|field| field.limit(report)).flatten();
        limit.filter(|limit| *limit > 0)
    };
    limits.max_streams = count(&["max_streams", "streams"], report);
    limits.max_consumers = count(&["max_consumers", "consumers"], report);
    limits.max_ack_pending = count(&["max_ack_pending"], report);
    let required = block.field(&["max_bytes_required", "max_stream_bytes", "max_bytes"]);
    limits.max_bytes_required = required.and_then(|field| field.boolean(report)).unwrap_or(false);
    block.without_effect(&["cluster_traffic"], "there is no cluster here", report);
    block.finish(report);
    limits
}

fn keys_of_stock(block: &mut Block<'_>, report: &mut Report) {
    let always = "every commit is synced before it is acknowledged";
    block.without_effect(&["sync", "sync_interval"], always, report);
    let inside = "it concerns nats-server's own files or cluster";
    let keys = [
        "max_buffered_size",
        "max_buffered_msgs",
        "max_outstanding_catchup",
        "request_queue_limit",
        "info_queue_limit",
        "meta_compact",
        "meta_compact_size",
        "meta_compact_sync",
        "max_concurrent_io",
        "extension_hint",
        "unique_tag",
    ];
    block.without_effect(&keys, inside, report);
    let encryption = ["key", "ek", "encryption_key", "prev_key", "prev_ek", "prev_encryption_key", "cipher", "tpm"];
    block.refuse(&encryption, report);
}

/// The platform's folder for the state of this program.
pub(super) fn state_folder(environment: &dyn Fn(&str) -> Option<String>) -> Option<PathBuf> {
    let set = |name: &str| environment(name).filter(|text| !text.is_empty());
    if let Some(folders) = set("STATE_DIRECTORY") {
        // systemd lists several, parted by colons.
        return folders.split(':').next().map(PathBuf::from);
    }
    let base = set("XDG_STATE_HOME").map(PathBuf::from);
    let base = base.or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".local/state")))?;
    Some(base.join("edge-gateway"))
}
