//! The table of stored sessions, and of client identifiers.
//!
//! A session is a row in the store (`s` and its number, see [`mqtt_proto::record::SessionRecord`]), read at start, and here: who is connected,
//! what it is subscribed to. Its filters of quality 1 are rows of the account's table, connected or not: what matches is queued for it, and
//! they are interest that a leaf link announces while the device sleeps. Filters are text and one byte: 10,000 sessions with five filters are
//! to cost 10 MB at most.

use std::collections::BTreeMap;

use jetstream::command::{Answer, Command, Outcome, QueueFor, Request, Ticket};
use jetstream::identity::SessionId;
use jetstream::store::record_space;
use mqtt_proto::packet::SubscriptionOptions;
use mqtt_proto::record::{SessionRecord, WillRecord};
use mqtt_proto::session::{Grant, SessionExpiry, Subscriptions};
use mqtt_proto::{Qos, Version};

use super::crowding::Crowding;
use super::deliver::Encoded;
use super::subscribe::Interests;
use crate::account::{GLOBAL, Target};
use crate::broker::Broker;
use crate::capture::NO_TICKET;
use crate::identity::{ConnectionId, Now};
use crate::outbox::Outbox;

/// What the broker keeps for MQTT clients together.
#[derive(Debug, Default)]
pub(crate) struct MqttSide {
    clients: BTreeMap<Box<str>, Client>,
    sessions: BTreeMap<SessionId, Session>,
    /// Highest number in use.
    last: u32,
    loading: Loading,
    /// CONNECTs that came before the sessions were read.
    pub(super) waiting: Vec<ConnectionId>,
    /// Stored sessions that are members of the shared subscriptions picked in the publish being routed.
    pub(crate) picked: Vec<QueueFor>,
    pub(super) encoded: Encoded,
    pub(super) crowding: Crowding,
    /// Buffers kept for their memory.
    pub(super) subject: String,
    /// What `subject` is the subject of.
    pub(super) published: String,
    pub(super) topic: String,
    pub(super) body: Vec<u8>,
    pub(super) packet: Vec<u8>,
}

/// Who uses a client identifier: a connection, a stored session, or both.
#[derive(Clone, Copy, Debug, Default)]
struct Client {
    connection: Option<ConnectionId>,
    session: Option<SessionId>,
}

/// A stored session.
#[derive(Debug)]
struct Session {
    client_id: Box<str>,
    /// User name of its last connection.
    owner: Box<str>,
    connection: Option<ConnectionId>,
    /// `QueueAttach` commands that are not back.
    attaching: u16,
    /// In its queue or on their way there; counted while it is connected.
    queued: u32,
    /// Its row was committed once, and a client told of it.
    committed: bool,
    bridge: bool,
    /// Its row has the will of its last connection.
    row_has_will: bool,
    filters: Vec<SessionFilter>,
}

/// A filter of a stored session, with what was granted.
#[derive(Debug)]
struct SessionFilter {
    text: Box<str>,
    /// [`SubscriptionOptions::to_byte`]
    options: u8,
}

impl SessionFilter {
    fn options(&self) -> SubscriptionOptions {
        // It was made from options.
        SubscriptionOptions::from_byte(self.options, Version::V5).unwrap_or_default()
    }

    fn quality(&self) -> u8 {
        self.options().qos.bits()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Loading {
    #[default]
    NotYet,
    Asked,
    Done,
}

/// Is this the request for the rows of all sessions?
pub(crate) fn is_for_sessions(request: &Request) -> bool {
    matches!(request, Request::Records { prefix } if **prefix == [record_space::SESSION])
}

impl MqttSide {
    pub(super) fn is_loaded(&self) -> bool {
        self.loading == Loading::Done
    }

    /// Stored sessions.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn session_of(&self, client_id: &str) -> Option<SessionId> {
        self.clients.get(client_id)?.session
    }

    pub(super) fn connection_of(&self, client_id: &str) -> Option<ConnectionId> {
        self.clients.get(client_id)?.connection
    }

    /// A connection uses a client identifier; an empty one is nobody else's.
    pub(super) fn connect(&mut self, client_id: &str, id: ConnectionId) {
        if !client_id.is_empty() {
            self.clients.entry(client_id.into()).or_default().connection = Some(id);
        }
    }

    pub(super) fn disconnect(&mut self, client_id: &str, id: ConnectionId) {
        let Some(client) = self.clients.get_mut(client_id).filter(|client| client.connection == Some(id)) else {
            return;
        };
        client.connection = None;
        if client.session.is_none() {
            self.clients.remove(client_id);
        }
    }

    /// Filters with the quality granted.
    pub(super) fn filters_of(&self, session: SessionId) -> Vec<(Box<str>, u8)> {
        let filters = self.sessions.get(&session).map(|session| session.filters.as_slice()).unwrap_or_default();
        filters.iter().map(|filter| (filter.text.clone(), filter.quality())).collect()
    }

    /// A connection takes a session up, and is about to attach its queue. Returns whether the row must be written.
    pub(super) fn join(&mut self, session: SessionId, id: ConnectionId, bridge: bool, has_will: bool) -> bool {
        let Some(session) = self.sessions.get_mut(&session) else { return false };
        session.connection = Some(id);
        session.bridge = bridge;
        session.attaching += 1;
        session.queued = 0;
        !session.committed || has_will || session.row_has_will
    }

    /// A connection leaves its session; false when another one has it.
    pub(super) fn leave(&mut self, session: SessionId, id: ConnectionId) -> bool {
        let Some(session) = self.sessions.get_mut(&session).filter(|session| session.connection == Some(id)) else {
            return false;
        };
        session.connection = None;
        true
    }

    /// User name of a session's last connection.
    pub(crate) fn owner_of(&self, session: SessionId) -> Option<&str> {
        self.sessions.get(&session).map(|session| &*session.owner)
    }

    /// A session is taken up by a user; returns whether it is another one than before.
    pub(super) fn change_owner(&mut self, session: SessionId, owner: &str) -> bool {
        let Some(session) = self.sessions.get_mut(&session).filter(|session| *session.owner != *owner) else {
            return false;
        };
        session.owner = owner.into();
        true
    }

    pub(super) fn is_committed(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|session| session.committed)
    }

    /// A client was told of the session.
    pub(super) fn committed(&mut self, session: SessionId) {
        if let Some(session) = self.sessions.get_mut(&session) {
            session.committed = true;
        }
    }

    /// One more in a session's queue: who is to take it, and how many wait.
    pub(super) fn note_queued(&mut self, session: SessionId) -> Option<(ConnectionId, usize)> {
        let session = self.sessions.get_mut(&session)?;
        let connection = session.connection?;
        session.queued = session.queued.saturating_add(1);
        Some((connection, session.queued as usize))
    }

    /// So many less.
    pub(super) fn note_left(&mut self, session: SessionId, messages: u64) -> Option<(ConnectionId, usize)> {
        let session = self.sessions.get_mut(&session)?;
        session.queued = session.queued.saturating_sub(u32::try_from(messages).unwrap_or(u32::MAX));
        Some((session.connection?, session.queued as usize))
    }

    /// When the first publisher's patience ends.
    pub(crate) fn poll_timeout(&self) -> Option<u64> {
        self.crowding.poll_timeout()
    }

    /// Who gets the session's deliveries now.
    pub(super) fn receiver(&self, session: SessionId) -> Option<ConnectionId> {
        self.sessions.get(&session).filter(|session| session.attaching == 0)?.connection
    }
}

impl Broker {
    /// The client identifier of a stored session.
    #[must_use]
    pub fn mqtt_client_of(&self, session: SessionId) -> Option<&str> {
        self.mqtt.sessions.get(&session).map(|session| &*session.client_id)
    }

    /// Reads the stored MQTT sessions; to be called once, when the store is open. Clients that connect before they are read wait.
    pub fn load_mqtt_sessions(&mut self) {
        if self.mqtt.loading == Loading::NotYet {
            self.mqtt.loading = Loading::Asked;
            let prefix = [record_space::SESSION].into();
            self.store.push(|_| Command::Request(Box::new(Request::Records { prefix })));
        }
    }

    /// The rows are here.
    pub(crate) fn sessions_loaded(&mut self, now: Now, outcome: &Outcome, out: &mut Outbox) {
        let mut wills = Vec::new();
        self.mqtt.loading = match outcome {
            Outcome::Answer(answer) if let Answer::Records(rows) = &**answer => {
                for (key, value) in rows {
                    self.load_session(key, value, &mut wills);
                }
                Loading::Done
            }
            // The next client that connects asks again.
            _ => Loading::NotYet,
        };
        for (session, will) in wills {
            self.publish_will(now, &will, out);
            self.forget_will(session);
        }
        self.admit_waiting(now, out);
    }

    fn load_session(&mut self, key: &[u8], value: &[u8], wills: &mut Vec<(SessionId, WillRecord)>) {
        let Some(number) = key.get(1..).and_then(|number| number.try_into().ok()).map(u32::from_be_bytes) else {
            return;
        };
        let session = SessionId(number);
        self.mqtt.last = self.mqtt.last.max(number);
        let Ok(row) = SessionRecord::decode(value) else {
            self.counters.mqtt.damaged_sessions += 1;
            return;
        };
        let filters = row
            .subscriptions
            .iter()
            .map(|(text, grant)| SessionFilter { text: text.into(), options: grant.options.to_byte() });
        let stored = Session {
            client_id: row.client_id.as_str().into(),
            owner: row.owner.as_str().into(),
            connection: None,
            attaching: 0,
            queued: 0,
            committed: true,
            bridge: row.bridge,
            row_has_will: row.will.is_some(),
            filters: filters.collect(),
        };
        let rows: Vec<_> = stored.filters.iter().map(|filter| (filter.text.clone(), filter.quality())).collect();
        self.mqtt.clients.entry(stored.client_id.clone()).or_default().session = Some(session);
        self.mqtt.sessions.insert(session, stored);
        for (text, quality) in rows {
            self.change_session_rows(session, &text, quality, true);
        }
        wills.extend(row.will.map(|will| (session, will)));
    }

    /// A session without filters. Its row is not written yet.
    pub(super) fn create_session(&mut self, client_id: &str, owner: Box<str>) -> SessionId {
        let taken = |number: &u32| *number == 0 || self.mqtt.sessions.contains_key(&SessionId(*number));
        let first = self.mqtt.last.wrapping_add(1);
        let number =
            (0..=u32::MAX).map(|ahead| first.wrapping_add(ahead)).find(|number| !taken(number)).unwrap_or(first);
        self.mqtt.last = number;
        let session = SessionId(number);
        self.mqtt.clients.entry(client_id.into()).or_default().session = Some(session);
        self.mqtt.sessions.insert(
            session,
            Session {
                client_id: client_id.into(),
                owner,
                connection: None,
                attaching: 0,
                queued: 0,
                committed: false,
                bridge: false,
                row_has_will: false,
                filters: Vec::new(),
            },
        );
        session
    }

    /// A clean start: the session's row, its queue and its interest go. [MQTT-3.1.2-6]
    pub(super) fn drop_session(&mut self, session: SessionId, ticket: Ticket) {
        let Some(dropped) = self.mqtt.sessions.remove(&session) else { return };
        for filter in &dropped.filters {
            self.change_session_rows(session, &filter.text, filter.quality(), false);
        }
        if let Some(client) = self.mqtt.clients.get_mut(&dropped.client_id) {
            client.session = None;
            if client.connection.is_none() {
                self.mqtt.clients.remove(&dropped.client_id);
            }
        }
        self.store.push(|_| Command::QueueDrop { session });
        self.store.push(|batch| {
            let key = batch.add(&row_key(session));
            Command::Record { ticket, key, value: jetstream::command::Span::default() }
        });
    }

    /// Writes a session's row; the ticket's outcome tells when it is committed.
    pub(super) fn write_session(&mut self, session: SessionId, ticket: Ticket) {
        let Some(stored) = self.mqtt.sessions.get(&session) else { return };
        let client = stored.connection.and_then(|id| self.mqtt_client(id));
        let will = client.and_then(|client| client.will.as_deref().cloned());
        let has_will = will.is_some();
        let mut subscriptions = Subscriptions::new();
        for filter in &stored.filters {
            subscriptions.insert(&filter.text, Grant { options: filter.options(), identifier: None });
        }
        let row = SessionRecord {
            client_id: (*stored.client_id).into(),
            owner: (*stored.owner).into(),
            version: Version::V311,
            bridge: stored.bridge,
            expiry: SessionExpiry::Never,
            disconnected_ms: None,
            next_position: 0,
            subscriptions,
            will,
        };
        let mut value = Vec::new();
        row.encode(&mut value);
        self.store.push(|batch| {
            let (key, value) = (batch.add(&row_key(session)), batch.add(&value));
            Command::Record { ticket, key, value }
        });
        if let Some(stored) = self.mqtt.sessions.get_mut(&session) {
            stored.row_has_will = has_will;
        }
    }

    /// The will of the session's last connection is published, or not to be.
    pub(super) fn forget_will(&mut self, session: SessionId) {
        let has_will = self.mqtt.sessions.get(&session).is_some_and(|session| session.row_has_will);
        if has_will {
            self.write_session(session, NO_TICKET);
        }
    }

    pub(super) fn add_session_filter(&mut self, session: SessionId, text: &str, options: SubscriptionOptions) {
        self.remove_session_filter(session, text);
        let Some(stored) = self.mqtt.sessions.get_mut(&session) else { return };
        stored.filters.push(SessionFilter { text: text.into(), options: options.to_byte() });
        self.change_session_rows(session, text, options.qos.bits(), true);
    }

    pub(super) fn remove_session_filter(&mut self, session: SessionId, text: &str) {
        let Some(stored) = self.mqtt.sessions.get_mut(&session) else { return };
        let Some(index) = stored.filters.iter().position(|filter| *filter.text == *text) else { return };
        let removed = stored.filters.swap_remove(index);
        self.change_session_rows(session, text, removed.quality(), false);
    }

    /// Adds or removes the account's rows of a filter. Quality 0 is for connections alone, a shared one for its members that are connected.
    fn change_session_rows(&mut self, session: SessionId, text: &str, quality: u8, added: bool) {
        if quality == Qos::AtMostOnce.bits() {
            return;
        }
        let Some(interests) = Interests::parse(text, quality).filter(|interests| !interests.grant.shared) else {
            return;
        };
        for filter in &interests.subjects {
            self.change_row(GLOBAL, filter, Target::Session(session, interests.grant), added);
        }
    }

    /// `QueueAttach` is committed: what the store sends from now on is for the session's connection. `queued` were there before.
    pub(crate) fn session_attached(&mut self, session: SessionId, queued: u64) {
        let Some(session) = self.mqtt.sessions.get_mut(&session) else { return };
        session.attaching = session.attaching.saturating_sub(1);
        if session.attaching == 0 {
            session.queued = session.queued.saturating_add(u32::try_from(queued).unwrap_or(u32::MAX));
        }
    }

    /// The store was opened anew and knows of no connection.
    pub(crate) fn attach_sessions_again(&mut self) {
        let window = self.settings.mqtt.max_inflight;
        for (session, stored) in &mut self.mqtt.sessions {
            if stored.connection.is_some() {
                stored.attaching += 1;
                stored.queued = 0;
                let session = *session;
                self.store.push(|_| Command::QueueAttach { session, window });
            }
        }
    }
}

fn row_key(session: SessionId) -> [u8; 5] {
    let mut key = [record_space::SESSION; 5];
    key[1..].copy_from_slice(&session.0.to_be_bytes());
    key
}
