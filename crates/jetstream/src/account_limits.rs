//! What the configuration allows requests of the one account there is. The rules and texts are nats-server's.
//!
//! A stream with a limit in bytes *reserves* them: all reservations together must fit into what the account, and the server, may hold.

use crate::api_error::{self, ApiError};
use crate::config::{ConsumerConfig, Storage, StreamConfig};
use crate::consumer::consuming::duration;
use crate::jetstream::JetStream;

/// The window for duplicates of a stream that says nothing.
pub(crate) const DUPLICATE_WINDOW_NS: u64 = 120_000_000_000;

/// Limits of the account: what nats-server takes in an account's `jetstream` block. `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// Bytes of all streams in memory.
    pub max_memory: Option<u64>,
    /// Bytes of all streams on disk.
    pub max_storage: Option<u64>,
    /// Streams.
    pub max_streams: Option<u64>,
    /// Consumers of one stream.
    pub max_consumers: Option<u64>,
    /// Unacknowledged messages of one consumer.
    pub max_ack_pending: Option<u64>,
    /// `max_bytes` of one stream in memory.
    pub max_memory_stream: Option<u64>,
    /// `max_bytes` of one stream on disk.
    pub max_storage_stream: Option<u64>,
    /// Every stream must have `max_bytes`.
    pub max_bytes_required: bool,
}

/// `$JS.API.INFO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountInfo {
    /// Bytes kept in memory.
    pub memory: u64,
    /// Bytes stored in files.
    pub storage: u64,
    /// Streams, not counting our own.
    pub streams: u64,
    /// Consumers.
    pub consumers: u64,
    /// Requests answered since the start.
    pub api_total: u64,
    /// Of those, refused.
    pub api_errors: u64,
    /// Bytes that streams in memory may grow to, by their limits.
    pub reserved_memory: u64,
    /// The same of streams on disk.
    pub reserved_storage: u64,
    /// Limits: bytes in memory, -1 unlimited.
    pub max_memory: i64,
    /// Limits: bytes of files, -1 unlimited.
    pub max_storage: i64,
    /// Limits: streams.
    pub max_streams: i64,
    /// Limits: consumers of a stream, -1 unlimited.
    pub max_consumers: i64,
    /// Limits: unacknowledged messages of a consumer, -1 unlimited.
    pub max_ack_pending: i64,
    /// Limits: `max_bytes` of a stream in memory, -1 unlimited.
    pub max_memory_stream: i64,
    /// Limits: `max_bytes` of a stream on disk, -1 unlimited.
    pub max_storage_stream: i64,
    /// Limits: streams must have `max_bytes`.
    pub max_bytes_required: bool,
}

/// Limits of single requests: nats-server's `jetstream { limits { … } }`. `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestLimits {
    /// Unacknowledged messages of one consumer.
    pub max_ack_pending: Option<u64>,
    /// Messages of one pull request.
    pub max_request_batch: Option<u64>,
    /// Longest window for duplicates, nanoseconds.
    pub duplicate_window_ns: Option<u64>,
    /// Batches.
    pub batches: BatchLimits,
}

/// Limits of batches: nats-server's `jetstream { limits { batch { … } } }`. `None`: its default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchLimits {
    /// Open ones of one stream, of each kind.
    pub of_stream: Option<u64>,
    /// Open ones of all streams, of each kind.
    pub total: Option<u64>,
    /// Messages of an atomic one.
    pub messages: Option<u64>,
    /// One that nothing is heard of for so long is given up, milliseconds.
    pub timeout_ms: Option<u64>,
}

impl JetStream {
    /// A stream that says nothing of it gets no longer window for duplicates than it may have.
    pub(crate) fn shorten_window(&self, config: &mut StreamConfig) {
        if let Some(longest) = self.limits.requests.duplicate_window_ns
            && config.duplicate_window_ns == DUPLICATE_WINDOW_NS
        {
            config.duplicate_window_ns = config.duplicate_window_ns.min(longest);
        }
    }

    /// May a stream be like this, whatever the others are?
    pub(crate) fn check_stream_limits(&self, config: &StreamConfig) -> Result<(), ApiError> {
        if self.is_of_gaps(config) {
            return Ok(());
        }
        let (account, requests) = (&self.limits.account, &self.limits.requests);
        if let Some(longest) = requests.duplicate_window_ns.filter(|longest| config.duplicate_window_ns > *longest) {
            let longest = duration(longest);
            let text = format!("duplicates window can not be larger then server limit of {longest}");
            return Err(api_error::stream_invalid_config(text));
        }
        let largest = match config.storage {
            Storage::File => account.max_storage_stream,
            Storage::Memory => account.max_memory_stream,
        };
        if account.max_bytes_required && config.max_bytes <= 0 {
            return Err(api_error::STREAM_MAX_BYTES_REQUIRED);
        }
        if largest.is_some_and(|largest| u64::try_from(config.max_bytes).is_ok_and(|bytes| bytes > largest)) {
            return Err(api_error::STREAM_MAX_STREAM_BYTES_EXCEEDED);
        }
        Ok(())
    }

    /// Is there room for what a stream reserves, beside the others?
    pub(crate) fn check_reservation(&self, config: &StreamConfig) -> Result<(), ApiError> {
        if self.is_of_gaps(config) {
            return Ok(());
        }
        let most = self.limits.account.max_consumers;
        if most.is_some_and(|most| u64::try_from(config.max_consumers).is_ok_and(|wanted| wanted > most)) {
            return Err(api_error::MAXIMUM_CONSUMERS_LIMIT);
        }
        let error = match config.storage {
            Storage::File => api_error::STORAGE_RESOURCES_EXCEEDED,
            Storage::Memory => api_error::MEMORY_RESOURCES_EXCEEDED,
        };
        // One that says nothing needs a byte.
        let wanted = u64::try_from(config.max_bytes).unwrap_or(1);
        let all = self.reserved(config.storage, &config.name).saturating_add(wanted);
        let max = self.most_bytes(config.storage);
        if max.is_some_and(|max| all > max) { Err(error) } else { Ok(()) }
    }

    /// Gap records are the server's own: no request asked for them.
    fn is_of_gaps(&self, config: &StreamConfig) -> bool {
        self.gaps.as_ref().is_some_and(|gaps| gaps.name == config.name)
    }

    /// Bytes that may be held, by the server's limit and the account's.
    pub(crate) fn most_bytes(&self, storage: Storage) -> Option<u64> {
        let (server, account) = match storage {
            Storage::File => (self.limits.max_file_store, self.limits.account.max_storage),
            Storage::Memory => (self.limits.max_memory_store, self.limits.account.max_memory),
        };
        server.into_iter().chain(account).min()
    }

    /// Streams that may be.
    pub(crate) fn most_streams(&self) -> u64 {
        self.limits.account.max_streams.unwrap_or(u64::MAX).min(u64::from(self.limits.max_streams))
    }

    /// Bytes that streams other than this one reserve; gap records take what is there.
    pub(crate) fn reserved(&self, storage: Storage, but: &str) -> u64 {
        let streams = self.stream_names.values().filter_map(|id| self.streams.get(id)).map(|stream| &stream.config);
        let others =
            streams.filter(|config| config.storage == storage && *config.name != *but && !self.is_of_gaps(config));
        others.map(|config| u64::try_from(config.max_bytes).unwrap_or(0)).fold(0, u64::saturating_add)
    }

    /// Fills in what a consumer gets that says nothing, where that is less than usual.
    pub(crate) fn limit_consumer(&self, config: &mut ConsumerConfig) {
        let whole = |limit: u64| i64::try_from(limit).unwrap_or(i64::MAX);
        if config.push.is_none() && config.max_request_batch == 0 {
            config.max_request_batch = self.limits.requests.max_request_batch.map_or(0, whole);
        }
    }

    /// Unacknowledged messages that a consumer may have.
    pub(crate) fn most_ack_pending(&self) -> Option<u64> {
        let (server, account) = (self.limits.requests.max_ack_pending, self.limits.account.max_ack_pending);
        server.into_iter().chain(account).min()
    }

    /// May a consumer be like this?
    pub(crate) fn check_consumer_limits(&self, config: &ConsumerConfig) -> Result<(), ApiError> {
        let exceeds = |wanted: i64, most: u64| u64::try_from(wanted).is_ok_and(|wanted| wanted > most);
        let (requests, account) = (&self.limits.requests, &self.limits.account);
        let batch = requests.max_request_batch.filter(|_| config.push.is_none());
        if let Some(most) = batch.filter(|most| exceeds(config.max_request_batch, *most)) {
            return Err(api_error::consumer_max_request_batch_exceeded(most));
        }
        let pending = [requests.max_ack_pending, account.max_ack_pending];
        match pending.into_iter().flatten().find(|most| exceeds(config.max_ack_pending, *most)) {
            Some(most) => Err(api_error::consumer_max_pending_ack_excess(most)),
            None => Ok(()),
        }
    }
}
