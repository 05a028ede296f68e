//! `$JS.API.>`: requests to commands, answers to replies. The JSON is `jetstream-api`'s.

use ::jetstream_api::{
    Client, Demands, DirectRequest, Kind, Parsed, Server, direct_end, direct_message, encode, encode_error,
    parse_demanding,
};
use jetstream::api_error::{self, ApiError};
use jetstream::command::{Answer, MessageGet, Pull, Request};
use jetstream::direct_get::{DirectEnd, DirectPiece};
use jetstream::identity::Sequence;
use jetstream::store::StoredMessage;
use nats_proto::header::Headers;
use subject::{Filter, is_literal};

use crate::account::{GLOBAL, Service, Target};
use crate::broker::Broker;
use crate::capture::Asked;
use crate::identity::Now;
use crate::outbox::Outbox;
use crate::pullers;
use crate::routing::{Message, Origin};

/// Which instance of a stream a source knows, and is to know.
const IDENTITY: &str = "Nats-Stream-Identity";
const NOT_FOUND: &str = "404 Message Not Found";

/// Who asked for messages as they are, and how.
#[derive(Clone, Copy)]
struct Whom<'a> {
    stream: &'a str,
    headers: bool,
    reply: &'a [u8],
}

/// A reset is heard by the consumer itself: when there is none, nobody answers.
fn is_absent(kind: Kind, answer: &Answer) -> bool {
    let unknown = [api_error::STREAM_NOT_FOUND.err_code, api_error::CONSUMER_NOT_FOUND.err_code];
    kind == Kind::ConsumerReset && matches!(answer, Answer::Error(error) if unknown.contains(&error.err_code))
}

/// Is there nothing to this without a reply subject? Anything else is done all the same, as stock does.
fn lives_by_its_answer(parsed: &Parsed) -> bool {
    match parsed {
        Parsed::Request(kind, _) | Parsed::Refused(kind, _) => {
            matches!(kind, Kind::ConsumerReset | Kind::StreamRestore)
        }
        Parsed::Snapshot { .. } => false,
        Parsed::Pull(_) | Parsed::DirectGet { .. } | Parsed::Status { .. } | Parsed::Unknown => true,
    }
}

/// What the headers of a request demand.
fn demands<'a>(message: &Message<'a>) -> Demands<'a> {
    if message.header_len == 0 {
        return Demands::default();
    }
    let headers = Headers::new(message.headers());
    Demands { level: headers.get(b"Nats-Required-Api-Level"), identity: headers.get(IDENTITY.as_bytes()) }
}

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
        // In an account without JetStream there is nobody; and what the server says to somebody is no request, wherever they want it said: only pullers ask.
        if origin.account != GLOBAL || (origin.connection.is_none() && !reply.starts_with(pullers::REPLY)) {
            return;
        }
        self.pullers.asked(reply);
        let parsed = parse_demanding(operation, message.payload(), demands(message));
        if reply.is_empty() && lives_by_its_answer(&parsed) {
            return;
        }
        if !matches!(parsed, Parsed::DirectGet { .. } | Parsed::Pull(_) | Parsed::Status { .. }) {
            self.store.recall.hold();
        }
        match parsed {
            Parsed::Request(kind, _) if self.store.is_overloaded(&self.settings) => {
                self.refuse_request(now, origin, kind, (subject, message), &api_error::CLUSTER_NOT_AVAIL, out);
            }
            Parsed::Request(Kind::StreamRestore, request) => {
                let (client, audited) =
                    (Box::new(self.client_info(origin)), self.audited(origin, subject, message.payload()));
                let size = message.payload().len() + reply.len() + size_of::<Client>();
                let size = size + audited.as_ref().map_or(0, |audited| audited.size());
                self.store.ask(request, Asked::Restore { reply: reply.into(), client, audited }, size);
            }
            Parsed::Request(kind, request) => {
                let audited = self.audited(origin, subject, message.payload());
                let size = message.payload().len() + reply.len() + audited.as_ref().map_or(0, |audited| audited.size());
                self.store.ask(request, Asked::Api { kind, reply: reply.into(), audited }, size);
            }
            Parsed::Snapshot { stream, request } if !self.store.has_stream_named(&stream) => {
                drop(request);
                let error = &api_error::STREAM_NOT_FOUND;
                self.refuse_request(now, origin, Kind::StreamSnapshot, (subject, message), error, out);
            }
            Parsed::Snapshot { stream, request } => match request {
                Ok(request) => {
                    let audited = self.audited(origin, subject, message.payload());
                    let size = request.deliver_subject.len() + reply.len() + size_of::<Client>();
                    let size = size + audited.as_ref().map_or(0, |audited| audited.size());
                    let asked = Request::StreamSnapshot { name: stream, consumers: request.consumers };
                    let (request, client) = (Box::new(request), Box::new(self.client_info(origin)));
                    self.store.ask(asked, Asked::Snapshot { request, reply: reply.into(), client, audited }, size);
                }
                Err(error) => {
                    self.refuse_request(now, origin, Kind::StreamSnapshot, (subject, message), &error, out);
                }
            },
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
            Parsed::DirectGet { stream, get, headers } => match self.who_answers_for(&stream) {
                Some(stream) => self.get_directly(now, stream, get, headers, (subject, message), out),
                None => self.publish_no_responders(now, reply, subject, out),
            },
            Parsed::Status { stream, consumer, .. } if !self.answers(&stream, consumer.as_deref()) => {
                self.publish_no_responders(now, reply, subject, out);
            }
            Parsed::Status { stream, consumer: Some(consumer), .. } if self.pushes(&stream, &consumer) => {
                self.publish_status(now, reply, "409 Consumer is push based", out);
            }
            Parsed::Status { line, .. } => self.publish_status(now, reply, &line, out),
            // Only a consumer that is there says what is wrong with its reset.
            Parsed::Refused(Kind::ConsumerReset, _) if !self.is_reset_of_one(operation) => {}
            Parsed::Refused(kind, error) => self.refuse_request(now, origin, kind, (subject, message), &error, out),
            Parsed::Unknown => {}
        }
    }

    pub(crate) fn api_server(&self) -> Server<'_> {
        Server {
            domain: self.settings.jetstream.as_ref().and_then(|settings| settings.domain.as_deref()),
            name: &self.settings.server.name,
            version: &self.settings.server.version,
            origins: None,
            push_bound: false,
        }
    }

    /// Messages as they are: from what is remembered, or else from the store.
    fn get_directly(
        &mut self,
        now: Now,
        stream: Box<str>,
        get: DirectRequest,
        headers: bool,
        (subject, message): (&[u8], &Message<'_>),
        out: &mut Outbox,
    ) {
        let mut newest = None;
        if let DirectRequest::One(MessageGet::LastBySubject(wanted)) = &get
            && let Some(id) = self.store.stream_named(&stream)
        {
            if let Some(known) = self.store.recall.newest(id, wanted.as_bytes()) {
                let whom = Whom { stream: &stream, headers, reply: message.reply };
                self.publish_stored(now, whom, &known.message(), None, out);
                return;
            }
            newest = is_literal(wanted.as_bytes()).then_some(id);
        }
        if self.store.is_overloaded(&self.settings) {
            self.publish_no_responders(now, message.reply, subject, out);
            return;
        }
        let name = stream.clone();
        let request = match get {
            DirectRequest::One(MessageGet::LastBySubject(subject))
                if newest.is_some_and(|id| self.store.recall.is_settled(id, subject.as_bytes())) =>
            {
                Request::Newest { name, subject, number: self.store.next_number() }
            }
            DirectRequest::One(get) => Request::DirectMessageGet { name, get },
            DirectRequest::Several(mut get) => {
                if get.max_bytes == 0 {
                    get.max_bytes = self.settings.max_pending as u64;
                }
                Request::DirectGet { name, get }
            }
        };
        let size = message.payload().len() + message.reply.len();
        self.store.ask(request, Asked::Direct { stream, newest, headers, reply: message.reply.into() }, size);
    }

    /// The stream that direct gets for a stream are answered from: itself, or a mirror of it.
    fn who_answers_for(&self, name: &str) -> Option<Box<str>> {
        if self.store.allows_direct(name) { Some(name.into()) } else { self.origins.standing_for(name).map(Box::from) }
    }

    /// The store answered a request.
    pub(crate) fn jetstream_answer(&mut self, now: Now, asked: &Asked, answer: &Answer, out: &mut Outbox) {
        match asked {
            Asked::Api { kind, .. } if is_absent(*kind, answer) => {}
            Asked::Snapshot { request, reply, client, audited } => {
                self.snapshot_answer(now, (request, client, audited.as_deref()), reply, answer, out);
            }
            Asked::Restore { reply, client, audited } => {
                self.restore_answer(now, (client, audited.as_deref()), reply, answer, out);
            }
            Asked::Api { kind, reply, audited } => {
                let mut json = Vec::with_capacity(512);
                let origins = match answer {
                    Answer::Stream(info) => Some(self.origin_infos(now, Some(info.id))),
                    Answer::StreamList { .. } => Some(self.origin_infos(now, None)),
                    _ => None,
                };
                let push_bound = match answer {
                    Answer::Consumer(info) => info
                        .config
                        .push
                        .as_ref()
                        .is_some_and(|push| self.is_listened_to(push.subject.as_bytes(), push.group.as_bytes())),
                    _ => false,
                };
                let server = Server { origins: origins.as_ref(), push_bound, ..self.api_server() };
                // Headers first, if there are any.
                if let Answer::Consumer(info) | Answer::Reset { info, .. } = answer
                    && let Some(identity) = &info.stream_identity
                {
                    json.extend_from_slice(format!("NATS/1.0\r\n{IDENTITY}: {identity}\r\n\r\n").as_bytes());
                }
                let header_len = json.len();
                encode(*kind, answer, &server, &mut json);
                self.answer_request(now, &Message { header_len, ..Message::new(reply, &json) }, out);
                // Resets go to the consumer itself, past those that are told of.
                if let Some(audited) = audited.as_ref().filter(|_| *kind != Kind::ConsumerReset) {
                    self.audit(now, audited, &json[header_len..], out);
                }
            }
            Asked::Direct { stream, newest, headers, reply } => {
                let whom = Whom { stream, headers: *headers, reply };
                match answer {
                    Answer::Message(buffer) => match buffer.get(0) {
                        Some(found) => {
                            newest.iter().for_each(|id| self.store.recall.answered(*id, &found));
                            self.publish_stored(now, whom, &found, None, out);
                        }
                        None => self.publish_status(now, reply, NOT_FOUND, out),
                    },
                    Answer::Direct(piece) => self.answer_direct_piece(now, whom, piece, out),
                    _ => self.publish_status(now, reply, NOT_FOUND, out),
                }
            }
            Asked::Shell => {}
        }
    }

    /// Some messages of several; the rest is asked for as long as somebody listens.
    fn answer_direct_piece(&mut self, now: Now, whom: Whom<'_>, piece: &DirectPiece, out: &mut Outbox) {
        let Whom { stream, headers, reply } = whom;
        let mut last = piece.last;
        for (found, pending) in piece.messages.iter().zip(&piece.pending) {
            if !self.publish_stored(now, whom, &found, Some((*pending, last)), out) {
                return;
            }
            last = found.sequence;
        }
        if let DirectEnd::More(get) = &piece.end {
            let request = Request::DirectGet { name: stream.into(), get: Box::new(get.clone()) };
            let asked = Asked::Direct { stream: stream.into(), newest: None, headers, reply: reply.into() };
            self.store.ask(request, asked, reply.len());
        }
        if let Some(line) = direct_end(&piece.end) {
            self.publish_status(now, reply, &line, out);
        }
    }

    /// A stored message as it is. Did somebody get it?
    fn publish_stored(
        &mut self,
        now: Now,
        whom: Whom<'_>,
        found: &StoredMessage<'_>,
        batch: Option<(u64, Sequence)>,
        out: &mut Outbox,
    ) -> bool {
        let mut body = Vec::with_capacity(found.payload.len() + 256);
        let header_len = if whom.headers { direct_message(whom.stream, found, batch, &mut body) } else { 0 };
        if !whom.headers {
            body.extend_from_slice(found.payload);
        }
        let message = Message { header_len, ..Message::new(whom.reply, &body) };
        self.publish(now, Origin::server(GLOBAL), &message, out).reached > 0
    }

    /// There is no such consumer: the same as if nobody had heard the pull.
    pub(crate) fn refuse_pull(&mut self, now: Now, pull: &Pull, out: &mut Outbox) {
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", pull.stream, pull.consumer);
        self.publish_no_responders(now, &pull.inbox, subject.as_bytes(), out);
    }

    /// What a client's own server says when nobody hears.
    pub(crate) fn publish_no_responders(&mut self, now: Now, reply: &[u8], subject: &[u8], out: &mut Outbox) {
        let line = format!("503\r\nNats-Subject: {}", String::from_utf8_lossy(subject));
        self.publish_status(now, reply, &line, out);
    }

    fn refuse_request(
        &mut self,
        now: Now,
        origin: Origin,
        kind: Kind,
        (subject, request): (&[u8], &Message<'_>),
        error: &ApiError,
        out: &mut Outbox,
    ) {
        let mut json = Vec::with_capacity(256);
        encode_error(kind, error, &mut json);
        self.answer_request(now, &Message::new(request.reply, &json), out);
        if kind != Kind::ConsumerReset && !self.store.is_overloaded(&self.settings) {
            self.store.ask(Request::Refused, Asked::Shell, 0);
        }
        if kind != Kind::ConsumerReset
            && let Some(audited) = self.audited(origin, subject, request.payload())
        {
            self.audit(now, &audited, &json, out);
        }
    }

    /// To who asked, if they said where.
    pub(crate) fn answer_request(&mut self, now: Now, answer: &Message<'_>, out: &mut Outbox) {
        if !answer.subject.is_empty() {
            self.publish(now, Origin::server(GLOBAL), answer, out);
        }
    }

    /// A message that is a status line and nothing else.
    fn publish_status(&mut self, now: Now, reply: &[u8], line: &str, out: &mut Outbox) {
        let headers = format!("NATS/1.0 {line}\r\n\r\n");
        let message = Message { header_len: headers.len(), ..Message::new(reply, headers.as_bytes()) };
        self.publish(now, Origin::server(GLOBAL), &message, out);
    }

    /// Does `CONSUMER.RESET.<stream>.<consumer>` name one?
    fn is_reset_of_one(&self, operation: &[u8]) -> bool {
        let names = operation.strip_prefix(b"CONSUMER.RESET.").and_then(|names| std::str::from_utf8(names).ok());
        let names = names.and_then(|names| names.split_once('.'));
        names.is_some_and(|(stream, consumer)| self.store.has_consumer(stream, consumer))
    }

    /// Is there somebody who hears a pull from this consumer, or else a direct get from this stream?
    fn answers(&self, stream: &str, consumer: Option<&str>) -> bool {
        match consumer {
            Some(consumer) => self.store.has_consumer(stream, consumer),
            None => self.who_answers_for(stream).is_some(),
        }
    }
}
