//! `/jsz`: JetStream, down to consumers when asked.

use jetstream::command::{Answer, ConsumerInfo, Statistics, StreamInfo};
use jetstream_api::{Kind, Server};
use serde_json::{Map, Value, json};

use super::query::Query;
use super::{BadQuery, Monitor, head, joined, varz};
use crate::status::JetStreamFacts;

/// The only account.
const ACCOUNT: &str = "$G";
/// Streams of a page when none is asked for.
const LIMIT: usize = 1024;

struct Asked {
    accounts: bool,
    streams: bool,
    consumers: bool,
    config: bool,
    offset: usize,
    limit: usize,
}

pub(super) fn page(monitor: &Monitor, query: &Query, statistics: Option<&Statistics>) -> Result<Value, BadQuery> {
    let consumers = query.flag("consumers")?;
    let streams = consumers || query.flag("streams")?;
    let account = query.text("acc");
    if account.is_some_and(|account| account != ACCOUNT) {
        return Err(format!("account {:?} not jetstream enabled", account.unwrap_or("")));
    }
    query.flag("leader-only")?;
    query.flag("raft")?;
    let asked = Asked {
        accounts: streams || account.is_some() || query.flag("accounts")?,
        streams,
        consumers,
        config: query.flag("config")?,
        offset: query.number("offset")?.unwrap_or(0),
        limit: query.number("limit")?.filter(|limit| *limit > 0).unwrap_or(LIMIT),
    };
    Ok(monitor.view(|core, status| match &status.jetstream {
        None => disabled(head(core)),
        Some(facts) => {
            let name = &*core.broker.settings().server.name;
            let version = &*core.broker.settings().server.version;
            let origins = core.broker.origin_infos(core.clock.now(), None);
            let server =
                Server { domain: facts.domain.as_deref(), name, version, origins: Some(&origins), push_bound: false };
            enabled(head(core), facts, &asked, statistics, &server)
        }
    }))
}

fn disabled(head: Value) -> Value {
    let zeroes = json!({ "streams": 0, "consumers": 0, "messages": 0, "bytes": 0, "total": 0 });
    let config = json!({ "max_memory": 0, "max_storage": 0, "sync_interval": 0 });
    let page = joined(joined(varz::stats(None), zeroes), json!({ "disabled": true, "accounts": 0, "config": config }));
    joined(joined(head, page), json!({ "limits": {} }))
}

fn enabled(
    head: Value,
    facts: &JetStreamFacts,
    asked: &Asked,
    statistics: Option<&Statistics>,
    server: &Server<'_>,
) -> Value {
    let streams = statistics.map_or(&[][..], |statistics| &statistics.streams);
    let sum = |value: fn(&StreamInfo) -> u64| -> u64 { streams.iter().map(|(info, _)| value(info)).sum() };
    let totals = json!({
        "config": varz::config(facts),
        "limits": limits(facts),
        "streams": streams.len(),
        "consumers": streams.iter().map(|(_, consumers)| consumers.len()).sum::<usize>(),
        "messages": sum(|info| info.state.messages),
        "bytes": sum(|info| info.state.bytes),
        "total": 1,
    });
    let page = joined(joined(head, varz::stats(statistics)), totals);
    if !asked.accounts {
        return page;
    }
    let mut account = joined(varz::stats(statistics), json!({ "name": ACCOUNT, "id": ACCOUNT, "accounts": 0 }));
    if asked.streams {
        let pages = streams.iter().skip(asked.offset).take(asked.limit);
        let list: Vec<Value> = pages.map(|(info, consumers)| stream(info, consumers, asked, server)).collect();
        account = joined(account, json!({ "stream_detail": list }));
    }
    joined(page, json!({ "account_details": [account] }))
}

/// Limits of single requests, those that there are.
fn limits(facts: &JetStreamFacts) -> Value {
    let all = [
        ("max_request_batch", facts.max_request_batch),
        ("max_ack_pending", facts.max_ack_pending),
        ("max_duplicate_window", facts.max_duplicate_window_ns),
    ];
    let there = all.into_iter().filter(|(_, limit)| *limit > 0);
    Value::Object(there.map(|(name, limit)| (name.to_owned(), limit.into())).collect())
}

fn stream(info: &StreamInfo, consumers: &[ConsumerInfo], asked: &Asked, server: &Server<'_>) -> Value {
    let mut fields = answer(Kind::StreamInfo { offset: 0 }, &Answer::Stream(Box::new(info.clone())), server);
    let config = fields.remove("config").unwrap_or_default();
    let mut detail = json!({
        "name": &*info.config.name,
        "created": fields.remove("created"),
        "cluster": { "leader": server.name },
        "state": fields.remove("state"),
    });
    for key in ["mirror", "sources"] {
        if let Some(origins) = fields.remove(key) {
            detail = joined(detail, json!({ key: origins }));
        }
    }
    if asked.config {
        detail = joined(detail, json!({ "config": config }));
    }
    if asked.consumers {
        let list: Vec<Value> = consumers.iter().map(|info| consumer(info, asked, server)).collect();
        detail = joined(detail, json!({ "consumer_detail": list }));
    }
    detail
}

fn consumer(info: &ConsumerInfo, asked: &Asked, server: &Server<'_>) -> Value {
    let mut fields = answer(Kind::ConsumerInfo, &Answer::Consumer(Box::new(info.clone())), server);
    fields.remove("type");
    if !asked.config {
        fields.remove("config");
    }
    Value::Object(fields)
}

/// What the API would say of it: one place knows that JSON.
fn answer(kind: Kind, answer: &Answer, server: &Server<'_>) -> Map<String, Value> {
    let mut bytes = Vec::new();
    jetstream_api::encode(kind, answer, server, &mut bytes);
    serde_json::from_slice(&bytes).unwrap_or_default()
}
