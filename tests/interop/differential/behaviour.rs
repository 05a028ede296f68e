//! Parts of a story that belong together: what a configuration promises is made to happen. Each step is complete in itself here too.

use super::bodies::Body;
use super::step::{Expects, Step};
use super::story::Story;

/// The stream that these parts have for themselves, and those that take from others.
const OWN: &str = "S";
/// Past a second's end, with some of the next one.
const A_SECOND: u64 = 1300;

impl Story {
    pub(super) fn behave(&mut self) {
        match self.random.below(24) {
            0..=3 => self.atomic_batches(),
            4..=6 => self.fast_batches(),
            7..=9 => self.counters(),
            10 => self.ends_and_markers(),
            11 => self.schedules(),
            12..=14 => self.origins(),
            15..=16 => self.copy(),
            17..=19 => self.groups(),
            20 => self.heartbeats(),
            _ => self.resets(),
        }
    }

    fn own_stream(&mut self, fields: &[(&str, &str)], more: &[(&'static str, usize, &'static [&'static str])]) {
        let mut body = Body::default();
        body.text("name", OWN);
        body.set("subjects", "[\"s.>\"]");
        body.set("allow_direct", "true");
        for (key, value) in fields {
            body.set(key, value);
        }
        body.maybe(&mut self.random, more);
        if self.random.chance(70) {
            self.ask(&format!("STREAM.DELETE.{OWN}"), "");
        }
        self.ask(&format!("STREAM.CREATE.{OWN}"), body.json());
    }

    fn publish_with(&mut self, subject: &str, lines: &[String], body: &str) {
        let headers = block(lines);
        let (subject, body) = (subject.to_owned(), body.to_owned());
        self.steps.push(Step::Ask { subject, headers, body, expects: Expects::One });
    }

    /// What came of it: the stream, and every message that it may hold.
    fn look(&mut self, stream: &str) {
        self.ask(&format!("STREAM.INFO.{stream}"), "{\"subjects_filter\":\">\",\"deleted_details\":true}");
        let body = "{\"seq\":1,\"batch\":50}".to_owned();
        let subject = format!("$JS.API.DIRECT.GET.{stream}");
        self.steps.push(Step::Ask { subject, headers: String::new(), body, expects: Expects::Batch });
    }

    /// Header lines of publishes that expect something, count or repeat, for the stream with this letter.
    fn a_condition(&mut self, counts: bool) -> Option<String> {
        const NUMBERS: [&str; 8] = ["0", "1", "2", "3", "4", "5", "6", "x"];
        Some(match self.random.below(if counts { 9 } else { 26 }) {
            0 => format!("Nats-Msg-Id: {}", self.random.pick(&["m1", "m2", "m3"])),
            1 => format!("Nats-Expected-Last-Sequence: {}", self.random.pick(&NUMBERS)),
            2 => format!("Nats-Expected-Last-Subject-Sequence: {}", self.random.pick(&NUMBERS)),
            3 => format!(
                "Nats-Expected-Last-Subject-Sequence: {}\r\nNats-Expected-Last-Subject-Sequence-Subject: s.{}",
                self.random.pick(&NUMBERS),
                self.random.pick(&["1", "2", "*", ">"])
            ),
            4 => format!("Nats-Rollup: {}", self.random.pick(&["sub", "all", "bad"])),
            5 => format!("Nats-TTL: {}", self.random.pick(&["1h", "never", "x"])),
            6 => format!("Nats-Expected-Stream: {}", self.random.pick(&["S", "T"])),
            7 => format!("Nats-Expected-Last-Msg-Id: {}", self.random.pick(&["m1", "x"])),
            8 if counts => return None,
            8 => format!("Nats-Incr: {}", self.random.pick(&["1", "x"])),
            _ => return None,
        })
    }

    fn batching(&mut self) {
        let counts = if self.random.chance(15) { "true" } else { "false" };
        let keeps = if self.random.chance(50) { "true" } else { "false" };
        let fields = [
            ("allow_atomic", "true"),
            ("allow_batched", "true"),
            ("allow_rollup_hdrs", keeps),
            ("allow_msg_counter", counts),
        ];
        self.own_stream(
            &fields,
            &[
                ("storage", 40, &["\"memory\""]),
                ("max_msgs", 25, &["3", "5"]),
                ("max_msgs_per_subject", 25, &["1", "2"]),
                ("discard", 25, &["\"new\""]),
                ("max_msg_size", 10, &["10"]),
                ("duplicate_window", 10, &["0"]),
                ("retention", 15, &["\"workqueue\"", "\"interest\""]),
            ],
        );
    }

    fn atomic_batches(&mut self) {
        self.batching();
        let mut next = [1_u64; 2];
        for _ in 0..self.random.below(9) + 4 {
            let which = self.random.below(10) / 7;
            let number = match self.random.below(16) {
                0 => self.random.pick(&["0", "x", "", "1", "9", "-1", "1001"]).to_owned(),
                1 => (next[which] + 1).to_string(),
                _ => next[which].to_string(),
            };
            let mut lines =
                vec![format!("Nats-Batch-Id: {}", ["one", "two"][which]), format!("Nats-Batch-Sequence: {number}")];
            next[which] += 1;
            if self.random.chance(25) {
                lines
                    .push(format!("Nats-Batch-Commit: {}", self.random.pick(&["1", "1", "1", "eob", "eob", "0", "x"])));
                next[which] = 1;
            }
            lines.extend(self.a_condition(false));
            let subject = self.random.pick(&["s.1", "s.2", "s.3", "s.1"]);
            let body = self.random.pick(&["", "body", "longer than ten"]);
            self.publish_with(subject, &lines, body);
        }
        self.look(OWN);
    }

    fn fast_batches(&mut self) {
        self.batching();
        let (flow, gap) = (self.random.pick(&["1", "2", "3", "10", "2"]), self.random.pick(&["fail", "ok"]));
        let (mut next, mut id) = (1_u64, 1);
        for _ in 0..self.random.below(9) + 4 {
            let number = match self.random.below(14) {
                0 => self.random.pick(&["0", "1", "9", "x"]).to_owned(),
                1 => {
                    next += 1;
                    next.to_string()
                }
                _ => next.to_string(),
            };
            let operation = match (next, self.random.below(14)) {
                (_, 0) => "2",
                (_, 1) => "3",
                (_, 2) => "4",
                (_, 3) if self.random.chance(30) => "7",
                (1, _) => "0",
                _ => "1",
            };
            next += u64::from(operation != "4");
            let reply = format!("f{id}.{flow}.{gap}.{number}.{operation}.$FI");
            if matches!(operation, "2" | "3") {
                (next, id) = (1, id + 1);
            }
            let condition = self.a_condition(false).filter(|line| !line.starts_with("Nats-Expected-Last-Msg-Id"));
            let headers = condition.map_or_else(String::new, |line| block(&[line]));
            let subject = self.random.pick(&["s.1", "s.2", "s.3"]).to_owned();
            let body = if operation == "3" { "" } else { self.random.pick(&["a", "body", "longer than ten"]) };
            self.steps.push(Step::Fast { subject, headers, body: body.to_owned(), reply });
        }
        self.look(OWN);
    }

    fn counters(&mut self) {
        let fields = [("allow_msg_counter", "true"), ("allow_atomic", "true")];
        self.own_stream(
            &fields,
            &[
                ("storage", 40, &["\"memory\""]),
                ("max_msgs_per_subject", 30, &["1", "2"]),
                ("max_msgs", 15, &["3"]),
                ("allow_msg_ttl", 20, &["true"]),
                ("allow_rollup_hdrs", 20, &["true"]),
            ],
        );
        let takes = self.random.chance(50);
        if takes {
            let source = self.random.pick(&[
                "{\"name\":\"S\"}",
                "{\"name\":\"S\",\"subject_transforms\":[{\"src\":\"s.>\",\"dest\":\"t.>\"}]}",
                "{\"name\":\"S\",\"filter_subject\":\"s.1\"}",
            ]);
            self.ask("STREAM.DELETE.T", "");
            let body = format!(
                "{{\"name\":\"T\",\"subjects\":[\"t.>\"],\"allow_msg_counter\":true,\"allow_direct\":true,\"sources\":[{source}]}}"
            );
            self.steps.push(Step::Quiet { subject: "$JS.API.STREAM.CREATE.T".into(), body });
        }
        for _ in 0..self.random.below(7) + 3 {
            const INCREMENTS: [&str; 14] =
                ["1", "+2", "-3", "0", "-0", "10", "99999999999999999999999999", "x", "", "1.5", "+", "0x10", "1", "5"];
            let mut lines = vec![format!("Nats-Incr: {}", self.random.pick(&INCREMENTS))];
            if self.random.chance(15) {
                lines.extend(self.a_condition(true));
            }
            let body = if self.random.chance(5) { "body" } else { "" };
            let subject = match self.random.below(8) {
                0..=3 => "s.1",
                4 | 5 => "s.2",
                // What comes from the source is there a moment later.
                6 if !takes => "t.1",
                _ => "a.1",
            };
            self.publish_with(subject, &lines, body);
            if takes {
                // What the next one removes must have been taken by then.
                self.steps.push(Step::Settle { stream: "T", millis: 100 });
            }
        }
        match self.random.below(4) {
            0 => self.ask("STREAM.PURGE.S", "{\"filter\":\"s.1\"}"),
            1 => self.ask("STREAM.MSG.DELETE.S", "{\"seq\":2}"),
            _ => {}
        }
        self.publish_with("s.1", &["Nats-Incr: 7".to_owned()], "");
        self.look(OWN);
        if takes {
            self.steps.push(Step::Settle { stream: "T", millis: 400 });
            self.publish_with("t.1", &["Nats-Incr: 1".to_owned()], "");
            self.look("T");
        }
    }

    /// Messages that end after a second, and what is left in their place. One of each second: which of several is first is chance.
    fn ends_and_markers(&mut self) {
        let fields = [("allow_msg_ttl", "true"), ("allow_rollup_hdrs", "true")];
        self.own_stream(
            &fields,
            &[
                ("subject_delete_marker_ttl", 70, &["60000000000"]),
                ("storage", 40, &["\"memory\""]),
                ("max_msgs_per_subject", 30, &["1", "2"]),
            ],
        );
        self.publish_with("s.1", &["Nats-TTL: never".to_owned()], "stays");
        self.publish_with("s.2", &["Nats-TTL: 1h".to_owned()], "stays long");
        if self.random.chance(40) {
            self.publish_with("s.3", &[], "is below what ends");
        }
        let consumer = "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"one\",\"ack_policy\":\"explicit\"}}";
        self.ask("CONSUMER.CREATE.S.one", consumer);
        if self.random.chance(50) {
            self.pull_one(OWN, "one", "{\"batch\":2,\"no_wait\":true}", 2);
        }
        let ttl = self.random.pick(&["1", "1s"]);
        let subject = self.random.pick(&["s.1", "s.3", "s.3"]);
        self.publish_with(subject, &[format!("Nats-TTL: {ttl}"), "A: b".to_owned()], "ends");
        if self.random.chance(30) {
            self.publish_with("s.2", &["Nats-Rollup: sub".to_owned(), "Nats-TTL: 3600s".to_owned()], "rolled up");
        }
        self.steps.push(Step::Settle { stream: OWN, millis: A_SECOND });
        self.ask("CONSUMER.INFO.S.one", "");
        self.pull_one(OWN, "one", "{\"batch\":5,\"no_wait\":true}", 5);
        self.look(OWN);
        self.ask("STREAM.DELETE.S", "");
    }

    fn pull_one(&mut self, stream: &str, consumer: &str, body: &str, count: usize) {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        let expects = Expects::Messages(count);
        self.steps.push(Step::Ask { subject, headers: String::new(), body: body.to_owned(), expects });
    }

    /// Messages that are to be sent at a time: long past, in a second, or far away.
    fn schedules(&mut self) {
        self.own_stream(
            &[("allow_msg_schedules", "true"), ("allow_msg_ttl", "true"), ("allow_rollup_hdrs", "true")],
            &[("storage", 40, &["\"memory\""]), ("max_msgs_per_subject", 30, &["1", "2"])],
        );
        self.publish_with("s.src", &["B: c".to_owned()], "the source's");
        for (at, subject) in ["s.p.1", "s.p.2"].into_iter().enumerate() {
            let when = if at == 0 {
                self.random.pick(&["@at 2020-01-01T00:00:00Z", "@at <in 1 s>", "@at <in 1 s>"])
            } else {
                self.random.pick(&["@daily", "@every 1h", "@at 2100-01-01T00:00:00Z", "0 0 0 1 1 *", "soon", ""])
            };
            let target = self.random.pick(&["s.to", "s.to", "s.to", "s.1", "elsewhere", "s.*", ""]);
            let mut lines = vec![format!("Nats-Schedule: {when}"), format!("Nats-Schedule-Target: {target}")];
            for (percent, line) in [
                (30, "Nats-Schedule-TTL: 1h"),
                (20, "Nats-Schedule-Source: s.src"),
                (20, "Nats-Schedule-Rollup: sub"),
                (30, "A: b"),
                (10, "Nats-Msg-Id: m1"),
                (10, "Nats-Rollup: sub"),
                (10, "Nats-Expected-Last-Sequence: 1"),
                (5, "Nats-Schedule-Time-Zone: Europe/Berlin"),
                (5, "Nats-TTL: 1h"),
            ] {
                if self.random.chance(percent) {
                    lines.push(line.to_owned());
                }
            }
            self.publish_with(subject, &lines, "planned");
            if at == 0 {
                // It may be past: what it leaves comes before what is next.
                self.steps.push(Step::Settle { stream: OWN, millis: A_SECOND });
            }
        }
        if self.random.chance(30) {
            let lines = ["Nats-Schedule-Next: purge".to_owned(), "Nats-Scheduler: s.p.2".to_owned()];
            self.publish_with("s.end", &lines, "");
        }
        self.look(OWN);
        self.ask("STREAM.DELETE.S", "");
    }

    /// A mirror of a stream of the story, or a stream that takes from it; of two origins either may be first.
    fn origins(&mut self) {
        let of = self.stream();
        let letter = of.to_lowercase();
        let form = match self.random.below(8) {
            0 => format!(",\"filter_subject\":\"{letter}.1\""),
            1 => ",\"opt_start_seq\":3".to_owned(),
            2 => format!(",\"subject_transforms\":[{{\"src\":\"{letter}.*\",\"dest\":\"n.$1\"}}]"),
            3 => format!(
                ",\"subject_transforms\":[{{\"src\":\"{letter}.1\",\"dest\":\"\"}},{{\"src\":\"{letter}.2\",\"dest\":\"n.2\"}}]"
            ),
            4 => ",\"opt_start_time\":\"2020-01-01T00:00:00Z\"".to_owned(),
            _ => String::new(),
        };
        let (taker, origin) = if self.random.chance(50) {
            ("M", format!("\"mirror\":{{\"name\":\"{of}\"{form}}}"))
        } else {
            ("N", format!("\"subjects\":[\"n.>\"],\"sources\":[{{\"name\":\"{of}\"{form}}}]"))
        };
        let mut body = Body::default();
        body.text("name", taker);
        body.maybe(
            &mut self.random,
            &[
                ("storage", 30, &["\"memory\""]),
                ("max_msgs", 20, &["3"]),
                ("max_msgs_per_subject", 20, &["1"]),
                ("allow_direct", 90, &["true"]),
                ("deny_delete", 5, &["true"]),
                ("retention", 10, &["\"workqueue\""]),
            ],
        );
        let json = body.json();
        let json = format!("{},{origin}}}", json.trim_end_matches('}'));
        self.ask(&format!("STREAM.DELETE.{taker}"), "");
        // Its answer tells how far it is.
        self.steps.push(Step::Quiet { subject: format!("$JS.API.STREAM.CREATE.{taker}"), body: json });
        self.steps.push(Step::Settle { stream: taker, millis: 400 });
        for _ in 0..self.random.below(4) + 1 {
            let subject = format!("{letter}.{}", self.random.pick(&["1", "2", "3"]));
            let lines: Vec<String> = match self.random.below(5) {
                0 => vec!["A: b".to_owned()],
                1 => vec![format!("Nats-Msg-Id: {}", self.random.pick(&["m1", "m2"]))],
                2 => vec!["Nats-Expected-Last-Msg-Id: m1".to_owned()],
                _ => Vec::new(),
            };
            self.publish_with(&subject, &lines, "taken");
            self.steps.push(Step::Settle { stream: taker, millis: 50 });
        }
        match self.random.below(5) {
            0 => self.ask(&format!("STREAM.PURGE.{of}"), ""),
            1 => self.ask(&format!("STREAM.PURGE.{taker}"), ""),
            2 => self.ask(&format!("STREAM.MSG.DELETE.{taker}"), "{\"seq\":1}"),
            _ => {}
        }
        self.publish_with(&format!("{letter}.1"), &[], "last");
        self.steps.push(Step::Settle { stream: taker, millis: 100 });
        self.look(taker);
        self.ask(&format!("STREAM.INFO.{of}"), "");
        self.ask(&format!("CONSUMER.NAMES.{of}"), "");
        if self.random.chance(60) {
            self.ask(&format!("STREAM.DELETE.{taker}"), "");
        }
    }

    /// A stream is backed up, and restored under another name or, once it is gone, its own.
    fn copy(&mut self) {
        let from = self.stream();
        let to = if self.random.chance(50) { "R" } else { from };
        let subjects = format!("[\"{}.>\"]", to.to_lowercase());
        let consumers = self.random.chance(70);
        self.steps.push(Step::Copy { from, to, subjects, consumers });
        self.look(to);
        self.ask(&format!("CONSUMER.LIST.{to}"), "");
        for consumer in ["one", "two"] {
            self.pull_one(to, consumer, "{\"batch\":2,\"no_wait\":true}", 2);
        }
        self.ask(&format!("CONSUMER.LIST.{to}"), "");
        self.publish_with(&format!("{}.1", to.to_lowercase()), &[], "more");
        self.ask(&format!("STREAM.DELETE.{to}"), "");
    }

    /// Consumers with a group, whose pulls say who they are and when they want something.
    fn groups(&mut self) {
        let stream = self.stream();
        let letter = stream.to_lowercase();
        let policy = self.random.pick(&["overflow", "pinned_client", "prioritized", "pinned_client"]);
        // A request that does not wait hangs in stock when what it got is as much as may be outstanding.
        let pending = self.random.pick(&["-1", "100"]);
        let config = format!(
            "{{\"durable_name\":\"grouped\",\"ack_policy\":\"explicit\",\"max_ack_pending\":{pending},\"priority_policy\":\"{policy}\",\"priority_groups\":[\"g\"],\"filter_subject\":\"{letter}.>\"}}"
        );
        let body = format!("{{\"stream_name\":\"{stream}\",\"config\":{config}}}");
        self.ask(&format!("CONSUMER.DELETE.{stream}.grouped"), "");
        self.ask(&format!("CONSUMER.CREATE.{stream}.grouped"), body);
        for _ in 0..self.random.below(8) + 4 {
            match self.random.below(10) {
                0..=2 => self.publish_with(&format!("{letter}.1"), &[], "grouped"),
                3..=6 => self.grouped_pull(stream, policy),
                7 => {
                    let body = self.random.pick(&["{\"group\":\"g\"}", "{\"group\":\"x\"}", "{}", "", "{\"group\":1}"]);
                    self.ask(&format!("CONSUMER.UNPIN.{stream}.grouped"), body);
                }
                8 => self.acknowledge(),
                _ => self.ask(&format!("CONSUMER.INFO.{stream}.grouped"), ""),
            }
        }
        self.ask(&format!("CONSUMER.INFO.{stream}.grouped"), "");
        self.ask(&format!("CONSUMER.DELETE.{stream}.grouped"), "");
    }

    fn grouped_pull(&mut self, stream: &str, policy: &str) {
        let mut body = Body::default();
        let batch = self.random.below(3) + 1;
        body.set("batch", batch);
        let ends = self.random.chance(60);
        if ends {
            body.set("no_wait", "true");
        } else {
            body.set("expires", "60000000000");
        }
        if self.random.chance(92) {
            body.text("group", self.random.pick(&["g", "g", "g", "g", "x"]));
        }
        match policy {
            "overflow" => {
                body.maybe(
                    &mut self.random,
                    &[
                        ("min_pending", 60, &["0", "1", "2", "5", "-1"]),
                        ("min_ack_pending", 40, &["0", "1", "2", "-1"]),
                    ],
                );
            }
            "pinned_client" if self.random.chance(50) => {
                body.text("id", self.random.pick(&["EPHEMERAL1", "EPHEMERAL1", "EPHEMERAL2", "nobody"]));
            }
            "prioritized" => body.maybe(&mut self.random, &[("priority", 80, &["0", "1", "5", "9", "10", "-1"])]),
            _ => {}
        }
        let expects = if ends { Expects::Messages(batch) } else { Expects::Open };
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.grouped");
        self.steps.push(Step::Ask { subject, headers: String::new(), body: body.json(), expects });
    }

    /// What is sent when there is nothing else to send.
    fn heartbeats(&mut self) {
        let stream = self.stream();
        let letter = stream.to_lowercase();
        let pushes = self.random.chance(60);
        let kind = if pushes { "\"deliver_subject\":\"to.beat\",\"idle_heartbeat\":100000000," } else { "" };
        let flow = if pushes && self.random.chance(50) { "\"flow_control\":true," } else { "" };
        let config = format!(
            "{{\"durable_name\":\"beating\",{kind}{flow}\"ack_policy\":\"explicit\",\"filter_subject\":\"{letter}.1\"}}"
        );
        self.ask(&format!("CONSUMER.DELETE.{stream}.beating"), "");
        if pushes {
            self.steps.push(Step::Listen { subject: "to.beat" });
        }
        self.ask(
            &format!("CONSUMER.CREATE.{stream}.beating"),
            format!("{{\"stream_name\":\"{stream}\",\"config\":{config}}}"),
        );
        if !pushes {
            let body = "{\"batch\":5,\"expires\":600000000,\"idle_heartbeat\":100000000}".to_owned();
            let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.beating");
            self.steps.push(Step::Ask { subject, headers: String::new(), body, expects: Expects::Open });
        }
        self.steps.push(Step::Heartbeats);
        self.publish_with(&format!("{letter}.1"), &[], "between");
        if pushes {
            self.steps.push(Step::Heartbeats);
            self.steps.push(Step::Leave { subject: "to.beat" });
        }
        self.ask(&format!("CONSUMER.DELETE.{stream}.beating"), "");
    }

    fn resets(&mut self) {
        let (stream, consumer) = (self.stream(), self.consumer());
        let letter = stream.to_lowercase();
        self.publish_with(&format!("{letter}.1"), &[], "before");
        self.pull_one(stream, consumer, "{\"batch\":3,\"no_wait\":true}", 3);
        self.acknowledge();
        let body = self.random.pick(&[
            "",
            "{}",
            "{\"seq\":1}",
            "{\"seq\":2}",
            "{\"seq\":3}",
            "{\"seq\":5}",
            "{\"seq\":100}",
            "{\"seq\":-1}",
            "{\"seq\":\"x\"}",
            "nonsense",
        ]);
        self.ask(&format!("CONSUMER.RESET.{stream}.{consumer}"), body);
        self.ask(&format!("CONSUMER.INFO.{stream}.{consumer}"), "");
        self.pull_one(stream, consumer, "{\"batch\":3,\"no_wait\":true}", 3);
        self.ask(&format!("CONSUMER.INFO.{stream}.{consumer}"), "");
    }
}

fn block(lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    format!("NATS/1.0\r\n{}\r\n\r\n", lines.join("\r\n"))
}
