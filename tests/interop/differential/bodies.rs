//! Bodies of requests: possible ones, and ones with a mistake in them.

use super::known::is_left_out;
use super::random::Random;

/// The streams of a story; each has the subjects below its letter.
pub(super) const STREAMS: [&str; 3] = ["A", "B", "C"];
/// The consumers that have a name.
pub(super) const CONSUMERS: [&str; 4] = ["one", "two", "three", "four"];
/// Where push consumers deliver.
pub(super) const TARGETS: [&str; 3] = ["to.1", "to.2", "to.3"];

/// A JSON object as text, field by field in this order.
#[derive(Clone, Debug, Default)]
pub(super) struct Body(Vec<(String, String)>);

/// A field that may be there: how often of a hundred, and one of which values.
pub(super) type Maybe = (&'static str, usize, &'static [&'static str]);

impl Body {
    #[expect(clippy::needless_pass_by_value, reason = "a number, a text or what was made for it")]
    pub(super) fn set(&mut self, key: &str, value: impl ToString) {
        self.0.retain(|(known, _)| known != key);
        self.0.push((key.to_owned(), value.to_string()));
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.set(key, format!("{value:?}"));
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.0.iter().any(|(known, _)| known.eq_ignore_ascii_case(key))
    }

    pub(super) fn maybe(&mut self, random: &mut Random, fields: &[Maybe]) {
        for (key, percent, values) in fields {
            // Drawn in any case, so that a story stays the same when something is built.
            let (is_there, value) = (random.chance(*percent), random.pick(values));
            if is_there && !is_left_out(key) {
                self.set(key, value);
            }
        }
    }

    /// Makes one mistake.
    fn spoil(&mut self, random: &mut Random, known: &[&str]) {
        const WRONG: [&str; 14] = [
            "\"x\"",
            "1",
            "-1",
            "1.5",
            "true",
            "[]",
            "{}",
            "null",
            "\"\"",
            "-9223372036854775808",
            "9223372036854775807",
            "[1]",
            "{\"a\":1}",
            "[\"\"]",
        ];
        match random.below(10) {
            0 => self.set("bogus", random.pick(&["1", "null", "{}"])),
            1 if !self.0.is_empty() => {
                let at = random.below(self.0.len());
                self.0.remove(at);
            }
            2 if !self.0.is_empty() => {
                let at = random.below(self.0.len());
                self.0[at].0 = self.0[at].0.to_uppercase();
            }
            _ => {
                let (key, value) = (random.pick(known), random.pick(&WRONG));
                if !is_left_out(key) {
                    self.set(key, value);
                }
            }
        }
    }

    pub(super) fn json(&self) -> String {
        let fields: Vec<String> = self.0.iter().map(|(key, value)| format!("\"{key}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    }
}

/// Text that is no such object, sometimes.
pub(super) fn broken(random: &mut Random, json: String) -> String {
    match random.below(60) {
        0 => String::new(),
        1 => "[]".to_owned(),
        2 => "nonsense".to_owned(),
        3 => format!("{json} x"),
        4 => json[..random.below(json.len().max(1))].to_owned(),
        5 => "null".to_owned(),
        6 => "\"text\"".to_owned(),
        _ => json,
    }
}

const STREAM_FIELDS: [Maybe; 26] = [
    ("description", 10, &["\"what it is\"", "\"\""]),
    ("retention", 40, &["\"limits\"", "\"workqueue\"", "\"interest\"", "\"interest\""]),
    ("storage", 40, &["\"memory\"", "\"file\"", "\"memory\""]),
    ("max_consumers", 10, &["1", "2", "-1", "0", "-2"]),
    ("max_msgs", 25, &["3", "5", "-1", "0", "1"]),
    ("max_bytes", 20, &["200", "120", "1000", "-1", "0"]),
    ("max_msgs_per_subject", 25, &["1", "2", "-1"]),
    ("max_msg_size", 15, &["10", "64", "-1"]),
    ("max_age", 15, &["3600000000000", "0", "7200000000000"]),
    ("duplicate_window", 15, &["60000000000", "0", "120000000000"]),
    ("discard", 25, &["\"new\"", "\"old\"", "\"new\""]),
    ("discard_new_per_subject", 8, &["true"]),
    ("deny_delete", 6, &["true", "false"]),
    ("deny_purge", 6, &["true", "false"]),
    ("allow_rollup_hdrs", 30, &["true"]),
    ("allow_direct", 60, &["true"]),
    ("allow_msg_ttl", 30, &["true"]),
    ("mirror_direct", 5, &["false", "true"]),
    ("first_seq", 8, &["5", "0", "1"]),
    ("num_replicas", 20, &["1", "0", "1", "1", "3", "-1"]),
    ("metadata", 10, &["{\"a\":\"b\"}", "{}", "{\"_nats.x\":\"y\",\"k\":\"v\"}"]),
    ("consumer_limits", 10, &["{\"max_ack_pending\":5}", "{\"inactive_threshold\":60000000000}", "{}"]),
    ("compression", 5, &["\"none\"", "\"s2\""]),
    ("sealed", 2, &["true", "false"]),
    ("pedantic", 4, &["true", "false"]),
    ("placement", 3, &["{}", "{\"cluster\":\"c\"}", "{\"tags\":[\"t\"]}"]),
];

const MORE_STREAM_FIELDS: [Maybe; 8] = [
    ("no_ack", 3, &["true", "false"]),
    ("allow_atomic", 3, &["true", "false"]),
    ("allow_batched", 3, &["true", "false"]),
    ("allow_msg_counter", 3, &["true", "false"]),
    ("allow_msg_schedules", 3, &["true", "false"]),
    ("subject_delete_marker_ttl", 3, &["1000000000", "60000000000", "1"]),
    ("persist_mode", 3, &["\"default\"", "\"async\""]),
    ("template_owner", 2, &["\"T\""]),
];

/// Keys of a stream's configuration whose types are got wrong.
const STREAM_KEYS: [&str; 32] = [
    "name",
    "description",
    "subjects",
    "retention",
    "max_consumers",
    "max_msgs",
    "max_bytes",
    "max_age",
    "max_msgs_per_subject",
    "max_msg_size",
    "discard",
    "storage",
    "num_replicas",
    "duplicate_window",
    "placement",
    "mirror",
    "sources",
    "first_seq",
    "subject_transform",
    "republish",
    "allow_direct",
    "mirror_direct",
    "discard_new_per_subject",
    "sealed",
    "deny_delete",
    "deny_purge",
    "allow_rollup_hdrs",
    "consumer_limits",
    "allow_msg_ttl",
    "metadata",
    "pedantic",
    "template_owner",
];

/// A configuration of the stream with this number.
pub(super) fn stream(random: &mut Random, number: usize) -> Body {
    let (mut body, letter) = (Body::default(), STREAMS[number].to_lowercase());
    body.text("name", STREAMS[number]);
    let subjects = match random.below(24) {
        0..=9 => format!("[\"{letter}.>\"]"),
        10..=14 => format!("[\"{letter}.*\"]"),
        15..=17 => format!("[\"{letter}.1\",\"{letter}.2\"]"),
        18..=19 => format!("[\"{letter}.*\",\"{letter}.x.>\"]"),
        20 => format!("[\"{letter}.>\",\"{letter}.1\"]"),
        21 => "[\"a.1\"]".to_owned(),
        22 => random
            .pick(&["[]", "[\"\"]", "[\"a..b\"]", "[\">\"]", "[\"$JS.API.x\"]", "[\"a b\"]", "[\"d.1\",\"d.1\"]"])
            .to_owned(),
        _ => format!("[\"{letter}.>\",\"{letter}{letter}\"]"),
    };
    body.set("subjects", subjects);
    body.maybe(random, &STREAM_FIELDS);
    body.maybe(random, &MORE_STREAM_FIELDS);
    match random.below(40) {
        0 => body.set("republish", format!("{{\"src\":\"{letter}.>\",\"dest\":\"again.>\"}}")),
        1 => body.set("republish", format!("{{\"src\":\"{letter}.*\",\"dest\":\"to.1\",\"headers_only\":true}}")),
        2 => body.set(
            "subject_transform",
            format!("{{\"src\":\"{letter}.*\",\"dest\":\"{letter}.x.{{{{wildcard(1)}}}}\"}}"),
        ),
        3 => body.set("subject_transform", format!("{{\"src\":\"{letter}.>\",\"dest\":\"\"}}")),
        _ => {}
    }
    if random.chance(12) {
        body.spoil(random, &STREAM_KEYS);
    }
    body
}

/// A configuration without surprises, to have something to work with.
pub(super) fn plain_stream(random: &mut Random, number: usize) -> Body {
    let (mut body, letter) = (Body::default(), STREAMS[number].to_lowercase());
    body.text("name", STREAMS[number]);
    body.set("subjects", format!("[\"{letter}.>\"]"));
    let fields: [Maybe; 6] = [
        ("retention", 50, &["\"limits\"", "\"workqueue\"", "\"interest\""]),
        ("storage", 40, &["\"memory\""]),
        ("max_msgs_per_subject", 30, &["1", "2"]),
        ("max_msgs", 20, &["6"]),
        ("allow_rollup_hdrs", 50, &["true"]),
        ("allow_msg_ttl", 50, &["true"]),
    ];
    body.maybe(random, &fields);
    body.set("allow_direct", "true");
    body
}

const CONSUMER_FIELDS: [Maybe; 20] = [
    ("description", 8, &["\"what it is\""]),
    ("ack_policy", 85, &["\"explicit\"", "\"explicit\"", "\"explicit\"", "\"all\"", "\"none\""]),
    ("ack_wait", 20, &["60000000000", "0", "90000000000"]),
    ("max_deliver", 25, &["1", "2", "3", "-1", "0"]),
    ("backoff", 6, &["[60000000000]", "[60000000000,90000000000]", "[]"]),
    ("max_ack_pending", 25, &["1", "2", "5", "-1", "0"]),
    ("max_waiting", 10, &["1", "2", "512", "0"]),
    ("headers_only", 8, &["true"]),
    ("max_batch", 10, &["1", "2", "0"]),
    ("max_expires", 6, &["1000000000", "0", "60000000000"]),
    ("max_bytes", 6, &["10", "100", "0"]),
    ("inactive_threshold", 15, &["60000000000", "0", "90000000000"]),
    ("mem_storage", 10, &["true", "false"]),
    ("metadata", 8, &["{\"a\":\"b\"}", "{}"]),
    ("num_replicas", 10, &["0", "1", "1", "3"]),
    ("replay_policy", 10, &["\"instant\""]),
    ("rate_limit_bps", 3, &["1000000", "0"]),
    ("pause_until", 3, &["\"2100-01-01T00:00:00Z\"", "\"2020-01-01T00:00:00Z\"", "\"0001-01-01T00:00:00Z\""]),
    ("direct", 2, &["true", "false"]),
    ("sample_freq", 4, &["\"100\"", "\"30%\"", "\"x\""]),
];

const MORE_CONSUMER_FIELDS: [Maybe; 3] = [
    ("priority_groups", 5, &["[\"g\"]", "[]", "[\"g\",\"h\"]"]),
    ("priority_policy", 5, &["\"none\"", "\"overflow\"", "\"pinned_client\"", "\"prioritized\""]),
    ("priority_timeout", 2, &["1000000000"]),
];

const CONSUMER_KEYS: [&str; 30] = [
    "name",
    "durable_name",
    "description",
    "deliver_policy",
    "opt_start_seq",
    "opt_start_time",
    "ack_policy",
    "ack_wait",
    "max_deliver",
    "backoff",
    "filter_subject",
    "filter_subjects",
    "replay_policy",
    "rate_limit_bps",
    "sample_freq",
    "max_waiting",
    "max_ack_pending",
    "flow_control",
    "headers_only",
    "max_batch",
    "max_expires",
    "max_bytes",
    "deliver_subject",
    "deliver_group",
    "idle_heartbeat",
    "inactive_threshold",
    "num_replicas",
    "mem_storage",
    "metadata",
    "pause_until",
];

/// A consumer's configuration, without its name.
pub(super) fn consumer(random: &mut Random, letter: &str) -> Body {
    let mut body = Body::default();
    body.maybe(random, &CONSUMER_FIELDS);
    body.maybe(random, &MORE_CONSUMER_FIELDS);
    match random.below(20) {
        0 => body.text("deliver_policy", "last"),
        1 => body.text("deliver_policy", "new"),
        2 | 3 => body.text("deliver_policy", "last_per_subject"),
        4 => {
            body.text("deliver_policy", "by_start_sequence");
            body.set("opt_start_seq", random.pick(&["1", "3", "100", "0"]));
        }
        5 => {
            body.text("deliver_policy", "by_start_time");
            body.text("opt_start_time", random.pick(&["2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"]));
        }
        6 => body.text("deliver_policy", "all"),
        _ => {}
    }
    match random.below(16) {
        0..=2 => body.text("filter_subject", &format!("{letter}.1")),
        3 => body.text("filter_subject", &format!("{letter}.*")),
        4 => body.text("filter_subject", &format!("{letter}.>")),
        5 => body.set("filter_subjects", format!("[\"{letter}.1\",\"{letter}.2\"]")),
        6 => body.set("filter_subjects", format!("[\"{letter}.2\",\"{letter}.x.>\"]")),
        7 => {
            body.set("filter_subjects", random.pick(&["[]", "[\"\"]", "[\"q.1\"]", "[\"a.1\",\"a.>\"]", "[\"a..b\"]"]))
        }
        8 => body.text("filter_subject", random.pick(&["q.1", "a..b", ""])),
        _ => {}
    }
    if random.chance(20) {
        body.text(
            "deliver_subject",
            &random
                .pick(&["to.1", "to.2", "to.3", "to.1", "OWN", "to.*", "to..1", "a b"])
                .replace("OWN", &format!("{letter}.1")),
        );
        let fields: [Maybe; 3] = [
            ("deliver_group", 15, &["\"g\"", "\"\"", "\"g h\""]),
            ("flow_control", 15, &["true"]),
            ("idle_heartbeat", 20, &["60000000000", "60000000000", "1000000"]),
        ];
        body.maybe(random, &fields);
    }
    if random.chance(10) {
        body.spoil(random, &CONSUMER_KEYS);
    }
    body
}

/// A pull request, and how many messages end it.
pub(super) fn pull(random: &mut Random) -> (String, usize, bool) {
    let batch = random.below(4) + 1;
    let mut body = Body::default();
    body.set("batch", batch);
    let ends = match random.below(10) {
        0..=5 => {
            body.set("no_wait", "true");
            true
        }
        6 => {
            body.set("expires", "120000000");
            true
        }
        7 => {
            body.set("no_wait", "true");
            body.set("expires", "100000000");
            true
        }
        _ => {
            body.set("expires", "60000000000");
            false
        }
    };
    if random.chance(15) {
        body.set("max_bytes", random.pick(&["1", "60", "100", "1000", "0", "-1"]));
    }
    if !ends && random.chance(20) {
        body.set("idle_heartbeat", random.pick(&["20000000000", "50000000000", "-1", "0"]));
    }
    match random.below(40) {
        0 => return (String::new(), 1, false),
        1 => return ("2".to_owned(), 2, false),
        2 => return ("nonsense".to_owned(), 1, false),
        3 => return ("{".to_owned(), 1, true),
        4 => body.set("batch", random.pick(&["\"x\"", "-1", "0", "1.5", "null"])),
        5 => body.set("no_wait", random.pick(&["1", "\"x\"", "null"])),
        6 => body.set("expires", random.pick(&["\"x\"", "-1", "1", "true"])),
        7 => body.set("bogus", "1"),
        _ => return (body.json(), batch, ends),
    }
    // Whatever it is taken for.
    (body.json(), 1, ends)
}

/// A body of these fields, each there by chance, sometimes with a mistake.
pub(super) fn some(random: &mut Random, fields: &[Maybe], keys: &[&str]) -> String {
    let mut body = Body::default();
    body.maybe(random, fields);
    if random.chance(8) {
        body.spoil(random, keys);
    }
    let json = body.json();
    if json == "{}" && random.chance(60) { String::new() } else { broken(random, json) }
}
