//! `Nats-Trace-Dest`: a message of a client says where to tell what became of it (ADR-41), as `nats trace` asks.
//!
//! The event lists the mapping, the streams, services and subscriptions that the message reached, or would have reached: with `Nats-Trace-Only` it is
//! delivered and stored nowhere. What a stream said is not in it: it is told before the store's verdict, which the publisher gets as ever. A trace
//! ends at a leaf link; what is delivered over one may be traced by the other end, in an event of its own.

use std::collections::BTreeMap;

use jetstream::identity::Timestamp;
use nats_proto::header::Headers;
use nats_proto::refusal::Refusal;
use serde_json::{Value, json};

use crate::account::Service;
use crate::broker::Broker;
use crate::connection::Kind;
use crate::identity::Now;
use crate::nats_client::reply_error;
use crate::outbox::Outbox;
use crate::plan::{Plan, PlanTarget, Reach};
use crate::routing::{Message, Origin};

/// Length of the line that header blocks begin with.
const VERSION_LINE: usize = b"NATS/1.0\r\n".len();
/// How a server says that a message is not to be traced any more.
const DISABLED: &[u8] = b"trace disabled";
/// Kinds of connections, as nats-server numbers them.
const CLIENT: u8 = 0;
const LEAF: u8 = 4;

/// What became of a message is told in so many parts at most.
const MOST_EVENTS: usize = 1024;

/// Does the message ask to be traced? Looked at for each message with headers: one pass over them.
#[inline]
pub(crate) fn is_asked(headers: &[u8]) -> bool {
    let Some(lines) = headers.get(VERSION_LINE..) else { return false };
    memchr::memchr_iter(b'T', lines).any(|at| lines[at..].starts_with(b"Trace-Dest:"))
}

/// What a message says of its trace.
struct Asked<'a> {
    destination: &'a [u8],
    /// It goes nowhere else.
    only: bool,
}

impl<'a> Asked<'a> {
    fn read(headers: &Headers<'a>) -> Option<Asked<'a>> {
        let first = |name: &[u8]| {
            headers.iter().find(|(have, value)| *have == name && !value.is_empty()).map(|(_, value)| value)
        };
        let destination = first(b"Nats-Trace-Dest").filter(|destination| *destination != DISABLED)?;
        let only = first(b"Nats-Trace-Only").unwrap_or_default().to_ascii_lowercase();
        Some(Asked { destination, only: matches!(&*only, b"1" | b"true" | b"on") })
    }
}

impl Broker {
    /// Routes a message that [asks for it](is_asked), and tells where it went. Returns how many wanted it; one that can't be traced and is for nothing
    /// else counts as wanted, as nobody is to hear of it.
    #[cold]
    pub(crate) fn route_traced(
        &mut self,
        now: Now,
        origin: Origin,
        plan: &Plan,
        message: &Message<'_>,
        out: &mut Outbox,
    ) -> usize {
        let headers = Headers::new(message.headers());
        let Some(asked) = Asked::read(&headers) else { return self.route(now, origin, plan, message, out).reached };
        let is_subject = core::str::from_utf8(asked.destination)
            .is_ok_and(|text| subject::Filter::parse(text).is_ok_and(|filter| filter.is_literal()));
        if !is_subject {
            return if asked.only { 1 } else { self.route(now, origin, plan, message, out).reached };
        }
        if let Some(id) = origin.connection.filter(|id| self.is_publish_denied(now, *id, asked.destination)) {
            reply_error(id, &Refusal::PublishDenied { subject: asked.destination }, out);
            return 1;
        }
        let time = Timestamp(now.wall_ns).to_string();
        let mut events = vec![self.ingress(origin, message, &time)];
        self.add_own(plan, &time, &mut events);
        // Before it goes anywhere: a subscription may end with it.
        let own = origin.connection.filter(|_| origin.skip_own).map(|id| id.slot());
        let everybody = plan.everybody().iter().take(MOST_EVENTS);
        events.extend(everybody.filter_map(|target| self.egress(target, own, asked.only, &time)));
        let member = |target| (self.delivered_to(target), self.egress(target, own, asked.only, &time));
        let groups = plan.groups().take(MOST_EVENTS).map(|members| members.iter().map(member).collect());
        let groups: Vec<Vec<(u64, Option<Value>)>> = groups.collect();
        let reached = if asked.only {
            let served = plan.streams.len() + plan.acks.len() + plan.services.len();
            served + plan.everybody().len() + plan.groups().count()
        } else {
            self.route(now, origin, plan, message, out).reached
        };
        // Of each group the member that was picked, or could have been.
        for (members, before) in plan.groups().zip(groups) {
            let mut picked = members.iter().zip(before);
            let picked = picked.find(|(member, (before, _))| asked.only || self.delivered_to(member) > *before);
            events.extend(picked.and_then(|(_, (_, event))| event));
        }
        events.truncate(MOST_EVENTS);
        let event = json!({
            "server": self.traced_at(&time),
            "request": { "header": listed(&headers), "msgsize": message.body.len() },
            "events": events,
        });
        let body = event.to_string();
        if body.len() <= self.limits.max_payload {
            self.publish(now, Origin::server(origin.account), &Message::new(asked.destination, body.as_bytes()), out);
        }
        reached
    }

    fn traced_at(&self, time: &str) -> Value {
        let about = &self.settings.server;
        json!({
            "name": about.name,
            "host": about.host,
            "id": about.id,
            "ver": about.version,
            "jetstream": self.settings.jetstream.is_some(),
            "seq": 0,
            "time": time,
        })
    }

    fn ingress(&self, origin: Origin, message: &Message<'_>, time: &str) -> Value {
        let connection = origin.connection.and_then(|id| self.connections.entry(id));
        let mut event = json!({
            "type": "in",
            "ts": time,
            "kind": CLIENT,
            "cid": connection.map_or(0, |connection| connection.number),
            "acc": self.accounts[origin.account as usize].name,
            "subj": String::from_utf8_lossy(message.subject),
        });
        name_connection(&mut event, connection.map(|connection| &connection.kind));
        event
    }

    /// The mapping, and what the server itself does with the message.
    fn add_own(&self, plan: &Plan, time: &str, events: &mut Vec<Value>) {
        let subject = String::from_utf8_lossy(plan.routed_subject());
        if plan.mapped.is_some() {
            events.push(json!({ "type": "sm", "ts": time, "to": subject }));
        }
        for stream in plan.streams.iter().filter_map(|stream| self.store.stream_name(*stream)) {
            events.push(json!({ "type": "js", "ts": time, "stream": stream, "subject": subject }));
        }
        if plan.services.contains(&Service::JetStreamApi) {
            events.push(json!({ "type": "si", "ts": time, "acc": "$SYS", "from": subject, "to": subject }));
        }
    }

    /// Messages that a subscription has got; one that is gone got its last.
    fn delivered_to(&self, target: &PlanTarget) -> u64 {
        self.subscriptions.entry(target.subscription).map_or(u64::MAX, |subscription| subscription.delivered)
    }

    fn egress(&self, target: &PlanTarget, own: Option<usize>, only: bool, time: &str) -> Option<Value> {
        let connection = self.connections.at(target.slot as usize);
        let number = connection.map_or(0, |connection| connection.number);
        let mut event = match target.reach {
            Reach::Internal(_) | Reach::Origin(_) => return None,
            Reach::Leaf(_) => {
                let mut event = json!({ "type": "eg", "ts": time, "kind": LEAF, "cid": number });
                if only {
                    event["error"] = "Not delivered because remote does not support message tracing".into();
                }
                event
            }
            Reach::Client | Reach::ClientWithoutHeaders | Reach::Answerer { .. } | Reach::Mqtt(_) => {
                let subscription = self.subscriptions.entry(target.subscription)?;
                let mut event = json!({ "type": "eg", "ts": time, "kind": CLIENT, "cid": number });
                event["sub"] = subscription.filter.as_str().into();
                if let Some(queue) = &subscription.queue {
                    event["queue"] = String::from_utf8_lossy(queue).into();
                }
                if own == Some(target.slot as usize) {
                    event["error"] = "Not delivered because of no echo".into();
                }
                event
            }
        };
        name_connection(&mut event, connection.map(|connection| &connection.kind));
        Some(event)
    }
}

fn name_connection(event: &mut Value, kind: Option<&Kind>) {
    if let Some(Kind::Nats(client)) = kind
        && let Some(name) = client.about.as_ref().map(|about| &*about.name).filter(|name| !name.is_empty())
    {
        event["name"] = name.into();
    }
}

fn listed(headers: &Headers<'_>) -> BTreeMap<String, Vec<String>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    for (name, value) in headers.iter().filter(|(name, value)| !name.is_empty() && !value.is_empty()) {
        all.entry(text(name)).or_default().push(text(value));
    }
    all
}
