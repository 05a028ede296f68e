//! A small model of a hub's stream, after what was measured against stock: duplicates, fences, limits, the three ways of sending.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subject::Filter;

use crate::headers;
use crate::way::Version;

/// A stored message: subject, headers, body.
pub(super) type Stored = (String, Vec<u8>, Vec<u8>);

/// What came over the link.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    pub(super) subject: String,
    pub(super) reply: String,
    pub(super) headers: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

/// The stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream {
    pub(super) created: u64,
    pub(super) subjects: Vec<String>,
    pub(super) messages: BTreeMap<u64, Stored>,
    pub(super) last: u64,
    pub(super) ids: BTreeMap<String, u64>,
    pub(super) max_size: Option<usize>,
    pub(super) max_per_subject: Option<usize>,
    pub(super) max_messages: Option<usize>,
    pub(super) sealed: bool,
    pub(super) allow_atomic: bool,
    pub(super) allow_batched: bool,
    pub(super) retention: String,
    /// What it was created with, beyond the fields above.
    pub(super) asked: serde_json::Value,
}

impl Stream {
    /// As stock says it: everything, with its defaults.
    fn config(&self) -> serde_json::Value {
        let mut config = serde_json::json!({
            "storage": "file", "discard": "old", "num_replicas": 1, "max_msgs": -1, "max_bytes": -1, "max_age": 0,
            "max_msgs_per_subject": -1, "max_msg_size": -1, "duplicate_window": 120_000_000_000u64, "compression": "none",
        });
        for (key, value) in self.asked.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let fixed = serde_json::json!({
            "name": "FLEET", "subjects": self.subjects, "retention": self.retention, "sealed": self.sealed,
            "allow_atomic": self.allow_atomic, "allow_batched": self.allow_batched,
        });
        for (key, value) in fixed.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        config
    }
}

#[derive(Clone, Debug)]
struct Batch {
    next: u64,
    count: u64,
    last: u64,
    flow: u64,
}

/// The hub.
pub(super) struct Hub {
    pub(super) version: String,
    pub(super) domain: Option<String>,
    pub(super) max_payload: u64,
    pub(super) stream: Option<Stream>,
    /// Everything ever stored, by body, for the accounts: purges and limits do not touch it.
    pub(super) history: Vec<String>,
    pub(super) api_denied: bool,
    /// Answer every publish with this code.
    pub(super) fail: Option<(u16, u16)>,
    pub(super) answers_as: Option<String>,
    fast: BTreeMap<String, Batch>,
    atomic: BTreeMap<String, Vec<Frame>>,
    births: u64,
}

type Refusal = (u16, u16, String);

fn refusal(err_code: u16) -> Refusal {
    let text = match err_code {
        10054 => "message size exceeds maximum allowed",
        10059 => "stream not found",
        10060 => "expected stream does not match",
        10097 => "header size exceeds maximum allowed of 64k",
        10077 => "maximum messages exceeded",
        10109 => "invalid operation on sealed stream",
        10177 => "atomic publish unsupported header used: Nats-Msg-Id",
        10199 => "atomic publish batch is too large",
        10201 => "atomic publish batch contains duplicate message id",
        10208 => "batch publish ID unknown",
        _ => "refused",
    };
    (400, err_code, text.into())
}

impl Hub {
    pub(super) fn new(version: &str, domain: Option<&str>) -> Hub {
        Hub {
            version: version.into(),
            domain: domain.map(Into::into),
            max_payload: 1 << 20,
            stream: None,
            history: Vec::new(),
            api_denied: false,
            fail: None,
            answers_as: None,
            fast: BTreeMap::new(),
            atomic: BTreeMap::new(),
            births: 0,
        }
    }

    pub(super) fn create(&mut self, subjects: &str) -> &mut Stream {
        self.births += 1;
        let subjects = subjects.split(',').map(Into::into).collect();
        self.stream = Some(Stream { created: self.births, subjects, retention: "limits".into(), ..Stream::default() });
        self.stream.as_mut().expect("just made")
    }

    /// Batches are in memory only.
    pub(super) fn restart(&mut self) {
        self.fast.clear();
        self.atomic.clear();
    }

    pub(super) fn lose_tail(&mut self, count: u64) {
        self.restart();
        let Some(stream) = &mut self.stream else { return };
        let keep = stream.last.saturating_sub(count);
        for (_, (_, _, body)) in stream.messages.split_off(&(keep + 1)) {
            let at = self.history.iter().rposition(|known| known.as_bytes() == body).expect("stored once");
            self.history.remove(at);
        }
        stream.last = keep;
        stream.ids.retain(|_, sequence| *sequence <= keep);
    }

    /// Takes a frame; gives what is sent back: reply subject and body.
    pub(super) fn take(&mut self, frame: &Frame) -> Vec<(String, String)> {
        let bare = match &self.domain {
            Some(domain) => format!("$JS.{domain}.API."),
            None => "$JS.API.".into(),
        };
        if let Some(operation) = frame.subject.strip_prefix(&bare) {
            if self.api_denied {
                return Vec::new();
            }
            return vec![(frame.reply.clone(), self.api(operation, &frame.payload))];
        }
        let captured = self.stream.as_ref().is_some_and(|stream| {
            stream.subjects.iter().any(|text| Filter::parse(text).unwrap().matches(frame.subject.as_bytes()))
        });
        if !captured {
            return Vec::new(); // no interest, no answer
        }
        let answers = if let Some((code, err_code)) = self.fail {
            vec![(frame.reply.clone(), error(code, err_code, "made up"))]
        } else if frame.reply.ends_with(".$FI") {
            self.fast_ingest(frame)
        } else if headers::find(&frame.headers, "Nats-Batch-Id").is_some() {
            self.atomic(frame)
        } else {
            let duplicate = self.duplicate_of(&frame.headers);
            let body = match self.check(frame, true, 0) {
                Err((code, err_code, text)) => error(code, err_code, &text),
                Ok(()) => match duplicate {
                    Some(sequence) => self.ack(sequence, r#","duplicate": true"#),
                    None => {
                        let sequence = self.store(frame);
                        self.ack(sequence, "")
                    }
                },
            };
            vec![(frame.reply.clone(), body)]
        };
        answers.into_iter().filter(|(reply, _)| !reply.is_empty()).collect()
    }

    fn ack(&self, sequence: u64, more: &str) -> String {
        let domain = self.domain.as_ref().map_or(String::new(), |domain| format!(r#","domain":"{domain}""#));
        let stream = self.answers_as.as_deref().unwrap_or("FLEET");
        format!(r#"{{"stream":"{stream}"{domain},"seq":{sequence}{more}}}"#)
    }

    fn duplicate_of(&self, block: &[u8]) -> Option<u64> {
        let id = std::str::from_utf8(headers::find(block, "Nats-Msg-Id")?).unwrap();
        self.stream.as_ref()?.ids.get(id).copied()
    }

    fn check_size(&self, frame: &Frame) -> Result<(), Refusal> {
        let most = self.stream.as_ref().and_then(|stream| stream.max_size);
        if most.is_some_and(|most| frame.headers.len() + frame.payload.len() > most) {
            return Err(refusal(10054));
        }
        if frame.headers.len() > usize::from(u16::MAX) {
            return Err(refusal(10097));
        }
        Ok(())
    }

    /// Expectations and limits, as a plain publish has them checked. `ahead`: messages of the same batch before it.
    fn check(&self, frame: &Frame, with_fence: bool, ahead: u64) -> Result<(), Refusal> {
        let stream = self.stream.as_ref().ok_or_else(|| refusal(10059))?;
        let text = |name: &str| headers::find(&frame.headers, name).map(|value| std::str::from_utf8(value).unwrap());
        if text("Nats-Expected-Stream").is_some_and(|name| name != "FLEET") {
            return Err(refusal(10060));
        }
        if stream.sealed {
            return Err(refusal(10109));
        }
        self.check_size(frame)?;
        if let Some(expected) = text("Nats-Expected-Last-Subject-Sequence").filter(|_| with_fence) {
            // Before 2.11 the `-Subject` header is ignored.
            let filter = if Version::parse(&self.version).knows_fence() {
                text("Nats-Expected-Last-Subject-Sequence-Subject").unwrap_or(&frame.subject)
            } else {
                &frame.subject
            };
            let last = self.last_under(filter).unwrap_or(0);
            if expected.parse::<u64>().unwrap() != last {
                return Err((400, 10071, format!("wrong last sequence: {last}")));
            }
        }
        let is_full = stream.max_messages.is_some_and(|most| stream.messages.len() + ahead as usize >= most);
        if is_full && self.duplicate_of(&frame.headers).is_none() {
            return Err(refusal(10077));
        }
        Ok(())
    }

    fn last_under(&self, filter: &str) -> Option<u64> {
        let filter = Filter::parse(filter).unwrap();
        let stream = self.stream.as_ref()?;
        stream.messages.iter().rev().find(|(_, stored)| filter.matches(stored.0.as_bytes())).map(|(at, _)| *at)
    }

    pub(super) fn store(&mut self, frame: &Frame) -> u64 {
        let stream = self.stream.as_mut().expect("captured");
        stream.last += 1;
        let sequence = stream.last;
        if let Some(id) = headers::find(&frame.headers, "Nats-Msg-Id") {
            stream.ids.insert(String::from_utf8(id.to_vec()).unwrap(), sequence);
        }
        self.history.push(String::from_utf8_lossy(&frame.payload).into_owned());
        let stored = (frame.subject.clone(), frame.headers.clone(), frame.payload.clone());
        stream.messages.insert(sequence, stored);
        if let Some(most) = stream.max_per_subject {
            let same: Vec<u64> =
                stream.messages.iter().filter(|(_, stored)| stored.0 == frame.subject).map(|(at, _)| *at).collect();
            for old in same.iter().take(same.len().saturating_sub(most)) {
                stream.messages.remove(old);
            }
        }
        sequence
    }

    fn fast_ingest(&mut self, frame: &Frame) -> Vec<(String, String)> {
        let tokens: Vec<&str> = frame.reply.split('.').collect();
        let [.., id, flow, gap, number, operation, _] = tokens[..] else { panic!("{}", frame.reply) };
        assert_eq!(gap, "fail");
        let (flow, number): (u64, u64) = (flow.parse().unwrap(), number.parse().unwrap());
        let say = |body: String| (frame.reply.clone(), body);
        let mut answers = Vec::new();
        let is_allowed = self.stream.as_ref().is_some_and(|stream| stream.allow_batched);
        assert!(is_allowed && Version::parse(&self.version).knows_fast_ingest(), "fast ingest where it is not known");
        // What a message is in itself is looked at before a batch begins.
        if operation == "0"
            && let Err((code, err_code, text)) = self.check_size(frame)
        {
            return vec![say(error(code, err_code, &text))];
        }
        if operation == "0" {
            self.fast.insert(id.into(), Batch { next: 1, count: 0, last: 0, flow });
            answers.push(say(format!(r#"{{"type":"ack","seq":0,"msgs":{flow}}}"#)));
        }
        let Some(batch) = self.fast.get(id).cloned() else {
            return vec![say(error(400, 10208, "batch publish ID unknown"))];
        };
        let end = |count: u64| format!(r#","batch":"{id}","count":{count}"#);
        if number != batch.next {
            self.fast.remove(id);
            answers.push(say(format!(r#"{{"type":"gap","last_seq":{},"seq":{number}}}"#, batch.next)));
            answers.push(say(self.ack(batch.last, &end(batch.count))));
            return answers;
        }
        if operation == "3" {
            self.fast.remove(id);
            answers.push(say(self.ack(batch.last, &end(batch.count))));
            return answers;
        }
        let is_duplicate = self.duplicate_of(&frame.headers).is_some();
        match if is_duplicate { Ok(()) } else { self.check(frame, number == 1, 0) } {
            Err((code, err_code, text)) => {
                // Refused at the start: the batch is unknown from here on; later: the next number is a gap.
                if number == 1 {
                    self.fast.remove(id);
                }
                answers.push(say(error(code, err_code, &text)));
            }
            Ok(()) => {
                let last = if is_duplicate { batch.last } else { self.store(frame) };
                self.fast.insert(id.into(), Batch { next: number + 1, count: number, last, flow: batch.flow });
                if number % batch.flow == 0 {
                    answers.push(say(format!(r#"{{"type":"ack","seq":{number},"msgs":{}}}"#, batch.flow)));
                }
            }
        }
        answers
    }

    fn atomic(&mut self, frame: &Frame) -> Vec<(String, String)> {
        let text = |name: &str| headers::find(&frame.headers, name).map(|v| String::from_utf8(v.to_vec()).unwrap());
        let id = text("Nats-Batch-Id").unwrap();
        let number: usize = text("Nats-Batch-Sequence").unwrap().parse().unwrap();
        assert!(self.stream.as_ref().unwrap().allow_atomic && Version::parse(&self.version).has_atomic_field());
        if number == 1 {
            self.atomic.insert(id.clone(), Vec::new());
        }
        let say = |body: String| vec![(frame.reply.clone(), body)];
        let Some(staged) = self.atomic.get_mut(&id).filter(|staged| staged.len() + 1 == number) else {
            return say(error(400, 10176, "atomic publish batch is incomplete"));
        };
        staged.push(frame.clone());
        if text("Nats-Batch-Commit").is_none() {
            return say(String::new());
        }
        let staged = self.atomic.remove(&id).unwrap();
        let mut verdict = Ok(());
        if staged.len() > 1_000 {
            verdict = Err(refusal(10199));
        }
        if Version::parse(&self.version) == Version(2, 12, 0) {
            verdict = Err(refusal(10177));
        }
        for (ahead, message) in staged.iter().enumerate() {
            verdict = verdict.and_then(|()| self.check(message, ahead == 0, ahead as u64));
            if self.duplicate_of(&message.headers).is_some() {
                verdict = verdict.and(Err(refusal(10201)));
            }
        }
        if let Err((code, err_code, text)) = verdict {
            return say(error(code, err_code, &text));
        }
        let mut last = 0;
        for message in &staged {
            last = self.store(message);
        }
        say(self.ack(last, &format!(r#","batch":"{id}","count":{}"#, staged.len())))
    }

    fn api(&mut self, operation: &str, payload: &[u8]) -> String {
        let body: serde_json::Value = serde_json::from_slice(payload).unwrap_or_default();
        if operation == "STREAM.CREATE.FLEET" {
            let subjects: Vec<&str> =
                body["subjects"].as_array().unwrap().iter().map(|s| s.as_str().unwrap()).collect();
            let (atomic, batched) = (body["allow_atomic"] == true, body["allow_batched"] == true);
            let stream = self.create(&subjects.join(","));
            (stream.allow_atomic, stream.allow_batched) = (atomic, batched);
            stream.asked = body.clone();
        }
        let Some(stream) = &self.stream else {
            return error(404, 10059, "stream not found");
        };
        match operation {
            "STREAM.INFO.FLEET" | "STREAM.CREATE.FLEET" => serde_json::json!({
                "created": format!("2026-01-01T00:00:{:02}Z", stream.created),
                "config": stream.config(),
                "state": {"first_seq": stream.messages.keys().next().copied().unwrap_or(stream.last + 1), "last_seq": stream.last},
            })
            .to_string(),
            "STREAM.MSG.GET.FLEET" => {
                let sequence = body["seq"].as_u64();
                let found = if let Some(filter) = body["last_by_subj"].as_str() {
                    self.last_under(filter)
                } else if let Some(filter) = body["next_by_subj"].as_str() {
                    let filter = Filter::parse(filter).unwrap();
                    let mut rest = stream.messages.range(sequence.unwrap()..);
                    rest.find(|(_, stored)| filter.matches(stored.0.as_bytes())).map(|(at, _)| *at)
                } else {
                    sequence.filter(|sequence| stream.messages.contains_key(sequence))
                };
                match found.map(|at| (at, &stream.messages[&at])) {
                    None => error(404, 10037, "no message found"),
                    Some((at, (subject, headers, payload))) => serde_json::json!({"message": {
                        "subject": subject, "seq": at, "hdrs": STANDARD.encode(headers), "data": STANDARD.encode(payload)}})
                    .to_string(),
                }
            }
            other => panic!("unexpected request {other}"),
        }
    }
}

fn error(code: u16, err_code: u16, text: &str) -> String {
    format!(r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"{text}"}},"stream":"FLEET","seq":0}}"#)
}
