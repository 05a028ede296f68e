//! Our block `gaps`: where records of what was lost before it was forwarded are kept, and where they go.
//!
//! They go into the hub's stream of the first forward, under its prefix: `edge.pump-7` gives `edge.pump-7.$gap.<stream>`, which a stream with the subjects
//! `edge.>` or `edge.pump-7.>` captures. A forward with a transform has no such place unless its subjects end in `>`; then `subject` has to say one,
//! or the records stay here.

use nats_conf::{Field, Report};
use subject::Filter;

use super::forward::{Destination, Forward};
use super::streams;

/// Gap records.
#[derive(Debug, Clone, PartialEq)]
pub struct Gaps {
    /// `name` of the local stream. Default: `GAPS`.
    pub name: String,
    /// `max_bytes` of it; the oldest go. Default: 16 MB.
    pub max_bytes: u64,
    /// How they go up; `None`: they stay here.
    pub forward: Option<Forward>,
}

const NAME: &str = "GAPS";
const MAX_BYTES: u64 = 16 << 20;
/// Behind a prefix; no subject of a client is likely to begin so.
const TOKEN: &str = "$gap";

/// There are some when something is forwarded.
pub(super) fn read(
    field: Option<&Field<'_>>,
    forwards: &mut [Forward],
    declared: &[streams::Stream],
    report: &mut Report,
) -> Option<Gaps> {
    let mut gaps = Gaps { name: NAME.to_owned(), max_bytes: MAX_BYTES, forward: None };
    let (mut to, mut subject) = (None, None);
    if let Some(field) = field {
        let mut block = field.block(report)?;
        if let Some(name) = block.field(&["name"]) {
            gaps.name = streams::checked_name(&name, name.string(report)?, "stream", report);
        }
        if let Some(size) = block.field(&["max_bytes"]) {
            gaps.max_bytes = size.size(64 * 1024..=u64::MAX, report).unwrap_or(MAX_BYTES);
        }
        to = block.field(&["to"]).and_then(|to| Some(streams::checked_name(&to, &to.text(report)?, "stream", report)));
        if let Some(field) = block.field(&["subject"]) {
            subject = field.string(report).map(str::to_owned);
            let filter = subject.as_deref().map(Filter::parse);
            if !filter.is_some_and(|filter| filter.is_ok_and(|filter| filter.is_literal())) {
                report.error(field.position, "field \"subject\": expected a subject without wildcards");
                return None;
            }
        }
        block.finish(report);
    }
    let first = forwards.first()?;
    let taken = declared.iter().map(|stream| (&stream.name, &stream.position));
    let taken = taken.chain(forwards.iter().map(|forward| (&forward.stream, &forward.position)));
    for (_, position) in taken.filter(|(name, _)| **name == gaps.name).take(1) {
        let text =
            format!("stream {:?} is where gap records are kept: expected another name, here or in \"gaps\"", gaps.name);
        report.error(position, text);
    }
    // What is made for one edge of a fleet is to do for the others.
    let subject = match subject {
        Some(subject) => Some((format!("{subject}.*"), subject)),
        None => lead(first).map(|lead| {
            let before = lead.rsplit_once('.').map_or(String::new(), |(before, _)| format!("{before}."));
            (format!("{before}*.{TOKEN}.*"), format!("{lead}.{TOKEN}"))
        }),
    };
    match subject {
        Some((made, subject)) => gaps.forward = Some(upwards(&gaps.name, &subject, &made, to, forwards)?),
        None => {
            let text =
                "gap records stay here: a forward with a transform gives them no subject; set \"gaps { subject: … }\"";
            report.notice(&first.position, text);
        }
    }
    Some(gaps)
}

/// What all subjects of the forward begin with, where anything may follow.
fn lead(forward: &Forward) -> Option<&str> {
    match &forward.destination {
        Destination::Prefix(prefix) => Some(prefix.as_str()).filter(|prefix| !prefix.is_empty()),
        Destination::Transform { .. } => forward.filter.strip_suffix(".>").filter(|lead| !lead.contains('*')),
    }
}

/// Like the first forward into that stream. What `create` makes has to capture the records too: as `made`.
fn upwards(name: &str, subject: &str, made: &str, to: Option<String>, forwards: &mut [Forward]) -> Option<Forward> {
    let to = to.or_else(|| forwards.first().map(|first| first.to.clone()))?;
    let filter = format!("{subject}.*");
    let (parsed, made) = (Filter::parse(&filter).ok()?, Filter::parse(made).ok()?);
    for create in forwards.iter_mut().filter(|forward| forward.to == to).filter_map(|forward| forward.create.as_mut()) {
        if !create.subjects.iter().any(|known| known.covers(&parsed)) {
            create.subjects.push(made.clone());
        }
    }
    let like = forwards.iter().find(|forward| forward.to == to);
    let base = like.or(forwards.first())?;
    Some(Forward {
        stream: name.to_owned(),
        destination: Destination::Transform {
            source: format!("{}*", jetstream::forwarded::gaps::GAP_PREFIX),
            destination: format!("{subject}.{{{{wildcard(1)}}}}"),
        },
        filter,
        create: like.and_then(|forward| forward.create.clone()),
        reject_oversize: false,
        rate: None,
        to,
        ..base.clone()
    })
}
