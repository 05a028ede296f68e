//! What a publish makes the store do, and what comes of it.
//!
//! A publish whose plan names a stream (or a session's filter, or a consumer's ack subject) becomes a command in the current batch; the shell
//! takes the batch with [`Broker::take_batch`] and brings it back, committed, with [`Broker::committed`]. Acknowledgements are outputs of that
//! call and of nothing else (promise 1).
//!
//! **Tickets.** [`NO_TICKET`] stands for "answer on the reply subject, if there is one" and is what NATS publishes use. One with
//! [`SHELL_TICKET`] is the shell's own, which sees the outcome in the turn before it comes here. Every other ticket is an MQTT client's, who
//! puts it into [`Message::ticket`] and gets it back in `mqtt_stored`.
//!
//! **Back-pressure** (design §3). Bytes at the store are counted from the moment a command is made until its batch is back. Beyond
//! `store_queue` a client that publishes into a stream is not read for `store_patience`, then refused with 10167; acknowledgements, pulls
//! and API calls have a quarter more.

use ::jetstream_api::{publish_ack, publish_refused};
use jetstream::api_error;
use jetstream::command::{
    Ack, Append, Batch, Command, Deliveries, Delivery, Event, Outcome, QueueFor, Recipient, Request, Span, Ticket, Turn,
};
use jetstream::identity::{ConsumerId, StreamId};
use subject::Filter;

use crate::account::{GLOBAL, Service, Target};
use crate::broker::Broker;
use crate::connection::Kind;
use crate::effect::Effect;
use crate::identity::{ConnectionId, Now};
use crate::mqtt_client::is_for_sessions;
use crate::outbox::Outbox;
use crate::plan::Plan;
use crate::routing::{Message, Origin};
use crate::settings::Settings;

/// "Answer on the reply subject."
pub(crate) const NO_TICKET: Ticket = Ticket(0, 0);
/// This bit in the second half of a ticket: the outcome is the shell's, see [`Broker::command`].
pub const SHELL_TICKET: u64 = 1 << 63;
/// What a command counts beside its bytes.
const COMMAND_BYTES: usize = 64;
/// Emptied batches kept for their memory.
const MAX_SPARE: usize = 4;
/// A batch that grew beyond this is not kept.
const MAX_SPARE_BYTES: usize = 1024 * 1024;
/// A consumer's credit returns when no more than this is pending at the connection it went to.
const CREDIT_PENDING: usize = 64 * 1024;

/// Commands that wait, and what the broker knows of streams and consumers.
#[derive(Debug, Default)]
pub(crate) struct StoreSide {
    batch: Batch,
    spare: Vec<Batch>,
    /// Bytes of batches that were taken and are not back.
    in_flight: usize,
    streams: std::collections::BTreeMap<StreamId, StreamRow>,
    consumers: std::collections::BTreeMap<ConsumerId, Vec<Filter>>,
    /// Who asked the requests that are at the store, in their order; answers come in the same.
    asked: std::collections::VecDeque<Asked>,
    /// Clients that wait for room, by the time their patience ends.
    waiters: std::collections::VecDeque<(u64, ConnectionId)>,
    /// Bytes delivered and not credited back yet, and the connection that must drain first.
    credits: Vec<Owed>,
}

/// Credit that returns when a connection has drained.
#[derive(Clone, Copy, Debug)]
struct Owed {
    to: Recipient,
    bytes: u32,
    connection: Option<ConnectionId>,
}

impl Owed {
    fn waits(&self, out: &Outbox) -> bool {
        self.connection.is_some_and(|id| out.pending_bytes(id) > CREDIT_PENDING)
    }
}

/// What [`Broker::capture`] found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Captured {
    /// Streams, sessions, consumers and services.
    pub(crate) reached: usize,
    /// The store is to have it.
    pub(crate) stored: bool,
}

/// Who asked a [`Command::Request`], which has no room for it.
#[derive(Clone, Debug)]
pub(crate) enum Asked {
    /// An API call: how it is answered, and where.
    Api { kind: ::jetstream_api::Kind, reply: Box<[u8]> },
    /// A message is wanted as it is.
    Direct { stream: Box<str>, headers: bool, reply: Box<[u8]> },
    /// The shell, which has seen the answer.
    Shell,
}

#[derive(Debug)]
struct StreamRow {
    name: Box<str>,
    subjects: Vec<Filter>,
    allow_direct: bool,
}

impl StoreSide {
    /// Bytes at the store or on their way.
    fn queued(&self) -> usize {
        self.in_flight + weight(&self.batch)
    }

    /// When the first waiting client's patience ends.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.waiters.front().map(|(deadline, _)| *deadline)
    }

    /// Adds a command; `fill` copies what it needs into the arena.
    pub(crate) fn push(&mut self, fill: impl FnOnce(&mut Batch) -> Command) {
        let command = fill(&mut self.batch);
        self.batch.commands.push(command);
    }

    /// Adds a request and notes who asked.
    pub(crate) fn ask(&mut self, request: Request, asked: Asked) {
        self.asked.push_back(asked);
        self.batch.commands.push(Command::Request(Box::new(request)));
    }

    /// Is even the share of API calls used up?
    pub(crate) fn is_overloaded(&self, settings: &Settings) -> bool {
        self.queued() > settings.store_queue + settings.store_queue / 4
    }

    /// Is there such a stream, and may its messages be read directly?
    pub(crate) fn allows_direct(&self, name: &str) -> bool {
        self.streams.values().any(|row| row.allow_direct && *row.name == *name)
    }

    fn recycle(&mut self, mut batch: Batch) {
        self.in_flight = self.in_flight.saturating_sub(weight(&batch));
        batch.clear();
        if self.spare.len() < MAX_SPARE && batch.arena.capacity() <= MAX_SPARE_BYTES {
            self.spare.push(batch);
        }
    }
}

fn weight(batch: &Batch) -> usize {
    batch.arena.len() + batch.commands.len() * COMMAND_BYTES
}

impl Broker {
    /// How many streams exist, as far as the store has told.
    #[must_use]
    pub fn stream_count(&self) -> usize {
        self.store.streams.len()
    }

    /// Would [`Broker::take_batch`] give something?
    #[must_use]
    pub fn has_batch(&self, out: &Outbox) -> bool {
        let may_return = |owed: &Owed| !owed.waits(out);
        !self.store.batch.commands.is_empty() || self.store.credits.iter().any(may_return)
    }

    /// Adds a command of the shell's own (reads of `forward`, records), with a ticket that has [`SHELL_TICKET`], and no [`Command::Request`]. Its outcome is in the turn that the shell sees before the broker.
    pub fn command(&mut self, fill: impl FnOnce(&mut Batch) -> Command) {
        self.store.push(fill);
    }

    /// Adds a request of the shell's own. Its answer is in the turn that the shell sees before the broker.
    pub fn request(&mut self, request: Request) {
        self.store.ask(request, Asked::Shell);
    }

    /// The commands for the store thread since the last call, if there are any.
    pub fn take_batch(&mut self, out: &Outbox) -> Option<Batch> {
        self.return_credits(out);
        if self.store.batch.commands.is_empty() {
            return None;
        }
        let next = self.store.spare.pop().unwrap_or_default();
        let batch = std::mem::replace(&mut self.store.batch, next);
        self.store.in_flight += weight(&batch);
        Some(batch)
    }

    /// The store thread finished a turn: answers and deliveries leave now. Empties `turn`.
    pub fn committed(&mut self, now: Now, turn: &mut Turn, out: &mut Outbox) {
        // First what exists: who is told of a stream may publish to it in the next moment.
        for event in turn.events.drain(..) {
            self.store_event(event);
        }
        for (batch, outcomes) in turn.done.drain(..) {
            for (command, outcome) in batch.commands.iter().zip(&outcomes) {
                self.outcome(now, &batch.arena, command, outcome, out);
            }
            self.store.recycle(batch);
        }
        let deliveries = std::mem::take(&mut turn.deliveries);
        self.store_deliveries(now, &deliveries, out);
        if self.store.queued() <= self.settings.store_queue {
            for (_, id) in std::mem::take(&mut self.store.waiters) {
                out.effect(Effect::WakeReader { id });
            }
        }
    }

    /// Wakes the clients whose patience ended: their next publish is refused if there is still no room.
    pub(crate) fn tick_store(&mut self, now: Now, out: &mut Outbox) {
        while let Some((deadline, id)) =
            self.store.waiters.front().copied().filter(|(deadline, _)| *deadline <= now.micros)
        {
            debug_assert!(deadline <= now.micros);
            self.store.waiters.pop_front();
            out.effect(Effect::WakeReader { id });
        }
    }

    /// Must this publish into a stream wait for room? To be asked before it is handled; never for links.
    pub(crate) fn must_wait_for_store(&mut self, now: Now, id: ConnectionId, plan: &Plan) -> bool {
        let full = self.store.queued() > self.settings.store_queue;
        let Some(connection) = self.connections.entry_mut(id) else { return false };
        let (patience, wanted) = match connection.kind {
            Kind::Mqtt(_) => (self.settings.mqtt.store_patience, !plan.streams.is_empty() || !plan.sessions.is_empty()),
            _ => (self.settings.store_patience, !plan.streams.is_empty()),
        };
        if !wanted {
            return false;
        }
        if !full {
            connection.waiting_since = 0;
            return false;
        }
        if connection.waiting_since == 0 {
            connection.waiting_since = now.micros.max(1);
        }
        let deadline = connection.waiting_since.saturating_add(patience.as_micros() as u64);
        let waits = now.micros < deadline;
        if waits {
            self.store.waiters.push_back((deadline, id));
        }
        waits
    }

    /// Streams, sessions, consumers and services that want the message.
    pub(crate) fn capture(
        &mut self,
        now: Now,
        origin: Origin,
        plan: &Plan,
        message: &Message<'_>,
        out: &mut Outbox,
    ) -> Captured {
        for consumer in &plan.acks {
            self.store.push(|batch| {
                let subject = batch.add(plan.routed_subject());
                let payload = batch.add(message.payload());
                let reply = batch.add(message.reply);
                Command::Ack(Ack { consumer: *consumer, subject, payload, reply })
            });
        }
        for service in &plan.services {
            match service {
                Service::Shell(service) => out.effect(Effect::Request {
                    service: *service,
                    subject: plan.routed_subject().into(),
                    reply: message.reply.into(),
                    payload: message.payload().into(),
                }),
                Service::UserInfo => self.answer_user_info(now, origin, message.reply, out),
                Service::JetStreamApi => self.jetstream_request(now, origin, plan.routed_subject(), message, out),
            }
        }
        let stored = self.append(now, plan, message, out);
        Captured { reached: plan.acks.len() + plan.services.len() + usize::from(stored), stored }
    }

    /// Returns whether the store is to have it.
    fn append(&mut self, now: Now, plan: &Plan, message: &Message<'_>, out: &mut Outbox) -> bool {
        let stream = plan.streams.first().copied();
        // reference mqtt §1: a NATS message counts as quality 1 for stored sessions when a stream captured it.
        let quality = if stream.is_some() { message.quality.max(1) } else { message.quality };
        let mut queues = std::mem::take(&mut self.mqtt.picked);
        if quality > 0 {
            let wanting = plan.sessions.iter().filter(|(session, _)| *session != message.not_for);
            queues.extend(
                wanting.map(|(session, granted)| QueueFor { session: *session, quality: quality.min(*granted) }),
            );
        }
        let stored = stream.is_some() || !queues.is_empty();
        if stored {
            self.append_to(now, stream, &queues, message, plan, out);
        }
        queues.clear();
        self.mqtt.picked = queues;
        stored
    }

    fn append_to(
        &mut self,
        now: Now,
        stream: Option<StreamId>,
        queues: &[QueueFor],
        message: &Message<'_>,
        plan: &Plan,
        out: &mut Outbox,
    ) {
        let message = &message.without_mark();
        if self.store.queued() > self.settings.store_queue {
            self.refuse_append(now, stream, message, out);
            return;
        }
        self.note_queued(queues);
        self.store.push(|batch| {
            let first = batch.queues.len() as u32;
            batch.queues.extend_from_slice(queues);
            Command::Append(Append {
                stream: stream.unwrap_or(StreamId::NONE),
                ticket: message.ticket,
                subject: batch.add(plan.routed_subject()),
                reply: batch.add(message.reply),
                headers: batch.add(message.headers()),
                payload: batch.add(message.payload()),
                queues: (first, batch.queues.len() as u32),
            })
        });
    }

    fn refuse_append(&mut self, now: Now, stream: Option<StreamId>, message: &Message<'_>, out: &mut Outbox) {
        let error = api_error::STREAM_TOO_MANY_REQUESTS;
        if message.ticket == NO_TICKET {
            self.acknowledge(now, stream.unwrap_or_default(), message.reply, &Outcome::Refused(error), out);
        } else {
            self.mqtt_stored(now, message.ticket, &Outcome::Refused(error), out);
        }
    }

    fn outcome(&mut self, now: Now, arena: &[u8], command: &Command, outcome: &Outcome, out: &mut Outbox) {
        match (command, outcome) {
            (Command::Append(append), outcome) if append.ticket == NO_TICKET => {
                self.acknowledge(now, append.stream, append.reply.of(arena), outcome, out);
            }
            (Command::Append(Append { ticket, .. }) | Command::Record { ticket, .. }, _)
                if ticket.1 & SHELL_TICKET != 0 => {}
            (Command::Append(Append { ticket, .. }) | Command::Record { ticket, .. }, outcome) => {
                self.mqtt_stored(now, *ticket, outcome, out);
            }
            (Command::Ack(ack), Outcome::Acknowledged { confirm: true }) if !ack.reply.is_empty() => {
                self.publish(now, Origin::server(GLOBAL), &Message::new(ack.reply.of(arena), b""), out);
            }
            (Command::QueueAttach { session, .. }, _) => self.session_attached(*session),
            (Command::Request(request), outcome) if is_for_sessions(request) => self.sessions_loaded(now, outcome, out),
            // Those two are never asked for over the API.
            (Command::Request(request), _) if matches!(**request, Request::Records { .. } | Request::Statistics) => {}
            (Command::Request(_), outcome) => {
                let asked = self.store.asked.pop_front();
                if let (Some(asked), Outcome::Answer(answer)) = (asked, outcome) {
                    self.jetstream_answer(now, &asked, answer, out);
                }
            }
            (Command::Pull(pull), Outcome::Refused(_)) => self.refuse_pull(now, pull, out),
            _ => {}
        }
    }

    /// The PubAck, or its refusal.
    fn acknowledge(&mut self, now: Now, stream: StreamId, reply: &[u8], outcome: &Outcome, out: &mut Outbox) {
        if reply.is_empty() {
            return;
        }
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        let name = self.store.streams.get(&stream).map_or("", |row| &*row.name);
        let domain = self.settings.jetstream.as_ref().and_then(|settings| settings.domain.as_deref());
        match outcome {
            Outcome::Appended { sequence, duplicate } => publish_ack(name, domain, sequence.0, *duplicate, &mut json),
            Outcome::Refused(error) => publish_refused(name, error, &mut json),
            _ => {}
        }
        if !json.is_empty() {
            self.publish(now, Origin::server(GLOBAL), &Message::new(reply, &json), out);
        }
        self.json = json;
    }

    fn store_event(&mut self, event: Event) {
        match event {
            Event::StreamUp { stream, name, subjects, allow_direct, .. } => {
                self.stream_down(stream);
                let subjects: Vec<Filter> = subjects.iter().filter_map(|text| Filter::parse(text).ok()).collect();
                for filter in &subjects {
                    self.change_row(GLOBAL, filter, Target::Stream(stream), true);
                }
                self.store.streams.insert(stream, StreamRow { name, subjects, allow_direct });
            }
            Event::StreamDown { stream } => self.stream_down(stream),
            Event::ConsumerUp { consumer, stream, name } => {
                self.consumer_down(consumer);
                let filters = ack_filters(&stream, &name);
                for filter in &filters {
                    self.change_row(GLOBAL, filter, Target::Ack(consumer), true);
                }
                self.store.consumers.insert(consumer, filters);
            }
            Event::ConsumerDown { consumer } => self.consumer_down(consumer),
            // `forward` and the log take these from the turn before it comes here.
            Event::Reopened { .. } => self.attach_sessions_again(),
            Event::Slice { .. } | Event::Removed { .. } | Event::Full(_) => {}
        }
    }

    fn stream_down(&mut self, stream: StreamId) {
        let Some(row) = self.store.streams.remove(&stream) else { return };
        for filter in &row.subjects {
            self.change_row(GLOBAL, filter, Target::Stream(stream), false);
        }
    }

    fn consumer_down(&mut self, consumer: ConsumerId) {
        let Some(filters) = self.store.consumers.remove(&consumer) else { return };
        for filter in &filters {
            self.change_row(GLOBAL, filter, Target::Ack(consumer), false);
        }
    }

    fn store_deliveries(&mut self, now: Now, deliveries: &Deliveries, out: &mut Outbox) {
        for delivery in &deliveries.entries {
            match delivery.queue {
                Some(place) => self.deliver_queued(delivery, place, &deliveries.arena, out),
                None => self.deliver_from_store(now, delivery, &deliveries.arena, out),
            }
        }
    }

    /// A consumer's message or status: routed by its inbox like any publish.
    fn deliver_from_store(&mut self, now: Now, delivery: &Delivery, arena: &[u8], out: &mut Outbox) {
        let to = delivery.to.of(arena);
        let shown = delivery.subject.of(arena);
        let message = Message {
            shown: (shown != to).then_some(shown),
            reply: delivery.reply.of(arena),
            header_len: delivery.headers.len as usize,
            tail: Some(delivery.tail.of(arena)),
            ..Message::new(to, body_of(delivery).of(arena))
        };
        let published = self.publish(now, Origin::server(GLOBAL), &message, out);
        let Some(recipient) = delivery.from else { return };
        if published.reached == 0
            && let Recipient::Consumer(consumer) = recipient
        {
            self.store.push(|batch| Command::Unreachable { consumer, inbox: batch.add(to) });
        }
        let connection =
            published.last.and_then(|slot| self.connections.at(slot as usize)).map(|connection| connection.id);
        self.owe_credit(recipient, delivery.cost(), connection);
    }

    /// Notes bytes that are credited back once `connection` has drained.
    pub(crate) fn owe_credit(&mut self, to: Recipient, bytes: u32, connection: Option<ConnectionId>) {
        let same = |owed: &&mut Owed| owed.to == to && owed.connection == connection;
        match self.store.credits.iter_mut().rev().take(8).find(same) {
            Some(owed) => owed.bytes = owed.bytes.saturating_add(bytes),
            None => self.store.credits.push(Owed { to, bytes, connection }),
        }
    }

    fn return_credits(&mut self, out: &Outbox) {
        let StoreSide { credits, batch, .. } = &mut self.store;
        credits.retain(|owed| {
            let waits = owed.waits(out);
            if !waits {
                batch.commands.push(Command::Credit { to: owed.to, bytes: owed.bytes });
            }
            waits
        });
    }
}

/// Headers and payload lie next to each other in the tail.
fn body_of(delivery: &Delivery) -> Span {
    if delivery.headers.is_empty() {
        return delivery.payload;
    }
    Span { start: delivery.headers.start, len: delivery.headers.len + delivery.payload.len }
}

/// `$JS.ACK.<stream>.<consumer>.…` (9 tokens) and, with domain and account, the form of 11 or 12.
fn ack_filters(stream: &str, consumer: &str) -> Vec<Filter> {
    [
        format!("$JS.ACK.{stream}.{consumer}.*.*.*.*.*"),
        format!("$JS.ACK.*.*.{stream}.{consumer}.*.*.*.*.*"),
        format!("$JS.ACK.*.*.{stream}.{consumer}.*.*.*.*.*.*"),
    ]
    .iter()
    .filter_map(|text| Filter::parse(text).ok())
    .collect()
}
