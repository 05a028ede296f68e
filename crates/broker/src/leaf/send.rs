//! What we send over a link: once per link and message, whatever matches behind it.

use nats_proto::encode::message_tail;
use nats_proto::leaf::{message_prefix, queue_list};
use smallvec::SmallVec;

use super::deny::{is_api_of, is_own_business};
use crate::broker::Broker;
use crate::identity::ConnectionId;
use crate::outbox::Outbox;
use crate::pullers::TooLarge;
use crate::routing::{Message, non_empty};
use crate::subscription::SubscriptionId;

/// What an MQTT publish says of its quality; a stock MQTT subscriber ignores a message that says 1 or 2 and came over a link.
const QUALITY_HEADER: &[u8] = b"Nmqtt-Pub: ";

impl Broker {
    /// Sends the message to every link in `leaf_picks` (pairs of slot and subscription; those with a queue name the group that is to get it
    /// there), once per link, and empties the list.
    pub(crate) fn deliver_to_picked_leaves(&mut self, routed: &[u8], message: &Message<'_>, out: &mut Outbox) {
        let mut picks = std::mem::take(&mut self.leaf_picks);
        picks.sort_unstable();
        for same_link in picks.chunk_by(|one, two| one.0 == two.0) {
            let Some(id) = self.connections.at(same_link[0].0 as usize).map(|connection| connection.id) else {
                continue;
            };
            if self.may_cross(id, routed, message) {
                self.write_to_link(id, routed, same_link, message, out);
            }
        }
        picks.clear();
        self.leaf_picks = picks;
    }

    /// A message of the gateway's own engine (`forward`), which may use the hub's bare API and is not held back by what is forwarded. `false`: the
    /// link is gone, or the message larger than it takes.
    pub fn leaf_send(
        &mut self,
        id: ConnectionId,
        subject: &[u8],
        reply: &[u8],
        headers: &[u8],
        payload: &[u8],
        out: &mut Outbox,
    ) -> bool {
        let Some(link) = self.link(id).filter(|link| link.up) else { return false };
        let size = headers.len() + payload.len();
        if size > link.facts.max_payload {
            return false;
        }
        let mut head = std::mem::take(&mut self.prefix);
        head.clear();
        message_prefix(subject, !headers.is_empty(), &mut head);
        nats_proto::encode::message_sizes(non_empty(reply), headers.len(), size, &mut head);
        head.extend_from_slice(headers);
        out.append(id, &head);
        head.clear();
        head.extend_from_slice(payload);
        head.extend_from_slice(b"\r\n");
        out.deliver(id.slot(), &head, b"", size);
        self.prefix = head;
        true
    }

    fn may_cross(&mut self, id: ConnectionId, subject: &[u8], message: &Message<'_>) -> bool {
        // A consumer's delivery goes where it was asked for, whatever its subject.
        if message.shown.is_none() && self.is_forwarded(subject) {
            return false;
        }
        let guarded = is_own_business(subject) || is_api_of(self.own_domain(), subject);
        let Some(link) = self.link_mut(id).filter(|link| link.up) else { return false };
        if guarded || !link.facts.permissions.may_send(subject) {
            link.counters.denied += 1;
            return false;
        }
        let (size, largest) = (message.body.len(), link.facts.max_payload);
        if size > largest {
            link.counters.too_large += 1;
            if message.shown.is_some() {
                self.pullers.too_large(TooLarge { link: id, size, largest });
            }
            return false;
        }
        true
    }

    fn write_to_link(
        &mut self,
        id: ConnectionId,
        routed: &[u8],
        picks: &[(u32, SubscriptionId)],
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        let takes_headers = self.link(id).is_some_and(|link| link.facts.headers);
        let header_len = if takes_headers { message.header_len } else { 0 };
        let body = if takes_headers { message.body } else { message.payload() };
        let queues: SmallVec<[&[u8]; 4]> = picks
            .iter()
            .filter_map(|(_, subscription)| self.subscriptions.entry(*subscription)?.queue.as_deref())
            .collect();
        // The subject that subscribers are to see travels behind the ack subject: a stock hub takes it from there.
        let suffixed = message.shown.map(|shown| [message.reply, b"@", shown].concat());
        let reply = non_empty(suffixed.as_deref().unwrap_or(message.reply));
        let mut bytes = std::mem::take(&mut self.prefix);
        bytes.clear();
        message_prefix(routed, header_len > 0, &mut bytes);
        if queues.is_empty() {
            message_tail(reply, header_len, body, &mut bytes);
        } else {
            queue_list(reply, queues.iter().copied(), &mut bytes);
            message_tail(None, header_len, body, &mut bytes);
        }
        let headers_at = bytes.len() - 2 - body.len();
        lower_quality(&mut bytes[headers_at..headers_at + header_len]);
        out.deliver(id.slot(), &bytes, b"", body.len());
        self.prefix = bytes;
    }
}

/// `Nmqtt-Pub: 1` becomes `Nmqtt-Pub: 0`, in place.
fn lower_quality(headers: &mut [u8]) {
    let Some(at) = headers.windows(QUALITY_HEADER.len()).position(|window| window == QUALITY_HEADER) else { return };
    if let Some(quality @ (b'1' | b'2')) = headers.get_mut(at + QUALITY_HEADER.len()) {
        *quality = b'0';
    }
}
