//! Stories: what a client does, drawn from a seed. They know nothing of the answers, so that any part of one is a story again.

use super::bodies::{self, Body, CONSUMERS, STREAMS, TARGETS};
use super::random::Random;
use super::step::{Expects, Step};

/// So many steps, and some more when they belong together.
pub(super) fn story(seed: u64, steps: usize) -> Vec<Step> {
    let mut story = Story { random: Random::new(seed), steps: Vec::new() };
    for (number, name) in STREAMS.iter().enumerate() {
        if story.random.chance(80) {
            let body = bodies::plain_stream(&mut story.random, number).json();
            story.steps.push(Step::ask(format!("$JS.API.STREAM.CREATE.{name}"), body));
        }
    }
    while story.steps.len() < steps {
        story.go_on();
    }
    story.steps
}

pub(super) struct Story {
    pub(super) random: Random,
    pub(super) steps: Vec<Step>,
}

impl Story {
    fn go_on(&mut self) {
        if self.random.chance(6) {
            return self.behave();
        }
        match self.random.below(100) {
            0..=4 => self.create_stream("CREATE"),
            5..=8 => self.create_stream("UPDATE"),
            9..=32 => self.publish(),
            33..=42 => self.create_consumer(),
            43..=58 => self.pull(),
            59..=72 => self.acknowledge(),
            73..=77 => self.stream_by_name(),
            78..=81 => self.messages(),
            82..=86 => self.direct(),
            87..=91 => self.consumer_by_name(),
            92..=93 => self.lists(),
            94 if self.random.chance(50) => self.redelivery(),
            95..=97 => self.listen(),
            _ => self.odd(),
        }
    }

    pub(super) fn stream(&mut self) -> &'static str {
        STREAMS[self.random.below(STREAMS.len())]
    }

    pub(super) fn consumer(&mut self) -> &'static str {
        if self.random.chance(6) { "EPHEMERAL1" } else { CONSUMERS[self.random.below(CONSUMERS.len())] }
    }

    pub(super) fn ask(&mut self, operation: &str, body: impl Into<String>) {
        self.steps.push(Step::ask(format!("$JS.API.{operation}"), body));
    }

    fn create_stream(&mut self, verb: &str) {
        let number = self.random.below(STREAMS.len());
        let json = bodies::stream(&mut self.random, number).json();
        let body = bodies::broken(&mut self.random, json);
        let name = if self.random.chance(3) { "other" } else { STREAMS[number] };
        self.ask(&format!("STREAM.{verb}.{name}"), body);
    }

    fn publish(&mut self) {
        let letter = self.stream().to_lowercase();
        let end = self.random.pick(&["1", "2", "3", "x.y", "1", "2", "4"]);
        let headers = if self.random.chance(45) { self.headers(&letter) } else { String::new() };
        let body = "0123456789abcdefghijklmnopqrstuvwxyz"[..self.random.below(20)].to_owned();
        let subject = format!("{letter}.{end}");
        if self.random.chance(15) {
            self.steps.push(Step::Tell { subject, headers, body });
        } else {
            self.steps.push(Step::Ask { subject, headers, body, expects: Expects::One });
        }
    }

    fn headers(&mut self, letter: &str) -> String {
        const NUMBERS: [&str; 12] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "x", "-1", "99999999999999999999999"];
        let mut block = "NATS/1.0\r\n".to_owned();
        for _ in 0..=self.random.below(2) {
            let line = match self.random.below(15) {
                0..=2 => format!("Nats-Msg-Id: {}", self.random.pick(&["m1", "m2", "m3", ""])),
                3 => format!("Nats-Expected-Stream: {}", self.random.pick(&["A", "B", "C", "x", ""])),
                4 | 5 => format!("Nats-Expected-Last-Sequence: {}", self.random.pick(&NUMBERS)),
                6 | 7 => format!("Nats-Expected-Last-Subject-Sequence: {}", self.random.pick(&NUMBERS)),
                8 => {
                    let other = self.random.pick(&["1", "2", "*", ">", "x.>", ".."]);
                    format!(
                        "Nats-Expected-Last-Subject-Sequence: {}\r\nNats-Expected-Last-Subject-Sequence-Subject: {letter}.{other}",
                        self.random.pick(&NUMBERS)
                    )
                }
                9 => format!("Nats-Expected-Last-Msg-Id: {}", self.random.pick(&["m1", "m2", "", "x"])),
                10 | 11 => format!("Nats-Rollup: {}", self.random.pick(&["sub", "all", "bad", "", "SUB"])),
                12 => format!(
                    "Nats-TTL: {}",
                    self.random.pick(&["1h", "3600", "never", "0", "-1", "x", "", "1.5h", "500ms", "0s"])
                ),
                13 => "A: b".to_owned(),
                _ => format!("Nats-Expected-Last-Subject-Sequence-Subject: {letter}.1"),
            };
            block.push_str(&line);
            block.push_str("\r\n");
        }
        block.push_str("\r\n");
        block
    }

    fn create_consumer(&mut self) {
        let stream = self.stream();
        let letter = stream.to_lowercase();
        let mut config = bodies::consumer(&mut self.random, &letter);
        let name = self.consumer();
        let (is_named, form) = (!name.starts_with("EPH"), self.random.below(20));
        let mut subject = format!("CONSUMER.CREATE.{stream}");
        match form {
            0..=9 if is_named => {
                config.text(if self.random.chance(70) { "durable_name" } else { "name" }, name);
                subject.push_str(&format!(".{name}"));
            }
            10..=13 if is_named => {
                config.text("durable_name", name);
                subject = format!("CONSUMER.DURABLE.CREATE.{stream}.{name}");
            }
            14 if is_named => subject.push_str(&format!(".{name}")),
            15 if is_named => {
                config.text("durable_name", self.random.pick(&["one", "bad name", "a.b", ""]));
                subject.push_str(&format!(".{name}"));
            }
            16 if is_named => {
                config.text("name", name);
                subject.push_str(&format!(".{name}.{letter}.1"));
                if self.random.chance(80) {
                    config.text("filter_subject", &format!("{letter}.1"));
                }
            }
            _ => {
                if !config.has("inactive_threshold") {
                    config.set("inactive_threshold", "60000000000");
                }
            }
        }
        let mut body = Body::default();
        body.text("stream_name", if self.random.chance(2) { "other" } else { stream });
        body.set("config", config.json());
        if self.random.chance(20) {
            body.set("action", self.random.pick(&["\"create\"", "\"update\"", "\"\"", "\"other\"", "1"]));
        }
        if self.random.chance(2) {
            body.set("pedantic", self.random.pick(&["true", "false", "1"]));
        }
        let body = bodies::broken(&mut self.random, body.json());
        self.ask(&subject, body);
    }

    fn pull(&mut self) {
        let (stream, consumer) = (self.stream(), self.consumer());
        let (body, count, ends) = bodies::pull(&mut self.random);
        let expects = if ends { Expects::Messages(count) } else { Expects::Open };
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}");
        self.steps.push(Step::Ask { subject, headers: String::new(), body, expects });
    }

    pub(super) fn acknowledge(&mut self) {
        const BODIES: [&str; 14] = [
            "",
            "+ACK",
            "",
            "+ACK",
            "-NAK",
            "-NAK",
            "+WPI",
            "+TERM",
            "+TERM because",
            "+NXT",
            "+NXT {\"batch\":2,\"no_wait\":true}",
            "-NAK {\"delay\":60000000000}",
            "bogus",
            "-NAK {\"delay\":\"x\"}",
        ];
        let body = self.random.pick(&BODIES).to_owned();
        // A late answer of +NXT comes to the same place.
        let asks = self.random.chance(80);
        if self.random.chance(6) {
            let (stream, consumer) = (self.stream(), self.consumer());
            let place = self.random.pick(&[
                "1.1.1.1700000000000000000.0",
                "1.9.9.1700000000000000000.0",
                "2.1.3.0.0",
                "x.1.1.0.0",
                "1.x.1.0.0",
                "1",
            ]);
            let subject = format!("$JS.ACK.{stream}.{consumer}.{place}");
            self.steps.push(Step::Ask { subject, headers: String::new(), body, expects: Expects::Open });
            return;
        }
        let which = self.random.below(1000);
        self.steps.push(Step::Acknowledge { which, body, asks });
    }

    fn stream_by_name(&mut self) {
        let stream = if self.random.chance(5) { "NONE" } else { self.stream() };
        let letter = stream.to_lowercase();
        match self.random.below(10) {
            0 => {
                let body = bodies::some(&mut self.random, &[], &["x"]);
                self.ask(&format!("STREAM.DELETE.{stream}"), body);
            }
            1..=4 => {
                let mut body = Body::default();
                if self.random.chance(50) {
                    let end = self.random.pick(&["1", "2", "*", ">", "x.>", "..", "none"]);
                    body.text("filter", &format!("{letter}.{end}"));
                }
                if self.random.chance(30) {
                    body.set("seq", self.random.pick(&["1", "2", "3", "5", "9", "0", "100", "-1", "\"x\""]));
                }
                if self.random.chance(30) {
                    body.set("keep", self.random.pick(&["1", "2", "0", "10", "-1", "\"x\""]));
                }
                let json = body.json();
                let body = if json == "{}" { String::new() } else { bodies::broken(&mut self.random, json) };
                self.ask(&format!("STREAM.PURGE.{stream}"), body);
            }
            _ => {
                let filters: &'static [&'static str] = &["\">\"", "\"a.1\"", "\"a.>\"", "\"*.1\"", "\"a..\"", "\"\""];
                let body = bodies::some(
                    &mut self.random,
                    &[
                        ("subjects_filter", 40, filters),
                        ("deleted_details", 40, &["true"]),
                        ("offset", 15, &["0", "-1", "1", "9"]),
                    ],
                    &["subjects_filter", "deleted_details", "offset"],
                );
                self.ask(&format!("STREAM.INFO.{stream}"), body);
            }
        }
    }

    fn messages(&mut self) {
        let stream = self.stream();
        if self.random.chance(35) {
            let body = bodies::some(
                &mut self.random,
                &[("seq", 95, &["1", "2", "3", "4", "5", "6", "0", "100"]), ("no_erase", 50, &["true", "false"])],
                &["seq", "no_erase"],
            );
            return self.ask(&format!("STREAM.MSG.DELETE.{stream}"), body);
        }
        let body = self.get(false);
        self.ask(&format!("STREAM.MSG.GET.{stream}"), body);
    }

    /// A body of message get and direct get.
    fn get(&mut self, several: bool) -> String {
        let mut body = Body::default();
        match self.random.below(10) {
            0..=4 => {
                body.set("seq", self.random.pick(&["1", "2", "3", "4", "5", "6", "0", "100", "18446744073709551615"]))
            }
            5 | 6 => body.text("last_by_subj", self.random.pick(&["a.1", "b.1", "c.1", "a.2", "b.>", "*.1", "none"])),
            7 => body.text("start_time", self.random.pick(&["2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z", "x", ""])),
            8 if several => body.set("multi_last", random_filters(&mut self.random)),
            _ => {}
        }
        if self.random.chance(25) {
            body.text("next_by_subj", self.random.pick(&["a.1", "b.1", "c.1", "a.>", "*.2", "none", "a.."]));
        }
        if several || self.random.chance(4) {
            if self.random.chance(50) {
                body.set("batch", self.random.pick(&["1", "2", "5", "100", "0"]));
            }
            if self.random.chance(15) {
                body.set("max_bytes", self.random.pick(&["1", "50", "1000", "0", "-1"]));
            }
        }
        if several && self.random.chance(10) {
            body.set("up_to_seq", self.random.pick(&["1", "3", "99"]));
        }
        if several && self.random.chance(5) {
            body.text("up_to_time", self.random.pick(&["2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"]));
        }
        if self.random.chance(8) {
            body.set("no_hdr", self.random.pick(&["true", "false", "1"]));
        }
        if self.random.chance(3) {
            body.set("bogus", "1");
        }
        let json = body.json();
        bodies::broken(&mut self.random, json)
    }

    fn direct(&mut self) {
        let stream = self.stream();
        let mut subject = format!("$JS.API.DIRECT.GET.{stream}");
        let body = if self.random.chance(30) {
            let letter = stream.to_lowercase();
            subject.push_str(&format!(".{letter}.{}", self.random.pick(&["1", "2", "x.y", "none"])));
            if self.random.chance(85) { String::new() } else { self.get(true) }
        } else {
            self.get(true)
        };
        self.steps.push(Step::Ask { subject, headers: String::new(), body, expects: Expects::Batch });
    }

    fn consumer_by_name(&mut self) {
        let (stream, consumer) = (self.stream(), self.consumer());
        let body = bodies::some(&mut self.random, &[], &["x"]);
        match self.random.below(10) {
            0..=5 => self.ask(&format!("CONSUMER.INFO.{stream}.{consumer}"), body),
            6 | 7 => self.ask(&format!("CONSUMER.DELETE.{stream}.{consumer}"), body),
            _ => {
                let times: &'static [&'static str] =
                    &["\"2100-01-01T00:00:00Z\"", "\"2020-01-01T00:00:00Z\"", "\"x\"", "\"0001-01-01T00:00:00Z\""];
                let body = bodies::some(&mut self.random, &[("pause_until", 60, times)], &["pause_until"]);
                self.ask(&format!("CONSUMER.PAUSE.{stream}.{consumer}"), body);
            }
        }
    }

    fn lists(&mut self) {
        let stream = self.stream();
        let offsets: &'static [&'static str] = &["0", "1", "2", "9", "-1"];
        let subjects: &'static [&'static str] = &["\"a.1\"", "\"a.>\"", "\">\"", "\"none\"", "\"\"", "\"b.x.y\""];
        let of_streams = [("offset", 30, offsets), ("subject", 40, subjects)];
        let of_consumers = [("offset", 40, offsets)];
        match self.random.below(5) {
            0 => {
                let body = bodies::some(&mut self.random, &of_streams, &["offset", "subject"]);
                self.ask("STREAM.NAMES", body);
            }
            1 => {
                let body = bodies::some(&mut self.random, &of_streams, &["offset", "subject"]);
                self.ask("STREAM.LIST", body);
            }
            2 => {
                let body = bodies::some(&mut self.random, &of_consumers, &["offset"]);
                self.ask(&format!("CONSUMER.NAMES.{stream}"), body);
            }
            3 => {
                let body = bodies::some(&mut self.random, &of_consumers, &["offset"]);
                self.ask(&format!("CONSUMER.LIST.{stream}"), body);
            }
            _ => self.ask("INFO", ""),
        }
    }

    /// A consumer whose messages come again, with waits that are long against the load of a machine.
    fn redelivery(&mut self) {
        let stream = self.stream();
        let letter = stream.to_lowercase();
        let most = self.random.pick(&["-1", "1", "2"]);
        let config = format!(
            "{{\"durable_name\":\"again\",\"ack_policy\":\"explicit\",\"ack_wait\":300000000,\"max_deliver\":{most},\"filter_subject\":\"{letter}.1\"}}"
        );
        let body = format!("{{\"stream_name\":\"{stream}\",\"config\":{config}}}");
        self.ask(&format!("CONSUMER.CREATE.{stream}.again"), body);
        for text in ["first", "second"] {
            self.steps.push(Step::ask(format!("{letter}.1"), text));
        }
        let pull = |batch: usize| Step::Ask {
            subject: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.again"),
            headers: String::new(),
            body: format!("{{\"batch\":{batch},\"no_wait\":true}}"),
            expects: Expects::Messages(batch),
        };
        self.steps.push(pull(1));
        self.steps.push(Step::Wait { millis: 600 });
        self.steps.push(pull(1));
        self.steps.push(pull(5));
        self.steps.push(Step::Wait { millis: 600 });
        self.steps.push(pull(2));
        self.ask(&format!("CONSUMER.INFO.{stream}.again"), "");
        self.ask(&format!("CONSUMER.DELETE.{stream}.again"), "");
    }

    fn listen(&mut self) {
        let subject = TARGETS[self.random.below(TARGETS.len())];
        self.steps.push(if self.random.chance(70) { Step::Listen { subject } } else { Step::Leave { subject } });
    }

    /// Subjects that are not quite right, or that only a cluster has.
    fn odd(&mut self) {
        let (stream, consumer) = (self.stream(), self.consumer());
        let subject = match self.random.below(12) {
            0 => format!("STREAM.LEADER.STEPDOWN.{stream}"),
            1 => format!("STREAM.PEER.REMOVE.{stream}"),
            2 => format!("CONSUMER.LEADER.STEPDOWN.{stream}.{consumer}"),
            3 => format!("STREAM.INFO.{stream}.more"),
            4 => format!("CONSUMER.INFO.{stream}"),
            5 => format!("CONSUMER.UNPIN.{stream}.{consumer}"),
            6 => "STREAM.CREATE.bad name".to_owned().replace(' ', "\u{e9}"),
            7 => format!("CONSUMER.NAMES.{stream}.more"),
            8 => "STREAM.INFO.NONE".to_owned(),
            9 => format!("STREAM.BOGUS.{stream}"),
            10 => "META.LEADER.STEPDOWN".to_owned(),
            _ => "STREAM.NAMES.more".to_owned(),
        };
        let body = bodies::some(&mut self.random, &[], &["group", "peer"]);
        self.ask(&subject, body);
    }
}

fn random_filters(random: &mut Random) -> String {
    random
        .pick(&[
            "[\"a.>\"]",
            "[\"*.1\"]",
            "[\"a.1\",\"a.2\"]",
            "[\"b.1\",\"c.1\",\"a.>\"]",
            "[]",
            "[\"none\"]",
            "[\"..\"]",
            "\"a.1\"",
        ])
        .to_owned()
}
