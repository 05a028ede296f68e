//! What a publish makes the store do, and what comes of it.
//!
//! A publish whose plan names a stream (or a session's filter, or a consumer's ack subject) becomes a command in the current batch; the shell
//! takes the batch with [`Broker::take_batch`] and brings it back, committed, with [`Broker::committed`]. Acknowledgements are outputs of that
//! call and of nothing else: each stands for a synced commit.
//!
//! **Tickets.** [`NO_TICKET`] stands for "answer on the reply subject, if there is one" and is what NATS publishes use. One with
//! [`SHELL_TICKET`] is the shell's own, which sees the outcome in the turn before it comes here. Every other ticket is an MQTT client's, who
//! puts it into [`Message::ticket`] and gets it back in `mqtt_stored`.
//!
//! **Back-pressure.** Bytes at the store are counted from the moment a command is made until its batch is back. Beyond
//! `store_queue` a client that publishes into a stream is not read for `store_patience`, then refused with 10167; acknowledgements, pulls
//! and API calls have a quarter more.

use ::jetstream_api::{Client, batch_answer, counter_ack, publish_ack, publish_refused};
use jetstream::api_error;
use jetstream::batching::BatchAnswer;
use jetstream::command::{
    Ack, Answer, Append, Batch, Command, Deliveries, Delivery, Event, Outcome, Pull, QueueFor, Recipient, Request,
    Span, Ticket, Turn,
};
use jetstream::identity::{ConsumerId, StreamId};
use jetstream::templates;
use subject::Filter;

use crate::account::{GLOBAL, Service, Target};
use crate::advisories::Audited;
use crate::broker::Broker;
use crate::connection::Kind;
use crate::consumers::{Consumers, ack_filters, flow_filters};
use crate::credit::{Owed, Promises};
use crate::effect::Effect;
use crate::identity::{ConnectionId, Now};
use crate::mqtt_client::is_for_sessions;
use crate::outbox::Outbox;
use crate::plan::Plan;
use crate::recall::Recall;
use crate::routing::{Message, Origin};
use crate::settings::Settings;
use crate::snapshots;

/// "Answer on the reply subject."
pub(crate) const NO_TICKET: Ticket = Ticket(0, 0);
/// This bit in the second half of a ticket: the outcome is the shell's, see [`Broker::command`].
pub const SHELL_TICKET: u64 = 1 << 63;
/// What answers to flow control begin with.
const FLOW_CONTROL: &[u8] = b"$JS.FC.";
/// What a command counts beside its bytes.
const COMMAND_BYTES: usize = 64;
/// API calls at the store, beside direct gets and pulls. What everybody else publishes waits behind them, and one may take half a millisecond: a client that
/// sends more is not read until some are answered.
const MOST_REQUESTS: usize = 64;
/// Emptied batches kept for their memory.
const MAX_SPARE: usize = 4;
/// A batch that grew beyond this is not kept.
const MAX_SPARE_BYTES: usize = 1024 * 1024;

/// Commands that wait, and what the broker knows of streams and consumers.
#[derive(Debug, Default)]
pub(crate) struct StoreSide {
    pub(crate) batch: Batch,
    spare: Vec<Batch>,
    /// Bytes of batches that were taken and are not back.
    in_flight: usize,
    streams: std::collections::BTreeMap<StreamId, StreamRow>,
    /// The streams by name.
    names: std::collections::BTreeMap<Box<str>, StreamId>,
    /// What was read and has not changed since.
    pub(crate) recall: Recall,
    /// Subjects of templates, by what they are known by.
    templates: std::collections::BTreeMap<StreamId, Vec<Filter>>,
    /// What streams capture that are forwarded: it does not cross leaf links live as well.
    forwarded: Vec<Filter>,
    consumers: Consumers,
    /// Who asked the requests that are at the store, in their order; answers come in the same.
    asked: std::collections::VecDeque<(Asked, usize)>,
    /// How many requests were answered: the number of the first of `asked`.
    answered: u64,
    /// How many of those in `asked` are more than gets.
    requests: usize,
    /// Who asked what the store answers later, by its number. Bounded by the purges that JetStream has at work.
    later: std::collections::BTreeMap<u64, Asked>,
    /// Bytes of pulls and requests at the store that lie in no arena.
    boxed: usize,
    /// Bytes of messages of origins that are at the store.
    pub(crate) taken: usize,
    /// Clients that wait for room, by the time their patience ends: an MQTT client has more of it than others.
    waiters: std::collections::BTreeSet<(u64, ConnectionId)>,
    /// Bytes delivered and not credited back yet, and the connection that must drain first.
    pub(crate) credits: Vec<Owed>,
    /// What was given back to those behind links.
    pub(crate) promises: Promises,
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
    Api { kind: ::jetstream_api::Kind, reply: Box<[u8]>, audited: Option<Box<Audited>> },
    /// A message is wanted as it is. `newest`: the newest of one subject of that stream.
    Direct { stream: Box<str>, newest: Option<StreamId>, headers: bool, reply: Box<[u8]> },
    /// A snapshot is wanted.
    Snapshot {
        request: Box<::jetstream_api::SnapshotRequest>,
        reply: Box<[u8]>,
        client: Box<Client>,
        audited: Option<Box<Audited>>,
    },
    /// A restore is wanted.
    Restore { reply: Box<[u8]>, client: Box<Client>, audited: Option<Box<Audited>> },
    /// The shell, which has seen the answer.
    Shell,
}

impl Asked {
    fn is_request(&self) -> bool {
        matches!(self, Asked::Api { .. } | Asked::Snapshot { .. } | Asked::Restore { .. })
    }
}

#[derive(Debug)]
struct StreamRow {
    name: Box<str>,
    subjects: Vec<Filter>,
    allow_direct: bool,
    no_ack: bool,
}

impl StoreSide {
    /// A stream's name.
    pub(crate) fn stream_name(&self, stream: StreamId) -> Option<&str> {
        self.streams.get(&stream).map(|row| &*row.name)
    }

    /// Is there such a consumer?
    pub(crate) fn has_consumer(&self, stream: &str, consumer: &str) -> bool {
        self.consumers.has(stream, consumer)
    }

    /// The names of a consumer's stream and of itself.
    pub(crate) fn consumer_names(&self, consumer: ConsumerId) -> Option<(&str, &str)> {
        self.consumers.names(consumer)
    }

    /// Bytes at the store or on their way, without what was taken from origins: they have a bound of their own, and publishers do not wait for them.
    fn queued(&self) -> usize {
        (self.in_flight + weight(&self.batch) + self.boxed).saturating_sub(self.taken)
    }

    /// When the first waiting client's patience ends.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.waiters.first().map(|(deadline, _)| *deadline)
    }

    /// Adds a command; `fill` copies what it needs into the arena.
    pub(crate) fn push(&mut self, fill: impl FnOnce(&mut Batch) -> Command) {
        let command = fill(&mut self.batch);
        self.batch.commands.push(command);
    }

    /// Adds a request and notes who asked. `size`: of its body, which is about what it takes in memory.
    pub(crate) fn ask(&mut self, request: Request, asked: Asked, size: usize) {
        self.boxed += size;
        self.requests += usize::from(asked.is_request());
        self.asked.push_back((asked, size));
        self.batch.commands.push(Command::Request(Box::new(request)));
    }

    /// The number of the next request.
    pub(crate) fn next_number(&self) -> u64 {
        self.answered + self.asked.len() as u64
    }

    /// Who asked the request with this number, which is answered before its turn.
    fn answered_early(&mut self, number: u64) -> Option<Asked> {
        let place = usize::try_from(number.checked_sub(self.answered)?).ok()?;
        self.asked.get_mut(place).map(|(asked, _)| std::mem::replace(asked, Asked::Shell))
    }

    /// Who asked the request that is answered now.
    fn answered(&mut self) -> Option<(Asked, usize)> {
        let (asked, size) = self.asked.pop_front()?;
        self.answered += 1;
        self.boxed = self.boxed.saturating_sub(size);
        self.requests -= usize::from(asked.is_request());
        Some((asked, size))
    }

    /// Adds a pull.
    pub(crate) fn pull(&mut self, pull: Box<Pull>) {
        self.boxed += size_of_pull(&pull);
        self.batch.commands.push(Command::Pull(pull));
    }

    /// Is even the share of API calls used up?
    pub(crate) fn is_overloaded(&self, settings: &Settings) -> bool {
        self.queued() > settings.store_queue + settings.store_queue / 4
    }

    /// Is there such a stream, and may its messages be read directly?
    pub(crate) fn allows_direct(&self, name: &str) -> bool {
        self.stream_named(name).and_then(|id| self.streams.get(&id)).is_some_and(|row| row.allow_direct)
    }

    /// The stream of this name, as far as the store has told.
    pub(crate) fn stream_named(&self, name: &str) -> Option<StreamId> {
        self.names.get(name).copied()
    }

    /// Is it there, as far as the store has told?
    pub(crate) fn has_stream(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Is there one of this name?
    pub(crate) fn has_stream_named(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    fn recycle(&mut self, mut batch: Batch) {
        self.in_flight = self.in_flight.saturating_sub(weight(&batch));
        batch.clear();
        if self.spare.len() < MAX_SPARE && batch.arena.capacity() <= MAX_SPARE_BYTES {
            self.spare.push(batch);
        }
    }
}

fn size_of_pull(pull: &Pull) -> usize {
    size_of::<Pull>() + pull.inbox.len() + pull.stream.len() + pull.consumer.len()
}

/// What a message of an origin counts at the store.
pub(crate) fn weight_of_take(bytes: usize) -> usize {
    bytes + COMMAND_BYTES
}

/// An API call that is neither a get nor a pull, of which there are many and each is cheap?
fn is_request(plan: &Plan) -> bool {
    let subject = plan.routed_subject();
    plan.services.contains(&Service::JetStreamApi)
        && !subject.starts_with(b"$JS.API.DIRECT.GET.")
        && !subject.starts_with(b"$JS.API.CONSUMER.MSG.NEXT.")
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
        let may_return = |owed: &Owed| !owed.waits(out, &self.store.promises);
        !self.store.batch.commands.is_empty() || self.store.credits.iter().any(may_return)
    }

    /// Adds a command of the shell's own (reads of `forward`, records), with a ticket that has [`SHELL_TICKET`], and no [`Command::Request`]. Its outcome is in the turn that the shell sees before the broker.
    pub fn command(&mut self, fill: impl FnOnce(&mut Batch) -> Command) {
        self.store.push(fill);
    }

    /// Adds a request of the shell's own. Its answer is in the turn that the shell sees before the broker.
    pub fn request(&mut self, request: Request) {
        self.store.ask(request, Asked::Shell, 0);
    }

    /// The commands for the store thread since the last call, if there are any.
    pub fn take_batch(&mut self, now: Now, out: &Outbox) -> Option<Batch> {
        self.return_credits(now, out);
        if self.store.batch.commands.is_empty() {
            return None;
        }
        let next = self.store.spare.pop().unwrap_or_default();
        let batch = std::mem::replace(&mut self.store.batch, next);
        self.store.in_flight += weight(&batch);
        self.store.recall.given();
        Some(batch)
    }

    /// The store thread finished a turn: answers and deliveries leave now. Empties `turn`.
    pub fn committed(&mut self, now: Now, turn: &mut Turn, out: &mut Outbox) {
        // Not for answers that come while a commit is under way.
        if !turn.done.is_empty() || !turn.deliveries.entries.is_empty() {
            self.store.promises.turned();
        }
        self.origins.note_time(now);
        // First what exists: who is told of a stream may publish to it in the next moment.
        let (mut answered, mut changed) = (Vec::new(), Vec::new());
        for event in turn.events.drain(..) {
            match event {
                Event::Changed(changes) => changed = changes,
                Event::Answered { number, answer } => answered.push((number, answer)),
                Event::Early(early) => self.answer_early(now, &early, out),
                Event::Slice { ticket: Ticket(number, snapshots::TICKET), messages, next } => {
                    self.snapshot_slice(now, number, &messages, next, out);
                }
                Event::Reopened { .. } => {
                    self.store.recall.forget_all();
                    self.refuse_later(now, out);
                    self.forget_origins(out);
                    self.fail_snapshots(now, out);
                    self.all_down();
                    self.store_event(event, out);
                }
                Event::Advisory(advisory) => self.advise(now, &advisory, out),
                Event::Origins { stream, origins } => self.origins_changed(now, stream, &origins),
                event => self.store_event(event, out),
            }
        }
        for (mut batch, outcomes) in turn.done.drain(..) {
            let mut commands = std::mem::take(&mut batch.commands);
            for (command, outcome) in commands.iter_mut().zip(&outcomes) {
                match (command, outcome) {
                    (Command::Request(request), Outcome::Again) => {
                        let mut request = std::mem::replace(&mut **request, Request::AccountInfo);
                        // It has another number from here on, and is answered in its turn.
                        if let Request::Newest { name, subject, .. } = request {
                            request = Request::DirectMessageGet {
                                name,
                                get: jetstream::command::MessageGet::LastBySubject(subject),
                            };
                        }
                        if let Some((asked, size)) = self.store.answered() {
                            self.store.ask(request, asked, size);
                        }
                    }
                    (command, outcome) => self.outcome(now, &batch, command, outcome, out),
                }
            }
            batch.commands = commands;
            self.store.recycle(batch);
            self.store.recall.back();
        }
        // Answers of the turn may be older than its changes.
        self.store.recall.changed(&changed);
        // After the outcomes, one of which may have announced it.
        for (number, answer) in answered {
            if let Some(asked) = self.store.later.remove(&number) {
                self.jetstream_answer(now, &asked, &answer, out);
            }
        }
        let deliveries = std::mem::take(&mut turn.deliveries);
        self.store_deliveries(now, &deliveries, out);
        if self.store.queued() <= self.settings.store_queue {
            for (_, id) in std::mem::take(&mut self.store.waiters) {
                out.effect(Effect::WakeReader { id });
            }
        }
    }

    /// Requests that did not wait for their turn. What is learned is not older than what is told at the end of the turn that is under way.
    fn answer_early(&mut self, now: Now, early: &[(u64, Answer)], out: &mut Outbox) {
        for (number, answer) in early {
            if let Some(asked @ Asked::Direct { .. }) = self.store.answered_early(*number) {
                self.jetstream_answer(now, &asked, answer, out);
            }
        }
    }

    /// Wakes the clients whose patience ended: their next publish is refused if there is still no room.
    pub(crate) fn tick_store(&mut self, now: Now, out: &mut Outbox) {
        while let Some(waiter) = self.store.waiters.first().copied().filter(|(deadline, _)| *deadline <= now.micros) {
            self.store.waiters.remove(&waiter);
            let (_, id) = waiter;
            out.effect(Effect::WakeReader { id });
        }
    }

    /// Must this publish into a stream, acknowledgement or API call wait for room? To be asked before it is handled; never for links.
    pub(crate) fn must_wait_for_store(&mut self, now: Now, id: ConnectionId, plan: &Plan) -> bool {
        let asks = !plan.acks.is_empty() || plan.services.contains(&Service::JetStreamApi);
        let overloaded = self.store.is_overloaded(&self.settings);
        let full = self.store.queued() > self.settings.store_queue;
        let Some(connection) = self.connections.entry_mut(id) else { return false };
        let (patience, wanted) = match connection.kind {
            Kind::Mqtt(_) => (self.settings.mqtt.store_patience, !plan.streams.is_empty() || !plan.sessions.is_empty()),
            _ => (self.settings.store_patience, !plan.streams.is_empty()),
        };
        if !wanted && !asks {
            return false;
        }
        let crowded = self.store.requests >= MOST_REQUESTS && is_request(plan);
        let waits = overloaded || crowded || (wanted && full);
        if !waits {
            connection.waiting_since = 0;
            return false;
        }
        if connection.waiting_since == 0 {
            connection.waiting_since = now.micros.max(1);
        }
        let deadline = connection.waiting_since.saturating_add(patience.as_micros() as u64);
        let waits = now.micros < deadline;
        if waits {
            self.store.waiters.insert((deadline, id));
        } else if crowded {
            // This one goes; the next waits anew, behind those who have waited longer.
            connection.waiting_since = 0;
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
        let is_flow = plan.routed_subject().starts_with(FLOW_CONTROL);
        // One that is dropped is as good as lost on its way: the message is delivered again.
        let has_room = !self.store.is_overloaded(&self.settings);
        for consumer in plan.acks.iter().filter(|_| has_room) {
            self.store.push(|batch| {
                let subject = batch.add(plan.routed_subject());
                if is_flow {
                    let headers = batch.add(message.headers());
                    return Command::FlowAnswer { consumer: *consumer, subject, headers };
                }
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
                Service::Snapshot(number) => self.snapshot_message(now, *number, message, out),
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
        // A NATS message counts as quality 1 for stored sessions when a stream captured it: it is durable, so who sleeps gets it as well.
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
        if let Some(stream) = stream {
            self.store.recall.published(stream, plan.routed_subject(), message.header_len > 0);
        }
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
            self.acknowledge(now, stream.unwrap_or_default(), None, message.reply, &Outcome::Refused(error), out);
        } else {
            self.mqtt_stored(now, message.ticket, &Outcome::Refused(error), out);
        }
    }

    fn outcome(&mut self, now: Now, batch: &Batch, command: &Command, outcome: &Outcome, out: &mut Outbox) {
        let arena = &batch.arena;
        if let Command::Append(append) = command
            && matches!(
                outcome,
                Outcome::Refused(_) | Outcome::Appended { duplicate: true, .. } | Outcome::Batch { stored: false, .. }
            )
        {
            self.not_queued(batch.queues.get(append.queues.0 as usize..append.queues.1 as usize).unwrap_or_default());
        }
        match (command, outcome) {
            (Command::Append(append), Outcome::Batch { answers, .. }) if append.ticket == NO_TICKET => {
                self.answer_batch(now, append.stream, append.reply.of(arena), answers, out);
            }
            (Command::Append(append), outcome) if append.ticket == NO_TICKET => {
                let made = append.stream.is_template().then(|| templates::stream_name(append.subject.of(arena)));
                self.acknowledge(now, append.stream, made.as_deref(), append.reply.of(arena), outcome, out);
            }
            (Command::Append(Append { ticket, .. }) | Command::Record { ticket, .. }, _)
                if ticket.1 & SHELL_TICKET != 0 => {}
            (Command::Append(Append { ticket, .. }) | Command::Record { ticket, .. }, outcome) => {
                self.mqtt_stored(now, *ticket, outcome, out);
            }
            (Command::Take(take), outcome) => self.origin_outcome(now, take, outcome, out),
            (Command::Ack(ack), Outcome::Acknowledged { confirm: true }) if !ack.reply.is_empty() => {
                self.publish(now, Origin::server(GLOBAL), &Message::new(ack.reply.of(arena), b""), out);
            }
            (Command::QueueAttach { session, .. }, outcome) => {
                let queued = if let Outcome::Attached { queued } = outcome { *queued } else { 0 };
                self.session_attached(*session, queued);
            }
            (Command::Request(request), outcome) if is_for_sessions(request) => self.sessions_loaded(now, outcome, out),
            // Those two are never asked for over the API.
            (Command::Request(request), _) if matches!(**request, Request::Records { .. } | Request::Statistics) => {}
            (Command::Request(_), outcome) => {
                let asked = self.store.answered();
                if let (Some((asked, _)), Outcome::Answer(answer)) = (asked, outcome) {
                    match **answer {
                        Answer::Later { number } => _ = self.store.later.insert(number, asked),
                        _ => self.jetstream_answer(now, &asked, answer, out),
                    }
                }
            }
            (Command::Restore { number, .. }, outcome) => self.restore_done(now, *number, outcome, out),
            (Command::Pull(pull), outcome) => {
                self.store.boxed = self.store.boxed.saturating_sub(size_of_pull(pull));
                if let Outcome::Refused(_) = outcome {
                    self.refuse_pull(now, pull, out);
                }
            }
            _ => {}
        }
    }

    /// The store was opened anew: what it had put off is forgotten there.
    fn refuse_later(&mut self, now: Now, out: &mut Outbox) {
        for asked in std::mem::take(&mut self.store.later).into_values() {
            self.jetstream_answer(now, &asked, &Answer::Error(api_error::CLUSTER_NOT_AVAIL), out);
        }
    }

    /// What an acknowledgement names: the stream, and the domain if there is one.
    fn named(&self, stream: StreamId) -> (&str, Option<&str>) {
        let name = self.store.streams.get(&stream).map_or("", |row| &*row.name);
        (name, self.settings.jetstream.as_ref().and_then(|settings| settings.domain.as_deref()))
    }

    /// What the sender of a batch is told.
    fn answer_batch(&mut self, now: Now, stream: StreamId, reply: &[u8], answers: &[BatchAnswer], out: &mut Outbox) {
        for answer in answers.iter().filter(|_| !reply.is_empty()) {
            let mut json = std::mem::take(&mut self.json);
            json.clear();
            let (name, domain) = self.named(stream);
            batch_answer(name, domain, answer, &mut json);
            self.publish(now, Origin::server(GLOBAL), &Message::new(reply, &json), out);
            self.json = json;
        }
    }

    /// The PubAck, or its refusal. `made`: the stream's name, where a template makes it.
    fn acknowledge(
        &mut self,
        now: Now,
        stream: StreamId,
        made: Option<&str>,
        reply: &[u8],
        outcome: &Outcome,
        out: &mut Outbox,
    ) {
        let row = self.store.streams.get(&stream);
        if reply.is_empty() || row.is_some_and(|row| row.no_ack) {
            return;
        }
        let mut json = std::mem::take(&mut self.json);
        json.clear();
        let name = made.unwrap_or_else(|| self.store.streams.get(&stream).map_or("", |row| &*row.name));
        let domain = self.settings.jetstream.as_ref().and_then(|settings| settings.domain.as_deref());
        match outcome {
            Outcome::Appended { sequence, duplicate } => publish_ack(name, domain, sequence.0, *duplicate, &mut json),
            Outcome::Counted { sequence, total } => counter_ack(name, domain, sequence.0, total, &mut json),
            Outcome::Refused(error) => publish_refused(name, error, &mut json),
            _ => {}
        }
        if !json.is_empty() {
            self.publish(now, Origin::server(GLOBAL), &Message::new(reply, &json), out);
        }
        self.json = json;
    }

    fn store_event(&mut self, event: Event, out: &mut Outbox) {
        match event {
            Event::StreamUp { stream, name, subjects, allow_direct, no_ack, .. } => {
                self.stream_down(stream);
                let subjects: Vec<Filter> = subjects.iter().filter_map(|text| Filter::parse(text).ok()).collect();
                for filter in &subjects {
                    self.change_row(GLOBAL, filter, Target::Stream(stream), true);
                }
                self.store.names.insert(name.clone(), stream);
                self.store.streams.insert(stream, StreamRow { name, subjects, allow_direct, no_ack });
                self.forwarded_changed();
                // It may be somebody's origin.
                self.origins.reachable();
            }
            Event::StreamDown { stream } => {
                self.origins_down(stream);
                self.stream_down(stream);
            }
            Event::TemplateUp { id, subjects } => {
                self.template_down(id);
                let filters: Vec<Filter> = subjects.iter().filter_map(|text| Filter::parse(text).ok()).collect();
                for filter in &filters {
                    self.change_row(GLOBAL, filter, Target::Stream(id), true);
                }
                self.store.templates.insert(id, filters);
            }
            Event::TemplateDown { id } => self.template_down(id),
            Event::ConsumerUp {
                consumer,
                stream,
                name,
                deliver_subject,
                deliver_group,
                is_source,
                is_acknowledged,
            } => {
                self.consumer_down(consumer);
                if is_source {
                    self.pullers.up(consumer);
                }
                // An acknowledgement that nobody takes is as good as one to nobody.
                let mut filters = if is_acknowledged { ack_filters(&stream, &name) } else { Vec::new() };
                if deliver_subject.is_some() {
                    filters.extend(flow_filters(&stream, &name));
                }
                for filter in &filters {
                    self.change_row(GLOBAL, filter, Target::Ack(consumer), true);
                }
                self.store.consumers.insert(consumer, stream, name, filters);
                if let Some(subject) = deliver_subject {
                    self.watch_audience(consumer, &subject, &deliver_group);
                }
            }
            Event::ConsumerDown { consumer } => self.consumer_down(consumer),
            // `forward` and the log take these from the turn before it comes here.
            Event::Reopened { .. } => self.attach_sessions_again(),
            Event::QueueDropped { session, messages } => self.queue_dropped(session, messages, out),
            Event::Origins { .. }
            | Event::Slice { .. }
            | Event::Removed { .. }
            | Event::Ledger { .. }
            | Event::Stored { .. }
            | Event::Advisory(_)
            | Event::Changed(_)
            | Event::Full(_)
            | Event::Early(_)
            | Event::Answered { .. } => {}
        }
    }

    fn stream_down(&mut self, stream: StreamId) {
        let Some(row) = self.store.streams.remove(&stream) else { return };
        self.store.recall.forget_stream(stream);
        if self.store.names.get(&row.name) == Some(&stream) {
            self.store.names.remove(&row.name);
        }
        for filter in &row.subjects {
            self.change_row(GLOBAL, filter, Target::Stream(stream), false);
        }
        self.forwarded_changed();
    }

    /// The store was opened anew: what is there is told again, and streams in memory are not.
    fn all_down(&mut self) {
        let streams: Vec<StreamId> = self.store.streams.keys().copied().collect();
        streams.into_iter().for_each(|stream| self.stream_down(stream));
        let templates: Vec<StreamId> = self.store.templates.keys().copied().collect();
        templates.into_iter().for_each(|template| self.template_down(template));
    }

    fn template_down(&mut self, id: StreamId) {
        for filter in self.store.templates.remove(&id).unwrap_or_default() {
            self.change_row(GLOBAL, &filter, Target::Stream(id), false);
        }
    }

    /// A stream came, went, or captures other subjects, whoever made it.
    fn forwarded_changed(&mut self) {
        let names = self.settings.leafnodes.as_ref().map_or(&[][..], |settings| &settings.forwarded);
        let rows = self.store.streams.values().filter(|row| names.contains(&row.name));
        self.store.forwarded = rows.flat_map(|row| row.subjects.iter().cloned()).collect();
    }

    /// Does a forward carry what is published on this subject?
    pub(crate) fn is_forwarded(&self, subject: &[u8]) -> bool {
        self.store.forwarded.iter().any(|filter| filter.matches(subject))
    }

    fn consumer_down(&mut self, consumer: ConsumerId) {
        self.forget_audience(consumer);
        self.pullers.down(consumer);
        for filter in self.store.consumers.remove(consumer).unwrap_or_default() {
            self.change_row(GLOBAL, &filter, Target::Ack(consumer), false);
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
        if let Some(to @ Recipient::Consumer(consumer)) = delivery.from
            && self.pullers.is_withheld(consumer, message.reply)
        {
            return self.owe_credit(to, delivery.cost(), None);
        }
        let published = self.publish(now, Origin::server(GLOBAL), &message, out);
        let Some(recipient) = delivery.from else { return };
        if let Recipient::Consumer(consumer) = recipient
            && (self.withhold(consumer, message.reply) || published.reached == 0)
        {
            let reply = message.reply;
            self.store.push(|batch| Command::Unreachable { consumer, inbox: batch.add(to), reply: batch.add(reply) });
        }
        let connection =
            published.last.and_then(|slot| self.connections.at(slot as usize)).map(|connection| connection.id);
        self.owe_credit(recipient, delivery.cost(), connection);
    }
}

/// Headers and payload lie next to each other in the tail.
fn body_of(delivery: &Delivery) -> Span {
    if delivery.headers.is_empty() {
        return delivery.payload;
    }
    Span { start: delivery.headers.start, len: delivery.headers.len + delivery.payload.len }
}
