//! `$JS.EVENT.>`: what happened to streams and consumers, and who asked for what.
//!
//! Nothing is written unless somebody wants it: whether anybody does is what routing knows of the subject. An advisory is a message of the
//! server's own from there on; a stream on `$JS.EVENT.>` captures it.

use ::jetstream_api::{
    AUDIT_SUBJECT, Audit, Client, Place, Stamp, Transfer, advisory_subject, encode_advisory, encode_audit,
    encode_transfer, transfer_subject,
};
use jetstream::advisory::Advisory;
use jetstream::identity::{ConsumerId, StreamId, Timestamp};

use crate::account::GLOBAL;
use crate::broker::{Broker, Transport};
use crate::connection::Kind;
use crate::identity::Now;
use crate::outbox::Outbox;
use crate::routing::{Message, Origin};

/// Characters of an advisory's id.
const ID: usize = 22;

/// A request whose answer somebody wants to know of.
#[derive(Clone, Debug)]
pub(crate) struct Audited {
    client: Client,
    subject: Box<str>,
    request: Box<str>,
}

impl Audited {
    /// Bytes it takes, about.
    pub(crate) fn size(&self) -> usize {
        size_of::<Audited>() + self.subject.len() + self.request.len()
    }
}

impl Broker {
    /// Does anybody want what is published on this subject?
    fn is_wanted(&mut self, subject: &[u8]) -> bool {
        let plan = self.plan(Origin::server(GLOBAL), subject);
        plan.has_targets() || plan.is_captured()
    }

    /// Tells what happened to whoever wants to know.
    pub(crate) fn advise(&mut self, now: Now, advisory: &Advisory, out: &mut Outbox) {
        let Some((stream, consumer)) = self.names_of(advisory) else { return };
        let place = Place { stream: &stream, consumer: &consumer };
        let subject = advisory_subject(advisory, place);
        self.publish_event(now, &subject, out, |stamp, into| encode_advisory(advisory, place, stamp, into));
    }

    /// Tells that a snapshot or restore of a stream begins or ends.
    pub(crate) fn advise_transfer(
        &mut self,
        now: Now,
        stream: &str,
        transfer: &Transfer<'_>,
        client: &Client,
        out: &mut Outbox,
    ) {
        let subject = transfer_subject(transfer, stream);
        self.publish_event(now, &subject, out, |stamp, into| encode_transfer(transfer, stream, client, stamp, into));
    }

    /// What is to be told of a request when it is answered; `None` when nobody wants it.
    pub(crate) fn audited(&mut self, origin: Origin, subject: &[u8], request: &[u8]) -> Option<Box<Audited>> {
        if !self.is_wanted(AUDIT_SUBJECT.as_bytes()) {
            return None;
        }
        let text = |bytes| String::from_utf8_lossy(bytes).into();
        Some(Box::new(Audited { client: self.client_info(origin), subject: text(subject), request: text(request) }))
    }

    /// Tells of a request and its answer.
    pub(crate) fn audit(&mut self, now: Now, audited: &Audited, response: &[u8], out: &mut Outbox) {
        let response = String::from_utf8_lossy(response);
        let server = self.settings.server.name.clone();
        let Audited { client, subject, request } = audited;
        let audit = Audit { server: &server, client, subject, request, response: &response };
        self.publish_event(now, AUDIT_SUBJECT, out, |stamp, into| encode_audit(&audit, stamp, into));
    }

    /// Who publishes, as stock describes a client.
    pub(crate) fn client_info(&self, origin: Origin) -> Client {
        let account = self.accounts[origin.account as usize].name.clone();
        let server: Box<str> = self.settings.server.name.clone();
        let Some(connection) = origin.connection.and_then(|id| self.connections.entry(id)) else {
            return Client { account, server, ..Client::default() };
        };
        let client = Client {
            start: Timestamp(connection.started_wall),
            host: connection.peer.ip().to_string().into(),
            id: connection.number,
            account,
            server,
            ..Client::default()
        };
        match &connection.kind {
            Kind::Nats(nats) => {
                let about = nats.about.as_deref().cloned().unwrap_or_default();
                let is_web = connection.transport == Transport::WebSocket;
                Client {
                    user: about.user.unwrap_or_default(),
                    name: about.name,
                    lang: about.lang,
                    version: about.version,
                    round_trip_ns: u64::from(nats.rtt_micros) * 1000,
                    kind: "Client".into(),
                    client_type: if is_web { "websocket" } else { "nats" }.into(),
                    ..client
                }
            }
            Kind::Mqtt(_) => Client { kind: "Client".into(), client_type: "mqtt".into(), ..client },
            Kind::Leaf(_) => Client { kind: "Leafnode".into(), ..client },
        }
    }

    /// Publishes an event, if somebody wants it.
    fn publish_event(
        &mut self,
        now: Now,
        subject: &str,
        out: &mut Outbox,
        write: impl FnOnce(Stamp<'_>, &mut Vec<u8>),
    ) {
        if !self.is_wanted(subject.as_bytes()) {
            return;
        }
        let id = self.event_id();
        let mut json = Vec::with_capacity(512);
        let stamp = Stamp {
            id: &id,
            time: Timestamp(now.wall_ns),
            account: &self.accounts[GLOBAL as usize].name,
            domain: self.settings.jetstream.as_ref().and_then(|settings| settings.domain.as_deref()),
        };
        write(stamp, &mut json);
        self.publish(now, Origin::server(GLOBAL), &Message::new(subject.as_bytes(), &json), out);
    }

    fn event_id(&mut self) -> String {
        const CHARACTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        (0..ID).map(|_| char::from(CHARACTERS[self.random.below(CHARACTERS.len())])).collect()
    }

    /// Stream and consumer; `None` when they are not known any more.
    fn names_of(&self, advisory: &Advisory) -> Option<(Box<str>, Box<str>)> {
        match advisory {
            Advisory::Stream { stream, .. } | Advisory::BatchAbandoned { stream, .. } => {
                Some((self.stream_name(*stream)?.into(), "".into()))
            }
            Advisory::Consumer { consumer, .. }
            | Advisory::Paused { consumer, .. }
            | Advisory::Pinned { consumer, .. }
            | Advisory::Unpinned { consumer, .. }
            | Advisory::Delivery { consumer, .. } => self.consumer_names(*consumer),
        }
    }

    fn stream_name(&self, stream: StreamId) -> Option<&str> {
        self.store.stream_name(stream)
    }

    fn consumer_names(&self, consumer: ConsumerId) -> Option<(Box<str>, Box<str>)> {
        self.store.consumer_names(consumer).map(|(stream, consumer)| (stream.into(), consumer.into()))
    }
}
