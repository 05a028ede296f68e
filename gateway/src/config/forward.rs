//! Our block `forward`: local streams that go into hub streams, once and in order. `create` is in `forward/create.rs`.

mod create;
pub(super) use create::placement;

use std::time::Duration;

use nats_conf::{Block, Field, Position, Report};
use subject::{Filter, Transform};

use super::jetstream::read_domain;
use super::limits::{positive, set};
use super::streams::{self, Storage};

/// A local stream that goes up.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// The local stream: the key in the block.
    pub stream: String,
    /// Where it is declared, for what is found out later.
    pub position: Position,
    /// `to`: the hub's stream. Default: the same name.
    pub to: String,
    /// `prefix` or `subject`: the subjects at the hub. Never absent.
    pub destination: Destination,
    /// What the hub's subjects match; this edge's alone.
    pub filter: String,
    /// `domain` of the hub's JetStream. Default: the link's.
    pub domain: Option<String>,
    /// `create`: make the hub's stream if it is missing. Default: no.
    pub create: Option<forward::Create>,
    /// `reject_oversize`: a local publish that the hub would not take is refused (10054) instead of set aside later. Default: false.
    pub reject_oversize: bool,
    /// `rate`: bytes a second on the wire. Default: none.
    pub rate: Option<u64>,
    /// `live`: the live copy of a message crosses the link too. Default: false.
    pub live: bool,
    /// `hold`: confirmed data stays so long, in case the hub loses its tail. Default: 3 minutes.
    pub hold: Duration,
    /// `batch { max_msgs, max_bytes }`. Default and most: 1,000 messages and 1 MiB.
    pub batch: forward::Batch,
    /// `batch { max_time }`. Default and most: 5 s.
    pub batch_time: Duration,
}

/// How subjects change on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// `sensors.a` → `prefix.sensors.a`.
    Prefix(String),
    /// NATS transform syntax.
    Transform {
        /// `source`. Default: the stream's only subject.
        source: String,
        /// `subject`.
        destination: String,
    },
}

impl Destination {
    /// The checked transform.
    ///
    /// # Errors
    /// The reason, which [`super::load`] has reported.
    pub fn transform(&self) -> Result<Transform, subject::TransformError> {
        match self {
            Self::Prefix(prefix) => Transform::prefix(prefix),
            Self::Transform { source, destination } => Transform::parse(source, destination),
        }
    }
}

/// A batch ends at the latest here: the hub's position is known only behind it, and a hub gives up one that is silent for 10 s.
const MOST_TIME: Duration = Duration::from_secs(5);

const HOLD: Duration = Duration::from_secs(180);

/// `declared` gives the subjects of a stream of the file.
pub(super) fn read(field: &Field<'_>, declared: &[streams::Stream], report: &mut Report) -> Vec<Forward> {
    let Some(mut block) = field.block(report) else { return Vec::new() };
    let forwards: Vec<Forward> =
        block.remaining().iter().filter_map(|field| read_forward(field, declared, report)).collect();
    overlaps(&forwards, report);
    forwards
}

fn read_forward(field: &Field<'_>, declared: &[streams::Stream], report: &mut Report) -> Option<Forward> {
    let stream = declared.iter().find(|stream| stream.name == field.name);
    if stream.is_some_and(|stream| stream.storage != Storage::File) {
        let text = "a stream that is forwarded is kept on disk: \"storage: file\"";
        report.error(field.position, format!("forward: stream {:?}: {text}", field.name));
    }
    if stream.is_none() {
        // It may have been made by a client; what it holds is found out at the start.
        report.notice(field.position, format!("forward: stream {:?} is not declared in \"streams\"", field.name));
    }
    let mut block = field.block(report)?;
    let destination = destination(&mut block, field, stream, report);
    let filter = destination.as_ref().and_then(|destination| filter_of(destination, field, report));
    let to = block.field(&["to"]).and_then(|to| Some(streams::checked_name(&to, to.string(report)?, "stream", report)));
    let domain = block.field(&["domain"]).and_then(|field| read_domain(&field, report));
    let create = block.field(&["create"]).and_then(|create| {
        let sent = sent(destination.as_ref(), filter.as_deref(), stream);
        create::read(&create, filter.as_deref(), &sent, report)
    });
    let flag =
        |field: Option<Field<'_>>, report: &mut Report| field.and_then(|field| field.boolean(report)).unwrap_or(false);
    let mut forward = Forward {
        stream: field.name.to_owned(),
        position: field.position.clone(),
        to: to.unwrap_or_else(|| field.name.to_owned()),
        destination: destination.unwrap_or(Destination::Prefix(String::new())),
        filter: filter.unwrap_or_default(),
        domain,
        create,
        rate: block.field(&["rate"]).and_then(|field| field.size(1024..=u64::MAX, report)),
        live: flag(block.field(&["live"]), report),
        reject_oversize: flag(block.field(&["reject_oversize"]), report),
        hold: block.field(&["hold"]).and_then(|field| field.duration(report)).unwrap_or(HOLD),
        batch: forward::Batch::default(),
        batch_time: MOST_TIME,
    };
    if let Some(batch) = block.field(&["batch"]) {
        read_batch(&batch, &mut forward, report);
    }
    block.finish(report);
    // Without a destination the errors above keep it from being used.
    Some(forward)
}

fn destination(
    block: &mut Block<'_>,
    forward: &Field<'_>,
    stream: Option<&streams::Stream>,
    report: &mut Report,
) -> Option<Destination> {
    let source = block.field(&["source"]);
    match (block.field(&["prefix"]), block.field(&["subject"])) {
        (Some(prefix), None) => {
            if let Some(source) = source {
                report.error(source.position, "field \"source\" goes with \"subject\": a prefix takes every subject");
            }
            Some(Destination::Prefix(prefix.string(report)?.to_owned()))
        }
        (None, Some(subject)) => {
            let only = stream.and_then(|stream| match stream.subjects.as_slice() {
                [only] => Some(only.clone()),
                _ => None,
            });
            let source = match source {
                Some(source) => Some(source.string(report)?.to_owned()),
                None => only,
            };
            let Some(source) = source else {
                report.error(subject.position, "field \"subject\" needs \"source\" unless the stream has one subject");
                return None;
            };
            covered(&source, stream, subject, report);
            Some(Destination::Transform { source, destination: subject.string(report)?.to_owned() })
        }
        (Some(_), Some(subject)) => {
            report.error(subject.position, "a forward takes \"prefix\" or \"subject\", not both");
            None
        }
        (None, None) => {
            report.error(forward.position, "a forward needs \"prefix\" or \"subject\": where its messages go");
            None
        }
    }
}

/// A message that the source does not match would have nowhere to go.
fn covered(source: &str, stream: Option<&streams::Stream>, field: Field<'_>, report: &mut Report) {
    let (Some(stream), Ok(source)) = (stream, Filter::parse(source)) else { return };
    for subject in stream.subjects.iter().filter_map(|text| Filter::parse(text).ok()) {
        if !source.covers(&subject) {
            let text = format!(
                "forward: source {:?} does not cover the stream's subject {:?}",
                source.as_str(),
                subject.as_str()
            );
            report.error(field.position, text);
        }
    }
}

fn filter_of(destination: &Destination, field: &Field<'_>, report: &mut Report) -> Option<String> {
    match destination.transform() {
        Ok(transform) if transform.multiplies() => {
            let text = "split and slice functions give several tokens, and which of them are at the hub could not be asked for";
            report.error(field.position, format!("forward {:?}: {text}", field.name));
            None
        }
        Ok(transform) => Some(transform.destination_filter().as_str().to_owned()),
        Err(error) => {
            report.error(field.position, format!("forward {:?}: {error}", field.name));
            None
        }
    }
}

fn read_batch(field: &Field<'_>, forward: &mut Forward, report: &mut Report) {
    let Some(mut block) = field.block(report) else { return };
    let most = forward::Batch::MOST;
    if let Some(field) = block.field(&["max_msgs"]) {
        set(&mut forward.batch.messages, field.integer(1..=most.messages as i64, report));
    }
    if let Some(field) = block.field(&["max_bytes"]) {
        set(&mut forward.batch.bytes, field.size(1024..=most.bytes, report));
    }
    if let Some(most) = block.field(&["max_time"])
        && let Some(time) = positive(&most, report)
    {
        if time > MOST_TIME {
            report.error(most.position, "field \"max_time\": expected at most 5s, or the hub gives the batch up");
        }
        forward.batch_time = time.min(MOST_TIME);
    }
    block.finish(report);
}

/// What the hub's stream has to capture.
fn sent(destination: Option<&Destination>, filter: Option<&str>, stream: Option<&streams::Stream>) -> Vec<Filter> {
    let texts: Vec<String> = match (destination, stream) {
        (Some(Destination::Prefix(prefix)), Some(stream)) => {
            stream.subjects.iter().map(|subject| format!("{prefix}.{subject}")).collect()
        }
        _ => filter.map(str::to_owned).into_iter().collect(),
    };
    texts.iter().filter_map(|text| Filter::parse(text).ok()).collect()
}

/// A filter is this edge's, and this forward's, alone: asking the hub for the last message under it must give an answer.
fn overlaps(forwards: &[Forward], report: &mut Report) {
    for (index, forward) in forwards.iter().enumerate() {
        let Ok(filter) = Filter::parse(&forward.filter) else { continue };
        for earlier in &forwards[..index] {
            if Filter::parse(&earlier.filter).is_ok_and(|earlier| earlier.overlaps(&filter)) {
                let text = format!(
                    "forwards {:?} and {:?} overlap at the hub: {} and {}",
                    earlier.stream, forward.stream, earlier.filter, forward.filter
                );
                report.error(&forward.position, text);
            }
        }
    }
}
