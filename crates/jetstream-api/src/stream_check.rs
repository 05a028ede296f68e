//! What can be said against a stream's configuration without knowing the streams. Texts and order are stock's.

use jetstream::api_error::{self, ApiError};
use jetstream::config::{Discard, Retention, Storage, StreamConfig};
use std::collections::BTreeMap;
use subject::Filter;

/// Longest name of a stream or consumer, bytes.
pub(crate) const MAX_NAME: usize = 255;
/// Longest description, bytes.
pub(crate) const MAX_DESCRIPTION: usize = 4096;
/// Largest metadata, keys and values together, bytes.
pub(crate) const MAX_METADATA: usize = 128 * 1024;

/// Most subjects of a stream, and filters of a consumer: each is compared with each, on the thread that everybody waits for.
pub(crate) const MAX_SUBJECTS: usize = jetstream::config::MOST_SUBJECTS;

/// Shortest age and duplicate window, nanoseconds.
const SHORTEST: i64 = 100_000_000;
/// Shortest life of a marker, nanoseconds.
const SHORTEST_MARKER: i64 = 1_000_000_000;

fn invalid(text: impl std::fmt::Display) -> ApiError {
    api_error::stream_invalid_config(text)
}

/// Is the name one that a subject can hold as a token, and a file system as a file?
pub(crate) fn name(name: &str) -> Result<(), ApiError> {
    if name.contains(['/', '\\']) {
        return Err(api_error::STREAM_NAME_CONTAINS_PATH_SEPARATORS);
    }
    if !is_token(name) {
        return Err(invalid("stream name is required and can not contain '.', '*', '>', '\\', '/'"));
    }
    if name.len() > MAX_NAME {
        return Err(invalid(format_args!("stream name is too long, maximum allowed is {MAX_NAME}")));
    }
    Ok(())
}

/// A name without what would make it more than one token, or no token.
pub(crate) fn is_token(name: &str) -> bool {
    let bad = |letter: char| matches!(letter, '.' | '*' | '>' | ' ') || letter.is_control() || letter.is_whitespace();
    !name.is_empty() && !name.contains(bad)
}

/// Description and metadata within their limits?
pub(crate) fn texts(description: &str, metadata: &BTreeMap<String, String>) -> Result<(), ApiError> {
    if description.len() > MAX_DESCRIPTION {
        return Err(invalid(format_args!("stream description is too long, maximum allowed is {MAX_DESCRIPTION}")));
    }
    if metadata_size(metadata) > MAX_METADATA {
        return Err(invalid(format_args!("stream metadata exceeds maximum size of {MAX_METADATA} bytes")));
    }
    Ok(())
}

pub(crate) fn metadata_size(metadata: &BTreeMap<String, String>) -> usize {
    metadata.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Age and duplicate window, nanoseconds; 0: not given.
pub(crate) fn ages(max_age: i64, duplicate_window: i64) -> Result<(), ApiError> {
    if max_age < 0 {
        return Err(invalid("max age can not be negative"));
    }
    if max_age != 0 && max_age < SHORTEST {
        return Err(invalid("max age needs to be >= 100ms"));
    }
    if duplicate_window < 0 {
        return Err(invalid("duplicates window can not be negative"));
    }
    if max_age != 0 && duplicate_window > max_age {
        return Err(invalid("duplicates window can not be larger then max age"));
    }
    if duplicate_window != 0 && duplicate_window < SHORTEST {
        return Err(invalid("duplicates window needs to be >= 100ms"));
    }
    Ok(())
}

/// Fields that forbid each other.
pub(crate) fn rules(config: &StreamConfig, marker_ttl: i64) -> Result<(), ApiError> {
    if config.allow_rollup && config.deny_purge {
        return Err(invalid("roll-ups require the purge permission"));
    }
    counter(config)?;
    if config.discard_new_per_subject {
        if config.discard != Discard::New {
            return Err(invalid("discard new per subject requires discard new policy to be set"));
        }
        if config.max_messages_per_subject <= 0 {
            return Err(invalid("discard new per subject requires max msgs per subject > 0"));
        }
    }
    marker(marker_ttl)?;
    if config.allow_schedules && config.discard == Discard::New {
        return Err(invalid("message scheduling cannot use discard new"));
    }
    if config.persist_async && config.storage != Storage::File {
        return Err(invalid("async persist mode is only supported on file storage"));
    }
    if config.persist_async && config.allow_atomic {
        return Err(invalid("async persist mode is not supported with atomic batch publish"));
    }
    Ok(())
}

/// Is everything said that markers and schedules need, so that nothing has to be switched on?
pub(crate) fn is_complete(config: &StreamConfig, marker_ttl: i64) -> Result<(), ApiError> {
    let text = if marker_ttl > 0 && !config.allow_message_ttl {
        "subject delete marker cannot be set if message TTLs are disabled"
    } else if marker_ttl > 0 && !config.allow_rollup {
        "subject delete marker cannot be set if roll-ups are disabled"
    } else if config.allow_schedules && !config.allow_rollup {
        "message scheduling cannot be set if roll-ups are disabled"
    } else {
        return Ok(());
    };
    Err(invalid(text))
}

fn counter(config: &StreamConfig) -> Result<(), ApiError> {
    let text = if !config.allow_counter {
        return Ok(());
    } else if config.discard == Discard::New {
        "counter stream cannot use discard new"
    } else if config.allow_message_ttl {
        "counter stream cannot use message TTLs"
    } else if config.allow_schedules {
        "counter stream cannot use message schedules"
    } else if config.retention != Retention::Limits {
        "counter stream can only use limits retention"
    } else {
        return Ok(());
    };
    Err(invalid(text))
}

/// Nanoseconds that a marker lives; 0: there are none.
fn marker(lives: i64) -> Result<(), ApiError> {
    match lives {
        i64::MIN..=-1 => Err(invalid("subject delete marker TTL must not be negative")),
        1..SHORTEST_MARKER => Err(invalid("subject delete marker TTL must be at least 1 second")),
        _ => Ok(()),
    }
}

/// Valid, apart from each other, and apart from what the server itself speaks on?
pub(crate) fn subjects(texts: &[String], no_ack: bool) -> Result<Vec<Filter>, ApiError> {
    if texts.len() > MAX_SUBJECTS {
        return Err(invalid(format_args!("stream has too many subjects, maximum allowed is {MAX_SUBJECTS}")));
    }
    let mut filters: Vec<Filter> = Vec::with_capacity(texts.len());
    for text in texts {
        let filter = Filter::parse(text).map_err(|_| invalid("invalid subject"))?;
        if !no_ack {
            reserved(&filter)?;
        }
        if let Some(other) = filters.iter().find(|other| other.overlaps(&filter)) {
            return Err(invalid(format_args!("subject \"{other}\" overlaps with \"{filter}\"")));
        }
        filters.push(filter);
    }
    Ok(filters)
}

fn reserved(filter: &Filter) -> Result<(), ApiError> {
    if filter.as_str() == ">" {
        return Err(invalid("capturing all subjects requires no-ack to be true"));
    }
    let overlaps = |text: &str| Filter::parse(text).is_ok_and(|other| other.overlaps(filter));
    let within = |text: &str| Filter::parse(text).is_ok_and(|other| other.covers(filter));
    if ["$JS.>", "$JSC.>", "$NRG.>"].iter().any(|text| overlaps(text)) && !within("$JS.EVENT.>") {
        return Err(invalid("subjects that overlap with jetstream api require no-ack to be true"));
    }
    if overlaps("$SYS.>") && !within("$SYS.ACCOUNT.>") {
        return Err(invalid("subjects that overlap with system api require no-ack to be true"));
    }
    Ok(())
}
