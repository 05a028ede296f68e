//! Are a stream's origins possible? Order, numbers and texts are nats-server's.

use std::collections::{BTreeSet, VecDeque};

use subject::{Filter, Transform, TransformError};

use crate::api_error::{self, ApiError};
use crate::config::{Source, SourceConsumer, StreamConfig, SubjectTransform};
use crate::jetstream::JetStream;
use crate::origin::{MOST_SOURCES, has_origins, identity_of};
use crate::stream::config_check::is_name;

/// What our own API's subjects begin with.
const API: &str = "$JS.API";
/// Most subject transforms of one origin: each is compared with each.
const MOST_TRANSFORMS: usize = 256;

/// Checks what a configuration says of its origins by itself. `has_subjects`: it captures subjects too.
///
/// # Errors
/// What is wrong first.
pub fn check(config: &StreamConfig, has_subjects: bool) -> Result<(), ApiError> {
    if !has_origins(config) {
        return Ok(());
    }
    if let Some(mirror) = &config.mirror {
        check_mirror(config, mirror, has_subjects)?;
    }
    if config.sources.len() > MOST_SOURCES {
        let text = format!("stream has too many sources, maximum allowed is {MOST_SOURCES}");
        return Err(api_error::stream_invalid_config(text));
    }
    if !config.sources.is_empty() && config.allow_schedules {
        return Err(api_error::SOURCE_WITH_MSG_SCHEDULES);
    }
    let (mut known, mut consumers) = (BTreeSet::new(), BTreeSet::new());
    for source in &config.sources {
        if !is_name(&source.name) {
            return Err(api_error::SOURCE_INVALID_STREAM_NAME);
        }
        if !known.insert(identity_of(source)) {
            return Err(api_error::SOURCE_DUPLICATE_DETECTED);
        }
        check_source(source)?;
        let api = source.external.as_ref().map_or("", |external| &external.api);
        if let Some(consumer) = &source.consumer
            && !consumers.insert((&source.name, api, &consumer.name))
        {
            return Err(api_error::SOURCE_DURABLE_CONSUMER_DUPLICATE_DETECTED);
        }
    }
    let mirror = config.mirror.iter().map(|mirror| (&**mirror, "mirror"));
    let sources = config.sources.iter().map(|source| (source, "source:"));
    mirror.chain(sources).try_for_each(|(source, what)| check_filter(source, what))
}

fn check_mirror(config: &StreamConfig, mirror: &Source, has_subjects: bool) -> Result<(), ApiError> {
    let forbidden = [
        (config.first_sequence > 0, api_error::MIRROR_WITH_FIRST_SEQ),
        (has_subjects, api_error::MIRROR_WITH_SUBJECTS),
        (!config.sources.is_empty(), api_error::MIRROR_WITH_SOURCES),
        (config.allow_counter, api_error::MIRROR_WITH_COUNTERS),
        (config.allow_atomic, api_error::MIRROR_WITH_ATOMIC_PUBLISH),
        (config.allow_batched, api_error::MIRROR_WITH_BATCH_PUBLISH),
        (config.allow_schedules, api_error::MIRROR_WITH_MSG_SCHEDULES),
        (!is_consumer_possible(mirror), api_error::MIRROR_DURABLE_CONSUMER_CFG_INVALID),
        (!mirror.filter.is_empty() && !mirror.transforms.is_empty(), api_error::MIRROR_MULTIPLE_FILTERS_NOT_ALLOWED),
    ];
    if let Some((_, error)) = forbidden.into_iter().find(|(is_so, _)| *is_so) {
        return Err(error);
    }
    if config.subject_delete_marker_ttl_ns > 0 {
        return Err(api_error::stream_invalid_config("subject delete markers forbidden on mirrors"));
    }
    for transform in &mirror.transforms {
        check_transform(transform).map_err(|wrong| match wrong {
            Wrong::Source(text) => api_error::mirror_invalid_subject_filter(text),
            Wrong::Destination(error) => api_error::mirror_invalid_transform_destination(error.in_an_answer()),
        })?;
    }
    if any_pair(&mirror.transforms, Filter::overlaps) {
        return Err(api_error::MIRROR_OVERLAPPING_SUBJECT_FILTERS);
    }
    // What is elsewhere may have been named by other rules.
    let is_named = if mirror.external.is_none() { is_name(&mirror.name) } else { is_one_token(&mirror.name) };
    if !is_named {
        return Err(api_error::MIRROR_INVALID_STREAM_NAME);
    }
    check_external(mirror)
}

fn check_source(source: &Source) -> Result<(), ApiError> {
    if !source.filter.is_empty() && !source.transforms.is_empty() {
        return Err(api_error::SOURCE_MULTIPLE_FILTERS_NOT_ALLOWED);
    }
    for transform in &source.transforms {
        check_transform(transform).map_err(|wrong| match wrong {
            Wrong::Source(text) => api_error::source_invalid_subject_filter(text),
            Wrong::Destination(error) => api_error::source_invalid_transform_destination(error.in_an_answer()),
        })?;
    }
    if any_pair(&source.transforms, |one, other| other.covers(one)) {
        return Err(api_error::SOURCE_OVERLAPPING_SUBJECT_FILTERS);
    }
    if !is_consumer_possible(source) {
        return Err(api_error::SOURCE_DURABLE_CONSUMER_CFG_INVALID);
    }
    check_external(source)
}

/// What is wrong with a transform.
enum Wrong {
    Source(String),
    Destination(TransformError),
}

fn check_transform(transform: &SubjectTransform) -> Result<(), Wrong> {
    let SubjectTransform { source, destination } = transform;
    if !source.is_empty() && Filter::parse(source).is_err() {
        return Err(Wrong::Source(format!("invalid subject {source}")));
    }
    if destination.is_empty() {
        return Ok(());
    }
    let source = if source.is_empty() { ">" } else { source };
    Transform::parse(source, destination).map(drop).map_err(Wrong::Destination)
}

/// Does this hold for any two of the transforms' filters, in either order?
fn any_pair(transforms: &[SubjectTransform], holds: impl Fn(&Filter, &Filter) -> bool) -> bool {
    if transforms.len() > MOST_TRANSFORMS {
        return true;
    }
    let parse = |one: &SubjectTransform| Filter::parse(if one.source.is_empty() { ">" } else { &one.source }).ok();
    let all: Vec<Filter> = transforms.iter().filter_map(parse).collect();
    all.iter().enumerate().any(|(place, one)| {
        all.iter().enumerate().any(|(other_place, other)| place != other_place && holds(one, other))
    })
}

fn check_filter(source: &Source, what: &str) -> Result<(), ApiError> {
    if source.transforms.is_empty() && !source.filter.is_empty() && Filter::parse(&source.filter).is_err() {
        let text = format!("subject filter '{}' for the {what} invalid subject", source.filter);
        return Err(api_error::stream_create(text));
    }
    Ok(())
}

/// A consumer that is there already has its own beginning and filters.
fn is_consumer_possible(source: &Source) -> bool {
    let Some(SourceConsumer { name, deliver_subject }) = &source.consumer else { return true };
    is_name(name)
        && Filter::parse(deliver_subject).is_ok_and(|subject| subject.is_literal())
        && source.start_sequence == 0
        && source.start_time.is_none()
        && source.filter.is_empty()
}

fn check_external(source: &Source) -> Result<(), ApiError> {
    let Some(external) = &source.external else { return Ok(()) };
    let is_literal = |text: &str| Filter::parse(text).is_ok_and(|filter| filter.is_literal());
    if !external.deliver.is_empty() && !is_literal(external.deliver.trim_end_matches('.')) {
        return Err(api_error::stream_invalid_external_delivery_subj(&external.deliver));
    }
    if !external.api.is_empty() && !is_literal(external.api.trim_end_matches('.')) {
        let api = &external.api;
        let text = format!("stream external api prefix {api:?} must be a valid subject without wildcards");
        return Err(api_error::stream_invalid_config(text));
    }
    if *external.api == *API {
        return Err(api_error::stream_external_api_overlap(&external.api, API));
    }
    Ok(())
}

fn is_one_token(name: &str) -> bool {
    Filter::parse(name).is_ok_and(|filter| filter.is_literal() && !name.contains('.'))
}

impl JetStream {
    /// A mirror answers direct gets for its origin if that allows them.
    pub(crate) fn inherit_direct(&self, config: &mut StreamConfig) {
        let Some(mirror) = config.mirror.as_ref().filter(|mirror| mirror.external.is_none()) else { return };
        if let Some(origin) = self.stream_named(&mirror.name) {
            config.mirror_direct = origin.config.allow_direct;
        }
    }

    /// Do a stream's origins here go with it?
    pub(crate) fn fits_origins(&self, config: &StreamConfig) -> Result<(), ApiError> {
        if !has_origins(config) {
            return Ok(());
        }
        let is_larger = |source: &Source| {
            let origin = self.stream_named(&source.name).filter(|_| source.external.is_none());
            let largest = origin.map_or(-1, |origin| origin.config.max_message_size);
            config.max_message_size > 0 && largest > 0 && config.max_message_size < largest
        };
        if config.mirror.as_deref().is_some_and(is_larger) {
            return Err(api_error::MIRROR_MAX_MESSAGE_SIZE_TOO_BIG);
        }
        if config.sources.iter().any(is_larger) {
            return Err(api_error::SOURCE_MAX_MESSAGE_SIZE_TOO_BIG);
        }
        self.no_cycle(config)
    }

    /// What a stream takes must not come back to where it was taken from.
    fn no_cycle(&self, config: &StreamConfig) -> Result<(), ApiError> {
        let mut to_visit = VecDeque::from([config]);
        let mut visited = BTreeSet::new();
        while let Some(config) = to_visit.pop_front() {
            visited.insert(&*config.name);
            let is_mirror = config.mirror.is_some();
            let here = |source: &&Source| source.external.is_none();
            for source in config.mirror.as_deref().into_iter().chain(&config.sources).filter(here) {
                if visited.contains(&*source.name) {
                    let filter = Filter::parse(&source.filter).ok().filter(|_| !is_mirror);
                    if filter.is_none_or(|filter| config.subjects.iter().any(|subject| subject.overlaps(&filter))) {
                        return Err(api_error::stream_invalid_config("detected cycle"));
                    }
                } else if let Some(other) = self.stream_named(&source.name) {
                    to_visit.push_back(&other.config);
                }
            }
        }
        Ok(())
    }
}
