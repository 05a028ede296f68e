//! `create` of a forward: the hub's stream as it is made when it is missing. Keys have the names of JetStream's own configuration.

use std::time::Duration;

use forward::create::LEAST_WINDOW_NS;
use forward::{Create, Placement, Retention, Storage};
use jetstream::config::Discard;
use nats_conf::{Block, Field, Report};
use subject::Filter;

use super::super::limits::set;
use super::super::streams;

/// Fields of a stream that are not set here: they would change what is forwarded, or who may write it.
const LACKING: [&str; 19] = [
    "mirror",
    "sources",
    "republish",
    "subject_transform",
    "allow_rollup_hdrs",
    "allow_msg_ttl",
    "allow_msg_counter",
    "allow_msg_schedules",
    "subject_delete_marker_ttl",
    "mirror_direct",
    "allow_direct",
    "max_consumers",
    "consumer_limits",
    "sealed",
    "first_seq",
    "persist_mode",
    "no_ack",
    "discard_new_per_subject",
    "metadata",
];

/// `filter` is what the forward's messages match at the hub, `sent` what they are as exactly as is known.
pub(super) fn read(field: &Field<'_>, filter: Option<&str>, sent: &[Filter], report: &mut Report) -> Option<Create> {
    let mut block = field.block(report)?;
    let subjects = match block.field(&["subjects", "subject"]) {
        Some(subjects) => streams::filters(&subjects, report),
        None => filter.map(str::to_owned).into_iter().collect(),
    };
    let subjects: Vec<Filter> = subjects.iter().filter_map(|text| Filter::parse(text).ok()).collect();
    for sent in sent.iter().filter(|sent| !subjects.iter().any(|subject| subject.covers(sent))) {
        let text = format!("create: none of its subjects covers {:?}, which this forward sends", sent.as_str());
        report.error(field.position, text);
    }
    let mut create = Create {
        description: streams::text(&mut block, "description", report).unwrap_or_default(),
        max_messages: streams::limit(&mut block, "max_msgs", report),
        max_bytes: streams::limit(&mut block, "max_bytes", report),
        max_age_ns: streams::age(&mut block, "max_age", report).map(nanoseconds),
        max_messages_per_subject: streams::limit(&mut block, "max_msgs_per_subject", report),
        max_message_size: message_size(&mut block, report),
        placement: placement(&mut block, report),
        ..Create::with_subjects(subjects)
    };
    choices(&mut block, &mut create, report);
    if let Some(field) = block.field(&["num_replicas"]) {
        set(&mut create.replicas, field.integer(1..=5, report));
    }
    window(&mut block, &mut create, report);
    block.refuse(&LACKING, report);
    block.finish(report);
    Some(create)
}

fn choices(block: &mut Block<'_>, create: &mut Create, report: &mut Report) {
    if let Some(field) = block.field(&["storage"]) {
        set(&mut create.storage, field.choice(&[("file", Storage::File), ("memory", Storage::Memory)], report));
    }
    if let Some(field) = block.field(&["retention"]) {
        let choices =
            [("limits", Retention::Limits), ("interest", Retention::Interest), ("workqueue", Retention::WorkQueue)];
        set(&mut create.retention, field.choice(&choices, report));
    }
    if let Some(field) = block.field(&["discard"]) {
        set(&mut create.discard, field.choice(&[("old", Discard::Old), ("new", Discard::New)], report));
    }
    if let Some(field) = block.field(&["compression"]) {
        set(&mut create.compressed, field.choice(&[("none", false), ("s2", true)], report));
    }
}

fn message_size(block: &mut Block<'_>, report: &mut Report) -> Option<u32> {
    let size = block.field(&["max_msg_size"])?.integer::<i64>(-1..=i64::from(i32::MAX), report)?;
    u32::try_from(size).ok().filter(|size| *size > 0)
}

/// At least two minutes, or as long as messages live.
fn window(block: &mut Block<'_>, create: &mut Create, report: &mut Report) {
    let longest = create.max_age_ns.unwrap_or(u64::MAX);
    let least = LEAST_WINDOW_NS.min(longest);
    create.duplicate_window_ns = least;
    let Some(field) = block.field(&["duplicate_window"]) else { return };
    set(&mut create.duplicate_window_ns, field.duration(report).map(nanoseconds));
    if create.duplicate_window_ns > longest {
        report.error(field.position, "duplicates window can not be larger then max age");
    } else if create.duplicate_window_ns < least {
        let text = "field \"duplicate_window\": expected at least 2m: a resent message must be recognised at the hub";
        report.error(field.position, text);
    }
}

pub(in crate::config) fn placement(block: &mut Block<'_>, report: &mut Report) -> Option<Placement> {
    let mut block = block.field(&["placement"])?.block(report)?;
    let cluster = streams::text(&mut block, "cluster", report).unwrap_or_default();
    let tags = block.field(&["tags"]).and_then(|field| field.strings(report)).unwrap_or_default();
    block.finish(report);
    Some(Placement { cluster, tags }).filter(|placement| *placement != Placement::default())
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
