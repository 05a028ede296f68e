//! `/varz`: the server, its limits and its totals.

use jetstream::command::Statistics;
use serde_json::{Map, Value, json};

use super::{Monitor, joined, text};
use crate::core_loop::Core;
use crate::status::{JetStreamFacts, Listener, Status};

pub(super) fn page(monitor: &Monitor, statistics: Option<&Statistics>) -> Value {
    let requests: Map<String, Value> =
        monitor.requests.borrow().iter().map(|(path, count)| ((*path).to_owned(), (*count).into())).collect();
    monitor.view(|core, status| {
        let mut page = joined(super::head(core), server(core, status));
        page = joined(page, limits(core, status));
        page = joined(page, totals(core, status));
        page = joined(page, blocks(status, statistics));
        joined(page, json!({ "http_req_stats": requests, "http_base_path": &*monitor.base }))
    })
}

fn server(core: &Core, status: &Status) -> Value {
    let settings = core.broker.settings();
    let server = &settings.server;
    let client = status.listeners.client.clone().unwrap_or_default();
    let http = status.listeners.http.clone().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let now = core.clock.now();
    json!({
        "server_name": &*server.name,
        "version": &*server.version,
        "tributary": &*server.software,
        "proto": 1,
        "go": "",
        "git_commit": "",
        "host": &*server.host,
        "port": server.port,
        "auth_required": settings.authorization.is_configured(),
        "tls_required": client.tls,
        "tls_verify": client.tls_verify,
        "http_host": http.host,
        "http_port": http.port,
        "https_port": 0,
        "start": text::timestamp(status.started_wall_ns),
        "uptime": text::uptime(now.micros.saturating_sub(status.started_micros)),
        "mem": super::report::resident_bytes(),
        "cores": cores,
        "gomaxprocs": cores,
        "cpu": 0,
        "config_load_time": text::timestamp(status.config_loaded_wall_ns),
        "config_digest": status.config_digest,
        "tags": status.tags,
        "system_account": "$SYS",
    })
}

fn limits(core: &Core, status: &Status) -> Value {
    let settings = core.broker.settings();
    json!({
        "max_connections": settings.max_connections,
        "max_subscriptions": settings.max_subscriptions,
        "max_payload": settings.max_payload,
        "max_pending": settings.max_pending,
        "max_control_line": settings.max_control_line,
        "ping_interval": text::nanoseconds(settings.ping_interval),
        "ping_max": settings.ping_max,
        "write_deadline": text::nanoseconds(settings.write_deadline),
        "auth_timeout": settings.auth_timeout.as_secs_f64(),
        "tls_timeout": 2,
        "lame_duck_mode": status.phase == crate::status::Phase::LameDuck,
    })
}

fn totals(core: &Core, status: &Status) -> Value {
    let counters = core.broker.counters();
    let sent = core.out.totals();
    let leafs = core.broker.connections(&core.out).filter(|entry| entry.protocol == broker::Protocol::Leaf);
    let (leafs, leaf_in, leaf_out) = leafs.fold((0, (0, 0), (0, 0)), |(count, received, sent), entry| {
        (
            count + 1,
            (received.0 + entry.received.messages, received.1 + entry.received.bytes),
            (sent.0 + entry.sent.messages, sent.1 + entry.sent.bytes),
        )
    });
    json!({
        "connections": core.broker.connection_count().saturating_sub(leafs),
        "total_connections": counters.total_connections,
        "routes": 0,
        "remotes": 0,
        "leafnodes": leafs,
        "leafnode_remotes": status.links.len(),
        "subscriptions": core.broker.subscription_count(),
        "in_msgs": counters.received.messages,
        "in_bytes": counters.received.bytes,
        "in_client_msgs": counters.received.messages.saturating_sub(leaf_in.0),
        "in_client_bytes": counters.received.bytes.saturating_sub(leaf_in.1),
        "out_msgs": sent.messages,
        "out_bytes": sent.bytes,
        "out_client_msgs": sent.messages.saturating_sub(leaf_out.0),
        "out_client_bytes": sent.bytes.saturating_sub(leaf_out.1),
        "slow_consumers": counters.slow_consumers,
        "stale_connections": counters.stale_connections,
        "stalled_clients": 0,
        "slow_consumer_stats": { "clients": counters.slow_consumers, "routes": 0, "gateways": 0, "leafs": 0 },
        "stale_connection_stats": { "clients": counters.stale_connections, "routes": 0, "gateways": 0, "leafs": 0 },
    })
}

fn blocks(status: &Status, statistics: Option<&Statistics>) -> Value {
    let plain = |listener: &Option<Listener>| match listener {
        Some(listener) => json!({ "host": listener.host, "port": listener.port, "tls_timeout": 2 }),
        None => json!({}),
    };
    let websocket = match &status.listeners.websocket {
        Some(listener) => json!({ "host": listener.host, "port": listener.port, "no_tls": !listener.tls }),
        None => json!({}),
    };
    let remotes: Vec<Value> = status.links.iter().map(|link| json!({ "urls": [link.address] })).collect();
    let jetstream = match &status.jetstream {
        Some(facts) => json!({ "config": config(facts), "stats": stats(statistics), "limits": {} }),
        None => json!({}),
    };
    json!({
        "cluster": {},
        "gateway": {},
        "leaf": if remotes.is_empty() { json!({}) } else { json!({ "remotes": remotes }) },
        "mqtt": plain(&status.listeners.mqtt),
        "websocket": websocket,
        "jetstream": jetstream,
    })
}

/// JetStream's configuration, here and in `/jsz`.
pub(super) fn config(facts: &JetStreamFacts) -> Value {
    let config = json!({
        "max_memory": facts.max_memory,
        "max_storage": facts.max_storage,
        "store_dir": facts.store_dir,
        // Nothing is acknowledged before it is synced: there is no interval.
        "sync_always": true,
        "sync_interval": 0,
        "strict": true,
    });
    match &facts.domain {
        Some(domain) => joined(config, json!({ "domain": domain })),
        None => config,
    }
}

/// JetStream's counters, here and in `/jsz`.
pub(super) fn stats(statistics: Option<&Statistics>) -> Value {
    let account = statistics.map(|statistics| statistics.account).unwrap_or_default();
    json!({
        "memory": account.memory,
        "storage": account.storage,
        "reserved_memory": account.reserved_memory,
        "reserved_storage": account.reserved_storage,
        "accounts": 1,
        "ha_assets": 0,
        "api": { "level": jetstream_api::API_LEVEL, "total": account.api_total, "errors": account.api_errors },
    })
}
