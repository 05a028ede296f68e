//! SUBSCRIBE and UNSUBSCRIBE.
//!
//! A filter is one subject filter, or two where `#` includes the parent level. What a stored session asks for is in its row too; the answer
//! waits for the row's commit, and the client's reader with it, so that a flood of subscriptions is one row at a time.

use jetstream::identity::SessionId;
use mqtt_proto::packet::{Codes, Packet, Suback, Subscribe, SubscriptionOptions, Unsuback, Unsubscribe};
use mqtt_proto::property::Properties;
use mqtt_proto::topic::TopicFilter;
use mqtt_proto::{Qos, ReasonCode, Version};
use subject::Filter;

use super::{FOR_ROW, Flow, ticket};
use crate::account::GLOBAL;
use crate::broker::Broker;
use crate::connection::{Connection, Kind};
use crate::identity::ConnectionId;
use crate::outbox::Outbox;
use crate::subscription::{Interest, MqttGrant, NewSubscription};

/// What a topic filter is here.
pub(super) struct Interests {
    /// One or two.
    pub(super) subjects: Vec<Filter>,
    pub(super) queue: Option<Box<[u8]>>,
    pub(super) grant: MqttGrant,
}

impl Interests {
    /// `None`: the filter is not valid, or has no subject.
    pub(super) fn parse(text: &str, quality: u8) -> Option<Interests> {
        let filter = TopicFilter::parse(text).ok()?;
        let subjects = filter.to_subjects();
        let queue = filter.share.map(|_| {
            let mut queue = String::new();
            filter.put_queue_group(&mut queue);
            queue.into_bytes().into()
        });
        let grant = MqttGrant { quality, hides_dollar: subjects.hides_dollar(), shared: queue.is_some() };
        let subjects = subjects.iter().map(Filter::parse).collect::<Result<_, _>>().ok()?;
        Some(Interests { subjects, queue, grant })
    }
}

impl Broker {
    pub(super) fn mqtt_subscribe(&mut self, id: ConnectionId, subscribe: &Subscribe<'_>, out: &mut Outbox) -> Flow {
        let mut changed = false;
        let mut codes = Vec::new();
        for (filter, options) in subscribe.filters.iter() {
            // [MQTT-3.8.4-6]: quality 2 is granted as 1.
            let granted = options.qos.min(Qos::AtLeastOnce);
            codes.push(match self.subscribe_filter(id, filter, SubscriptionOptions { qos: granted, ..options }) {
                // 0x80, the one failure that 3.1.1 has. [MQTT-3.9.3-2]
                None => ReasonCode::Unspecified,
                Some(is_new) => {
                    changed |= is_new;
                    if granted == Qos::AtLeastOnce { ReasonCode::GrantedQos1 } else { ReasonCode::Success }
                }
            });
        }
        let suback = Suback { id: subscribe.id, properties: Properties::EMPTY, codes: Codes::Built(&codes) };
        self.answer_when_stored(id, &Packet::Suback(suback), changed, out)
    }

    /// `None`: refused. `Some(true)`: something changed.
    fn subscribe_filter(&mut self, id: ConnectionId, text: &str, options: SubscriptionOptions) -> Option<bool> {
        let interests = Interests::parse(text, options.qos.bits())?;
        if !self.may_have(id, &interests) {
            return None;
        }
        let known = self.remove_unless(id, text, interests.grant)?;
        if known == Known::Same {
            return Some(false);
        }
        self.add_live_interests(id, text, interests);
        let session = self.mqtt_client(id)?.session;
        if session != SessionId::default() {
            self.add_session_filter(session, text, options);
        }
        Some(true)
    }

    /// Do the client's permissions cover all of a filter?
    pub(super) fn may_have(&self, id: ConnectionId, interests: &Interests) -> bool {
        interests.subjects.iter().all(|filter| self.may_subscribe(id, filter, interests.queue.as_deref()))
    }

    /// Looks whether the client has the filter; removes it when it was granted otherwise. `None`: there is no room for another one.
    fn remove_unless(&mut self, id: ConnectionId, text: &str, grant: MqttGrant) -> Option<Known> {
        let client = self.mqtt_client(id)?;
        let Some(known) = client.subscriptions.find(text.as_bytes(), &self.subscriptions) else {
            let limits = &self.settings.mqtt;
            let fits = client.subscriptions.len() < limits.max_filters
                && client.filter_bytes as usize + text.len() <= limits.max_filter_bytes;
            return fits.then_some(Known::No);
        };
        if self.subscriptions.entry(known).is_some_and(|entry| entry.interest == Interest::Mqtt(grant)) {
            return Some(Known::Same);
        }
        self.remove_live(id, text);
        Some(Known::Otherwise)
    }

    /// Subscribes a connection to a filter that its session has; false when it may not.
    pub(super) fn add_live(&mut self, id: ConnectionId, text: &str, quality: u8) -> bool {
        let Some(interests) = Interests::parse(text, quality) else { return true };
        let may = self.may_have(id, &interests);
        if may {
            self.add_live_interests(id, text, interests);
        }
        may
    }

    fn add_live_interests(&mut self, id: ConnectionId, text: &str, interests: Interests) {
        let mut token = text.as_bytes().to_vec();
        for filter in interests.subjects {
            let interest = Interest::Mqtt(interests.grant);
            let new = NewSubscription { filter, queue: interests.queue.clone(), interest, token: token.clone().into() };
            let subscription = self.subscribe(id, GLOBAL, new);
            if let Some(Connection { kind: Kind::Mqtt(client), .. }) = self.connections.entry_mut(id) {
                client.subscriptions.insert(&token, subscription, &self.subscriptions);
                client.filter_bytes += token.len() as u32;
            }
            // The second one is the parent level; no filter has a zero byte.
            token.push(0);
        }
    }

    /// Returns whether the client had it.
    fn remove_live(&mut self, id: ConnectionId, text: &str) -> bool {
        let mut token = text.as_bytes().to_vec();
        let mut had = false;
        for _ in 0..2 {
            let Some(Connection { kind: Kind::Mqtt(client), .. }) = self.connections.entry_mut(id) else { return had };
            if let Some(subscription) = client.subscriptions.find(&token, &self.subscriptions) {
                client.subscriptions.remove(&token, subscription);
                client.filter_bytes -= token.len() as u32;
                self.unsubscribe(subscription);
                had = true;
            }
            token.push(0);
        }
        had
    }

    pub(super) fn mqtt_unsubscribe(&mut self, id: ConnectionId, packet: &Unsubscribe<'_>, out: &mut Outbox) -> Flow {
        let mut changed = false;
        let session = self.mqtt_client(id).map(|client| client.session).unwrap_or_default();
        for filter in packet.filters.iter() {
            if self.remove_live(id, filter) {
                changed = true;
                if session != SessionId::default() {
                    self.remove_session_filter(session, filter);
                }
            }
        }
        // 3.1.1 knows no codes.
        let unsuback = Unsuback { id: packet.id, properties: Properties::EMPTY, codes: Codes::Built(&[]) };
        self.answer_when_stored(id, &Packet::Unsuback(unsuback), changed, out)
    }

    /// Answers now, or when the row of the stored session is committed.
    fn answer_when_stored(&mut self, id: ConnectionId, packet: &Packet<'_>, changed: bool, out: &mut Outbox) -> Flow {
        let mut bytes = Vec::with_capacity(16);
        packet.encode(Version::V311, &mut bytes);
        let Some(client) = self.mqtt_client_mut(id) else { return Flow::Stop };
        let session = client.session;
        if !changed || session == SessionId::default() {
            out.append(id, &bytes);
            return Flow::Go;
        }
        client.held = Some(bytes.into());
        self.write_session(session, ticket(id, FOR_ROW, 0));
        Flow::Pause
    }
}

/// Does a client have a filter?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    No,
    Same,
    Otherwise,
}
