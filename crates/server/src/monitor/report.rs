//! `/status`, for our own command: a [`Report`].

use broker::{Protocol, Transport};
use jetstream::command::Statistics;
use serde_json::Value;

use super::{Monitor, pulls};
use crate::core_loop::Core;
use crate::status::{ConnectionCounts, Report, StoreReport, StreamReport};

pub(super) fn page(monitor: &Monitor, statistics: Option<&Statistics>) -> Value {
    let report = monitor.view(|core, status| Report {
        server_name: core.broker.settings().server.name.to_string(),
        server_id: core.broker.settings().server.id.to_string(),
        software: core.broker.settings().server.software.to_string(),
        pid: std::process::id(),
        now_micros: core.clock.now().micros,
        status: status.clone(),
        connections: counts(core),
        store: statistics.map(store),
        origins: pulls::origins(core),
        pulled: statistics.map(pulls::pulled).unwrap_or_default(),
    });
    serde_json::to_value(report).unwrap_or_default()
}

/// Who is connected.
pub(super) fn counts(core: &Core) -> ConnectionCounts {
    let total = core.broker.counters().total_connections;
    let mut counts = ConnectionCounts { total, ..ConnectionCounts::default() };
    for entry in core.broker.connections(&core.out) {
        match (entry.protocol, entry.transport) {
            (Protocol::Leaf, _) => counts.leaf += 1,
            (Protocol::Mqtt, _) => counts.mqtt += 1,
            (Protocol::Nats, Transport::WebSocket) => counts.websocket += 1,
            (Protocol::Nats, _) => counts.nats += 1,
        }
    }
    counts
}

fn store(statistics: &Statistics) -> StoreReport {
    let streams = statistics.streams.iter().map(|(info, consumers)| StreamReport {
        name: info.config.name.to_string(),
        messages: info.state.messages,
        bytes: info.state.bytes,
        first: info.state.first.0,
        last: info.state.last.0,
        consumers: consumers.len() as u64,
    });
    StoreReport {
        used_bytes: statistics.space.used,
        available_bytes: statistics.space.available,
        streams: streams.collect(),
        queued: statistics.queued,
        queue_dropped: statistics.queue_dropped,
    }
}

/// Memory of this process, bytes; 0 where the system does not tell.
pub(super) fn resident_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.as_deref().and_then(|text| text.split(' ').nth(1)).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * page_size()
}

#[allow(unsafe_code)] // the C library alone knows it
fn page_size() -> u64 {
    // SAFETY: takes and returns plain numbers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}
