//! `/leafz`: the leaf links that are up.

use broker::{ConnectionInfo, Protocol};
use serde_json::{Value, json};

use super::{head, joined, text};
use crate::core_loop::Core;
use crate::status::Status;

pub(super) fn page(core: &mut Core, status: &Status) -> Value {
    let leafs: Vec<Value> = core
        .broker
        .connections(&core.out)
        .filter(|entry| entry.protocol == Protocol::Leaf)
        .map(|entry| leaf(&entry, status))
        .collect();
    joined(head(core), json!({ "leafnodes": leafs.len(), "leafs": leafs }))
}

fn leaf(entry: &ConnectionInfo, status: &Status) -> Value {
    let link = status.links.iter().find(|link| link.connection == Some(entry.id));
    let name = link.and_then(|link| link.peer_name.as_deref()).unwrap_or(&entry.name);
    let rtt = entry.rtt_micros.map(u64::from).or(link.and_then(|link| link.rtt_micros));
    json!({
        "id": entry.number,
        "name": name,
        // We dial: the hub is at the other end.
        "is_spoke": true,
        "is_isolated": false,
        "account": &*entry.account,
        "ip": entry.peer.ip().to_string(),
        "port": entry.peer.port(),
        "rtt": rtt.map(text::round_trip).unwrap_or_default(),
        "in_msgs": entry.received.messages,
        "out_msgs": entry.sent.messages,
        "in_bytes": entry.received.bytes,
        "out_bytes": entry.sent.bytes,
        "subscriptions": entry.subscriptions,
        "compression": "off",
    })
}
