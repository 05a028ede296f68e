//! `mirror` and `sources` of a stream in our block `streams`: keys as in JetStream's own configuration, and `domain` as the short way of saying where a
//! stream behind a link is.

use jetstream::config::{ExternalStream, Source, StreamConfig, SubjectTransform};
use jetstream::origin;
use nats_conf::{Block, Field, Kind, Report};

use super::streams::{checked_name, text};

/// Where a stream takes messages from.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Origins {
    /// `mirror`: it holds what another one holds.
    pub mirror: Option<Source>,
    /// `sources`: it takes in what these hold.
    pub sources: Vec<Source>,
    /// `mirror_direct`: it answers direct gets for its origin. Default: false.
    pub mirror_direct: bool,
}

impl Origins {
    /// Are there any?
    pub(crate) fn are_there(&self) -> bool {
        self.mirror.is_some() || !self.sources.is_empty()
    }
}

pub(super) fn read(block: &mut Block<'_>, name: &str, has_subjects: bool, report: &mut Report) -> Origins {
    let (mirror, sources) = (block.field(&["mirror"]), block.field(&["sources"]));
    let place = mirror.as_ref().or(sources.as_ref()).map(|field| field.position);
    let origins = Origins {
        mirror: mirror.and_then(|field| read_source(&field, report)),
        sources: sources.map_or_else(Vec::new, |field| {
            field.elements().iter().filter_map(|element| read_source(element, report)).collect()
        }),
        mirror_direct: block.field(&["mirror_direct"]).and_then(|field| field.boolean(report)).unwrap_or(false),
    };
    let config = StreamConfig {
        mirror: origins.mirror.clone().map(Box::new),
        sources: origins.sources.clone(),
        ..StreamConfig::named(name)
    };
    // Without a name it was said already what is missing.
    let are_named = origins.mirror.iter().chain(&origins.sources).all(|source| !source.name.is_empty());
    if are_named && let (Some(place), Err(error)) = (place, origin::check(&config, has_subjects)) {
        report.error(place, error.description.into_owned());
    }
    origins
}

fn read_source(field: &Field<'_>, report: &mut Report) -> Option<Source> {
    let mut block = field.block(report)?;
    let name = block.field(&["name"]).and_then(|field| {
        let name = field.text(report)?;
        Some(checked_name(&field, &name, "stream", report))
    });
    let source = Source {
        name: name.as_deref().unwrap_or_default().into(),
        start_sequence: block.field(&["opt_start_seq"]).and_then(|field| field.size(1..=u64::MAX, report)).unwrap_or(0),
        start_time: start_time(&mut block, report),
        filter: text(&mut block, "filter_subject", report).unwrap_or_default().into(),
        transforms: transforms(&mut block, report),
        external: external(&mut block, report),
        consumer: None,
    };
    block.refuse(&["consumer"], report);
    block.finish(report);
    if name.is_none() {
        report.error(field.position, "expected the \"name\" of a stream");
        return None;
    }
    Some(source)
}

fn start_time(block: &mut Block<'_>, report: &mut Report) -> Option<jetstream::identity::Timestamp> {
    let field = block.field(&["opt_start_time"])?;
    let text = match &field.value.kind {
        Kind::Date(date) => date.to_string(),
        _ => field.string(report)?.to_owned(),
    };
    let time = jetstream_api::parse_time(&text);
    if time.is_none() {
        report.error(field.position, format!("{text:?} is no time: expected 2026-01-02T15:04:05Z"));
    }
    time
}

fn transforms(block: &mut Block<'_>, report: &mut Report) -> Vec<SubjectTransform> {
    let Some(field) = block.field(&["subject_transforms"]) else { return Vec::new() };
    let read = |element: &Field<'_>, report: &mut Report| {
        let mut block = element.block(report)?;
        let source = text(&mut block, "src", report).unwrap_or_default().into();
        let destination = text(&mut block, "dest", report).unwrap_or_default().into();
        block.finish(report);
        Some(SubjectTransform { source, destination })
    };
    field.elements().iter().filter_map(|element| read(element, report)).collect()
}

/// `domain: hub` is `external { api: "$JS.hub.API" }`.
fn external(block: &mut Block<'_>, report: &mut Report) -> Option<ExternalStream> {
    let domain = block.field(&["domain"]).and_then(|field| {
        let domain = field.text(report)?;
        Some(checked_name(&field, &domain, "domain", report))
    });
    let external = block.field(&["external"]);
    if let (Some(_), Some(field)) = (&domain, &external) {
        report.error(field.position, "\"domain\" and \"external\" say the same: expected one of them");
    }
    if let Some(domain) = domain {
        return Some(ExternalStream { api: format!("$JS.{domain}.API").into(), deliver: "".into() });
    }
    let mut block = external?.block(report)?;
    let api = text(&mut block, "api", report).unwrap_or_default().into();
    let deliver = text(&mut block, "deliver", report).unwrap_or_default().into();
    block.finish(report);
    Some(ExternalStream { api, deliver })
}
