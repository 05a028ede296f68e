//! The hub's stream as a forward makes it when it is missing (`create`).
//!
//! An existing one is never changed: an update replaces the list of subjects, so two edges that each add theirs would erase each other. What is
//! there and lacks something is described instead (`lacking`).

use jetstream::config::Discard;
use serde_json::{Value, json};
use subject::Filter;

use crate::way::Version;

/// Ids are remembered at least so long, nanoseconds, unless messages live shorter: the second line behind the fence.
pub const LEAST_WINDOW_NS: u64 = 120_000_000_000;

/// Where the hub keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// On its disks.
    #[default]
    File,
    /// In memory: a restart of the hub loses it.
    Memory,
}

/// When a message goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// By the limits alone.
    #[default]
    Limits,
    /// When all consumers have acknowledged it. What is gone can't be asked for: "at least once".
    Interest,
    /// When one consumer has acknowledged it. As with interest.
    WorkQueue,
}

/// Which servers of a cluster hold it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Name of the cluster; empty: any.
    pub cluster: String,
    /// Tags that each server must have.
    pub tags: Vec<String>,
}

/// The stream. Absent limits are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// Its subjects.
    pub subjects: Vec<Filter>,
    /// Free text.
    pub description: String,
    /// Where it lies.
    pub storage: Storage,
    /// When messages go.
    pub retention: Retention,
    /// Servers that hold it, 1 to 5.
    pub replicas: u8,
    /// Most messages.
    pub max_messages: Option<u64>,
    /// Most bytes.
    pub max_bytes: Option<u64>,
    /// Oldest age, nanoseconds.
    pub max_age_ns: Option<u64>,
    /// Most messages of a subject.
    pub max_messages_per_subject: Option<u64>,
    /// Largest message, bytes of headers and body; the forward's own headers count.
    pub max_message_size: Option<u32>,
    /// What goes when a limit is reached.
    pub discard: Discard,
    /// How long ids are remembered, nanoseconds.
    pub duplicate_window_ns: u64,
    /// Blocks on the hub's disk are compressed (s2).
    pub compressed: bool,
    /// Where in a cluster.
    pub placement: Option<Placement>,
}

impl Create {
    /// With these subjects, on one server's disk, without limits.
    #[must_use]
    pub fn with_subjects(subjects: Vec<Filter>) -> Create {
        Create {
            subjects,
            description: String::new(),
            storage: Storage::File,
            retention: Retention::Limits,
            replicas: 1,
            max_messages: None,
            max_bytes: None,
            max_age_ns: None,
            max_messages_per_subject: None,
            max_message_size: None,
            discard: Discard::Old,
            duplicate_window_ns: LEAST_WINDOW_NS,
            compressed: false,
            placement: None,
        }
    }

    /// Body of `STREAM.CREATE`, with the fields that the hub's version knows: `allow_batched` is refused by 2.12.0 (10025), and what a hub does
    /// not know it drops silently.
    pub(crate) fn body(&self, name: &str, version: Version) -> Value {
        let subjects: Vec<&str> = self.subjects.iter().map(Filter::as_str).collect();
        let mut body = json!({ "name": name, "subjects": subjects });
        for (field, value) in self.always().into_iter().chain(self.asked_for(version)) {
            body[field] = value;
        }
        body
    }

    /// Fields that are always said.
    fn always(&self) -> Vec<(&'static str, Value)> {
        let retention = match self.retention {
            Retention::Limits => "limits",
            Retention::Interest => "interest",
            Retention::WorkQueue => "workqueue",
        };
        let storage = match self.storage {
            Storage::File => "file",
            Storage::Memory => "memory",
        };
        let discard = match self.discard {
            Discard::Old => "old",
            Discard::New => "new",
        };
        vec![
            ("retention", retention.into()),
            ("storage", storage.into()),
            ("discard", discard.into()),
            ("num_replicas", self.replicas.into()),
            ("duplicate_window", self.duplicate_window_ns.into()),
        ]
    }

    /// Fields that are said only where there is something to say, and the hub knows them.
    fn asked_for(&self, version: Version) -> Vec<(&'static str, Value)> {
        let number = |value: Option<u64>| value.map(Value::from);
        let placement = self.placement.as_ref().map(|placement| {
            let mut value = json!({});
            if !placement.cluster.is_empty() {
                value["cluster"] = placement.cluster.as_str().into();
            }
            if !placement.tags.is_empty() {
                value["tags"] = placement.tags.as_slice().into();
            }
            value
        });
        let fields = [
            ("description", Some(self.description.as_str()).filter(|text| !text.is_empty()).map(Value::from)),
            ("max_msgs", number(self.max_messages)),
            ("max_bytes", number(self.max_bytes)),
            ("max_age", number(self.max_age_ns)),
            ("max_msgs_per_subject", number(self.max_messages_per_subject)),
            ("max_msg_size", number(self.max_message_size.map(u64::from))),
            ("compression", (self.compressed && version.knows_compression()).then(|| "s2".into())),
            ("placement", placement),
            ("allow_atomic", version.has_atomic_field().then(|| true.into())),
            ("allow_batched", version.knows_fast_ingest().then(|| true.into())),
        ];
        fields.into_iter().filter_map(|(field, value)| Some((field, value?))).collect()
    }

    /// What `found`, a stream's configuration as the hub gives it, lacks of this; sentences. Only what was asked for is compared, so that a hub's
    /// operator may set more.
    pub(crate) fn lacking(&self, version: Version, found: &Value) -> Vec<String> {
        if !found.is_object() {
            return Vec::new();
        }
        let theirs: Vec<Filter> = found["subjects"].as_array().into_iter().flatten().filter_map(filter).collect();
        let missing = self.subjects.iter().filter(|ours| !theirs.iter().any(|their| their.covers(ours)));
        let mut lacking: Vec<String> = missing.map(|subject| format!("it does not capture {subject}")).collect();
        let defaults = Create::with_subjects(Vec::new()).always();
        let stated =
            self.always().into_iter().filter(|stated| !defaults.contains(stated) || stated.0 == "duplicate_window");
        for (field, wanted) in stated.chain(self.asked_for(version)) {
            let value = &found[field];
            let is_enough = match field {
                "description" => true,
                "duplicate_window" => value.as_u64() >= wanted.as_u64(),
                "placement" => wanted.as_object().into_iter().flatten().all(|(key, part)| value[key] == *part),
                _ => *value == wanted,
            };
            if !is_enough && value.is_null() {
                lacking.push(format!("{field} is missing, expected {wanted}"));
            } else if !is_enough {
                lacking.push(format!("{field} is {value}, expected {wanted}"));
            }
        }
        lacking
    }
}

fn filter(value: &Value) -> Option<Filter> {
    value.as_str().and_then(|text| Filter::parse(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Create {
        Create {
            description: "all pumps".into(),
            storage: Storage::Memory,
            retention: Retention::WorkQueue,
            replicas: 3,
            max_messages: Some(10),
            max_bytes: Some(20),
            max_age_ns: Some(30),
            max_messages_per_subject: Some(40),
            max_message_size: Some(50),
            discard: Discard::New,
            compressed: true,
            placement: Some(Placement { cluster: "east".into(), tags: vec!["ssd".into()] }),
            ..Create::with_subjects(vec![Filter::parse("e.>").unwrap()])
        }
    }

    #[test]
    fn every_field_is_said() {
        let expected = json!({
            "name": "FLEET", "subjects": ["e.>"], "description": "all pumps", "storage": "memory", "retention": "workqueue",
            "num_replicas": 3, "max_msgs": 10, "max_bytes": 20, "max_age": 30, "max_msgs_per_subject": 40, "max_msg_size": 50,
            "discard": "new", "duplicate_window": 120_000_000_000u64, "compression": "s2",
            "placement": {"cluster": "east", "tags": ["ssd"]}, "allow_atomic": true, "allow_batched": true,
        });
        assert_eq!(full().body("FLEET", Version(2, 15, 1)), expected);
        let old = full().body("FLEET", Version(2, 9, 25));
        for unknown in ["compression", "allow_atomic", "allow_batched"] {
            assert!(old[unknown].is_null(), "{unknown}");
        }
        assert!(full().body("FLEET", Version(2, 12, 0))["allow_batched"].is_null(), "2.12.0 answers 10025");
    }

    #[test]
    fn what_is_there_and_lacks_nothing_is_silent() {
        let version = Version(2, 15, 1);
        let mut found = full().body("FLEET", version);
        found["duplicate_window"] = 600_000_000_000u64.into();
        found["subjects"] = json!(["x", ">"]);
        found["max_consumers"] = 7.into();
        assert_eq!(full().lacking(version, &found), Vec::<String>::new());
        let plain = Create::with_subjects(Vec::new());
        assert_eq!(
            plain.lacking(version, &found),
            Vec::<String>::new(),
            "limits of the hub's operator are none of ours"
        );
        assert_eq!(plain.lacking(version, &Value::Null), Vec::<String>::new());
    }

    #[test]
    fn what_is_lacking_is_said_exactly() {
        let version = Version(2, 15, 1);
        let found = json!({
            "subjects": ["e.a"], "num_replicas": 1, "storage": "file", "retention": "limits", "discard": "old",
            "max_bytes": 10, "duplicate_window": 5, "allow_batched": true, "allow_atomic": true,
        });
        let wanted =
            Create { max_bytes: Some(20), replicas: 3, ..Create::with_subjects(vec![Filter::parse("e.>").unwrap()]) };
        let expected = [
            "it does not capture e.>",
            "num_replicas is 1, expected 3",
            "duplicate_window is 5, expected 120000000000",
            "max_bytes is 10, expected 20",
        ];
        assert_eq!(wanted.lacking(version, &found), expected);
        let bare = json!({ "subjects": ["e.>"], "duplicate_window": 120_000_000_000u64 });
        let lacking = Create::with_subjects(Vec::new()).lacking(version, &bare);
        assert_eq!(lacking, ["allow_atomic is missing, expected true", "allow_batched is missing, expected true"]);
    }
}
