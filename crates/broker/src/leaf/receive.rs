//! What the hub sends: its interest, and messages.

use nats_proto::client::Limits;
use nats_proto::leaf::{Decoded, LeafMessage, LeafOp, decode, split_delivery};
use subject::Filter;

use super::deny::{is_api_of, is_own_business};
use super::{LOOP_SETTLES_MICROS, LeafLink, MAX_HUB_INTEREST};
use crate::broker::{Broker, Received};
use crate::effect::{CloseReason, Notice};
use crate::identity::{ConnectionId, Now};
use crate::outbox::{Outbox, Traffic};
use crate::routing::{Message, Origin};
use crate::subscription::{Interest, NewSubscription};

/// Control lines of leaf links are this many times longer than those of clients, as in nats-server.
const CONTROL_LINE_FACTOR: usize = 16;

/// A message that takes longer to arrive than that delays the hub's heartbeats, which are one second apart.
const SLOW_MICROS: u64 = 1_000_000;

/// What loop tokens begin with.
const LOOP_TOKEN: &[u8] = b"$LDS.";

impl Broker {
    pub(crate) fn received_leaf(&mut self, now: Now, id: ConnectionId, bytes: &[u8], out: &mut Outbox) -> Received {
        let max_control_line = self.limits.max_control_line.saturating_mul(CONTROL_LINE_FACTOR);
        let limits = Limits { headers: true, max_control_line, ..self.limits };
        self.origins.note_time(now);
        self.origins.from_link = Some(id);
        let mut traffic = Traffic::default();
        let mut result = Received::default();
        while result.used < bytes.len() {
            match decode(&bytes[result.used..], &limits) {
                Ok(Decoded::Op(operation, length)) => {
                    result.used += length;
                    if let LeafOp::Message(message) = &operation {
                        traffic.messages += 1;
                        traffic.bytes += message.message.len() as u64;
                    }
                    self.leaf_operation(now, id, &operation, out);
                }
                Ok(Decoded::Incomplete { need }) => {
                    result.need = need;
                    self.leaf_is_receiving(now, id, result.used > 0);
                    break;
                }
                Err(error) => {
                    let mut text = Vec::new();
                    error.refusal().encode(&mut text);
                    out.append(id, &text);
                    self.close(id, CloseReason::ProtocolViolation, out);
                    result.used = bytes.len();
                }
            }
            if out.wants_flush() {
                break;
            }
        }
        self.origins.from_link = None;
        if result.need == 0 {
            self.leaf_has_received(now, id);
        }
        self.count_received(id, traffic);
        result
    }

    /// Bytes came of a message that is not all there yet. `is_next`: others were completed by them.
    pub(crate) fn leaf_is_receiving(&mut self, now: Now, id: ConnectionId, is_next: bool) {
        if is_next {
            self.leaf_has_received(now, id);
        }
        let Some(link) = self.link_mut(id) else { return };
        if link.arriving == 0 {
            link.arriving = now.micros.max(1);
        } else if now.micros >= link.arriving + SLOW_MICROS {
            link.slow = now.micros;
        }
    }

    /// What was arriving is there.
    fn leaf_has_received(&mut self, now: Now, id: ConnectionId) {
        let Some(link) = self.link_mut(id) else { return };
        let since = std::mem::take(&mut link.arriving);
        if since != 0 && now.micros >= since + SLOW_MICROS {
            link.slow = now.micros;
        }
    }

    fn leaf_operation(&mut self, now: Now, id: ConnectionId, operation: &LeafOp<'_>, out: &mut Outbox) {
        match operation {
            LeafOp::Message(message) => self.leaf_message(now, id, message, out),
            LeafOp::Subscribe { subject, queue: None } if subject.starts_with(LOOP_TOKEN) => {
                self.loop_token_heard(now, id, subject, out);
            }
            LeafOp::Subscribe { subject, queue } => self.hub_wants(now, id, subject, *queue, out),
            LeafOp::Unsubscribe { subject, queue } => self.hub_wants_no_more(id, subject, *queue, out),
            LeafOp::Ping => out.append(id, b"PONG\r\n"),
            LeafOp::Pong => self.leaf_pong(now, id),
            LeafOp::Ok => {}
            LeafOp::Info(json) => self.notices.push_back(Notice::LeafInfo { id, json: (*json).into() }),
            LeafOp::Err(text) => {
                let text = String::from_utf8_lossy(text).into_owned();
                self.notices.push_back(Notice::LeafError { id, text });
            }
            // Only a side that dials sends CONNECT, and we dialled.
            LeafOp::Connect(_) => {
                out.append(id, b"-ERR 'Unknown Protocol Operation'\r\n");
                self.close(id, CloseReason::ProtocolViolation, out);
            }
        }
    }

    /// One that nobody asked for means nothing.
    fn leaf_pong(&mut self, now: Now, id: ConnectionId) {
        let Some(link) = self.link_mut(id) else { return };
        let pinged = std::mem::take(&mut link.pinged);
        if pinged != 0 {
            let round_trip_micros = u32::try_from(now.micros.saturating_sub(pinged)).unwrap_or(u32::MAX).max(1);
            link.counters.round_trip_micros = round_trip_micros;
            self.notices.push_back(Notice::LeafPong { id, round_trip_micros });
        }
    }

    fn hub_wants(&mut self, now: Now, id: ConnectionId, subject: &[u8], queue: Option<(&[u8], u32)>, out: &mut Outbox) {
        let Ok(filter) = Filter::from_bytes(subject) else {
            // As with nats-server, the link stays.
            out.append(id, b"-ERR 'Invalid Subscription'\r\n");
            return;
        };
        if self.is_not_for_the_hub(subject) {
            return;
        }
        let key = (Box::from(subject), Box::from(queue.map_or(&b""[..], |(queue, _)| queue)));
        let Some(link) = self.link_mut(id) else { return };
        let known = link.wanted.get(&key).copied();
        if known.is_none() && link.wanted.len() >= MAX_HUB_INTEREST {
            link.counters.interest_refused += 1;
            return;
        }
        let weight = queue.map_or(0, |(_, weight)| weight);
        if let Some(known) = known {
            let same = self.subscriptions.entry(known).is_some_and(|entry| entry.interest == Interest::Leaf { weight });
            if same {
                return;
            }
            // A new weight replaces the old one.
            self.unsubscribe(known);
        }
        let new = NewSubscription {
            filter,
            queue: queue.map(|(queue, _)| queue.into()),
            interest: Interest::Leaf { weight },
            token: Box::default(),
        };
        let account = self.connections.entry(id).map_or(crate::account::GLOBAL, |connection| connection.account);
        let subscription = self.subscribe(id, account, new);
        if let Some(link) = self.link_mut(id) {
            link.wanted.insert(key, subscription);
            let opened = link.opened;
            self.pullers.wanted(now.micros, id, opened, subject);
        }
        self.hub_interest_changed(id);
    }

    fn hub_wants_no_more(&mut self, id: ConnectionId, subject: &[u8], queue: Option<&[u8]>, out: &mut Outbox) {
        if subject.starts_with(LOOP_TOKEN) {
            let own = self.is_own_token(subject);
            let Some(link) = self.link_mut(id) else { return };
            if own {
                link.looped = 0;
            } else if link.tokens.iter().any(|token| **token == *subject) {
                link.tokens.retain(|token| **token != *subject);
                self.pass_on_token(id, subject, false, out);
            }
            return;
        }
        let key = (Box::from(subject), Box::from(queue.unwrap_or_default()));
        let removed = self.link_mut(id).and_then(|link| link.wanted.remove(&key));
        if let Some(removed) = removed {
            self.pullers.unwanted(id, subject);
            self.unsubscribe(removed);
            self.hub_interest_changed(id);
        }
    }

    /// One notice stands for any number of changes until it is taken.
    fn hub_interest_changed(&mut self, id: ConnectionId) {
        self.origins.reachable();
        let notice = Notice::HubInterest { id };
        if self.notices.back() != Some(&notice) {
            self.notices.push_back(notice);
        }
    }

    /// A hub announces `$JS.API.>` although nothing may be sent to it, and must not be told our own domain's requests: such interest would only
    /// make a local "no responders" a time-out.
    fn is_not_for_the_hub(&self, subject: &[u8]) -> bool {
        is_own_business(subject) || is_api_of(self.own_domain(), subject)
    }

    pub(super) fn own_domain(&self) -> Option<&str> {
        self.settings.jetstream.as_ref().and_then(|settings| settings.domain.as_deref())
    }

    fn is_own_token(&self, subject: &[u8]) -> bool {
        let own = self.settings.leafnodes.as_ref().map(|settings| settings.loop_token.as_bytes());
        own.is_some() && own == subject.strip_prefix(LOOP_TOKEN)
    }

    /// Ends the link. The hub is told in stock's words, which make a dialling side wait.
    pub(super) fn loop_found(&mut self, now: Now, id: ConnectionId, out: &mut Outbox) {
        self.loop_broken = now.micros.max(1);
        let account = &self.accounts[0].name;
        let text = format!("Loop detected for leafnode account=\"{account}\". Delaying attempt to reconnect for 30s");
        out.append(id, format!("-ERR '{text}'\r\n").as_bytes());
        self.notices.push_back(Notice::LeafError { id, text });
        self.close(id, CloseReason::ProtocolViolation, out);
    }

    fn loop_token_heard(&mut self, now: Now, id: ConnectionId, subject: &[u8], out: &mut Outbox) {
        if self.is_own_token(subject) {
            // One link less is enough to break a loop; without the other one the box would be cut off.
            let just_broken = self.loop_broken != 0 && now.micros < self.loop_broken + LOOP_SETTLES_MICROS;
            match self.link_mut(id) {
                Some(link) if just_broken => link.looped = now.micros.max(1),
                _ => self.loop_found(now, id, out),
            }
            return;
        }
        let Some(link) = self.link_mut(id) else { return };
        if link.tokens.len() < MAX_HUB_INTEREST && !link.tokens.iter().any(|token| **token == *subject) {
            link.tokens.push(subject.into());
            self.pass_on_token(id, subject, true, out);
        }
    }

    fn leaf_message(&mut self, now: Now, id: ConnectionId, message: &LeafMessage<'_>, out: &mut Outbox) {
        let Some(link) = self.link_mut(id) else { return };
        if is_denied(link, message.subject) {
            link.counters.denied += 1;
            return;
        }
        let account = self.connections.entry(id).map_or(crate::account::GLOBAL, |connection| connection.account);
        // A JetStream delivery carries the subject that the subscriber is to see behind its ack subject, after an `@`.
        let reply = message.reply.unwrap_or_default();
        let (reply, shown) = match split_delivery(reply) {
            Some((reply, shown)) => (reply, Some(shown)),
            None => (reply, None),
        };
        let groups: smallvec::SmallVec<[&[u8]; 4]> = message.queues.collect();
        let routed = Message {
            shown,
            reply,
            header_len: message.header_len,
            tail: if shown.is_some() { None } else { message.tail },
            // What the hub sends to a sleeping MQTT device is kept for it.
            quality: 1,
            groups: Some(&groups),
            ..Message::new(message.subject, message.message)
        };
        let origin = Origin { connection: Some(id), account, skip_own: true, from_leaf: true };
        self.publish(now, origin, &routed, out);
    }
}

fn is_denied(link: &LeafLink, subject: &[u8]) -> bool {
    is_own_business(subject) || !link.facts.permissions.may_receive(subject)
}
