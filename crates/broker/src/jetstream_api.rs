//! `$JS.API.>`: requests to commands, answers to replies. The JSON is `jetstream-api`'s.

use ::jetstream_api::{Kind, Parsed, Server, direct_message, encode, encode_error, parse};
use jetstream::api_error::{self, ApiError};
use jetstream::command::{Answer, Pull, Request};
use subject::Filter;

use crate::account::{GLOBAL, Service, Target};
use crate::broker::Broker;
use crate::capture::Asked;
use crate::identity::Now;
use crate::outbox::Outbox;
use crate::routing::{Message, Origin};

/// What a client's own server says when nobody hears.
const NO_RESPONDERS: &str = "503";

impl Broker {
    /// The rows through which requests come: `$JS.API.>`, and `$JS.<domain>.API.>` mapped to it.
    pub(crate) fn open_jetstream(&mut self) {
        let Some(settings) = &self.settings.jetstream else { return };
        let domain = settings.domain.as_deref().and_then(|domain| Filter::parse(&format!("$JS.{domain}.API.>")).ok());
        let Ok(api) = Filter::parse("$JS.API.>") else { return };
        if let Some(domain) = domain {
            self.map_domain(&domain, &api);
        }
        self.change_row(GLOBAL, &api, Target::Service(Service::JetStreamApi), true);
    }

    /// The API, and the data subjects of buckets, which are reached below it as in nats-server. One wildcard is announced for all of them.
    fn map_domain(&mut self, domain: &Filter, api: &Filter) {
        let account = &mut self.accounts[GLOBAL as usize];
        account.map_prefix(domain, api);
        let prefix = domain.as_str().trim_end_matches('>');
        for data in ["$KV.>", "$OBJ.>"] {
            if let (Ok(from), Ok(to)) = (Filter::parse(&format!("{prefix}{data}")), Filter::parse(data)) {
                account.map_prefix(&from, &to);
            }
        }
        self.leaf_row_changed(domain, &Target::Mapping(0), true);
    }

    /// A request came on `subject` (mapped already: it begins with `$JS.API.`).
    pub(crate) fn jetstream_request(
        &mut self,
        now: Now,
        origin: Origin,
        subject: &[u8],
        message: &Message<'_>,
        out: &mut Outbox,
    ) {
        let Some(operation) = subject.strip_prefix(b"$JS.API.") else { return };
        let reply = message.reply;
        if reply.is_empty() || origin.account != GLOBAL {
            // Nobody would hear the answer (stock does nothing either), or an account without JetStream.
            return;
        }
        match parse(operation, message.payload()) {
            Parsed::Request(kind, _) if self.store.is_overloaded(&self.settings) => {
                self.refuse_request(now, reply, kind, &api_error::CLUSTER_NOT_AVAIL, out);
            }
            Parsed::Request(kind, request) => {
                let size = message.payload().len() + reply.len();
                self.store.ask(request, Asked::Api { kind, reply: reply.into() }, size);
            }
            // It is over before it began: who asks again is not read until there is room.
            Parsed::Pull(pull) if self.store.is_overloaded(&self.settings) => {
                let line = format!(
                    "408 Request Timeout\r\nNats-Pending-Messages: {}\r\nNats-Pending-Bytes: {}",
                    pull.batch,
                    pull.max_bytes.unwrap_or(0)
                );
                self.publish_status(now, reply, &line, out);
            }
            Parsed::Pull(mut pull) => {
                pull.inbox = reply.into();
                self.store.pull(pull);
            }
            Parsed::DirectGet { .. } if self.store.is_overloaded(&self.settings) => {
                self.publish_status(now, reply, NO_RESPONDERS, out);
            }
            Parsed::DirectGet { stream, get, headers } if self.store.allows_direct(&stream) => {
                let request = Request::MessageGet { name: stream.clone(), get };
                let size = message.payload().len() + reply.len();
                self.store.ask(request, Asked::Direct { stream, headers, reply: reply.into() }, size);
            }
            Parsed::DirectGet { .. } => self.publish_status(now, reply, NO_RESPONDERS, out),
            Parsed::Status { stream, consumer: Some(consumer), .. } if !self.has_consumer(&stream, &consumer) => {
                self.publish_status(now, reply, NO_RESPONDERS, out);
            }
            Parsed::Status { line, .. } => self.publish_status(now, reply, &line, out),
            Parsed::Refused(kind, error) => self.refuse_request(now, reply, kind, &error, out),
            Parsed::Unknown => {}
        }
    }

    /// The store answered a request.
    pub(crate) fn jetstream_answer(&mut self, now: Now, asked: &Asked, answer: &Answer, out: &mut Outbox) {
        match asked {
            Asked::Api { kind, reply } => {
                let mut json = Vec::with_capacity(512);
                let server = Server {
                    domain: self.settings.jetstream.as_ref().and_then(|settings| settings.domain.as_deref()),
                    name: &self.settings.server.name,
                    version: &self.settings.server.version,
                };
                encode(*kind, answer, &server, &mut json);
                self.publish(now, Origin::server(GLOBAL), &Message::new(reply, &json), out);
            }
            Asked::Direct { stream, headers, reply } => self.answer_direct(now, stream, *headers, reply, answer, out),
            Asked::Shell => {}
        }
    }

    fn answer_direct(
        &mut self,
        now: Now,
        stream: &str,
        headers: bool,
        reply: &[u8],
        answer: &Answer,
        out: &mut Outbox,
    ) {
        let found = match answer {
            Answer::Message(buffer) => buffer.get(0),
            _ => None,
        };
        let Some(found) = found else { return self.publish_status(now, reply, "404 Message Not Found", out) };
        let mut body = Vec::with_capacity(found.payload.len() + 256);
        let header_len = if headers { direct_message(stream, &found, &mut body) } else { 0 };
        if !headers {
            body.extend_from_slice(found.payload);
        }
        let message = Message { header_len, ..Message::new(reply, &body) };
        self.publish(now, Origin::server(GLOBAL), &message, out);
    }

    /// There is no such consumer: the same as if nobody had heard the pull.
    pub(crate) fn refuse_pull(&mut self, now: Now, pull: &Pull, out: &mut Outbox) {
        self.publish_status(now, &pull.inbox, NO_RESPONDERS, out);
    }

    fn refuse_request(&mut self, now: Now, reply: &[u8], kind: Kind, error: &ApiError, out: &mut Outbox) {
        let mut json = Vec::with_capacity(256);
        encode_error(kind, error, &mut json);
        self.publish(now, Origin::server(GLOBAL), &Message::new(reply, &json), out);
    }

    /// A message that is a status line and nothing else.
    fn publish_status(&mut self, now: Now, reply: &[u8], line: &str, out: &mut Outbox) {
        let headers = format!("NATS/1.0 {line}\r\n\r\n");
        let message = Message { header_len: headers.len(), ..Message::new(reply, headers.as_bytes()) };
        self.publish(now, Origin::server(GLOBAL), &message, out);
    }

    /// Its acknowledgements are waited for, so it exists.
    fn has_consumer(&self, stream: &str, consumer: &str) -> bool {
        let mut found = false;
        let subject = format!("$JS.ACK.{stream}.{consumer}.1.1.1.1.1");
        self.accounts[GLOBAL as usize]
            .index
            .for_each_match(subject.as_bytes(), |target| found |= matches!(target, Target::Ack(_)));
        found
    }
}
