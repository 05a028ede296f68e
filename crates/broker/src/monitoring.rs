//! What monitoring asks: connections and their subscriptions, totals. Read-only, made when asked.

use crate::broker::{Broker, Protocol, Transport};
use crate::connection::{Connection, Kind};
use crate::identity::ConnectionId;
use crate::outbox::{Outbox, Traffic};

/// A connection as `/connz` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionInfo {
    /// Its id, for [`Broker::close`].
    pub id: ConnectionId,
    /// `cid`: the number that clients see as `client_id`.
    pub number: u64,
    /// What it speaks.
    pub protocol: Protocol,
    /// What carries it.
    pub transport: Transport,
    /// Who is at the other end.
    pub peer: core::net::SocketAddr,
    /// When it was opened: monotonic microseconds, and wall clock in nanoseconds since 1970.
    pub started: (u64, i64),
    /// When it last sent something, monotonic microseconds.
    pub last_activity: u64,
    /// Round trip, microseconds, if known.
    pub rtt_micros: Option<u32>,
    /// Bytes waiting for its socket.
    pub pending_bytes: usize,
    /// What it sent us.
    pub received: Traffic,
    /// What we sent it.
    pub sent: Traffic,
    /// How many subscriptions it has.
    pub subscriptions: usize,
    /// Its account.
    pub account: Box<str>,
    /// `name` of CONNECT.
    pub name: Box<str>,
    /// `lang` of CONNECT.
    pub lang: Box<str>,
    /// `version` of CONNECT.
    pub version: Box<str>,
    /// The user it is, where there are users.
    pub user: Option<Box<str>>,
}

/// A subscription as `/connz?subs=detail` and `/subsz` show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionInfo {
    /// Whose it is.
    pub connection: ConnectionId,
    /// Its account.
    pub account: Box<str>,
    /// Its filter.
    pub subject: Box<str>,
    /// Its queue group.
    pub queue: Option<Box<[u8]>>,
    /// The client's name for it.
    pub sid: Box<[u8]>,
    /// Messages delivered.
    pub messages: u64,
}

impl Broker {
    /// How many connections are open.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.connections.len()
    }

    /// How many subscriptions there are, of all kinds.
    #[must_use]
    pub fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// All connections, by slot.
    pub fn connections<'a>(&'a self, out: &'a Outbox) -> impl Iterator<Item = ConnectionInfo> + 'a {
        self.connections.iter().map(|connection| self.describe(connection, out))
    }

    /// One connection.
    #[must_use]
    pub fn connection(&self, id: ConnectionId, out: &Outbox) -> Option<ConnectionInfo> {
        self.connections.entry(id).map(|connection| self.describe(connection, out))
    }

    /// All subscriptions, in no particular but a fixed order.
    pub fn subscriptions(&self) -> impl Iterator<Item = SubscriptionInfo> {
        self.subscriptions.iter().map(|(_, subscription)| SubscriptionInfo {
            connection: subscription.connection,
            account: self.accounts[subscription.account as usize].name.clone(),
            subject: subscription.filter.as_str().into(),
            queue: subscription.queue.clone(),
            sid: subscription.token.clone(),
            messages: subscription.delivered,
        })
    }

    fn describe(&self, connection: &Connection, out: &Outbox) -> ConnectionInfo {
        let nats = match &connection.kind {
            Kind::Nats(client) => Some(client),
            Kind::Mqtt(_) | Kind::Leaf(_) => None,
        };
        let leaf = match &connection.kind {
            Kind::Leaf(link) => Some(link.shown()),
            Kind::Nats(_) | Kind::Mqtt(_) => None,
        };
        let about = nats.and_then(|client| client.about.as_deref()).cloned().unwrap_or_default();
        ConnectionInfo {
            id: connection.id,
            number: connection.number,
            protocol: match connection.kind {
                Kind::Nats(_) => Protocol::Nats,
                Kind::Mqtt(_) => Protocol::Mqtt,
                Kind::Leaf(_) => Protocol::Leaf,
            },
            transport: connection.transport,
            peer: connection.peer,
            started: (connection.started, connection.started_wall),
            last_activity: connection.last_activity,
            rtt_micros: nats
                .map(|client| client.rtt_micros)
                .or(leaf.map(|link| link.round_trip_micros))
                .filter(|round_trip| *round_trip > 0),
            pending_bytes: out.pending_bytes(connection.id),
            received: connection.received,
            sent: out.traffic(connection.id),
            subscriptions: nats
                .map(|client| client.subscriptions.len())
                .or(leaf.map(|link| link.hub_interest))
                .unwrap_or(0),
            account: self.accounts[connection.account as usize].name.clone(),
            name: about.name,
            lang: about.lang,
            version: about.version,
            user: about.user,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewConnection, Now, Settings, TlsFacts};

    #[test]
    fn a_connection_shows_what_it_said_and_did() {
        let mut broker = Broker::new(Settings::default(), 1);
        let mut out = broker.outbox();
        let new = NewConnection {
            protocol: Protocol::Nats,
            transport: Transport::WebSocket,
            peer: ([10, 0, 0, 1], 5).into(),
            tls: TlsFacts::default(),
        };
        let now = Now { micros: 5, wall_ns: 6 };
        let id = broker.open(now, &new, &mut out).unwrap();
        let said = b"CONNECT {\"verbose\":false,\"name\":\"n\",\"lang\":\"rust\"}\r\nSUB a q 1\r\nPUB a 3\r\nabc\r\n";
        broker.received(Now { micros: 9, wall_ns: 9 }, id, said, &mut out);
        let shown: Vec<_> = broker.connections(&out).collect();
        assert_eq!(shown.len(), 1);
        assert_eq!((&*shown[0].name, &*shown[0].lang, &*shown[0].account), ("n", "rust", "$G"));
        assert_eq!((shown[0].started, shown[0].last_activity, shown[0].subscriptions), ((5, 6), 9, 1));
        assert_eq!(shown[0].received, Traffic { messages: 1, bytes: 3 });
        assert_eq!(shown[0].sent, Traffic { messages: 1, bytes: 3 });
        let subscriptions: Vec<_> = broker.subscriptions().collect();
        assert_eq!(subscriptions[0].queue.as_deref(), Some(b"q".as_slice()));
        assert_eq!((subscriptions[0].messages, broker.counters().received.messages), (1, 1));
    }
}
