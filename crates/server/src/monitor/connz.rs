//! `/connz`: clients that are connected, and those that were.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use broker::{CloseReason, ConnectionId, ConnectionInfo, Now, Protocol, SubscriptionInfo, Transport};
use serde_json::{Map, Value, json};
use subject::Filter;

use super::query::Query;
use super::{BadQuery, head, joined, subsz, text};
use crate::core_loop::Core;
use crate::tls::TlsSession;

/// Entries of a page when none is asked for, as stock has it.
const LIMIT: usize = 1024;

/// A connection that was closed, as the core remembers it.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub(crate) info: ConnectionInfo,
    pub(crate) tls: Option<TlsSession>,
    pub(crate) reason: CloseReason,
    pub(crate) stopped: Now,
}

/// An entry of the page.
struct Entry {
    info: ConnectionInfo,
    tls: Option<TlsSession>,
    closed: Option<(CloseReason, Now)>,
}

pub(super) fn page(core: &mut Core, query: &Query) -> Result<Value, BadQuery> {
    let sort = query.text("sort").unwrap_or("cid");
    let details = Details::asked(query)?;
    let offset = query.number("offset")?.unwrap_or(0);
    let limit = query.number("limit")?.filter(|limit| *limit > 0).unwrap_or(LIMIT);
    let only = query.number("cid")?;
    let limit = if only.is_some_and(|cid| cid > 0) { 1 } else { limit };
    let filter = query.text("filter_subject").map(Filter::parse).transpose().map_err(|error| error.to_string())?;
    let subscriptions = details.collect(core, filter.as_ref());
    let mut entries = chosen(core, query.text("state").unwrap_or("open"))?;
    let is_wanted = Wanted { query, only, filter: filter.is_some(), subscriptions: &subscriptions };
    entries.retain(|entry| is_wanted.matches(entry));
    sort_entries(&mut entries, sort, query.text("state"), core.clock.now())?;
    let total = entries.len();
    let now = core.clock.now();
    let list: Vec<Value> = entries
        .iter()
        .skip(offset)
        .take(limit)
        .map(|entry| details.entry(entry, now, subscriptions.get(&entry.info.id).map_or(&[], Vec::as_slice)))
        .collect();
    let page = json!({
        "num_connections": list.len(),
        "total": total,
        "offset": offset,
        "limit": limit,
        "connections": list,
    });
    Ok(joined(head(core), page))
}

fn chosen(core: &Core, state: &str) -> Result<Vec<Entry>, BadQuery> {
    let clients = || {
        let open = core.broker.connections(&core.out).filter(|info| info.protocol != Protocol::Leaf);
        open.map(|info| Entry { tls: core.tls_of(info.id), info, closed: None })
    };
    let gone = || {
        core.closed_connections.iter().map(|closed| Entry {
            info: closed.info.clone(),
            tls: closed.tls,
            closed: Some((closed.reason, closed.stopped)),
        })
    };
    match state.to_ascii_lowercase().as_str() {
        "open" => Ok(clients().collect()),
        "closed" => Ok(gone().collect()),
        "all" | "any" => Ok(clients().chain(gone()).collect()),
        _ => Err(format!("Error decoding state for {state}")),
    }
}

type Subscriptions = BTreeMap<ConnectionId, Vec<SubscriptionInfo>>;

struct Wanted<'a> {
    query: &'a Query,
    only: Option<usize>,
    filter: bool,
    subscriptions: &'a Subscriptions,
}

impl Wanted<'_> {
    fn matches(&self, Entry { info, .. }: &Entry) -> bool {
        let is = |name: &str, value: &str| self.query.text(name).is_none_or(|wanted| wanted == value);
        self.only.is_none_or(|cid| cid == 0 || cid as u64 == info.number)
            && is("acc", &info.account)
            && is("user", info.user.as_deref().unwrap_or(""))
            && is("mqtt_client", if info.protocol == Protocol::Mqtt { &info.name } else { "" })
            && (!self.filter || self.subscriptions.contains_key(&info.id))
    }
}

/// As stock: numbers begin with the largest, `cid`, `start` and `stop` with the first.
fn sort_entries(entries: &mut [Entry], sort: &str, state: Option<&str>, now: Now) -> Result<(), BadQuery> {
    let largest = |entries: &mut [Entry], key: fn(&ConnectionInfo) -> u64| {
        entries.sort_by_key(|entry| Reverse(key(&entry.info)));
    };
    entries.sort_by_key(|entry| entry.info.number);
    match sort {
        "cid" => {}
        "start" => entries.sort_by_key(|entry| entry.info.started.0),
        "subs" => largest(entries, |info| info.subscriptions as u64),
        "pending" => largest(entries, |info| info.pending_bytes as u64),
        "msgs_to" => largest(entries, |info| info.sent.messages),
        "msgs_from" => largest(entries, |info| info.received.messages),
        "bytes_to" => largest(entries, |info| info.sent.bytes),
        "bytes_from" => largest(entries, |info| info.received.bytes),
        "last" => largest(entries, |info| info.last_activity),
        "idle" => entries.sort_by_key(|entry| Reverse(now.micros.saturating_sub(entry.info.last_activity))),
        "rtt" => largest(entries, |info| info.rtt_micros.unwrap_or(0).into()),
        "uptime" => entries.sort_by_key(|entry| Reverse(entry.info.started.0)),
        "stop" | "reason" if state.is_none_or(|state| state.eq_ignore_ascii_case("open")) => {
            return Err(format!("sort by {sort} only valid on closed connections"));
        }
        "stop" => entries.sort_by(by_stop),
        "reason" => entries.sort_by_key(|entry| entry.closed.map_or("", |(reason, _)| reason.text())),
        other => return Err(format!("invalid sorting option: {other}")),
    }
    Ok(())
}

fn by_stop(one: &Entry, other: &Entry) -> Ordering {
    let stop = |entry: &Entry| entry.closed.map_or(0, |(_, stopped)| stopped.micros);
    stop(one).cmp(&stop(other))
}

/// How much is told of each.
struct Details {
    authorization: bool,
    names: bool,
    subscriptions: bool,
}

impl Details {
    fn asked(query: &Query) -> Result<Details, BadQuery> {
        let subscriptions = query.text("subs").is_some_and(|value| value.eq_ignore_ascii_case("detail"));
        let names = !subscriptions && query.flag("subs")?;
        Ok(Details { authorization: query.flag("auth")?, names, subscriptions })
    }

    /// The subscriptions that are needed, by connection; with a filter only those that meet it.
    fn collect(&self, core: &Core, filter: Option<&Filter>) -> Subscriptions {
        let mut found = Subscriptions::new();
        if !self.names && !self.subscriptions && filter.is_none() {
            return found;
        }
        for entry in core.broker.subscriptions() {
            let meets = |filter: &Filter| Filter::parse(&entry.subject).is_ok_and(|other| filter.overlaps(&other));
            if filter.is_none_or(meets) {
                found.entry(entry.connection).or_default().push(entry);
            }
        }
        found
    }

    fn entry(&self, Entry { info, tls, closed }: &Entry, now: Now, subscriptions: &[SubscriptionInfo]) -> Value {
        let end = closed.map_or(now.micros, |(_, stopped)| stopped.micros);
        let since = |micros: u64| text::uptime(end.saturating_sub(micros));
        let last_wall =
            info.started.1 + ((info.last_activity.saturating_sub(info.started.0)) as i64).saturating_mul(1000);
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| fields.insert(name.into(), value);
        set("cid", info.number.into());
        set("kind", "Client".into());
        set("type", kind(info).into());
        set("ip", info.peer.ip().to_string().into());
        set("port", info.peer.port().into());
        set("start", text::timestamp(info.started.1).into());
        set("last_activity", text::timestamp(last_wall).into());
        if let Some(rtt) = info.rtt_micros {
            set("rtt", text::round_trip(rtt.into()).into());
        }
        set("uptime", since(info.started.0).into());
        set("idle", since(info.last_activity).into());
        set("pending_bytes", info.pending_bytes.into());
        set("in_msgs", info.received.messages.into());
        set("out_msgs", info.sent.messages.into());
        set("in_bytes", info.received.bytes.into());
        set("out_bytes", info.sent.bytes.into());
        set("subscriptions", info.subscriptions.into());
        if let Some((reason, stopped)) = closed {
            set("stop", text::timestamp(stopped.wall_ns).into());
            set("reason", reason.text().into());
        }
        if let Some(tls) = tls {
            set("tls_version", tls.version.into());
            set("tls_cipher_suite", tls.cipher_suite.into());
        }
        self.about(info, &mut set);
        self.list(info, subscriptions, &mut set);
        Value::Object(fields)
    }

    fn about(&self, info: &ConnectionInfo, set: &mut impl FnMut(&str, Value) -> Option<Value>) {
        for (name, value) in [("name", &info.name), ("lang", &info.lang), ("version", &info.version)] {
            if !value.is_empty() {
                set(name, (&**value).into());
            }
        }
        if info.protocol == Protocol::Mqtt {
            set("mqtt_client", (&*info.name).into());
        }
        if self.authorization {
            set("account", (&*info.account).into());
            set("name_tag", (&*info.account).into());
            if let Some(user) = &info.user {
                set("authorized_user", (&**user).into());
            }
        }
    }

    fn list(
        &self,
        info: &ConnectionInfo,
        subscriptions: &[SubscriptionInfo],
        set: &mut impl FnMut(&str, Value) -> Option<Value>,
    ) {
        if self.names && !subscriptions.is_empty() {
            set("subscriptions_list", subscriptions.iter().map(|entry| Value::from(&*entry.subject)).collect());
        }
        if self.subscriptions && !subscriptions.is_empty() {
            set(
                "subscriptions_list_detail",
                subscriptions.iter().map(|entry| subsz::detail(entry, info.number)).collect(),
            );
        }
    }
}

fn kind(info: &ConnectionInfo) -> &'static str {
    match (info.protocol, info.transport) {
        (Protocol::Mqtt, _) => "mqtt",
        (_, Transport::WebSocket) => "websocket",
        _ => "nats",
    }
}
