//! One origin's side of the conversation: asks for a consumer, takes what it delivers in order, answers flow control, and asks anew when something is
//! missing.
//!
//! ```text
//!            ┌────────────── refused, no answer: later, with longer pauses ─────────────┐
//!            ▼                                                                          │
//!         Waiting ── due, everything handed out is stored ──► Asking ── created ──► Receiving
//!            ▲                                                  │ nobody hears          │ gap, silence, refused, link gone
//!            ├────────────── somebody does ───────── Unheard ◄──┘                       │
//!            └──────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! What stock does as origin and as puller decides the wire: the request, its three levels (5: identity of the stream, 4: sourcing, none), the messages'
//! ack subjects, heartbeats each second, flow control. An answer to flow control says how far the *store* has come: what an origin removes then is
//! durable here.
//!
//! Not here: JSON, subscriptions, the clock and the store. Times are microseconds of a monotonic clock.

use std::collections::VecDeque;

use crate::api_error::{self, ApiError};
use crate::config::Source;
use crate::consumer::ack_subject::AckPlace;
use crate::identity::{HIGHEST_SEQUENCE, Sequence, Timestamp};
use crate::origin::OriginFacts;
use crate::origin::request::{Ask, Created, Level, Requests};

const MILLISECOND: u64 = 1_000;
pub(super) const SECOND: u64 = 1_000_000;
/// Two requests are so far apart at least, as stock's are, unless a link came between.
const BETWEEN_REQUESTS: u64 = 2 * SECOND;
/// Nothing was heard, not even a heartbeat: the consumer is gone.
pub(super) const SILENCE: u64 = 10 * SECOND;
/// One message takes so long at most: behind others that never end a consumer that is gone would not be missed.
const LONGEST_MESSAGE: u64 = 120 * SECOND;
/// An answer takes so long at most; the first one.
const PATIENCE: u64 = 5 * SECOND;
/// So many failures leave it as it is: elections of a cluster take some ten seconds.
const PATIENT_FAILURES: u32 = 2;
/// The same, after more failures.
const LONGEST_PATIENCE: u64 = 30 * SECOND;
/// The longest pause after failures.
const LONGEST_PAUSE: u64 = 60 * SECOND;
/// An origin that nobody answers for is asked again after so long, whether interest in it was seen or not.
const UNHEARD_PAUSE: u64 = 10 * SECOND;
/// Every request is late by so much at random: a hundred sources do not ask at once.
const JITTER: u64 = 100 * MILLISECOND;
/// What was handed out is still at the store: looked at again after so long.
const STORE_PAUSE: u64 = 20 * MILLISECOND;
/// Requests for flow control that wait for the store. Stock has one at a time.
const MOST_CONFIRMATIONS: usize = 64;

/// What a stock origin sends before the first answer to flow control, and the most that answers, each of which doubles it, bring it to.
const FIRST_WINDOW: u64 = 2 << 20;
const LARGEST_WINDOW: u64 = 32 << 20;

/// The header block that says that a message is the origin's own word.
const CONTROL: &[u8] = b"NATS/1.0 100 ";

/// What a puller wants done. Done in order.
#[derive(Debug)]
pub enum Step {
    /// End what was subscribed to, subscribe to the reply subject, and send the request. [`Puller::handle_unheard`] if nobody hears it.
    Ask(Box<Ask>),
    /// Subscribe to the subject that is delivered to, instead of the reply subject.
    Listen {
        /// Literal subject.
        subject: Box<str>,
    },
    /// End what was subscribed to.
    Leave,
    /// Tell the store, before anything that is taken from now on.
    Begin(Begun),
    /// An answer to flow control.
    Answer {
        /// Where it goes.
        subject: Box<[u8]>,
        /// The last delivery's consumer and stream sequences; `None`: an empty message.
        last: Option<(u64, Sequence)>,
    },
}

/// What the store is to know of an origin that begins to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begun {
    /// See [`crate::origin::Begin`].
    pub identity: Box<str>,
    /// See [`crate::origin::Begin`].
    pub is_anew: bool,
    /// See [`crate::origin::Begin`].
    pub skip_to: Sequence,
}

/// A message that is to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taking {
    /// Its sequence at the origin.
    pub sequence: Sequence,
    /// That of the one before it.
    pub previous: Sequence,
    /// When it was stored there.
    pub time: Timestamp,
}

/// What the API shows of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginState {
    /// Messages behind the last one that came.
    pub lag: u64,
    /// The last one that is stored here.
    pub sequence: Sequence,
    /// When it was last heard.
    pub heard: Option<u64>,
    /// Why nothing comes.
    pub error: Option<ApiError>,
    /// What was wrong last; kept when messages come again.
    pub last_error: Option<ApiError>,
    /// What it does.
    pub stage: Stage,
    /// Since when it receives, or does not.
    pub since: u64,
}

/// What a puller does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It will ask, now or after a pause.
    Waiting,
    /// Nobody hears its requests.
    Unheard,
    /// It has asked.
    Asking,
    /// Messages and heartbeats come.
    Receiving,
}

#[derive(Debug)]
enum Phase {
    Waiting { until: u64 },
    Unheard { until: u64 },
    Asking { until: u64 },
    Receiving { consumer: Box<[u8]>, check_at: u64 },
}

/// A request for flow control, to be answered when everything before it is stored.
#[derive(Debug)]
struct Confirmation {
    after: u64,
    subject: Box<[u8]>,
    last: (u64, Sequence),
}

/// See the module.
#[derive(Debug)]
pub struct Puller {
    requests: Requests,
    is_mirror: bool,
    phase: Phase,
    level: Level,
    /// The last message handed out, and the last one that the store has.
    taken: Sequence,
    stored: Sequence,
    /// The position as the store announced it, until something more is stored.
    announced: Option<Sequence>,
    /// The last delivery's consumer sequence.
    delivered: u64,
    identity: Box<str>,
    /// The origin's stream was made again: everything of it is wanted.
    is_anew: bool,
    fails: u32,
    /// Messages in a row that our own store has refused.
    refusals: u32,
    asked_at: Option<u64>,
    /// Since when it receives, or does not.
    since: u64,
    heard: Option<u64>,
    /// When bytes of a message came that takes its time: who sends behind it is not silent.
    arriving: u64,
    lag: u64,
    error: Option<ApiError>,
    last_error: Option<ApiError>,
    /// Messages handed out, and those that came back.
    issued: u64,
    finished: u64,
    confirmations: VecDeque<Confirmation>,
    /// What the origin may have on its way by now, bytes.
    window: u64,
    /// An answer to flow control that was not given: the window would be more than there is room for, and the store is slower than the link.
    withheld: Option<Confirmation>,
    /// Bytes that may wait for the store, and those that do, of all origins.
    room: u64,
    waiting: u64,
    steps: VecDeque<Step>,
}

impl Puller {
    /// A puller for an origin of `stream`; it asks at once. `us`: our account and domain. `seed`: of names and jitter.
    #[must_use]
    pub fn new(
        facts: &OriginFacts,
        stream: &str,
        is_mirror: bool,
        us: (&str, Option<&str>),
        now: u64,
        seed: u64,
    ) -> Puller {
        let mut puller = Puller {
            requests: Requests::new(facts, stream, is_mirror, us, seed),
            is_mirror,
            phase: Phase::Waiting { until: now },
            level: Level::Plain,
            taken: facts.position,
            stored: facts.position,
            announced: None,
            delivered: 0,
            identity: facts.identity.clone(),
            is_anew: false,
            fails: 0,
            refusals: 0,
            asked_at: None,
            since: now,
            heard: None,
            arriving: 0,
            lag: 0,
            error: None,
            last_error: None,
            issued: 0,
            finished: 0,
            confirmations: VecDeque::new(),
            window: FIRST_WINDOW,
            withheld: None,
            room: u64::MAX,
            waiting: 0,
            steps: VecDeque::new(),
        };
        puller.phase = Phase::Waiting { until: now + puller.jitter() };
        puller
    }

    /// The source it pulls from.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.requests.source
    }

    /// What tells the origin from one made again under its name; empty: not known.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// What the API shows.
    #[must_use]
    pub fn state(&self) -> OriginState {
        let stage = match self.phase {
            Phase::Waiting { .. } => Stage::Waiting,
            Phase::Unheard { .. } => Stage::Unheard,
            Phase::Asking { .. } => Stage::Asking,
            Phase::Receiving { .. } => Stage::Receiving,
        };
        let (lag, sequence, heard, since, error) = (self.lag, self.stored, self.heard, self.since, self.error.clone());
        let last_error = error.clone().or_else(|| self.last_error.clone());
        OriginState { lag, sequence, heard, error, last_error, stage, since }
    }

    /// Where the request that ends its consumer goes, when it is not wanted any more; `None`: that is its owner's.
    #[must_use]
    pub fn farewell(&self) -> Option<String> {
        self.requests.farewell().filter(|_| self.asked_at.is_some())
    }

    /// When [`Puller::handle_timeout`] is to be called; 0: there are steps to be done.
    #[must_use]
    pub fn poll_timeout(&self) -> u64 {
        match self.phase {
            _ if !self.steps.is_empty() => 0,
            Phase::Waiting { until } | Phase::Unheard { until } | Phase::Asking { until } => until,
            Phase::Receiving { check_at, .. } => check_at,
        }
    }

    /// The next thing to be done.
    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// The time that [`Puller::poll_timeout`] gave has come.
    pub fn handle_timeout(&mut self, now: u64) {
        if self.poll_timeout() > now || !self.steps.is_empty() {
            return;
        }
        match &mut self.phase {
            Phase::Waiting { until } if self.issued > self.finished => *until = now + STORE_PAUSE,
            Phase::Waiting { .. } | Phase::Unheard { .. } => self.ask_first(now),
            Phase::Asking { .. } => {
                self.error = Some(self.requests.failure("the origin does not answer"));
                // In a cluster without a leader a request is lost, and nobody tells when there is one: the patience was pause enough.
                self.fails += 1;
                self.again(now, 0);
            }
            Phase::Receiving { check_at, .. } => {
                let heard = self.heard.unwrap_or(0);
                let silent_at = heard.max(self.arriving.min(heard + LONGEST_MESSAGE)) + SILENCE;
                if silent_at > now {
                    *check_at = silent_at;
                } else {
                    self.again(now, 0);
                }
            }
        }
    }

    /// At `at` there came bytes of a message that has been on its way over a link for a while, for whomever it is: heartbeats wait behind it.
    pub fn handle_slow_link(&mut self, at: u64) {
        if self.requests.source.external.is_some() {
            self.arriving = self.arriving.max(at);
        }
    }

    /// Would [`Puller::handle_reachable`] change anything?
    #[must_use]
    pub fn hopes(&self) -> bool {
        matches!(self.phase, Phase::Unheard { .. }) || (self.fails > 0 && matches!(self.phase, Phase::Waiting { .. }))
    }

    /// Nobody listens where the last request went.
    pub fn handle_unheard(&mut self, now: u64) {
        if matches!(self.phase, Phase::Asking { .. }) {
            self.error =
                Some(self.requests.failure("nobody hears requests to the origin: is there a link, and a stream?"));
            self.phase = Phase::Unheard { until: now + UNHEARD_PAUSE };
            self.steps.push_back(Step::Leave);
        }
    }

    /// There may be somebody now: a link is up, a hub wants something new, a stream was made.
    pub fn handle_reachable(&mut self, now: u64) {
        let until = now + self.jitter();
        // Somebody who answers with an error is not asked again for each thing that changes there.
        let not_before = self.asked_at.map_or(0, |asked| asked + BETWEEN_REQUESTS);
        match &mut self.phase {
            Phase::Unheard { .. } => self.phase = Phase::Waiting { until },
            Phase::Waiting { until: planned } if self.fails > 0 => *planned = until.max(not_before).min(*planned),
            _ => {}
        }
    }

    /// A link is gone. Who was reached over it has forgotten us when it is back, or will have to be asked: one request more is cheap.
    pub fn handle_link_down(&mut self, now: u64) {
        if self.requests.source.external.is_some() && !matches!(self.phase, Phase::Unheard { .. }) {
            self.leave(now);
            let until = now + self.jitter();
            self.phase = Phase::Waiting { until };
            self.fails = 0;
        }
    }

    /// The answer to the last request.
    pub fn handle_answer(&mut self, now: u64, answer: Result<Created, ApiError>) {
        if !matches!(self.phase, Phase::Asking { .. }) {
            return;
        }
        match answer {
            Ok(created) => self.created(now, created),
            Err(error) if error.err_code == api_error::consumer_stream_identity_mismatch("").err_code => {
                self.start_over(now)
            }
            Err(error) if self.level > Level::Plain && is_too_new(&error) => {
                self.level = if self.level == Level::Identity { Level::Sourcing } else { Level::Plain };
                self.ask(now);
            }
            Err(error) => {
                self.error = Some(error);
                self.fail(now);
            }
        }
    }

    /// Something was delivered. `reply`: its ack subject, or where an answer to flow control goes.
    pub fn handle_message(&mut self, now: u64, reply: &[u8], headers: &[u8], is_empty: bool) -> Option<Taking> {
        let Phase::Receiving { consumer, .. } = &self.phase else { return None };
        if is_empty && headers.starts_with(CONTROL) {
            self.control(now, reply, headers);
            return None;
        }
        let place = AckPlace::parse(reply).filter(|_| consumer_of(reply) == Some(&**consumer))?;
        self.heard = Some(now);
        // Where it says that nothing was sent yet it is a new consumer; a second delivery of one message is none of ours.
        if place.deliveries > 1 || place.consumer_sequence <= self.delivered || place.sequence > HIGHEST_SEQUENCE {
            return None;
        }
        if place.consumer_sequence > self.delivered + 1 {
            self.again(now, 0);
            return None;
        }
        self.delivered = place.consumer_sequence;
        if place.sequence <= self.taken {
            return None;
        }
        self.lag = place.pending.saturating_sub(1);
        self.issued += 1;
        let previous = std::mem::replace(&mut self.taken, place.sequence);
        Some(Taking { sequence: place.sequence, previous, time: Timestamp(place.time) })
    }

    /// A message that was handed out is stored, or was refused.
    pub fn handle_stored(&mut self, now: u64, sequence: Sequence, refused: Option<&ApiError>) {
        self.finished += 1;
        match refused {
            None => (self.stored, self.announced, self.refusals) = (self.stored.max(sequence), None, 0),
            Some(error) if matches!(self.phase, Phase::Receiving { .. }) => {
                self.error = Some(error.clone());
                // Each round may bring a whole window for nothing: a full stream must not fill the link.
                self.refusals += 1;
                let pause = pause_after(self.refusals);
                self.again(now, pause);
            }
            Some(_) => {}
        }
        while let Some(ready) = self.confirmations.pop_front_if(|first| first.after <= self.finished) {
            self.confirm(ready);
        }
    }

    /// So many bytes may wait for the store, and so many do, of all origins.
    pub fn handle_room(&mut self, room: u64, waiting: u64) {
        (self.room, self.waiting) = (room, waiting);
    }

    /// The store says how far the stream has come. It knows better when it has refused something, or was purged up to somewhere.
    pub fn handle_position(&mut self, position: Sequence) {
        self.announced = Some(position);
    }

    /// A message that was handed out could not be taken at all: there is too much at the store.
    pub fn handle_overload(&mut self, now: u64) {
        self.finished += 1;
        self.again(now, SECOND);
    }

    fn control(&mut self, now: u64, reply: &[u8], headers: &[u8]) {
        self.heard = Some(now);
        if !reply.is_empty() {
            let last = (self.delivered, self.taken);
            let request = Confirmation { after: self.issued, subject: reply.into(), last };
            if self.issued == self.finished {
                self.confirm(request);
            } else if self.confirmations.len() < MOST_CONFIRMATIONS {
                self.confirmations.push_back(request);
            }
            return;
        }
        let last = value(headers, b"Nats-Last-Consumer").and_then(|text| text.parse::<u64>().ok());
        if last.is_some_and(|last| last > 0 && last != self.delivered) {
            return self.again(now, 0);
        }
        let stalled = value(headers, b"Nats-Consumer-Stalled");
        let is_stored = self.issued == self.finished;
        match (stalled, self.withheld.take_if(|_| is_stored)) {
            // It has sent all it may, and that is stored: nothing is on its way that would come twice. The next consumer begins with a small window.
            (Some(_), Some(_)) => self.again(now, 0),
            // It has no more to send.
            (None, Some(request)) => self.give(request.subject, Some(request.last)),
            // The answer follows when the store has what it is about.
            (Some(_), None) if self.withheld.is_some() || !self.confirmations.is_empty() => {}
            (Some(stalled), None) => self.give(stalled.as_bytes().into(), None),
            (None, None) => {}
        }
    }

    /// Answers flow control, unless that lets come what there is no room for: it would be thrown away, and asked for again.
    fn confirm(&mut self, request: Confirmation) {
        // What waits says that the store is slower than the links; others may have as much on their way.
        if self.waiting > self.room / 4 && self.doubled() > self.room.saturating_sub(self.waiting) / 2 {
            self.withheld = Some(request);
        } else {
            self.give(request.subject, Some(request.last));
        }
    }

    fn give(&mut self, subject: Box<[u8]>, last: Option<(u64, Sequence)>) {
        self.window = self.doubled();
        self.steps.push_back(Step::Answer { subject, last });
    }

    fn doubled(&self) -> u64 {
        (self.window * 2).min(LARGEST_WINDOW)
    }

    fn created(&mut self, now: u64, created: Created) {
        if self.requests.source.consumer.is_some() && !created.is_confirmed_by_flow {
            let (mirror, source) =
                (api_error::MIRROR_CONSUMER_REQUIRES_ACK_FC, api_error::SOURCE_CONSUMER_REQUIRES_ACK_FC);
            self.error = Some(if self.is_mirror { mirror } else { source });
            return self.fail(now);
        }
        let is_other = !created.identity.is_empty() && !self.identity.is_empty() && created.identity != self.identity;
        if is_other && !self.is_anew && !self.is_mirror {
            // It begins where the stream before it ended: what comes before that would be missing.
            return self.start_over(now);
        }
        let skip_to =
            if self.is_mirror && created.delivered <= HIGHEST_SEQUENCE { created.delivered } else { Sequence(0) };
        // A lower level says none: what was known of it still holds.
        let is_news = !self.is_mirror && !created.identity.is_empty() && created.identity != self.identity;
        if is_news || self.is_anew || skip_to > self.taken {
            if is_news || self.is_anew && !self.is_mirror {
                self.identity.clone_from(&created.identity);
            }
            let begun = Begun { identity: self.identity.clone(), is_anew: self.is_anew, skip_to };
            self.steps.push_back(Step::Begin(begun));
            self.taken = self.taken.max(skip_to);
            (self.stored, self.announced) = (self.taken, None);
        }
        self.is_anew = false;
        self.delivered = 0;
        (self.fails, self.heard, self.since) = (0, Some(now), now);
        self.last_error = self.error.take().or(self.last_error.take());
        let subject = match &self.requests.source.consumer {
            Some(consumer) => consumer.deliver_subject.clone(),
            None => created.deliver_subject,
        };
        self.phase = Phase::Receiving { consumer: created.name.as_bytes().into(), check_at: now + SILENCE };
        self.steps.push_back(Step::Listen { subject });
    }

    /// The origin is another stream than the one that was known.
    fn start_over(&mut self, now: u64) {
        (self.identity, self.is_anew) = ("".into(), true);
        (self.taken, self.stored, self.announced) = (Sequence(0), Sequence(0), None);
        self.again(now, 0);
    }

    /// Asks anew, from what is stored: not before the last request is long enough ago, and after a pause.
    fn again(&mut self, now: u64, pause: u64) {
        self.leave(now);
        let earliest = self.asked_at.map_or(now, |asked| asked + BETWEEN_REQUESTS).max(now);
        let until = earliest.max(now + pause) + JITTER + self.jitter();
        self.phase = Phase::Waiting { until };
    }

    fn fail(&mut self, now: u64) {
        self.fails += 1;
        let pause = pause_after(self.fails);
        self.again(now, pause);
    }

    fn leave(&mut self, now: u64) {
        if matches!(self.phase, Phase::Receiving { .. }) {
            self.since = now;
        }
        self.confirmations.clear();
        (self.window, self.withheld) = (FIRST_WINDOW, None);
        self.steps.retain(|step| matches!(step, Step::Begin(_)));
        self.steps.push_back(Step::Leave);
    }

    fn ask_first(&mut self, now: u64) {
        self.level = if self.is_mirror { Level::Sourcing } else { Level::Identity };
        if let Some(announced) = self.announced.take().filter(|_| !self.is_anew) {
            self.stored = announced;
        }
        self.taken = self.stored;
        self.ask(now);
    }

    fn ask(&mut self, now: u64) {
        self.asked_at = Some(now);
        let patience = (PATIENCE << self.fails.saturating_sub(PATIENT_FAILURES).min(3)).min(LONGEST_PATIENCE);
        self.phase = Phase::Asking { until: now + patience };
        let ask = self.requests.ask(self.level, &self.identity, self.stored);
        self.steps.push_back(Step::Ask(Box::new(ask)));
    }

    fn jitter(&mut self) -> u64 {
        self.requests.random() % JITTER
    }
}

/// The other side does not know what was asked for: an older way may do.
fn is_too_new(error: &ApiError) -> bool {
    error.err_code == api_error::REQUIRED_API_LEVEL.err_code || error.err_code == api_error::invalid_json("").err_code
}

/// The consumer's name in an ack subject of either form.
fn consumer_of(reply: &[u8]) -> Option<&[u8]> {
    let place = if memchr::memchr_iter(b'.', reply).count() == 8 { 3 } else { 5 };
    reply.split(|byte| *byte == b'.').nth(place).filter(|_| reply.starts_with(b"$JS.ACK."))
}

/// A header's value.
fn value<'a>(headers: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let lines = headers.split(|byte| *byte == b'\n');
    let mut values = lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(b":"));
    values.next().and_then(|value| std::str::from_utf8(value.trim_ascii()).ok()).filter(|value| !value.is_empty())
}

/// Twice as long after each failure.
fn pause_after(failures: u32) -> u64 {
    (BETWEEN_REQUESTS << failures.saturating_sub(1).min(8)).min(LONGEST_PAUSE)
}
