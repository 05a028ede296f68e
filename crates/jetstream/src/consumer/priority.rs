//! Priority groups (ADR-42): who of those that pull from one consumer gets the next message.
//!
//! *Overflow*: a request that names a threshold is passed over while less is pending. *Prioritized*: the lowest number first, in turn among equals.
//! *Pinned client*: the first request that is served gets an id with each message, and all messages, as long as requests with that id keep
//! coming. Which client that is lives as long as the process: after a restart the old id is refused as a wrong one, and its client asks again.

use crate::advisory::{Advisory, Unpinned};
use crate::api_error::{self, ApiError};
use crate::command::{Answer, Deliveries, GroupState, Pull, PullGroup};
use crate::config::{ConsumerConfig, Priority, PriorityPolicy};
use crate::consumer::Consumer;
use crate::consumer::delivery::{Delivering, Waiting};
use crate::identity::{AgeMillis, Now, Timestamp};
use crate::jetstream::{Context, JetStream};
use crate::stream::requests::Answered;

/// How long a pinned client may be silent if nothing else is said.
const PINNED_TTL_NS: u64 = 120_000_000_000;
/// Characters of a group's name.
const LONGEST_GROUP: usize = 16;
/// The largest number that a request may name.
const LAST_PRIORITY: i64 = 9;
/// Bytes of what a request says that are looked at.
const LONGEST_TEXT: usize = 64;
/// Characters of a pin.
const PIN: usize = 22;

/// The client that gets everything.
#[derive(Debug)]
pub(crate) struct Pin {
    /// What it is to say.
    id: Box<str>,
    /// Its group.
    group: Box<str>,
    since: Timestamp,
    /// It has it until then, unless it asks again.
    until: AgeMillis,
    /// Where the request wanted its messages that it was given to; empty when it is known to have arrived.
    inbox: Box<[u8]>,
}

impl Pin {
    /// The headers of a message for the pinned client, with the one that says its size.
    pub(crate) fn added_to(&self, headers: &[u8], size: Option<&str>) -> Vec<u8> {
        let begin = if headers.is_empty() { b"NATS/1.0\r\n" } else { headers.strip_suffix(b"\r\n").unwrap_or(headers) };
        let size = size.map_or(String::new(), |size| format!("Nats-Msg-Size: {size}\r\n"));
        [begin, size.as_bytes(), b"Nats-Pin-Id: ", self.id.as_bytes(), b"\r\n\r\n"].concat()
    }
}

/// What becomes of the request that is first in the queue.
enum Choice {
    /// It gets the message.
    Takes,
    /// It gets the message, and is the pinned client from now on.
    TakesNewly,
    /// Another one, perhaps.
    Passes,
    /// It says a pin that is not valid.
    IsWrong,
}

/// Fills in what depends on the policy.
pub(crate) fn complete(priority: &mut Priority) {
    if priority.policy == PriorityPolicy::PinnedClient && priority.pinned_ttl_ns == 0 {
        priority.pinned_ttl_ns = PINNED_TTL_NS;
    }
}

/// Checks the groups of a configuration.
pub(crate) fn check(config: &ConsumerConfig) -> Result<(), ApiError> {
    let Priority { groups, policy, pinned_ttl_ns } = &config.priority;
    let rules = if *policy == PriorityPolicy::None {
        [
            (!groups.is_empty(), api_error::CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE),
            (*pinned_ttl_ns > 0, api_error::CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE),
        ]
    } else {
        [
            (config.push.is_some(), api_error::CONSUMER_PUSH_WITH_PRIORITY_GROUP),
            (groups.is_empty(), api_error::CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP),
        ]
    };
    let broken = rules.into_iter().find(|(broken, _)| *broken).map(|(_, error)| error);
    let wrong_name = || groups.iter().find_map(|group| check_group_name(group).err());
    broken.or_else(wrong_name).map_or(Ok(()), Err)
}

/// Could it be a group's name?
pub(crate) fn check_group_name(group: &str) -> Result<(), ApiError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"/_=-".contains(&byte);
    if group.is_empty() {
        return Err(api_error::CONSUMER_EMPTY_GROUP_NAME);
    }
    if group.len() > LONGEST_GROUP || !group.bytes().all(fits) {
        return Err(api_error::CONSUMER_INVALID_GROUP_NAME);
    }
    Ok(())
}

impl JetStream {
    /// The pinned client of a group loses its place.
    pub(crate) fn unpin_consumer(&mut self, turn: &mut Context<'_>, stream: &str, name: &str, group: &str) -> Answered {
        // Stock does not tell an empty name from a wrong one here.
        if check_group_name(group).is_err() {
            return Ok(Err(api_error::CONSUMER_INVALID_GROUP_NAME));
        }
        let Some(stream) = self.stream_named(stream) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let Some(id) = stream.consumers.get(name).copied() else { return Ok(Err(api_error::CONSUMER_NOT_FOUND)) };
        let Some(consumer) = self.consumers.get_mut(&id) else { return Ok(Err(api_error::CONSUMER_NOT_FOUND)) };
        if !consumer.config.priority.groups.iter().any(|known| **known == *group) {
            return Ok(Err(api_error::CONSUMER_INVALID_PRIORITY_GROUP));
        }
        consumer.delivering.pin = None;
        consumer.news.push(Advisory::Unpinned { consumer: id, group: group.into(), reason: Unpinned::Admin });
        self.announce(turn, id);
        self.serve_soon(id);
        Ok(Ok(Answer::Done))
    }
}

impl Consumer {
    /// Is what a request says of its group right? The error is the status to answer with.
    pub(crate) fn check_group(&mut self, pull: &Pull, now: Now) -> Result<(), String> {
        let policy = self.config.priority.policy;
        if !pull.is_object || (policy == PriorityPolicy::None && pull.group.is_none()) {
            return Ok(());
        }
        let nothing = PullGroup::default();
        let wish = pull.group.as_deref().unwrap_or(&nothing);
        let wants_overflow = wish.min_pending != 0 || wish.min_ack_pending != 0;
        let is_known = self.config.priority.groups.contains(&wish.group);
        let is_grouped = policy != PriorityPolicy::None;
        let rules = [
            (wants_overflow && policy != PriorityPolicy::Overflow, "Not a Overflow Priority consumer"),
            (!wish.pin.is_empty() && policy != PriorityPolicy::PinnedClient, "Not a Pinned Client Priority consumer"),
            (!(0..=LAST_PRIORITY).contains(&wish.priority), "Priority must be between 0 and 9"),
            (is_grouped && wish.group.is_empty(), "Priority Group missing"),
            (is_grouped && !is_known, "Invalid Priority Group"),
        ];
        if let Some((_, text)) = rules.iter().find(|(broken, _)| *broken) {
            return Err(format!("400 Bad Request - {text}"));
        }
        let until = self.pinned_until(now);
        match &mut self.delivering.pin {
            Some(pin) if pin.id == wish.pin => {
                pin.until = until;
                pin.inbox = Box::default();
                Ok(())
            }
            Some(_) if !wish.pin.is_empty() => Err("423 Nats-Pin-Id mismatch".into()),
            _ => Ok(()),
        }
    }

    fn pinned_until(&self, now: Now) -> AgeMillis {
        AgeMillis(now.age.0.saturating_add(self.config.priority.pinned_ttl_ns.div_ceil(1_000_000)))
    }

    /// Brings the request to the front that takes a message of this size, one of `left` that are still to be delivered; ends those that can't.
    pub(crate) fn accept_in_group(&mut self, size: u64, left: u64, now: Now, deliveries: &mut Deliveries) -> bool {
        let mut passed = 0;
        while !self.delivering.waiting.is_empty() {
            let choice = self.choose_front(left, now);
            let Some(front) = self.delivering.waiting.front_mut() else { return false };
            match choice {
                Choice::Takes | Choice::TakesNewly if front.takes(size) => {
                    if let Choice::TakesNewly = choice {
                        self.tell_pin();
                    }
                    return true;
                }
                Choice::Takes | Choice::TakesNewly => {
                    front.end(deliveries, "409 Message Size Exceeds MaxBytes");
                    self.delivering.waiting.pop_front();
                    if let Choice::TakesNewly = choice {
                        self.delivering.pin = None;
                    }
                }
                Choice::Passes => {
                    self.delivering.waiting.rotate_left(1);
                    passed += 1;
                    if passed >= self.delivering.waiting.len() {
                        self.delivering.declined = true;
                        return false;
                    }
                }
                Choice::IsWrong => {
                    front.end(deliveries, "423 Nats-Wrong-Pin-Id");
                    self.delivering.waiting.pop_front();
                }
            }
        }
        false
    }

    /// What becomes of the first request; with a pinned client policy it may become the pinned one.
    fn choose_front(&mut self, left: u64, now: Now) -> Choice {
        let Some(front) = self.delivering.waiting.front() else { return Choice::Passes };
        let wish = front.group.as_deref();
        match self.config.priority.policy {
            PriorityPolicy::None | PriorityPolicy::Prioritized => Choice::Takes,
            PriorityPolicy::Overflow => {
                let Some(wish) = wish else { return Choice::Takes };
                let is_reached =
                    |least: i64, there: u64| u64::try_from(least).is_ok_and(|least| 0 < least && least <= there);
                let unlimited = wish.min_pending <= 0 && wish.min_ack_pending <= 0;
                let is_its = unlimited
                    || is_reached(wish.min_pending, left)
                    || is_reached(wish.min_ack_pending, self.pending.len());
                if is_its { Choice::Takes } else { Choice::Passes }
            }
            PriorityPolicy::PinnedClient => {
                let said = wish.map_or("", |wish| &wish.pin);
                match (&self.delivering.pin, said) {
                    (None, "") => self.pin_front(now),
                    (Some(pin), said) if *pin.id == *said => Choice::Takes,
                    (Some(_), "") => Choice::Passes,
                    (_, _) => Choice::IsWrong,
                }
            }
        }
    }

    /// The first request becomes that of the pinned client.
    fn pin_front(&mut self, now: Now) -> Choice {
        let until = self.pinned_until(now);
        let id = self.new_pin(now);
        let Some(front) = self.delivering.waiting.front_mut() else { return Choice::Passes };
        // One without a body names no group: it gets this one message and is nobody.
        let Some(wish) = &mut front.group else { return Choice::Takes };
        wish.pin.clone_from(&id);
        let pin = Pin { id, group: wish.group.clone(), since: now.wall, until, inbox: front.inbox.clone() };
        self.delivering.pin = Some(Box::new(pin));
        Choice::TakesNewly
    }

    fn tell_pin(&mut self) {
        if let Some(pin) = &self.delivering.pin {
            self.news.push(Advisory::Pinned { consumer: self.id, group: pin.group.clone(), pin: pin.id.clone() });
        }
    }

    /// An id that differs from all before, also from those before a restart.
    fn new_pin(&mut self, now: Now) -> Box<str> {
        const CHARACTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        self.delivering.pins += 1;
        let parts = [self.created.0 as u64, now.wall.0 as u64, now.age.0, u64::from(self.id.0), self.delivering.pins];
        let mut state = parts.into_iter().fold(0x9e37_79b9_7f4a_7c15, |state: u64, part| mixed(state ^ part));
        let character = |_| {
            state = mixed(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
            char::from(CHARACTERS[(state % 62) as usize])
        };
        (0..PIN).map(character).collect::<String>().into()
    }

    /// A pinned client that was silent for too long is it no more.
    pub(crate) fn unpin_in_time(&mut self, now: Now) {
        if let Some(pin) = self.delivering.pin.take_if(|pin| pin.until <= now.age) {
            let (consumer, group) = (self.id, pin.group);
            self.news.push(Advisory::Unpinned { consumer, group, reason: Unpinned::Timeout });
        }
    }

    /// A delivery to this inbox reached nobody: if it was to say the pin, nobody has it.
    pub(crate) fn unpin_unreachable(&mut self, inbox: &[u8]) {
        self.delivering.pin.take_if(|pin| !pin.inbox.is_empty() && *pin.inbox == *inbox);
    }

    /// As info requests show the first group; there is one state for all of them, as in nats-server.
    pub(crate) fn group_state(&self) -> Option<GroupState> {
        let pin = self.delivering.pin.as_ref().map(|pin| (pin.id.clone(), pin.since));
        self.config.priority.groups.first().map(|group| GroupState { group: group.clone(), pin })
    }
}

impl PullGroup {
    /// A name or id as far as it is looked at: longer ones are nobody's, and take no more memory than others.
    #[must_use]
    pub fn bounded(text: &str) -> Box<str> {
        let end = (0..=text.len().min(LONGEST_TEXT)).rev().find(|end| text.is_char_boundary(*end));
        text[..end.unwrap_or(0)].into()
    }

    /// Bytes it takes.
    pub(crate) fn size(&self) -> usize {
        size_of::<PullGroup>() + self.group.len() + PIN.max(self.pin.len())
    }
}

impl Delivering {
    /// A new request takes its place among those that wait.
    pub(crate) fn queue(&mut self, waiting: Waiting, policy: PriorityPolicy) {
        if policy == PriorityPolicy::Prioritized {
            self.queue_by_priority(waiting);
        } else {
            self.waiting.push_back(waiting);
        }
    }

    /// Behind those of the same priority and of higher ones.
    pub(crate) fn queue_by_priority(&mut self, waiting: Waiting) {
        let place = self.waiting.partition_point(|other| other.priority() <= waiting.priority());
        self.waiting.insert(place, waiting);
    }

    /// When the pinned client was silent for too long.
    pub(crate) fn pinned_until(&self) -> Option<AgeMillis> {
        self.pin.as_ref().map(|pin| pin.until)
    }
}

/// The finalizer of splitmix64.
fn mixed(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
