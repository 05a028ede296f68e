//! The half of a consumer that only lives while the process does: who waits for messages, what they may still be sent, and when to tell them
//! that nothing comes.
//!
//! A message goes to the waiting requests in turn. It is written once, as the bytes that follow the subscription id on the wire, straight
//! into the arena of the turn; nothing is allocated for a message.

use std::collections::VecDeque;

use crate::command::{Deliveries, Delivery, PullGroup, Recipient, Span};
use crate::config::{AckPolicy, PriorityPolicy, Push};
use crate::consumer::Consumer;
use crate::consumer::ack_subject::AckPlace;
use crate::consumer::priority::Pin;
use crate::consumer::push::Pushing;
use crate::consumer::sources::no_control;
use crate::identity::{AgeMillis, Now, Sequence, Timestamp};
use crate::store::{MessageBuffer, Read, Store, StoreError, StoredMessage, undamaged};
use crate::stream::Stream;

/// Bytes on their way to one consumer's subscribers, until their connections have drained.
pub(crate) const CREDIT: i64 = 256 << 10;
/// What a hub's consumer begins with: many of them may share a slow link, and a fast one soon gives more, up to what keeps the store, the core and the
/// link busy at once.
pub(crate) const FIRST_CREDIT: i64 = CREDIT / 8;
const LARGEST_CREDIT: i64 = CREDIT * 4;
/// One look into the store.
const SLICE: usize = 64 << 10;
/// Deliveries of one turn, all consumers together; what is left goes in the next.
const TURN_BYTES: usize = 4 << 20;
/// Reads that find nothing before others get their turn.
const EMPTY_READS_PER_TURN: u32 = 16;
/// What a delivery takes in the arena beside its message, about.
const BESIDE: usize = 96;
/// Messages asked for in one read.
const MOST_MESSAGES_PER_READ: u64 = 1024;

/// A paused consumer looks at the wall clock at least so often.
const LONGEST_PAUSE_MILLIS: u64 = 60_000;

/// A pull request that waits, or a push consumer's audience.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) inbox: Box<[u8]>,
    /// Messages still to be sent.
    pub(crate) left: u64,
    /// What is shown of `left` when it ends.
    pub(crate) odd_batch: Option<i64>,
    /// Messages sent.
    pub(crate) sent: u64,
    /// Bytes still to be sent, where they are limited.
    pub(crate) bytes_left: Option<u64>,
    /// What is shown of that when they are not.
    pub(crate) odd_bytes: i64,
    pub(crate) expires: Option<AgeMillis>,
    pub(crate) no_wait: bool,
    /// It stands for those who listen on a push consumer's deliver subject, and does not end.
    pub(crate) is_push: bool,
    /// Interval in milliseconds, and when the next one is due.
    pub(crate) heartbeat: Option<(u64, AgeMillis)>,
    /// What it says of its group.
    pub(crate) group: Option<Box<PullGroup>>,
    /// Its inbox in the arena of this turn.
    to: Option<Span>,
}

impl Waiting {
    pub(crate) fn new(inbox: &[u8], batch: u32) -> Waiting {
        Waiting {
            inbox: inbox.into(),
            left: u64::from(batch.max(1)),
            odd_batch: None,
            sent: 0,
            bytes_left: None,
            odd_bytes: 0,
            expires: None,
            no_wait: false,
            is_push: false,
            heartbeat: None,
            group: None,
            to: None,
        }
    }

    /// Who listens on a push consumer's deliver subject.
    pub(crate) fn for_push(push: &Push, now: Now) -> Waiting {
        let interval = push.heartbeat_ns.div_ceil(1_000_000);
        Waiting {
            left: u64::MAX,
            is_push: true,
            heartbeat: (interval > 0).then(|| (interval, AgeMillis(now.age.0.saturating_add(interval)))),
            ..Waiting::new(push.subject.as_bytes(), 1)
        }
    }

    /// Bytes that such a request takes while it waits.
    pub(crate) fn size(inbox: &[u8], group: Option<&PullGroup>) -> usize {
        size_of::<Waiting>() + inbox.len() + group.map_or(0, PullGroup::size)
    }

    /// Its number among prioritized requests; those that name no group come last.
    pub(crate) fn priority(&self) -> i64 {
        self.group.as_ref().map_or(i64::MAX, |group| group.priority)
    }

    /// Takes a message of this size, if its bytes reach.
    pub(crate) fn takes(&mut self, size: u64) -> bool {
        let Some(left) = &mut self.bytes_left else { return true };
        let Some(rest) = left.checked_sub(size) else { return false };
        *left = rest;
        if rest == 0 {
            self.left = 1;
        }
        true
    }

    /// A status with what is left of the request.
    pub(crate) fn end(&self, deliveries: &mut Deliveries, status: &str) {
        let messages = self.odd_batch.map_or(i128::from(self.left), |batch| i128::from(batch) - i128::from(self.sent));
        let bytes = self.bytes_left.map_or(i128::from(self.odd_bytes), i128::from);
        let text =
            format!("NATS/1.0 {status}\r\nNats-Pending-Messages: {messages}\r\nNats-Pending-Bytes: {bytes}\r\n\r\n");
        send_status(deliveries, &self.inbox, &text);
    }
}

/// Why a round of deliveries stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nobody waits for messages.
    NobodyWaits,
    /// Every message was delivered, or as many are outstanding as may be.
    NothingToSend,
    /// The subscribers have not drained what they were sent.
    NoCredit,
    /// The store fetches a slice; ask again.
    Fetching,
    /// It is not time yet: a pause, a rate, the pauses of a replay. [`Delivering::not_before`] says when.
    NotYet,
    /// The turn has done enough.
    TurnIsFull,
}

/// What a consumer has in memory only.
#[derive(Debug)]
pub(crate) struct Delivering {
    /// `$JS.ACK.<stream>.<consumer>.`
    prefix: Vec<u8>,
    pub(crate) waiting: VecDeque<Waiting>,
    pub(crate) credit: i64,
    /// The most that may be on its way.
    pub(crate) allowance: i64,
    /// There was more to send than that.
    wants_more: bool,
    /// It is in the list of consumers to be served in this turn.
    pub(crate) ready: bool,
    /// It is in the list of consumers to be saved with the next commit.
    pub(crate) listed: bool,
    /// It is among those of many that wait for the stream's next message.
    pub(crate) at_end: bool,
    /// The read that the store is fetching: from where, how many, how large.
    fetching: Option<(Sequence, usize, usize)>,
    /// The one entry it has in the timers.
    pub(crate) scheduled: Option<AgeMillis>,
    pub(crate) last_active: AgeMillis,
    /// When what is left was counted last.
    pub(crate) recounted: AgeMillis,
    /// Flow control and rate of a push consumer.
    pub(crate) pushing: Option<Pushing>,
    /// A heartbeat said that an answer is waited for: the next empty one may be to that.
    pub(crate) told_stalled: bool,
    /// Nothing is delivered before.
    pub(crate) not_before: Option<AgeMillis>,
    /// It was read from the store, and nobody has listened since.
    pub(crate) was_stored: bool,
    /// Somebody has listened to it since.
    pub(crate) was_bound: bool,
    /// The client that gets everything.
    pub(crate) pin: Option<Box<Pin>>,
    /// Pins given so far.
    pub(crate) pins: u64,
    /// There is a message, and nobody of those who wait may have it.
    pub(crate) declined: bool,
    /// When the end of a pause is told.
    pub(crate) pause_ends: Option<AgeMillis>,
    /// For a replay with the original pauses: when the last message was sent, and when it had been stored.
    replayed: Option<(AgeMillis, Timestamp)>,
}

impl Delivering {
    pub(crate) fn new(prefix: Vec<u8>, now: AgeMillis) -> Delivering {
        Delivering {
            prefix,
            waiting: VecDeque::new(),
            credit: CREDIT,
            allowance: CREDIT,
            wants_more: false,
            ready: false,
            listed: false,
            at_end: false,
            fetching: None,
            scheduled: None,
            last_active: now,
            recounted: AgeMillis(0),
            pushing: None,
            told_stalled: false,
            not_before: None,
            was_stored: false,
            was_bound: false,
            pin: None,
            pins: 0,
            declined: false,
            pause_ends: None,
            replayed: None,
        }
    }

    /// It pushes, and somebody listens.
    pub(crate) fn is_bound(&self) -> bool {
        self.pushing.is_some() && !self.waiting.is_empty()
    }

    /// Nobody listens on its deliver subject any more.
    pub(crate) fn unbind(&mut self) {
        self.waiting.clear();
        self.replayed = None;
        self.told_stalled = false;
        self.not_before = None;
        (self.credit, self.allowance) = (CREDIT, CREDIT);
        if let Some(pushing) = &mut self.pushing {
            pushing.forget();
        }
    }

    /// It may have twice as much on its way, if it wants that, or half. `true`: it can go on by this.
    pub(crate) fn pace(&mut self, is_quick: bool) -> bool {
        let allowance = match is_quick {
            true if std::mem::take(&mut self.wants_more) => (self.allowance * 2).min(LARGEST_CREDIT),
            true => self.allowance,
            false => (self.allowance / 2).max(FIRST_CREDIT),
        };
        let had_none = self.credit <= 0;
        self.credit += allowance - self.allowance;
        self.allowance = allowance;
        had_none && self.credit > 0
    }

    /// Messages asked for by all waiting requests.
    pub(crate) fn wanted(&self) -> u64 {
        self.waiting.iter().map(|waiting| waiting.left).sum()
    }

    /// Takes out the requests that a test picks, in order.
    pub(crate) fn take_waiting(&mut self, mut picks: impl FnMut(&Waiting) -> bool) -> Vec<Waiting> {
        let mut taken = Vec::new();
        for waiting in std::mem::take(&mut self.waiting) {
            if picks(&waiting) {
                taken.push(waiting);
            } else {
                self.waiting.push_back(waiting);
            }
        }
        taken
    }

    /// Earliest expiry or heartbeat of a waiting request.
    pub(crate) fn next_deadline(&self) -> Option<AgeMillis> {
        let deadlines = self.waiting.iter().flat_map(|waiting| [waiting.expires, waiting.heartbeat.map(|(_, at)| at)]);
        let next = self.not_before.filter(|_| !self.waiting.is_empty());
        deadlines.chain([next]).flatten().min()
    }
}

impl Consumer {
    /// Delivers while there is something to deliver, somebody to deliver it to, and credit.
    pub(crate) fn deliver(
        &mut self,
        store: &mut dyn Store,
        stream: &Stream,
        buffer: &mut MessageBuffer,
        now: Now,
        deliveries: &mut Deliveries,
    ) -> Result<Stop, StoreError> {
        // Inboxes are written anew into the arena of each turn.
        self.delivering.waiting.iter_mut().for_each(|waiting| waiting.to = None);
        let mut empty_reads = 0;
        loop {
            if self.delivering.waiting.is_empty() {
                return Ok(Stop::NobodyWaits);
            }
            if std::mem::take(&mut self.delivering.declined) {
                return Ok(Stop::NothingToSend);
            }
            if self.delivering.credit <= 0 {
                self.delivering.wants_more = true;
                return Ok(Stop::NoCredit);
            }
            if deliveries.arena.len() >= TURN_BYTES || empty_reads > EMPTY_READS_PER_TURN {
                return Ok(Stop::TurnIsFull);
            }
            if let Some(stop) = self.holds_back(now) {
                return Ok(stop);
            }
            if let Some(sequence) = self.redeliver.pop_front() {
                self.redeliver_one(store, stream, buffer, now, deliveries, sequence)?;
                continue;
            }
            if self.room() == 0 {
                return Ok(Stop::NothingToSend);
            }
            if self.selection.is_some() {
                self.deliver_selected(store, stream, buffer, now, deliveries)?;
                continue;
            }
            if self.next > store.state(self.stream).last {
                return Ok(Stop::NothingToSend);
            }
            match self.deliver_slice(store, stream, buffer, now, deliveries)? {
                None => return Ok(Stop::Fetching),
                Some(0) => empty_reads += 1,
                Some(_) => {}
            }
        }
    }

    fn redeliver_one(
        &mut self,
        store: &mut dyn Store,
        stream: &Stream,
        buffer: &mut MessageBuffer,
        now: Now,
        deliveries: &mut Deliveries,
        sequence: Sequence,
    ) -> Result<(), StoreError> {
        let entry = self.pending.get(sequence).filter(|entry| entry.queued);
        if entry.is_none() && self.config.ack_policy != AckPolicy::None {
            return Ok(());
        }
        let received = entry.map_or(0, |entry| entry.received());
        if self.is_exhausted(received) {
            self.give_up(sequence);
            return Ok(());
        }
        buffer.clear();
        let there = undamaged(store, self.stream, sequence, buffer)?;
        let Some(message) = buffer.get(0).filter(|_| there) else {
            self.pending.remove(sequence);
            self.dirty = true;
            return Ok(());
        };
        let place = self.place(&message, u64::from(received) + 1, self.left(stream));
        if self.send(&message, &place, now, deliveries) {
            self.delivered += 1;
            let due = self.due(now, received + 1);
            self.pending.delivered_again(sequence, due);
        } else {
            self.redeliver.push_front(sequence);
        }
        Ok(())
    }

    fn deliver_selected(
        &mut self,
        store: &mut dyn Store,
        stream: &Stream,
        buffer: &mut MessageBuffer,
        now: Now,
        deliveries: &mut Deliveries,
    ) -> Result<(), StoreError> {
        let Some((sequences, end)) = &mut self.selection else { return Ok(()) };
        let Some(sequence) = sequences.pop_front() else {
            self.next = self.next.max(end.next());
            self.selection = None;
            self.dirty = true;
            return Ok(());
        };
        buffer.clear();
        if stream.owed.contains(sequence) || !undamaged(store, self.stream, sequence, buffer)? {
            self.recount_soon();
            return Ok(());
        }
        let sent = buffer.get(0).is_some_and(|message| {
            !self.must_wait(&message, now) && self.deliver_new(stream, &message, now, deliveries)
        });
        if !sent && let Some((sequences, _)) = &mut self.selection {
            sequences.push_front(sequence);
        }
        Ok(())
    }

    /// Reads a slice and delivers from it; answers how many messages it held, or `None` while it is being fetched.
    fn deliver_slice(
        &mut self,
        store: &mut dyn Store,
        stream: &Stream,
        buffer: &mut MessageBuffer,
        now: Now,
        deliveries: &mut Deliveries,
    ) -> Result<Option<usize>, StoreError> {
        let messages = self.delivering.wanted().min(self.room()).min(MOST_MESSAGES_PER_READ) as usize;
        let bytes = SLICE.min(self.delivering.credit.max(1) as usize);
        let fetching = self.delivering.fetching.filter(|(from, ..)| *from == self.next);
        let (from, messages, bytes) = fetching.unwrap_or((self.next, messages, bytes));
        buffer.clear();
        match store.read(self.stream, from, &self.config.filters, messages, bytes, buffer)? {
            Read::Pending => {
                self.delivering.fetching = Some((from, messages, bytes));
                Ok(None)
            }
            Read::Ready { next } => {
                self.delivering.fetching = None;
                deliveries.arena.reserve(buffer.bytes() + buffer.len() * BESIDE);
                for message in buffer.iter() {
                    if !stream.owed.is_empty() && stream.owed.contains(message.sequence) {
                        self.count_taken(1);
                        continue;
                    }
                    if self.room() == 0
                        || self.must_wait(&message, now)
                        || !self.deliver_new(stream, &message, now, deliveries)
                    {
                        self.next = message.sequence;
                        return Ok(Some(buffer.len()));
                    }
                }
                if next > self.next {
                    self.next = next;
                    self.dirty = true;
                }
                Ok(Some(buffer.len()))
            }
        }
    }

    /// Delivers a message for the first time; `false` when nobody takes it.
    fn deliver_new(
        &mut self,
        stream: &Stream,
        message: &StoredMessage<'_>,
        now: Now,
        deliveries: &mut Deliveries,
    ) -> bool {
        let place = self.place(message, 1, self.left(stream).saturating_sub(1));
        if !self.send(message, &place, now, deliveries) {
            return false;
        }
        self.count_taken(1);
        self.delivered += 1;
        self.next = message.sequence.next();
        self.reached = message.sequence;
        if self.config.ack_policy == AckPolicy::None {
            self.sent_for_good(message.sequence);
        } else {
            self.pending.insert(message.sequence, self.delivered, self.due(now, 1));
        }
        true
    }

    /// What keeps a consumer with messages from sending any.
    fn holds_back(&mut self, now: Now) -> Option<Stop> {
        if self.delivering.not_before.is_some_and(|at| at > now.age) {
            return Some(Stop::NotYet);
        }
        let paused = self.config.pause_until.map(|until| until.0.saturating_sub(now.wall.0));
        if let Some(remaining) = paused.filter(|remaining| *remaining > 0) {
            // A step of the wall clock is noticed within a minute.
            let millis = remaining.unsigned_abs().div_ceil(1_000_000).min(LONGEST_PAUSE_MILLIS);
            self.delivering.not_before = Some(AgeMillis(now.age.0.saturating_add(millis)));
            return Some(Stop::NotYet);
        }
        self.delivering.not_before = None;
        let pushing = self.delivering.pushing.as_ref()?;
        if pushing.is_stalled() {
            return Some(Stop::NoCredit);
        }
        self.delivering.not_before = pushing.free_at(now);
        self.delivering.not_before.map(|_| Stop::NotYet)
    }

    /// With the original pauses: is it too early for this message?
    fn must_wait(&mut self, message: &StoredMessage<'_>, now: Now) -> bool {
        if !self.config.replay_original {
            return false;
        }
        if let Some((sent, stored)) = self.delivering.replayed {
            let pause = (message.time.0.saturating_sub(stored.0).max(0) / 1_000_000) as u64;
            let due = AgeMillis(sent.0.saturating_add(pause));
            if due > now.age {
                self.delivering.not_before = Some(due);
                return true;
            }
        }
        self.delivering.replayed = Some((now.age, message.time));
        false
    }

    fn place(&self, message: &StoredMessage<'_>, deliveries: u64, pending: u64) -> AckPlace {
        AckPlace {
            deliveries,
            sequence: message.sequence,
            consumer_sequence: self.delivered + 1,
            time: message.time.0,
            pending,
        }
    }

    /// Writes a message for the request whose turn it is; `false` when none takes it.
    fn send(&mut self, message: &StoredMessage<'_>, place: &AckPlace, now: Now, deliveries: &mut Deliveries) -> bool {
        let mut size_header = itoa::Buffer::new();
        let mut size_header = self.config.headers_only.then(|| size_header.format(message.payload.len()));
        let payload = if self.config.headers_only { &[] } else { message.payload };
        let reply = self.delivering.prefix.len() + place.len();
        let headers = message.headers.len() + size_header.map_or(0, |text| size_header_len(message.headers, text));
        let size = message.subject.len() + reply + headers + payload.len();
        let policy = self.config.priority.policy;
        let is_taken = match policy {
            PriorityPolicy::None => self.delivering.accept(size as u64, deliveries),
            _ => self.accept_in_group(size as u64, place.pending + 1, now, deliveries),
        };
        if !is_taken {
            return false;
        }
        let Some(waiting) = self.delivering.waiting.front_mut() else { return false };
        let to = *waiting.to.get_or_insert_with(|| put_bytes(&mut deliveries.arena, &waiting.inbox));
        let subject = put_bytes(&mut deliveries.arena, message.subject);
        let start = deliveries.arena.len();
        deliveries.arena.extend_from_slice(&self.delivering.prefix);
        place.write(&mut deliveries.arena);
        let reply = span(start, deliveries.arena.len());
        deliveries.arena.push(b' ');
        let mut headers = if self.config.is_source() { no_control(message.headers) } else { message.headers.into() };
        if policy == PriorityPolicy::PinnedClient
            && let Some(pin) = self.delivering.pin.as_deref()
        {
            (headers, size_header) = (pin.added_to(&headers, size_header).into(), None);
        }
        let (headers, payload) = put_message(&mut deliveries.arena, &headers, size_header, payload);
        let tail = span(start, deliveries.arena.len());
        let from = Some(Recipient::Consumer(self.id));
        let delivery = Delivery { from, to, subject, tail, reply, headers, payload, queue: None };
        deliveries.entries.push(delivery);
        waiting.left -= 1;
        waiting.sent += 1;
        if let Some((interval, at)) = &mut waiting.heartbeat {
            *at = AgeMillis(now.age.0.saturating_add(*interval));
        }
        let ask = self.wants_confirmation();
        if let Some(pushing) = &mut self.delivering.pushing
            && let Some(reply) = pushing.sent(size as u64, message.sequence, ask, now)
            && let Some(push) = &self.config.push
        {
            ask_for_flow(deliveries, push.subject.as_bytes(), &reply);
        }
        self.delivering.next_in_turn(policy, deliveries);
        self.delivering.credit -= i64::from(delivery.cost());
        self.delivering.last_active = now.age;
        self.last_delivery = now.wall;
        self.dirty = true;
        true
    }

    /// Ends the requests that do not wait, when nothing can be sent to them now.
    pub(crate) fn end_one_shots(&mut self, deliveries: &mut Deliveries) {
        if !self.delivering.waiting.iter().any(|waiting| waiting.no_wait) {
            return;
        }
        let ended = |waiting: &Waiting| waiting.no_wait && (waiting.expires.is_none() || waiting.sent > 0);
        for waiting in self.delivering.take_waiting(ended) {
            send_status(deliveries, &waiting.inbox, "NATS/1.0 404 No Messages\r\n\r\n");
        }
    }

    /// Expiries and heartbeats of waiting requests.
    pub(crate) fn requests_in_time(&mut self, now: Now, deliveries: &mut Deliveries) {
        if self.delivering.next_deadline().is_none_or(|at| at > now.age) {
            return;
        }
        for waiting in self.delivering.take_waiting(|waiting| waiting.expires.is_some_and(|at| at <= now.age)) {
            waiting.end(deliveries, "408 Request Timeout");
        }
        let last = self.next.0.saturating_sub(1);
        let mut told = false;
        let stalled = self.delivering.pushing.as_ref().and_then(Pushing::waits_for).map(String::from_utf8_lossy);
        let stalled = stalled.map_or(String::new(), |subject| format!("Nats-Consumer-Stalled: {subject}\r\n"));
        let text = heartbeat(self.delivered, self.next, &stalled);
        for waiting in &mut self.delivering.waiting {
            let Some((interval, at)) = &mut waiting.heartbeat else { continue };
            if *at <= now.age {
                *at = AgeMillis(now.age.0.saturating_add(*interval));
                send_status(deliveries, &waiting.inbox, &text);
                told |= waiting.is_push;
            }
        }
        self.delivering.told_stalled |= told && !stalled.is_empty();
        // What is confirmed by answers must not wait for a window to fill.
        if told
            && self.is_unconfirmed()
            && let Some(pushing) = &mut self.delivering.pushing
            && let Some(reply) = pushing.ask(Sequence(last))
            && let Some(push) = &self.config.push
        {
            ask_for_flow(deliveries, push.subject.as_bytes(), &reply);
        }
    }
}

/// How far a consumer has come, for one that listens.
pub(crate) fn heartbeat(delivered: u64, next: Sequence, stalled: &str) -> String {
    let last = next.0.saturating_sub(1);
    format!(
        "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: {delivered}\r\nNats-Last-Stream: {last}\r\n{stalled}\r\n"
    )
}

impl Delivering {
    /// The request at the front was sent a message: it is done, or waits behind the others.
    fn next_in_turn(&mut self, policy: PriorityPolicy, deliveries: &mut Deliveries) {
        if self.waiting.front().is_some_and(|waiting| waiting.left > 0) {
            if self.waiting.len() == 1 {
                return;
            }
            match policy {
                PriorityPolicy::Prioritized => {
                    let front = self.waiting.pop_front();
                    front.into_iter().for_each(|front| self.queue_by_priority(front));
                }
                _ => self.waiting.rotate_left(1),
            }
        } else if let Some(done) = self.waiting.pop_front()
            && done.bytes_left.is_some_and(|bytes| bytes > 0)
        {
            done.end(deliveries, "409 Batch Completed");
        }
    }

    /// Makes the request at the front one that takes a message of this size; ends those whose byte limit it exceeds.
    fn accept(&mut self, size: u64, deliveries: &mut Deliveries) -> bool {
        while let Some(waiting) = self.waiting.front_mut() {
            if waiting.takes(size) {
                return true;
            }
            waiting.end(deliveries, "409 Message Size Exceeds MaxBytes");
            self.waiting.pop_front();
        }
        false
    }
}

/// A message without body that tells a requester how it stands.
pub(crate) fn send_status(deliveries: &mut Deliveries, inbox: &[u8], text: &str) {
    send_status_with_reply(deliveries, inbox, b"", text);
}

/// Asks the receiver to answer on `reply` when it has got everything before.
fn ask_for_flow(deliveries: &mut Deliveries, inbox: &[u8], reply: &[u8]) {
    send_status_with_reply(deliveries, inbox, reply, "NATS/1.0 100 FlowControl Request\r\n\r\n");
}

fn send_status_with_reply(deliveries: &mut Deliveries, inbox: &[u8], reply: &[u8], text: &str) {
    let to = put_bytes(&mut deliveries.arena, inbox);
    let start = deliveries.arena.len();
    let reply = put_bytes(&mut deliveries.arena, reply);
    if !reply.is_empty() {
        deliveries.arena.push(b' ');
    }
    let (headers, payload) = put_message(&mut deliveries.arena, text.as_bytes(), None, b"");
    let tail = span(start, deliveries.arena.len());
    deliveries.entries.push(Delivery { from: None, to, subject: to, tail, reply, headers, payload, queue: None });
}

/// How many bytes a size header makes of a block that has none, or makes a block of.
fn size_header_len(headers: &[u8], size: &str) -> usize {
    let block = if headers.is_empty() { b"NATS/1.0\r\n\r\n".len() } else { 0 };
    block + b"Nats-Msg-Size: \r\n".len() + size.len()
}

/// Writes `[header-length] total CRLF headers payload CRLF`; answers where headers and payload lie.
pub(crate) fn put_message(
    arena: &mut Vec<u8>,
    headers: &[u8],
    size_header: Option<&str>,
    payload: &[u8],
) -> (Span, Span) {
    // A size header goes before the blank line that ends the block.
    let added = size_header.map(|size| (b"Nats-Msg-Size: ".as_slice(), size.as_bytes(), b"\r\n\r\n".as_slice()));
    let added_len = added.map_or(0, |(key, size, end)| key.len() + size.len() + end.len());
    let kept = match added {
        None => headers,
        Some(_) if headers.is_empty() => b"NATS/1.0\r\n",
        Some(_) => headers.strip_suffix(b"\r\n").unwrap_or(headers),
    };
    let headers_len = kept.len() + added_len;
    let mut digits = itoa::Buffer::new();
    if headers_len > 0 {
        arena.extend_from_slice(digits.format(headers_len).as_bytes());
        arena.push(b' ');
    }
    arena.extend_from_slice(digits.format(headers_len + payload.len()).as_bytes());
    arena.extend_from_slice(b"\r\n");
    let start = arena.len();
    arena.extend_from_slice(kept);
    if let Some((key, size, end)) = added {
        arena.extend_from_slice(key);
        arena.extend_from_slice(size);
        arena.extend_from_slice(end);
    }
    let headers = span(start, arena.len());
    let payload = put_bytes(arena, payload);
    arena.extend_from_slice(b"\r\n");
    (headers, payload)
}

fn put_bytes(arena: &mut Vec<u8>, bytes: &[u8]) -> Span {
    let start = arena.len();
    arena.extend_from_slice(bytes);
    span(start, arena.len())
}

/// A stretch of an arena.
pub(crate) fn span(start: usize, end: usize) -> Span {
    Span { start: start as u32, len: (end - start) as u32 }
}

#[cfg(test)]
mod tests {
    use super::{CREDIT, Delivering, FIRST_CREDIT, LARGEST_CREDIT};
    use crate::identity::AgeMillis;

    #[test]
    fn what_may_be_on_its_way_grows_by_need_and_falls_without_losing_any() {
        let mut delivering = Delivering::new(Vec::new(), AgeMillis(0));
        (delivering.credit, delivering.allowance) = (FIRST_CREDIT, FIRST_CREDIT);
        assert!(!delivering.pace(true));
        assert_eq!(delivering.credit, FIRST_CREDIT, "it did not want more");
        delivering.credit -= FIRST_CREDIT;
        for _ in 0..10 {
            delivering.wants_more = true;
            delivering.pace(true);
        }
        assert_eq!((delivering.credit, delivering.allowance), (LARGEST_CREDIT - FIRST_CREDIT, LARGEST_CREDIT));
        // All of it is on its way, and slowly: it comes back as far as it may have.
        delivering.credit = 0;
        for _ in 0..10 {
            assert!(!delivering.pace(false));
        }
        assert_eq!((delivering.credit, delivering.allowance), (FIRST_CREDIT - LARGEST_CREDIT, FIRST_CREDIT));
        delivering.credit += LARGEST_CREDIT;
        assert_eq!(delivering.credit, FIRST_CREDIT);
        delivering.credit = -1;
        delivering.wants_more = true;
        assert!(delivering.pace(true), "it can go on");
        delivering.unbind();
        assert_eq!((delivering.credit, delivering.allowance), (CREDIT, CREDIT));
    }
}
