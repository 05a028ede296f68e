//! `$SYS.REQ.USER.INFO`: a client asks who it is and what it may, as `nats account info` does.
//!
//! The one request of `$SYS.REQ` that nats-server answers to every account. The others (`SERVER.PING`, `SERVER.<id>.VARZ`, …) it answers on the
//! system account only; there are no accounts here yet, so nobody hears them, and who asks is told so by `no_responders`, as there.

use serde_json::{Map, Value, json};
use subject::Filter;

use crate::account::{GLOBAL, Service, Target};
use crate::broker::Broker;
use crate::connection::Kind;
use crate::identity::Now;
use crate::outbox::Outbox;
use crate::permissions::{Permissions, Rule, Subscribable};
use crate::routing::{Message, Origin};

impl Broker {
    /// The row through which it is asked.
    pub(crate) fn open_user_info(&mut self) {
        if let Ok(filter) = Filter::parse("$SYS.REQ.USER.INFO") {
            self.change_row(GLOBAL, &filter, Target::Service(Service::UserInfo), true);
        }
    }

    /// Answers a client of ours; what comes over a link asks about somebody else's user.
    pub(crate) fn answer_user_info(&mut self, now: Now, origin: Origin, reply: &[u8], out: &mut Outbox) {
        let Some(connection) = origin.connection.and_then(|id| self.connections.entry(id)) else { return };
        if reply.is_empty() || matches!(connection.kind, Kind::Leaf(_)) {
            return;
        }
        let user = match &connection.kind {
            Kind::Nats(client) => client.about.as_ref().and_then(|about| about.user.as_deref()).unwrap_or_default(),
            Kind::Mqtt(_) | Kind::Leaf(_) => "",
        };
        let account = &self.accounts[connection.account as usize].name;
        let mut data = json!({ "user": user, "account": account, "account_name": account });
        if let Some(allowance) = &connection.allowance {
            data["permissions"] = permissions(&allowance.permissions);
        }
        let about = &self.settings.server;
        let server = json!({
            "name": about.name,
            "host": about.host,
            "id": about.id,
            "ver": about.version,
            "jetstream": self.settings.jetstream.is_some(),
        });
        let answer = json!({ "server": server, "data": data }).to_string();
        self.publish(now, Origin::server(origin.account), &Message::new(reply, answer.as_bytes()), out);
    }
}

fn permissions(permissions: &Permissions) -> Value {
    let mut all = Map::new();
    all.insert("publish".into(), rule(&permissions.publish, |filter| filter.as_str().to_owned()));
    all.insert("subscribe".into(), rule(&permissions.subscribe, subscribable));
    if let Some(responses) = permissions.responses {
        // -1 is "any number", nanoseconds as all of nats-server's durations.
        let max = responses.max_messages.map_or(-1, |max| i64::try_from(max).unwrap_or(i64::MAX));
        let ttl = i64::try_from(responses.expires.as_nanos()).unwrap_or(i64::MAX);
        all.insert("responses".into(), json!({ "max": max, "ttl": ttl }));
    }
    Value::Object(all)
}

fn subscribable(entry: &Subscribable) -> String {
    match &entry.queue {
        Some(queue) => format!("{} {queue}", entry.subject),
        None => entry.subject.as_str().to_owned(),
    }
}

fn rule<T>(rule: &Rule<T>, text: impl Fn(&T) -> String) -> Value {
    let mut lists = Map::new();
    if let Some(allow) = &rule.allow {
        lists.insert("allow".into(), allow.iter().map(&text).collect());
    }
    if !rule.deny.is_empty() {
        lists.insert("deny".into(), rule.deny.iter().map(&text).collect());
    }
    Value::Object(lists)
}
