//! What reaches consumers from outside: pull requests, acknowledgements, credit, time; and who is served in a turn.

use crate::api_error;
use crate::command::{Ack, Deliveries, Outcome, Pull, PullGroup, Span};
use crate::config::{AckPolicy, Retention};
use crate::consumer::Consumer;
use crate::consumer::ack_subject::AckPlace;
use crate::consumer::delivery::{FIRST_CREDIT, Stop, Waiting, send_status};
use crate::consumer::flat_json::{self, Value};
use crate::consumer::sources::{KEPT_NS, base_name};
use crate::identity::{AgeMillis, ConsumerId, Now, Sequence};
use crate::jetstream::{Context, JetStream, Timer};
use crate::store::{Store, StoreError};
use crate::stream::Stream;

/// What could not be sent to a hub is tried again after so long.
const TRY_AGAIN_MILLIS: u64 = 5_000;
/// Consumers served in one turn.
pub(crate) const SERVED_PER_TURN: usize = 256;
/// Requests waiting at a consumer, whatever its configuration says.
const MOST_WAITING: i64 = 1 << 16;
/// Memory of all waiting requests together, bytes: some 50,000 of usual clients.
const MOST_WAITING_BYTES: usize = 8 << 20;

impl JetStream {
    pub(crate) fn pull(&mut self, turn: &mut Context<'_>, pull: &Pull) -> Result<Outcome, StoreError> {
        let Some(stream) = self.stream_named(&pull.stream) else {
            return Ok(Outcome::Refused(api_error::STREAM_NOT_FOUND));
        };
        let Some(id) = stream.consumers.get(&pull.consumer).copied() else {
            return Ok(Outcome::Refused(api_error::CONSUMER_NOT_FOUND));
        };
        self.take_pull(turn, id, pull)?;
        Ok(Outcome::Done)
    }

    fn take_pull(&mut self, turn: &mut Context<'_>, id: ConsumerId, pull: &Pull) -> Result<(), StoreError> {
        let has_room = self.may_wait(Waiting::size(&pull.inbox, pull.group.as_deref()));
        let Some(consumer) = self.consumers.get_mut(&id) else { return Ok(()) };
        let Some(stream) = self.streams.get_mut(&consumer.stream) else { return Ok(()) };
        if !has_room {
            send_status(turn.deliveries, &pull.inbox, "NATS/1.0 409 Exceeded MaxWaiting\r\n\r\n");
            return Ok(());
        }
        consumer.recount(turn.store, stream, turn.now)?;
        consumer.delivering.last_active = turn.now.age;
        if let Err(status) = consumer.take_pull(stream, pull, turn.now, turn.deliveries) {
            if !status.is_empty() {
                send_status(turn.deliveries, &pull.inbox, &format!("NATS/1.0 {status}\r\n\r\n"));
            }
            return Ok(());
        }
        self.serve_soon(id);
        self.schedule(id);
        Ok(())
    }

    /// Is there room for one more waiting pull? Those that are over are only counted out when the limit seems to be reached.
    fn may_wait(&mut self, size: usize) -> bool {
        if self.waiting_bytes + size > MOST_WAITING_BYTES {
            let streams = self.stream_names.values().filter_map(|id| self.streams.get(id));
            let consumers =
                streams.flat_map(|stream| stream.consumers.values().filter_map(|id| self.consumers.get(id)));
            let waiting = consumers.flat_map(|consumer| &consumer.delivering.waiting);
            self.waiting_bytes = waiting.map(|waiting| Waiting::size(&waiting.inbox, waiting.group.as_deref())).sum();
        }
        let fits = self.waiting_bytes + size <= MOST_WAITING_BYTES;
        self.waiting_bytes += if fits { size } else { 0 };
        fits
    }

    pub(crate) fn acknowledge(&mut self, turn: &mut Context<'_>, ack: &Ack) -> Result<Outcome, StoreError> {
        let arena = &turn.batch.arena;
        let (subject, payload, reply) = (ack.subject.of(arena), ack.payload.of(arena), ack.reply.of(arena));
        let place = AckPlace::parse(subject).filter(|place| place.sequence.0 > 0);
        let (Some(consumer), Some(place)) = (self.consumers.get_mut(&ack.consumer), place) else {
            return Ok(Outcome::Acknowledged { confirm: false });
        };
        consumer.delivering.last_active = turn.now.age;
        let next = payload.strip_prefix(b"+NXT");
        let known = match payload {
            b"" | b"+ACK" | b"+OK" => consumer.acknowledge_and_sample(&place, turn.now),
            _ if next.is_some() => consumer.acknowledge_and_sample(&place, turn.now),
            b"+WPI" => consumer.in_progress(&place, turn.now),
            _ if payload.starts_with(b"+TERM") => {
                consumer.tell_terminated(&place, &payload[5..]);
                consumer.acknowledge(&place, turn.now)
            }
            _ if payload.starts_with(b"-NAK") => consumer.refuse(&place, &payload[4..], turn.now),
            _ => true,
        };
        if consumer.dirty {
            self.sync |= !reply.is_empty() && next.is_none() && !consumer.stream.is_volatile();
            if consumer.is_stored() && !consumer.delivering.listed {
                consumer.delivering.listed = true;
                self.dirty.push(ack.consumer);
                self.lazy_since.get_or_insert(turn.now.age);
            }
        }
        if !consumer.delivering.waiting.is_empty() && !consumer.delivering.ready {
            consumer.delivering.ready = true;
            self.ready.push(ack.consumer);
        }
        let is_settled = consumer.pending.len() == 0 || payload.starts_with(b"-NAK");
        self.announce(turn, ack.consumer);
        self.collect_finished(turn.store, ack.consumer)?;
        // Only these can make anything due earlier than planned.
        if is_settled {
            self.schedule(ack.consumer);
        }
        if let Some(arguments) = next.filter(|_| !reply.is_empty()) {
            let pull = next_request(arguments, reply);
            self.take_pull(turn, ack.consumer, &pull)?;
        }
        Ok(Outcome::Acknowledged { confirm: known && next.is_none() && !reply.is_empty() })
    }

    /// Somebody listens on a push consumer's deliver subject now, or nobody does.
    pub(crate) fn deliver_interest(&mut self, turn: &mut Context<'_>, id: ConsumerId, is_there: bool) -> Outcome {
        let now = turn.now;
        self.pass_unmatched(turn.store, id);
        let Some(consumer) = self.consumers.get_mut(&id) else { return Outcome::Done };
        let Some(push) = &consumer.config.push else { return Outcome::Done };
        if consumer.delivering.waiting.is_empty() == is_there {
            consumer.delivering.last_active = now.age;
            if is_there {
                consumer.delivering.waiting.push_back(Waiting::for_push(push, now));
                consumer.delivering.was_bound = true;
                // What was on its way when the link went is reported behind its end: that pause was meant for whom it left.
                consumer.delivering.not_before = None;
                if consumer.config.is_source() {
                    (consumer.delivering.credit, consumer.delivering.allowance) = (FIRST_CREDIT, FIRST_CREDIT);
                }
                consumer.say_where_it_stands(turn.deliveries);
            } else {
                consumer.delivering.unbind();
            }
        }
        self.serve_soon(id);
        self.schedule(id);
        Outcome::Done
    }

    /// The receiver has got everything before a request for flow control.
    pub(crate) fn flow_answer(
        &mut self,
        turn: &mut Context<'_>,
        id: ConsumerId,
        subject: Span,
        headers: Span,
    ) -> Result<Outcome, StoreError> {
        let Some(consumer) = self.consumers.get_mut(&id) else { return Ok(Outcome::Done) };
        let arena = &turn.batch.arena;
        let answered = consumer.delivering.pushing.as_mut().and_then(|pushing| pushing.answered(subject.of(arena)));
        let Some(last) = answered else { return Ok(Outcome::Done) };
        consumer.delivering.last_active = turn.now.age;
        let place = flow_place(headers.of(arena));
        match (consumer.config.ack_policy, place) {
            (AckPolicy::FlowControl, Some(place)) => {
                consumer.acknowledge(&place, turn.now);
            }
            (AckPolicy::None, Some(place)) => consumer.confirmed(place.sequence),
            // An older receiver answers with nothing, also to a heartbeat that says the consumer is stalled: that is no confirmation.
            (AckPolicy::None, None) if !consumer.delivering.told_stalled => consumer.confirmed(last),
            _ => {}
        }
        consumer.delivering.told_stalled = false;
        self.collect_finished(turn.store, id)?;
        self.list_dirty(id, turn.now);
        self.serve_soon(id);
        Ok(Outcome::Done)
    }

    /// A delivery to an inbox that nobody listens to: its requests end, and the message is for whoever asks next.
    pub(crate) fn unreachable(&mut self, id: ConsumerId, inbox: &[u8], reply: &[u8], now: Now) -> Outcome {
        let Some(consumer) = self.consumers.get_mut(&id) else { return Outcome::Done };
        consumer.delivering.waiting.retain(|waiting| waiting.is_push || *waiting.inbox != *inbox);
        consumer.unpin_unreachable(inbox);
        if AckPlace::parse(reply).is_some_and(|place| consumer.give_back(&place, now)) {
            if consumer.config.is_source() {
                // What comes behind it would be a gap there. Whoever listens anew gets it at once.
                consumer.delivering.not_before = Some(AgeMillis(now.age.0 + TRY_AGAIN_MILLIS));
            }
            self.list_dirty(id, now);
            self.serve_soon(id);
            self.schedule(id);
        }
        Outcome::Done
    }

    pub(crate) fn credit_consumer(&mut self, id: ConsumerId, bytes: u32) {
        if let Some(consumer) = self.consumers.get_mut(&id) {
            // With some left it was not credit that it stopped for.
            let had_none = consumer.delivering.credit <= 0;
            consumer.delivering.credit =
                (consumer.delivering.credit + i64::from(bytes)).min(consumer.delivering.allowance);
            if had_none {
                self.serve_soon(id);
            }
        }
    }

    /// What it sent over a link left at once, or took its time.
    pub(crate) fn pace_consumer(&mut self, id: ConsumerId, is_quick: bool) {
        let Some(consumer) = self.consumers.get_mut(&id).filter(|consumer| consumer.config.is_source()) else { return };
        if consumer.delivering.pace(is_quick) {
            self.serve_soon(id);
        }
    }

    /// The consumer is served in this turn, if anybody waits for its messages.
    pub(crate) fn serve_soon(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        if !consumer.delivering.ready && !consumer.delivering.waiting.is_empty() {
            consumer.delivering.ready = true;
            self.ready.push(id);
        }
    }

    /// Delivers to those who wait and have something to get: to so many in each turn, in the order in which they came to be ready, so that
    /// publishers do not wait for thousands of consumers.
    pub(crate) fn serve(&mut self, turn: &mut Context<'_>) -> Result<(), StoreError> {
        let mut ready = std::mem::take(&mut self.ready);
        if ready.len() > SERVED_PER_TURN {
            self.ready = ready.split_off(SERVED_PER_TURN);
            self.again = true;
        }
        for id in ready {
            let Some(consumer) = self.consumers.get_mut(&id) else { continue };
            let Some(stream) = self.streams.get_mut(&consumer.stream) else { continue };
            consumer.delivering.ready = false;
            consumer.recount(turn.store, stream, turn.now)?;
            if !consumer.config.filters.is_empty() {
                consumer.passes_to(stream, turn.store.state(stream.id).last);
            }
            let stop = consumer.deliver(turn.store, stream, &mut self.buffer, turn.now, turn.deliveries)?;
            match stop {
                Stop::NothingToSend => {
                    consumer.end_one_shots(turn.deliveries);
                    consumer.note_end(stream);
                }
                // While it is paused there is nothing for who does not wait.
                Stop::NotYet if consumer.config.pause_until.is_some() => consumer.end_one_shots(turn.deliveries),
                Stop::NobodyWaits | Stop::NoCredit | Stop::NotYet => {}
                Stop::Fetching => self.serve_soon(id),
                Stop::TurnIsFull => {
                    self.again = true;
                    self.serve_soon(id);
                }
            }
            self.announce(turn, id);
            self.collect_finished(turn.store, id)?;
            self.list_dirty(id, turn.now);
            self.schedule(id);
        }
        Ok(())
    }

    /// The consumer's records are written with the next commit.
    pub(crate) fn list_dirty(&mut self, id: ConsumerId, now: Now) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        // It may have to do with lower messages now than the stream takes it to.
        if consumer.dirty
            && let Some(stream) = self.streams.get_mut(&consumer.stream).filter(|stream| stream.audience.is_crowd())
        {
            stream.audience.place_below(id, consumer.lowest());
        }
        // What a source or mirror is sent leaves when it is on disk that it was: numbers are never given twice.
        self.sync |= consumer.dirty && consumer.is_stored() && consumer.config.is_source();
        if consumer.dirty && consumer.is_stored() && !consumer.delivering.listed {
            consumer.delivering.listed = true;
            self.dirty.push(id);
            self.lazy_since.get_or_insert(now.age);
        }
    }

    pub(crate) fn save_consumers(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        for id in std::mem::take(&mut self.dirty) {
            let Some(consumer) = self.consumers.get_mut(&id) else { continue };
            consumer.delivering.listed = false;
            consumer.save(store)?;
        }
        Ok(())
    }

    /// Plans when the consumer is looked at next. It may be looked at too early, never too late.
    pub(crate) fn schedule(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        let Some(due) = consumer.next_deadline() else { return };
        if let Some(at) = consumer.delivering.scheduled {
            if at <= due {
                return;
            }
            self.timers.remove(&(at, Timer::Consumer(id)));
        }
        consumer.delivering.scheduled = Some(due);
        self.timers.insert((due, Timer::Consumer(id)));
    }

    /// The time that [`JetStream::schedule`] planned has come.
    pub(crate) fn consumer_in_time(&mut self, turn: &mut Context<'_>, id: ConsumerId) -> Result<(), StoreError> {
        self.pass_unmatched(turn.store, id);
        let Some(consumer) = self.consumers.get_mut(&id) else { return Ok(()) };
        consumer.delivering.scheduled = None;
        // What was waited for is over, also if it can't be served now: it must not be scheduled for the past.
        consumer.delivering.not_before.take_if(|at| *at <= turn.now.age);
        consumer.requests_in_time(turn.now, turn.deliveries);
        consumer.take_due(turn.now, &mut self.due);
        consumer.unpin_in_time(turn.now);
        if consumer.delivering.pause_ends.take_if(|at| *at <= turn.now.age).is_some() {
            consumer.tell_pause(turn.now, turn.events);
        }
        let is_abandoned = consumer.is_abandoned(turn.now);
        self.announce(turn, id);
        if is_abandoned {
            return self.remove_consumer(turn, id);
        }
        self.list_dirty(id, turn.now);
        self.serve_soon(id);
        self.schedule(id);
        Ok(())
    }
}

impl Consumer {
    /// Accepts a pull request; an error is the status to answer with, empty: none.
    fn take_pull(&mut self, stream: &Stream, pull: &Pull, now: Now, deliveries: &mut Deliveries) -> Result<(), String> {
        let config = &self.config;
        if config.push.is_some() {
            return Err("409 Consumer is push based".into());
        }
        if pull.heartbeat_ms.is_some_and(|heartbeat| heartbeat.saturating_mul(2) > pull.expires_ms.unwrap_or(0)) {
            return Err("400 Bad Request - heartbeat value too large".into());
        }
        if config.max_request_batch > 0 && i64::from(pull.batch) > config.max_request_batch {
            return Err(format!("409 Exceeded MaxRequestBatch of {}", config.max_request_batch));
        }
        let longest = config.max_request_expires_ns;
        if longest > 0 && pull.expires_ms.is_some_and(|expires| expires.saturating_mul(1_000_000) > longest) {
            return Err(format!("409 Exceeded MaxRequestExpires of {}", duration(longest)));
        }
        if u64::try_from(config.max_request_max_bytes).is_ok_and(|max| max > 0 && pull.max_bytes > Some(max)) {
            return Err(format!("409 Exceeded MaxRequestMaxBytes of {}", config.max_request_max_bytes));
        }
        self.check_group(pull, now)?;
        self.requests_in_time(now, deliveries);
        if pull.no_wait {
            let left = self.left(stream) + self.to_redeliver();
            if left == 0 && pull.expires_ms.is_none() {
                return Err("404 No Messages".into());
            }
            if left > 0 && left < self.delivering.wanted() {
                return Err("408 Requests Pending".into());
            }
        }
        if self.delivering.waiting.len() as i64 >= self.config.max_waiting.clamp(1, MOST_WAITING) {
            // A client with heartbeats notices by itself; answering it at once would make it ask again at once.
            let silent = pull.heartbeat_ms.is_some();
            return Err(if silent { String::new() } else { "409 Exceeded MaxWaiting".into() });
        }
        let at = |ms: u64| AgeMillis(now.age.0.saturating_add(ms));
        let mut waiting = Waiting::new(&pull.inbox, pull.batch);
        waiting.bytes_left = pull.max_bytes.filter(|bytes| *bytes > 0);
        waiting.expires = pull.expires_ms.map(at);
        waiting.no_wait = pull.no_wait;
        waiting.odd_batch = pull.odd_batch;
        waiting.odd_bytes = pull.odd_bytes;
        waiting.heartbeat = pull.heartbeat_ms.filter(|ms| *ms > 0).map(|ms| (ms, at(ms)));
        waiting.group = pull.group.clone();
        self.delivering.queue(waiting, self.config.priority.policy);
        Ok(())
    }

    fn acknowledge_and_sample(&mut self, place: &AckPlace, now: Now) -> bool {
        if self.sampled > 0 {
            self.sample(place, now);
        }
        self.acknowledge(place, now)
    }

    fn to_redeliver(&self) -> u64 {
        if self.config.ack_policy == AckPolicy::None {
            return self.redeliver.len() as u64;
        }
        let queued = |sequence: &&Sequence| self.pending.get(**sequence).is_some_and(|entry| entry.queued);
        self.redeliver.iter().filter(queued).count() as u64
    }

    /// `+WPI`: the work goes on, wait longer.
    fn in_progress(&mut self, place: &AckPlace, now: Now) -> bool {
        if let Some(entry) = self.pending.get(place.sequence) {
            let due = self.due(now, entry.deliveries);
            self.dirty |= self.pending.postpone(place.sequence, due);
        }
        true
    }

    /// `-NAK`: deliver it again, at once or after a delay.
    fn refuse(&mut self, place: &AckPlace, arguments: &[u8], now: Now) -> bool {
        if self.config.ack_policy == AckPolicy::None || self.pending.get(place.sequence).is_none() {
            return true;
        }
        self.dirty = true;
        self.tell_refused(place);
        match nak_delay(arguments.trim_ascii()) {
            Some(delay) => {
                self.pending.postpone(place.sequence, AgeMillis(now.age.0.saturating_add(delay)));
            }
            None if self.pending.queue(place.sequence, now.age) => self.deliver_again(place.sequence),
            None => {}
        }
        true
    }

    /// What was not acknowledged in time goes to the redelivery queue, or is given up.
    fn take_due(&mut self, now: Now, due: &mut Vec<Sequence>) {
        self.pending.take_due(now.age, due);
        for sequence in due.drain(..) {
            self.dirty = true;
            if self.pending.get(sequence).is_some_and(|entry| self.is_exhausted(entry.received())) {
                self.give_up(sequence);
            } else {
                self.deliver_again(sequence);
            }
        }
    }

    /// When it is removed if nobody uses it. While messages are outstanding somebody may be working on them, so the threshold counts from when
    /// the last of them was due.
    fn inactive_at(&self) -> Option<AgeMillis> {
        // What a hub was sent and has not confirmed, and what an interest stream stores for it, is for its next consumer.
        let is_missed = self.held.len() > 0 || self.retention == Retention::Interest;
        let is_expected = base_name(&self.config).is_some() || (self.config.is_source() && is_missed);
        let kept = if is_expected { KEPT_NS } else { 0 };
        let threshold = self.config.inactive_threshold_ns.max(kept);
        let longest = self.config.backoff_ns.iter().max().unwrap_or(&self.config.ack_wait_ns);
        let work = if self.pending.len() > 0 { *longest } else { 0 };
        let wait = threshold.saturating_add(work).div_ceil(1_000_000);
        (threshold > 0).then(|| AgeMillis(self.delivering.last_active.0.saturating_add(wait)))
    }

    /// Nobody has used it for so long that it is removed.
    fn is_abandoned(&mut self, now: Now) -> bool {
        if !self.delivering.waiting.is_empty() {
            self.delivering.last_active = now.age;
        }
        self.inactive_at().is_some_and(|at| at <= now.age)
    }

    fn next_deadline(&self) -> Option<AgeMillis> {
        let delivering = &self.delivering;
        let rare = [self.inactive_at(), delivering.pinned_until(), delivering.pause_ends];
        let deadlines = [self.pending.next_due(), delivering.next_deadline()].into_iter().chain(rare);
        deadlines.flatten().min()
    }
}

/// How far a receiver has come, as its answer to flow control says; `None` when it does not say.
fn flow_place(headers: &[u8]) -> Option<AckPlace> {
    let value = |name: &[u8]| {
        let lines = headers.split(|byte| *byte == b'\n');
        let value = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(b":")).next()?;
        std::str::from_utf8(value).ok()?.trim().parse::<u64>().ok()
    };
    // 0 is a place as well: it has nothing.
    let sequence = value(b"Nats-Last-Stream")?;
    let consumer_sequence = value(b"Nats-Last-Consumer").unwrap_or(0);
    Some(AckPlace { deliveries: 1, sequence: Sequence(sequence), consumer_sequence, time: 0, pending: 0 })
}

/// The request that `+NXT` carries.
fn next_request(arguments: &[u8], inbox: &[u8]) -> Pull {
    let arguments = arguments.trim_ascii();
    let is_object = arguments.starts_with(b"{");
    let mut pull = Pull { inbox: inbox.into(), batch: 1, is_object, ..Pull::default() };
    let mut group = PullGroup::default();
    if let Some(batch) = std::str::from_utf8(arguments).ok().and_then(|text| text.parse().ok()) {
        pull.batch = batch;
    }
    for (key, value) in flat_json::fields(arguments).unwrap_or_default() {
        let nanos_as_millis = || value.count().filter(|nanos| *nanos > 0).map(|nanos| nanos.div_ceil(1_000_000));
        match key {
            "batch" => pull.batch = value.count().and_then(|count| u32::try_from(count).ok()).unwrap_or(1),
            "expires" => pull.expires_ms = nanos_as_millis(),
            "idle_heartbeat" => pull.heartbeat_ms = nanos_as_millis(),
            "max_bytes" => pull.max_bytes = value.count(),
            "no_wait" => pull.no_wait = value == Value::Flag(true),
            _ => group.set(key, value),
        }
    }
    pull.group = (group != PullGroup::default()).then(|| Box::new(group));
    pull
}

impl PullGroup {
    /// A field of `+NXT`.
    fn set(&mut self, key: &str, value: Value<'_>) {
        match (key, value) {
            ("group", Value::Text(text)) => self.group = PullGroup::bounded(text),
            ("id", Value::Text(text)) => self.pin = PullGroup::bounded(text),
            ("min_pending", Value::Number(number)) => self.min_pending = number,
            ("min_ack_pending", Value::Number(number)) => self.min_ack_pending = number,
            ("priority", Value::Number(number)) => self.priority = number,
            _ => {}
        }
    }
}

/// Milliseconds that a `-NAK` asks to wait: `{"delay": nanoseconds}` or a duration such as `1.5s`; `None`: deliver at once.
fn nak_delay(arguments: &[u8]) -> Option<u64> {
    if arguments.starts_with(b"{") {
        let fields = flat_json::fields(arguments)?;
        let delay = fields.iter().find(|(key, _)| *key == "delay").and_then(|(_, value)| value.count()).unwrap_or(0);
        return Some(delay.div_ceil(1_000_000));
    }
    parse_duration(std::str::from_utf8(arguments).ok()?)
}

/// A duration as Go writes it (`1h2m3.5s`, `250ms`), in milliseconds.
pub(crate) fn parse_duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut millis = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (value, after) = rest.split_at(number);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let factor = match unit {
            "ns" => 1e-6,
            "us" | "µs" => 1e-3,
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 6e4,
            "h" => 3.6e6,
            _ => return None,
        };
        millis += value.parse::<f64>().ok()? * factor;
        rest = after;
    }
    (!text.is_empty()).then_some(millis.ceil() as u64)
}

/// A duration as Go prints it.
pub(crate) fn duration(nanos: u64) -> String {
    let (hours, minutes) = (nanos / 3_600_000_000_000, nanos / 60_000_000_000 % 60);
    let rest = nanos % 60_000_000_000;
    let fraction = |unit: u64, name: &str| {
        let (whole, below) = (rest / unit, rest % unit);
        let digits = unit.ilog10() as usize;
        let text = if below == 0 { String::new() } else { format!(".{below:0digits$}") };
        format!("{whole}{}{name}", text.trim_end_matches('0'))
    };
    match (hours, minutes, rest) {
        (0, 0, ..1_000) => format!("{rest}ns"),
        (0, 0, ..1_000_000) => fraction(1_000, "µs"),
        (0, 0, ..1_000_000_000) => fraction(1_000_000, "ms"),
        (0, 0, _) => fraction(1_000_000_000, "s"),
        (0, ..) => format!("{minutes}m{}", fraction(1_000_000_000, "s")),
        _ => format!("{hours}h{minutes}m{}", fraction(1_000_000_000, "s")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::{AckPlace, MOST_WAITING, MOST_WAITING_BYTES, duration, nak_delay, next_request};
    use crate::command::{Batch, Command, Deliveries, Pull, Request};
    use crate::config::{ConsumerConfig, StreamConfig};
    use crate::identity::{AgeMillis, Now};
    use crate::store::memory::MemoryStore;
    use crate::{JetStream, Limits};

    proptest! {
        #[test]
        fn any_arguments_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..30), text in "[0-9.hmsnu{}\":, ]{0,20}") {
            for arguments in [bytes.as_slice(), text.as_bytes()] {
                let _ = (nak_delay(arguments), next_request(arguments, b"in"), AckPlace::parse(arguments));
            }
        }
    }

    #[test]
    fn durations_are_printed_as_in_go() {
        let printed = [500, 1_500, 2_500_000, 1_000_000_000, 90_000_000_000, 3_600_000_000_000].map(duration);
        assert_eq!(printed, ["500ns", "1.5µs", "2.5ms", "1s", "1m30s", "1h0m0s"]);
    }

    #[test]
    fn delays_of_refusals_are_read_in_both_forms() {
        let read = [r#"{"delay": 5000000000}"#, "1.5s", "1m30s", "250ms", "", "soon", "{bad"]
            .map(|text| nak_delay(text.as_bytes()));
        assert_eq!(read, [Some(5000), Some(1500), Some(90_000), Some(250), None, None, None]);
    }

    #[test]
    fn waiting_pulls_of_all_consumers_share_a_limit_and_give_their_room_back() {
        let mut store = MemoryStore::default();
        let (mut jetstream, _) = JetStream::load(&mut store, Now::default(), Limits::default()).expect("loads");
        let mut run = |age: u64, commands: Vec<Command>| {
            let (now, batch) = (Now { age: AgeMillis(age), ..Now::default() }, Batch { commands, ..Batch::default() });
            let (mut outcomes, mut deliveries, mut events) = (Vec::new(), Deliveries::default(), Vec::new());
            jetstream.apply(&mut store, now, &batch, &mut outcomes, &mut deliveries, &mut events).expect("applies");
            jetstream.tick(&mut store, now, &mut deliveries, &mut events).expect("ticks");
            deliveries.entries.len()
        };
        let request = |request: Request| Command::Request(Box::new(request));
        let mut commands = vec![request(Request::StreamCreate { config: Box::new(StreamConfig::named("S")) })];
        for name in ["a", "b"] {
            let config = Box::new(ConsumerConfig { max_waiting: MOST_WAITING, ..ConsumerConfig::named(name) });
            commands.push(request(Request::ConsumerCreate { stream: "S".into(), config, action: Default::default() }));
        }
        run(0, commands);
        let pull = |consumer: &str| {
            let inbox = vec![b'i'; 4000].into();
            let (stream, consumer) = ("S".into(), consumer.into());
            Command::Pull(Box::new(Pull {
                stream,
                consumer,
                inbox,
                batch: 1,
                expires_ms: Some(100),
                ..Pull::default()
            }))
        };
        let half = MOST_WAITING_BYTES / 2 / 4000;
        let pulls = |consumer: &str| (0..half).map(|_| pull(consumer)).collect::<Vec<_>>();
        assert_eq!(run(1, pulls("a")), 0);
        let refused = run(2, pulls("b"));
        assert!((1..half / 8).contains(&refused), "{refused} of {half} are refused at once");
        assert_eq!(run(200, Vec::new()), 2 * half - refused, "the others expire");
        assert_eq!(run(201, pulls("a")), 0, "and leave their room");
    }
}
