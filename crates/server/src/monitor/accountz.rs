//! `/accountz` and `/accstatz`: the one account that there is.

use serde_json::{Value, json};

use super::query::Query;
use super::{BadQuery, head, joined, text};
use crate::core_loop::Core;
use crate::status::Status;

/// Everybody's account.
const GLOBAL: &str = "$G";

pub(super) fn page(core: &mut Core, status: &Status, query: &Query) -> Result<Value, BadQuery> {
    let page = joined(head(core), json!({ "system_account": "$SYS" }));
    match query.text("acc") {
        None => Ok(joined(page, json!({ "accounts": ["$SYS", GLOBAL] }))),
        Some(GLOBAL) => Ok(joined(page, json!({ "account_detail": detail(core, status) }))),
        Some(other) => Err(format!("Account {other} does not exist")),
    }
}

fn detail(core: &Core, status: &Status) -> Value {
    let (clients, leafs) = counts(core);
    json!({
        "account_name": GLOBAL,
        "update_time": text::timestamp(status.started_wall_ns),
        "expired": false,
        "complete": true,
        "jetstream_enabled": status.jetstream.is_some(),
        "leafnode_connections": leafs,
        "client_connections": clients,
        "subscriptions": core.broker.subscription_count(),
        "name_tag": GLOBAL,
    })
}

pub(super) fn statistics(core: &mut Core) -> Value {
    let (clients, leafs) = counts(core);
    let traffic = |traffic: broker::Traffic| json!({ "msgs": traffic.messages, "bytes": traffic.bytes });
    let counters = core.broker.counters();
    let account = json!({
        "acc": GLOBAL,
        "name": GLOBAL,
        "conns": clients,
        "leafnodes": leafs,
        "total_conns": clients + leafs,
        "num_subscriptions": core.broker.subscription_count(),
        "sent": traffic(core.out.totals()),
        "received": traffic(counters.received),
        "slow_consumers": counters.slow_consumers,
    });
    joined(head(core), json!({ "account_statz": [account] }))
}

fn counts(core: &Core) -> (usize, usize) {
    let is_leaf = |entry: &broker::ConnectionInfo| entry.protocol == broker::Protocol::Leaf;
    let leafs = core.broker.connections(&core.out).filter(is_leaf).count();
    (core.broker.connection_count() - leafs, leafs)
}
