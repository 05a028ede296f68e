//! Hosts the pullers of streams that mirror and source others: gives them subscriptions, publishes their requests, and hands what they take to the store.
//!
//! An origin here and one behind a link take the same road: requests are published, answers and deliveries come through subscriptions of our own.
//! Everything that changes interest is put off until [`Broker::tick_origins`], so that nothing changes under a message that is being routed; a puller
//! with something to do makes the next tick due at once.
//!
//! What a message looks like in the stream is made here: headers of its origin's publisher that would be judged again go, a source's get
//! `Nats-Stream-Source`, the subject is transformed. Whether it is stored is decided in `apply`.

mod shape;
#[cfg(test)]
mod story;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ::jetstream_api::{OriginInfo, OriginInfos, decode_origin_answer, encode_origin_request};
use jetstream::command::{Command, Outcome, Ticket};
use jetstream::config::Source;
use jetstream::identity::StreamId;
use jetstream::origin::{
    Ask, Asked, Begin, OriginFacts, OriginId, OriginState, Origins, Puller, Step, Take, Taking, short_hash,
};
use nats_proto::header::Headers;
use subject::Filter;

use crate::account::GLOBAL;
use crate::broker::Broker;
use crate::capture::{SHELL_TICKET, weight_of_take};
use crate::identity::{ConnectionId, Now};
use crate::outbox::Outbox;
use crate::routing::{Message, Origin};
use crate::subscription::{Interest, NewSubscription, SubscriptionId};

use shape::Shape;

const IDENTITY: &str = "Nats-Stream-Identity";
/// Bytes of messages that are at the store at a time: others who publish wait for these, not for a whole window.
const AT_ONCE: usize = 1 << 20;
/// The part of the budget of all connections' buffers that messages may take which wait for that, all origins together: one half. What comes beyond
/// is as good as lost, and asked for again when what waited is stored. A stock origin opens its window up to 32 MiB where the store keeps up.
const PART_OF_BUDGET: usize = 2;
/// What a parcel takes beside its bytes.
const OVERHEAD: usize = size_of::<Parcel>() + 16;
/// Number 0 is nobody's: what is to be done for all of them.
const ERRANDS: (u64, u32) = (0, 0);

/// Pullers, and the streams they pull for.
#[derive(Debug, Default)]
pub(crate) struct OriginSide {
    pullers: BTreeMap<u32, Hosted>,
    streams: BTreeMap<StreamId, Row>,
    /// When each puller wants to be looked at.
    timers: BTreeSet<(u64, u32)>,
    /// Those for whom somebody new may be the one who answers.
    hopeful: BTreeSet<u32>,
    /// There is somebody new. However much changes in a burst, they are told once.
    is_news: bool,
    /// The link whose input is being handled.
    pub(crate) from_link: Option<ConnectionId>,
    next: u32,
    /// Messages that wait for those at the store, and their bytes.
    waiting: VecDeque<Parcel>,
    waiting_bytes: usize,
    /// The clock when input was last handled: deliveries do not carry one.
    clock: u64,
}

/// An origin of a stream here, for monitoring.
#[derive(Clone, Debug)]
pub struct OriginRow<'a> {
    /// The stream that takes from it.
    pub stream: &'a str,
    /// What it takes.
    pub source: &'a Source,
    /// It mirrors it.
    pub is_mirror: bool,
    /// How that is going; times are microseconds of the clock of [`Now`].
    pub state: OriginState,
}

#[derive(Debug)]
struct Row {
    name: Box<str>,
    /// Its origin's name, if it answers direct gets for it.
    stands_for: Option<Box<str>>,
    is_mirror: bool,
    pullers: Vec<(OriginId, u32)>,
}

#[derive(Debug)]
struct Hosted {
    stream: StreamId,
    origin: OriginId,
    puller: Puller,
    shape: Shape,
    due: u64,
    /// Where the answer to its last request comes.
    reply: Option<(Box<[u8]>, SubscriptionId)>,
    delivery: Option<SubscriptionId>,
    via: Via,
}

/// How a puller reaches its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Via {
    /// It has asked, and not heard anything yet: over any link, or over several.
    Unknown,
    Here,
    Link(ConnectionId),
}

impl Via {
    /// Does what happens to this link concern it?
    fn may_be(self, link: ConnectionId) -> bool {
        self == Via::Unknown || self == Via::Link(link)
    }
}

/// A message on its way to the store.
#[derive(Debug)]
struct Parcel {
    number: u32,
    taking: Taking,
    /// Subject, headers and payload as they are to be stored, and the lengths of the first two.
    bytes: Box<[u8]>,
    subject: usize,
    headers: usize,
}

impl Hosted {
    /// What is to be stored of a message.
    fn pack(&self, number: u32, taking: Taking, subject: &[u8], message: &Message<'_>) -> Parcel {
        let mut bytes = Vec::with_capacity(message.body.len() + subject.len() + 128);
        self.shape.subject(subject, taking.sequence.0, &mut bytes);
        let subject_len = bytes.len();
        self.shape.headers(message.headers(), taking.sequence.0, subject, self.puller.identity(), &mut bytes);
        let headers = bytes.len() - subject_len;
        bytes.extend_from_slice(message.payload());
        Parcel { number, taking, bytes: bytes.into(), subject: subject_len, headers }
    }
}

impl OriginSide {
    /// When [`Broker::tick_origins`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Input is about to be handled.
    #[inline]
    pub(crate) fn note_time(&mut self, now: Now) {
        self.clock = now.micros;
    }

    /// The clock as it was noted last, microseconds.
    pub(crate) fn clock(&self) -> u64 {
        self.clock
    }

    /// The mirror that answers direct gets for a stream that does not itself.
    pub(crate) fn standing_for(&self, name: &str) -> Option<&str> {
        let stands = |row: &&Row| row.stands_for.as_deref() == Some(name);
        self.streams.values().find(stands).map(|row| &*row.name)
    }

    /// A puller was changed: its next deadline.
    fn plan(&mut self, number: u32) {
        let Some(hosted) = self.pullers.get_mut(&number) else { return };
        let due = hosted.puller.poll_timeout();
        if due != hosted.due {
            self.timers.remove(&(hosted.due, number));
            self.timers.insert((due, number));
            hosted.due = due;
        }
        if hosted.puller.hopes() {
            self.hopeful.insert(number);
        } else {
            self.hopeful.remove(&number);
        }
    }

    /// A link is gone: those that are reached over another one, or here, go on.
    pub(crate) fn link_closed(&mut self, link: ConnectionId) {
        let now = self.clock;
        let concerned = self.pullers.iter().filter(|(_, hosted)| hosted.via.may_be(link));
        for number in concerned.map(|(number, _)| *number).collect::<Vec<_>>() {
            if let Some(hosted) = self.pullers.get_mut(&number) {
                hosted.via = Via::Unknown;
                hosted.puller.handle_link_down(now);
            }
            self.plan(number);
        }
    }

    /// A link is up, or its hub wants something else.
    pub(crate) fn reachable(&mut self) {
        if !self.hopeful.is_empty() {
            self.is_news = true;
            self.timers.insert(ERRANDS);
        }
    }

    /// Whoever waits for somebody new asks again.
    fn tell_hopeful(&mut self) {
        if !std::mem::take(&mut self.is_news) {
            return;
        }
        for number in std::mem::take(&mut self.hopeful) {
            if let Some(hosted) = self.pullers.get_mut(&number) {
                hosted.puller.handle_reachable(self.clock);
            }
            self.plan(number);
        }
    }

    /// How they are doing, for answers: those of one stream, or all.
    fn infos(&self, now: Now, only: Option<StreamId>) -> OriginInfos {
        let info = |number: &u32| {
            let state = self.pullers.get(number)?.puller.state();
            let active_ns = state.heard.map(|heard| now.micros.saturating_sub(heard).saturating_mul(1000));
            Some(OriginInfo { lag: state.lag, sequence: state.sequence, active_ns, error: state.error })
        };
        let infos = |row: &Row| row.pullers.iter().filter_map(|(_, number)| info(number)).collect();
        match only {
            Some(stream) => self.streams.get(&stream).map(|row| (stream, infos(row))).into_iter().collect(),
            None => self.streams.iter().map(|(stream, row)| (*stream, infos(row))).collect(),
        }
    }
}

impl Broker {
    /// How the origins of a stream are doing, or those of all streams, as answers show it.
    #[must_use]
    pub fn origin_infos(&self, now: Now, only: Option<StreamId>) -> OriginInfos {
        self.origins.infos(now, only)
    }

    /// The origins of all streams, for monitoring.
    pub fn origin_rows(&self) -> impl Iterator<Item = OriginRow<'_>> {
        let rows = self.origins.streams.values();
        rows.flat_map(|row| row.pullers.iter().map(move |(_, number)| (row, number))).filter_map(|(row, number)| {
            let puller = &self.origins.pullers.get(number)?.puller;
            let (source, state) = (puller.source(), puller.state());
            Some(OriginRow { stream: &row.name, source, is_mirror: row.is_mirror, state })
        })
    }

    /// The store says where a stream takes messages from.
    pub(crate) fn origins_changed(&mut self, now: Now, stream: StreamId, origins: &Origins) {
        self.origins.note_time(now);
        let mut row = self.origins.streams.remove(&stream);
        let same_kind = row.as_ref().is_some_and(|row| row.is_mirror == origins.is_mirror);
        let mut known: BTreeMap<OriginId, u32> = row.take().into_iter().flat_map(|row| row.pullers).collect();
        let mut pullers = Vec::new();
        for facts in &origins.origins {
            let number = known.remove(&facts.id).filter(|number| same_kind && self.is_same(*number, &facts.source));
            let number = match number {
                Some(number) => {
                    if let Some(hosted) = self.origins.pullers.get_mut(&number) {
                        hosted.puller.handle_position(facts.position);
                    }
                    number
                }
                None => self.host(now, stream, origins, facts),
            };
            pullers.push((facts.id, number));
        }
        let stays = |number: &u32| pullers.iter().any(|(_, kept)| kept == number);
        let gone: Vec<u32> = known.into_values().filter(|number| !stays(number)).collect();
        for number in gone {
            self.part_with(number);
        }
        if !origins.origins.is_empty() {
            let mirror = origins.origins.first().filter(|_| origins.mirror_direct);
            let stands_for = mirror.map(|facts| facts.source.name.clone());
            let row = Row { name: origins.name.clone(), stands_for, is_mirror: origins.is_mirror, pullers };
            self.origins.streams.insert(stream, row);
        }
    }

    fn is_same(&self, number: u32, source: &Source) -> bool {
        self.origins.pullers.get(&number).is_some_and(|hosted| hosted.puller.source() == source)
    }

    fn host(&mut self, now: Now, stream: StreamId, origins: &Origins, facts: &OriginFacts) -> u32 {
        self.origins.next += 1;
        let number = self.origins.next;
        let seed = (self.random.below(u32::MAX as usize) as u64) << 32 | self.random.below(u32::MAX as usize) as u64;
        let domain = self.settings.jetstream.as_ref().and_then(|settings| settings.domain.as_deref());
        let account = (&*self.accounts[GLOBAL as usize].name, domain);
        let shape = Shape::new(&facts.source, origins.is_mirror);
        let facts = &OriginFacts { consumer: consumer_name(origins, facts, &shape, account), ..facts.clone() };
        let hosted = Hosted {
            stream,
            origin: facts.id,
            puller: Puller::new(facts, &origins.name, origins.is_mirror, account, now.micros, seed),
            shape,
            due: u64::MAX,
            reply: None,
            delivery: None,
            via: Via::Unknown,
        };
        self.origins.pullers.insert(number, hosted);
        self.origins.plan(number);
        number
    }

    /// A stream is gone, with its origins.
    pub(crate) fn origins_down(&mut self, stream: StreamId) {
        let Some(row) = self.origins.streams.remove(&stream) else { return };
        for (_, number) in row.pullers {
            self.part_with(number);
        }
    }

    /// The store was opened anew: everything is announced again.
    pub(crate) fn forget_origins(&mut self, out: &mut Outbox) {
        self.origins.streams.clear();
        self.origins.waiting.clear();
        out.release(std::mem::take(&mut self.origins.waiting_bytes));
        for number in self.origins.pullers.keys().copied().collect::<Vec<_>>() {
            self.drop_puller(number);
        }
    }

    /// Its consumer is not wanted any more.
    fn part_with(&mut self, number: u32) {
        let Some(hosted) = self.origins.pullers.get(&number) else { return };
        let farewell = hosted.puller.farewell();
        self.drop_puller(number);
        self.origins_farewells.extend(farewell);
        if !self.origins_farewells.is_empty() {
            self.origins.timers.insert(ERRANDS);
        }
    }

    fn drop_puller(&mut self, number: u32) {
        self.leave_origin(number);
        if let Some(hosted) = self.origins.pullers.remove(&number) {
            self.origins.timers.remove(&(hosted.due, number));
            self.origins.hopeful.remove(&number);
        }
    }

    fn leave_origin(&mut self, number: u32) {
        let Some(hosted) = self.origins.pullers.get_mut(&number) else { return };
        let ended = [hosted.reply.take().map(|(_, id)| id), hosted.delivery.take()];
        for id in ended.into_iter().flatten() {
            self.unsubscribe(id);
        }
    }

    /// Does what pullers want done.
    pub(crate) fn tick_origins(&mut self, now: Now, out: &mut Outbox) {
        while let Some((_, number)) = self.origins.timers.first().copied().filter(|(due, _)| *due <= now.micros) {
            self.origins.note_time(now);
            if number == 0 {
                self.origins.timers.remove(&ERRANDS);
                self.say_farewell(now, out);
                self.origins.tell_hopeful();
                continue;
            }
            let slow = self.origins.pullers.get(&number).map_or(0, |hosted| self.slow_at(hosted.via));
            if let Some(hosted) = self.origins.pullers.get_mut(&number) {
                hosted.puller.handle_slow_link(slow);
                hosted.puller.handle_timeout(now.micros);
            }
            while let Some(step) = self.origins.pullers.get_mut(&number).and_then(|hosted| hosted.puller.poll_step()) {
                self.origin_step(now, number, step, out);
            }
            self.origins.plan(number);
        }
    }

    /// When bytes came of a message that is long on its way, over a link that this origin may be behind; 0: never.
    fn slow_at(&self, via: Via) -> u64 {
        let links = self.links.iter().filter(|link| via.may_be(**link));
        links.filter_map(|link| self.link(*link)).map(|link| link.slow).max().unwrap_or(0)
    }

    fn say_farewell(&mut self, now: Now, out: &mut Outbox) {
        for subject in std::mem::take(&mut self.origins_farewells) {
            // It is looked at as that of a puller; nobody waits for the answer.
            let message = Message { reply: b"$JSC.R.farewell", ..Message::new(subject.as_bytes(), b"") };
            self.publish(now, Origin::server(GLOBAL), &message, out);
        }
    }

    fn origin_step(&mut self, now: Now, number: u32, step: Step, out: &mut Outbox) {
        match step {
            Step::Ask(ask) => self.ask_origin(now, number, &ask, out),
            Step::Listen { subject } => {
                self.leave_origin(number);
                let id = self.subscribe_for_origin(number, &subject);
                if let Some(hosted) = self.origins.pullers.get_mut(&number) {
                    hosted.delivery = id;
                }
            }
            Step::Leave => self.leave_origin(number),
            Step::Begin(begun) => {
                let Some(hosted) = self.origins.pullers.get(&number) else { return };
                let (stream, origin) = (hosted.stream, hosted.origin);
                self.store.push(|batch| {
                    let identity = batch.add(begun.identity.as_bytes());
                    let (is_anew, skip_to) = (begun.is_anew, begun.skip_to);
                    Command::Begin(Box::new(Begin { stream, origin, identity, is_anew, skip_to }))
                });
            }
            Step::Answer { subject, last } => {
                let headers = last.map(|(consumer, stream)| {
                    format!("NATS/1.0\r\nNats-Last-Consumer: {consumer}\r\nNats-Last-Stream: {}\r\n\r\n", stream.0)
                });
                let headers = headers.unwrap_or_default();
                let message = Message { header_len: headers.len(), ..Message::new(&subject, headers.as_bytes()) };
                self.publish(now, Origin::server(GLOBAL), &message, out);
            }
        }
    }

    fn ask_origin(&mut self, now: Now, number: u32, ask: &Ask, out: &mut Outbox) {
        self.leave_origin(number);
        let plan = self.plan(Origin::server(GLOBAL), ask.subject.as_bytes());
        if !plan.has_targets() && !plan.is_captured() {
            // Not even our interest in an answer is announced.
            return self.unheard(now, number);
        }
        let id = self.subscribe_for_origin(number, &ask.reply);
        if let Some(hosted) = self.origins.pullers.get_mut(&number) {
            hosted.reply = id.map(|id| (ask.reply.as_bytes().into(), id));
            hosted.via = Via::Unknown;
        }
        // The hub must know where the answer goes before it is asked.
        self.flush_interest(out);
        let mut body = headers_of(ask);
        let header_len = body.len();
        if let Asked::Create(stream, config) = &ask.asked {
            encode_origin_request(stream, config, &mut body);
        }
        let message =
            Message { reply: ask.reply.as_bytes(), header_len, ..Message::new(ask.subject.as_bytes(), &body) };
        if self.publish(now, Origin::server(GLOBAL), &message, out).reached == 0 {
            self.unheard(now, number);
        }
    }

    fn unheard(&mut self, now: Now, number: u32) {
        if let Some(hosted) = self.origins.pullers.get_mut(&number) {
            hosted.puller.handle_unheard(now.micros);
        }
    }

    fn subscribe_for_origin(&mut self, number: u32, subject: &str) -> Option<SubscriptionId> {
        let filter = Filter::parse(subject).ok()?;
        let interest = Interest::Origin(number);
        let nobody = ConnectionId::new(0, crate::broker::INTERNAL_SLOT, 0);
        Some(self.subscribe(nobody, GLOBAL, NewSubscription { filter, queue: None, interest, token: Box::default() }))
    }

    /// A message came for a puller: the answer to its request, or a delivery.
    pub(crate) fn origin_message(&mut self, number: u32, routed: &[u8], message: &Message<'_>, out: &mut Outbox) {
        let now = self.origins.clock;
        let via = self.origins.from_link.map_or(Via::Here, Via::Link);
        let (room, waiting) = self.room_for_parcels();
        let Some(hosted) = self.origins.pullers.get_mut(&number) else { return };
        hosted.via = via;
        hosted.puller.handle_room(room, waiting);
        if hosted.reply.as_ref().is_some_and(|(reply, _)| **reply == *routed) {
            let identity = Headers::new(message.headers()).get(IDENTITY.as_bytes()).unwrap_or_default();
            let identity = std::str::from_utf8(identity).ok().filter(|text| is_one_word(text)).unwrap_or_default();
            hosted.puller.handle_answer(now, decode_origin_answer(message.payload(), identity));
        } else {
            let (headers, is_empty) = (message.headers(), message.payload().is_empty());
            if let Some(taking) = hosted.puller.handle_message(now, message.reply, headers, is_empty) {
                let parcel = hosted.pack(number, taking, message.shown.unwrap_or(routed), message);
                self.send_parcel(now, parcel, out);
            }
        }
        self.origins.plan(number);
    }

    /// Bytes that may wait for the store, and those that do.
    fn room_for_parcels(&self) -> (u64, u64) {
        ((self.settings.memory_budget / PART_OF_BUDGET) as u64, self.origins.waiting_bytes as u64)
    }

    /// To the store, or behind those that wait for it; or there is no room for it.
    fn send_parcel(&mut self, now: u64, parcel: Parcel, out: &mut Outbox) {
        if self.store.taken < AT_ONCE && self.origins.waiting.is_empty() {
            return self.hand_over(&parcel);
        }
        let (bytes, most) = (parcel.bytes.len() + OVERHEAD, self.settings.memory_budget / PART_OF_BUDGET);
        // What is left of the budget is for connections, which are cut when it ends; a parcel can be asked for again.
        let is_spare = out.memory().saturating_add(bytes) <= self.settings.memory_budget / 4 * 3;
        if self.origins.waiting_bytes + bytes <= most && is_spare && out.reserve(bytes) {
            self.origins.waiting_bytes += bytes;
            self.origins.waiting.push_back(parcel);
        } else if let Some(hosted) = self.origins.pullers.get_mut(&parcel.number) {
            hosted.puller.handle_overload(now);
        }
    }

    fn hand_over(&mut self, parcel: &Parcel) {
        let Parcel { number, taking, bytes, subject, headers } = parcel;
        let Some(hosted) = self.origins.pullers.get(number) else { return };
        let (stream, origin, ticket) = (hosted.stream, hosted.origin, ticket(*number));
        let Taking { sequence, previous, time } = *taking;
        self.store.taken += weight_of_take(bytes.len());
        self.store.push(|batch| {
            let (subject, rest) = bytes.split_at(*subject);
            let (headers, payload) = rest.split_at(*headers);
            let (subject, headers, payload) = (batch.add(subject), batch.add(headers), batch.add(payload));
            let take = Take { stream, origin, ticket, sequence, previous, time, subject, headers, payload };
            Command::Take(Box::new(take))
        });
    }

    /// What became of a message that was taken.
    pub(crate) fn origin_outcome(&mut self, now: Now, take: &Take, outcome: &Outcome, out: &mut Outbox) {
        self.origins.note_time(now);
        let bytes = take.subject.len + take.headers.len + take.payload.len;
        self.store.taken = self.store.taken.saturating_sub(weight_of_take(bytes as usize));
        while self.store.taken < AT_ONCE
            && let Some(parcel) = self.origins.waiting.pop_front()
        {
            let bytes = parcel.bytes.len() + OVERHEAD;
            self.origins.waiting_bytes -= bytes;
            out.release(bytes);
            self.hand_over(&parcel);
        }
        let number = take.ticket.0 as u32;
        let (room, waiting) = self.room_for_parcels();
        let Some(hosted) = self.origins.pullers.get_mut(&number) else { return };
        hosted.puller.handle_room(room, waiting);
        let refused = if let Outcome::Refused(error) = outcome { Some(error) } else { None };
        hosted.puller.handle_stored(now.micros, take.sequence, refused);
        self.origins.plan(number);
    }
}

/// What the consumer is called. With a domain as stock calls it, also after this box was set up anew: a work queue has one place, which is then still
/// ours. Without one, others may have streams of this name too.
fn consumer_name(origins: &Origins, facts: &OriginFacts, shape: &Shape, account: (&str, Option<&str>)) -> Box<str> {
    let (account, Some(domain)) = account else { return facts.consumer.clone() };
    let mut text = format!("{} {account} {domain}", origins.name);
    if origins.origins.iter().filter(|other| other.source.name == facts.source.name).count() > 1 {
        text = format!("{text} {}", shape.index);
    }
    let kind = if origins.is_mirror { "JS_MIRROR_" } else { "JS_SRC_" };
    format!("{kind}{}", short_hash(&text)).into()
}

fn ticket(number: u32) -> Ticket {
    Ticket(u64::from(number), SHELL_TICKET)
}

fn headers_of(ask: &Ask) -> Vec<u8> {
    let Some(level) = ask.level else { return Vec::new() };
    let identity = ask.identity.as_ref().map(|identity| format!("{IDENTITY}: {identity}\r\n"));
    format!("NATS/1.0\r\nNats-Required-Api-Level: {level}\r\n{}\r\n", identity.unwrap_or_default()).into_bytes()
}

fn is_one_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
