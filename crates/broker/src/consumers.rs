//! The store's consumers as the broker knows them: by number, and by their names, which is how pulls and acknowledgements call them.

use std::collections::{BTreeMap, BTreeSet};

use jetstream::command::subject_hash;
use jetstream::identity::ConsumerId;
use subject::Filter;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Consumers {
    rows: BTreeMap<ConsumerId, ConsumerRow>,
    /// The same by a hash of both names.
    hashes: BTreeSet<(u64, ConsumerId)>,
}

/// Names of stream and consumer, and the subjects of its acknowledgements.
#[derive(Debug)]
struct ConsumerRow {
    stream: Box<str>,
    name: Box<str>,
    filters: Vec<Filter>,
}

impl Consumers {
    pub(crate) fn insert(&mut self, id: ConsumerId, stream: Box<str>, name: Box<str>, filters: Vec<Filter>) {
        self.hashes.insert((hash_of_names(&stream, &name), id));
        self.rows.insert(id, ConsumerRow { stream, name, filters });
    }

    /// Forgets one; answers the subjects of its acknowledgements.
    pub(crate) fn remove(&mut self, id: ConsumerId) -> Option<Vec<Filter>> {
        let row = self.rows.remove(&id)?;
        self.hashes.remove(&(hash_of_names(&row.stream, &row.name), id));
        Some(row.filters)
    }

    /// Is there such a consumer?
    pub(crate) fn has(&self, stream: &str, consumer: &str) -> bool {
        let hash = hash_of_names(stream, consumer);
        let candidates = self.hashes.range((hash, ConsumerId(0))..=(hash, ConsumerId(u32::MAX)));
        let mut rows = candidates.filter_map(|(_, id)| self.rows.get(id));
        rows.any(|row| *row.stream == *stream && *row.name == *consumer)
    }

    /// The names of its stream and of itself.
    pub(crate) fn names(&self, id: ConsumerId) -> Option<(&str, &str)> {
        self.rows.get(&id).map(|row| (&*row.stream, &*row.name))
    }
}

/// By what consumers are found; others may have the same.
fn hash_of_names(stream: &str, consumer: &str) -> u64 {
    subject_hash(stream.as_bytes()) ^ subject_hash(consumer.as_bytes()).rotate_left(32)
}

/// Answers to a push consumer's requests for flow control: `$JS.FC.<stream>.<consumer>.<token>`, and the form with domain and account.
pub(crate) fn flow_filters(stream: &str, consumer: &str) -> Vec<Filter> {
    [format!("$JS.FC.{stream}.{consumer}.*"), format!("$JS.FC.*.*.{stream}.{consumer}.*")]
        .iter()
        .filter_map(|text| Filter::parse(text).ok())
        .collect()
}

/// `$JS.ACK.<stream>.<consumer>.…` (9 tokens) and, with domain and account, the form of 11 or 12.
pub(crate) fn ack_filters(stream: &str, consumer: &str) -> Vec<Filter> {
    [
        format!("$JS.ACK.{stream}.{consumer}.*.*.*.*.*"),
        format!("$JS.ACK.*.*.{stream}.{consumer}.*.*.*.*.*"),
        format!("$JS.ACK.*.*.{stream}.{consumer}.*.*.*.*.*.*"),
    ]
    .iter()
    .filter_map(|text| Filter::parse(text).ok())
    .collect()
}
