//! A store in a few maps: records, and the queues of sessions as [`jetstream::command`] describes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jetstream::api_error::ApiError;
use jetstream::command::{
    Answer, Append, Batch, Command, Deliveries, Delivery, Outcome, QueuePlace, Recipient, Request, Span, Turn,
};
use jetstream::identity::{Sequence, SessionId};
use mqtt_proto::record::SessionRecord;

#[derive(Debug, Default)]
pub(super) struct FakeStore {
    records: BTreeMap<Vec<u8>, Vec<u8>>,
    queues: BTreeMap<SessionId, Queue>,
    taken: Vec<Batch>,
    sequence: u64,
    /// Appends are refused.
    pub(super) refuses: bool,
}

#[derive(Debug, Default)]
struct Queue {
    entries: BTreeMap<u64, (Vec<u8>, Vec<u8>, u8)>,
    last: u64,
    sent_up_to: u64,
    /// Window and what was sent on this connection.
    attached: Option<(u16, BTreeSet<u64>)>,
}

impl FakeStore {
    /// Takes a batch, and says what is in it.
    pub(super) fn take(&mut self, batch: Batch) -> String {
        let mut output = String::new();
        for command in &batch.commands {
            let shown = |span: Span| span.of(&batch.arena).escape_ascii().to_string();
            let _ = match command {
                Command::Append(append) => {
                    let queues = &batch.queues[append.queues.0 as usize..append.queues.1 as usize];
                    let queues: Vec<_> = queues.iter().map(|queue| (queue.session.0, queue.quality)).collect();
                    let (subject, headers, payload) =
                        (shown(append.subject), shown(append.headers), shown(append.payload));
                    let stream = append.stream.0;
                    writeln!(output, "append stream={stream} {subject} [{headers}] {payload} queues={queues:?}")
                }
                Command::Record { key, value, .. } if value.is_empty() => writeln!(output, "forget {}", shown(*key)),
                Command::Record { key, value, .. } => {
                    let row = SessionRecord::decode(value.of(&batch.arena)).expect("a row");
                    let filters: Vec<_> = row
                        .subscriptions
                        .iter()
                        .map(|(text, grant)| (text.to_string(), grant.options.qos.bits()))
                        .collect();
                    let will = if row.will.is_some() { " will" } else { "" };
                    writeln!(output, "row {} {} {filters:?}{will}", shown(*key), row.client_id)
                }
                Command::Credit { .. } => Ok(()),
                other => writeln!(output, "{other:?}"),
            };
        }
        self.taken.push(batch);
        output
    }

    /// Applies what was taken, and gives it back with what the queues have to send.
    pub(super) fn commit(&mut self) -> Turn {
        let mut turn = Turn::default();
        for batch in std::mem::take(&mut self.taken) {
            let outcomes = batch.commands.iter().map(|command| self.apply(&batch, command)).collect();
            turn.done.push((batch, outcomes));
        }
        for (session, queue) in &mut self.queues {
            queue.deliver(*session, &mut turn.deliveries);
        }
        turn
    }

    pub(super) fn forget_connections(&mut self) {
        self.taken.clear();
        for queue in self.queues.values_mut() {
            queue.attached = None;
        }
    }

    fn apply(&mut self, batch: &Batch, command: &Command) -> Outcome {
        match command {
            Command::Append(append) => return self.append(batch, append),
            Command::Record { key, value, .. } if value.is_empty() => {
                self.records.remove(key.of(&batch.arena));
            }
            Command::Record { key, value, .. } => {
                self.records.insert(key.of(&batch.arena).into(), value.of(&batch.arena).into());
            }
            Command::QueueAttach { session, window } => {
                self.queues.entry(*session).or_default().attached = Some((*window, BTreeSet::new()));
            }
            Command::QueueDetach { session } => self.queues.entry(*session).or_default().attached = None,
            Command::QueueDrop { session } => {
                self.queues.remove(session);
            }
            Command::QueueAck { session, position } => {
                let queue = self.queues.entry(*session).or_default();
                queue.entries.remove(position);
                if let Some((_, sent)) = &mut queue.attached {
                    sent.remove(position);
                }
            }
            Command::Request(request) => {
                if let Request::Records { prefix } = &**request {
                    let rows = self.records.iter().filter(|(key, _)| key.starts_with(prefix));
                    let rows = rows.map(|(key, value)| (key.clone(), value.clone())).collect();
                    return Outcome::Answer(Box::new(Answer::Records(rows)));
                }
            }
            _ => {}
        }
        Outcome::Done
    }

    fn append(&mut self, batch: &Batch, append: &Append) -> Outcome {
        if self.refuses {
            return Outcome::Refused(ApiError {
                code: 503,
                err_code: 10077,
                description: "maximum bytes exceeded".into(),
            });
        }
        for target in &batch.queues[append.queues.0 as usize..append.queues.1 as usize] {
            let queue = self.queues.entry(target.session).or_default();
            queue.last += 1;
            let message =
                (append.subject.of(&batch.arena).into(), append.payload.of(&batch.arena).into(), target.quality);
            queue.entries.insert(queue.last, message);
        }
        self.sequence += 1;
        Outcome::Appended { sequence: Sequence(self.sequence), duplicate: false }
    }
}

impl Queue {
    fn deliver(&mut self, session: SessionId, into: &mut Deliveries) {
        let Some((window, sent)) = &mut self.attached else { return };
        for (position, (subject, payload, quality)) in &self.entries {
            if sent.len() >= usize::from(*window) || !sent.insert(*position) {
                continue;
            }
            let mut add = |bytes: &[u8]| {
                let start = into.arena.len() as u32;
                into.arena.extend_from_slice(bytes);
                Span { start, len: bytes.len() as u32 }
            };
            let (subject, payload) = (add(subject), add(payload));
            let resent = *position <= self.sent_up_to;
            self.sent_up_to = self.sent_up_to.max(*position);
            into.entries.push(Delivery {
                from: Some(Recipient::Session(session)),
                to: Span::default(),
                subject,
                tail: payload,
                reply: Span::default(),
                headers: Span::default(),
                payload,
                queue: Some(QueuePlace { session, position: *position, quality: *quality, resent }),
            });
        }
    }
}
