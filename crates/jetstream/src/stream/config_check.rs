//! Is a stream's configuration possible? The rules and texts are nats-server's.

use crate::api_error::{self, ApiError};
use crate::config::{Discard, MOST_SUBJECTS, Retention, Storage, StreamConfig};
use crate::identity::HIGHEST_SEQUENCE;
use crate::origin::{self, has_origins};
use crate::stream::mapping;
use subject::Filter;

const LONGEST_NAME: usize = 255;
const LONGEST_DESCRIPTION: usize = 4096;
const MOST_METADATA: usize = 128 * 1024;
const SHORTEST_TIME_NS: u64 = 100_000_000;
const SHORTEST_MARKER_NS: u64 = 1_000_000_000;
const COUNTER_WITH_TTL: &str = "counter stream cannot use message TTLs";

/// Checks a configuration by itself.
pub(crate) fn check(config: &StreamConfig) -> Result<(), ApiError> {
    match problem(config) {
        None => origin::check(config, !config.subjects.is_empty()).and_then(|()| mapping::check(config)),
        Some(text) => Err(api_error::stream_invalid_config(text)),
    }
}

/// Checks what an update may change.
pub(crate) fn check_update(old: &StreamConfig, new: &StreamConfig) -> Result<(), ApiError> {
    check(new)?;
    // Stock takes such a stream, but judges an update of it after what the markers have switched on.
    if new.allow_counter && new.allow_message_ttl && new != old {
        return Err(api_error::stream_invalid_config(COUNTER_WITH_TTL));
    }
    if new.mirror.is_some() && new.mirror != old.mirror {
        return Err(api_error::STREAM_MIRROR_NOT_UPDATABLE);
    }
    let text = if new.name != old.name {
        "stream configuration name must match original"
    } else if new.storage != old.storage {
        "stream configuration update can not change storage type"
    } else if new.retention != old.retention
        && (new.retention == Retention::WorkQueue || old.retention == Retention::WorkQueue)
    {
        "stream configuration update can not change retention policy to/from workqueue"
    } else if old.sealed && !new.sealed {
        "stream configuration update can not unseal a sealed stream"
    } else if old.deny_delete && !new.deny_delete {
        "stream configuration update can not cancel deny message deletes"
    } else if old.deny_purge && !new.deny_purge {
        "stream configuration update can not cancel deny purge"
    } else if old.allow_message_ttl && !new.allow_message_ttl {
        "message TTL status can not be disabled"
    } else if old.allow_counter != new.allow_counter {
        "stream configuration update can not change message counter setting"
    } else if old.allow_schedules && !new.allow_schedules {
        "message schedules can not be disabled"
    } else if new.persist_async != old.persist_async {
        "stream configuration update can not change persist mode"
    } else {
        return Ok(());
    };
    Err(api_error::stream_invalid_config(text))
}

/// A sealed stream keeps what it has: its limits change with it.
pub(crate) fn seal(config: &mut StreamConfig) {
    if config.sealed {
        config.max_age_ns = 0;
        config.discard = Discard::New;
        config.deny_delete = true;
        config.deny_purge = true;
        config.allow_rollup = false;
    }
}

/// May streams and consumers be called so?
pub(crate) fn is_name(name: &str) -> bool {
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '\\' | '/');
    !name.is_empty() && !name.contains(bad)
}

/// Same configuration, apart from the metadata that servers add.
pub(crate) fn same(one: &StreamConfig, two: &StreamConfig) -> bool {
    let plain = |config: &StreamConfig| {
        let mut config = config.clone();
        config.metadata.retain(|key, _| !key.starts_with("_nats."));
        config.first_sequence = config.first_sequence.max(1);
        config
    };
    plain(one) == plain(two)
}

fn problem(config: &StreamConfig) -> Option<String> {
    if !is_name(&config.name) {
        return Some("stream name is required and can not contain '.', '*', '>', '\\', '/'".into());
    }
    if config.name.len() > LONGEST_NAME {
        return Some(format!("stream name is too long, maximum allowed is {LONGEST_NAME}"));
    }
    if config.description.len() > LONGEST_DESCRIPTION {
        return Some(format!("stream description is too long, maximum allowed is {LONGEST_DESCRIPTION}"));
    }
    if config.metadata.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MOST_METADATA {
        return Some(format!("stream metadata exceeds maximum size of {MOST_METADATA} bytes"));
    }
    if config.first_sequence > HIGHEST_SEQUENCE.0 {
        return Some("first sequence is too high".into());
    }
    if config.subjects.len() > MOST_SUBJECTS {
        return Some(format!("stream has too many subjects, maximum allowed is {MOST_SUBJECTS}"));
    }
    time_problem(config).or_else(|| flag_problem(config)).map(String::from).or_else(|| subject_problem(config))
}

fn time_problem(config: &StreamConfig) -> Option<&'static str> {
    let (age, window) = (config.max_age_ns, config.duplicate_window_ns);
    if age != 0 && age < SHORTEST_TIME_NS {
        Some("max age needs to be >= 100ms")
    } else if age != 0 && window > age {
        Some("duplicates window can not be larger then max age")
    } else if window != 0 && window < SHORTEST_TIME_NS {
        Some("duplicates window needs to be >= 100ms")
    } else {
        None
    }
}

fn flag_problem(config: &StreamConfig) -> Option<&'static str> {
    if config.deny_purge && config.allow_rollup {
        Some("roll-ups require the purge permission")
    } else if config.allow_counter && config.discard == Discard::New && !config.sealed {
        Some("counter stream cannot use discard new")
    } else if config.allow_counter && config.allow_message_ttl && config.subject_delete_marker_ttl_ns == 0 {
        // Markers bring them along.
        Some(COUNTER_WITH_TTL)
    } else if config.allow_counter && config.allow_schedules {
        Some("counter stream cannot use message schedules")
    } else if config.allow_counter && config.retention != Retention::Limits {
        Some("counter stream can only use limits retention")
    } else if config.discard_new_per_subject && config.discard != Discard::New {
        Some("discard new per subject requires discard new policy to be set")
    } else if config.discard_new_per_subject && config.max_messages_per_subject <= 0 {
        Some("discard new per subject requires max msgs per subject > 0")
    } else if config.persist_async && config.storage != Storage::File {
        Some("async persist mode is only supported on file storage")
    } else if config.persist_async && config.allow_atomic {
        Some("async persist mode is not supported with atomic batch publish")
    } else {
        marker_problem(config).or_else(|| schedule_problem(config))
    }
}

fn marker_problem(config: &StreamConfig) -> Option<&'static str> {
    match config.subject_delete_marker_ttl_ns {
        0 => None,
        1..SHORTEST_MARKER_NS => Some("subject delete marker TTL must be at least 1 second"),
        _ if !config.allow_message_ttl => Some("subject delete marker cannot be set if message TTLs are disabled"),
        // A sealed stream gives up rolling up, and leaves no markers any more.
        _ if !config.allow_rollup && !config.sealed => {
            Some("subject delete marker cannot be set if roll-ups are disabled")
        }
        _ => None,
    }
}

fn schedule_problem(config: &StreamConfig) -> Option<&'static str> {
    if !config.allow_schedules || config.sealed {
        None
    } else if config.discard == Discard::New {
        Some("message scheduling cannot use discard new")
    } else if !config.allow_rollup {
        Some("message scheduling cannot be set if roll-ups are disabled")
    } else {
        None
    }
}

fn subject_problem(config: &StreamConfig) -> Option<String> {
    if config.subjects.is_empty() && !has_origins(config) {
        return Some("stream needs at least one configured subject or be a source/mirror".into());
    }
    for (index, subject) in config.subjects.iter().enumerate() {
        if config.subjects[..index].contains(subject) {
            return Some("duplicate subjects detected".into());
        }
        if subject.as_str() == ">" && !config.no_ack {
            return Some("capturing all subjects requires no-ack to be true".into());
        }
        let acknowledges = !config.no_ack;
        if acknowledges && collides(subject, &["$JS.>", "$JSC.>", "$NRG.>"]) && !covered(subject, "$JS.EVENT.>") {
            return Some("subjects that overlap with jetstream api require no-ack to be true".into());
        }
        if acknowledges && collides(subject, &["$SYS.>"]) && !covered(subject, "$SYS.ACCOUNT.>") {
            return Some("subjects that overlap with system api require no-ack to be true".into());
        }
        if let Some(other) =
            config.subjects[index + 1..].iter().find(|other| *other != subject && other.overlaps(subject))
        {
            return Some(format!("subject {:?} overlaps with {:?}", subject.as_str(), other.as_str()));
        }
    }
    None
}

fn collides(subject: &Filter, spaces: &[&str]) -> bool {
    spaces.iter().filter_map(|space| Filter::parse(space).ok()).any(|space| space.overlaps(subject))
}

fn covered(subject: &Filter, space: &str) -> bool {
    Filter::parse(space).is_ok_and(|space| space.covers(subject))
}
