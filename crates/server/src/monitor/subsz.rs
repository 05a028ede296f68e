//! `/subsz`: interest.

use serde_json::{Value, json};
use subject::Filter;

use super::query::Query;
use super::{BadQuery, head, joined};
use crate::core_loop::Core;

/// Entries of a page when none is asked for, as stock has it.
const LIMIT: usize = 1024;

pub(super) fn page(core: &mut Core, query: &Query) -> Result<Value, BadQuery> {
    let offset = query.number("offset")?.unwrap_or(0);
    let limit = query.number("limit")?.filter(|limit| *limit > 0).unwrap_or(LIMIT);
    let account = query.text("acc");
    let test = query.text("test");
    if test.is_some_and(|subject| !subject::is_literal(subject.as_bytes())) {
        return Err("invalid test subject, must be a valid publish subject".to_owned());
    }
    let wants_list = query.flag("subs")?;
    let page = json!({
        "num_subscriptions": core.broker.subscription_count(),
        "num_cache": 0,
        "num_inserts": 0,
        "num_removes": 0,
        "num_matches": 0,
        "cache_hit_rate": 0.0,
        "max_fanout": 0,
        "avg_fanout": 0.0,
        "offset": offset,
        "limit": limit,
    });
    if !wants_list {
        return Ok(joined(joined(head(core), page), json!({ "total": 0 })));
    }
    let numbers: std::collections::BTreeMap<_, _> =
        core.broker.connections(&core.out).map(|entry| (entry.id, entry.number)).collect();
    let matches = |subject: &str| {
        test.is_none_or(|test| Filter::parse(subject).is_ok_and(|filter| filter.matches(test.as_bytes())))
    };
    let wanted: Vec<_> = core
        .broker
        .subscriptions()
        .filter(|entry| account.is_none_or(|account| *entry.account == *account) && matches(&entry.subject))
        .collect();
    let list: Vec<Value> = wanted
        .iter()
        .skip(offset)
        .take(limit)
        .map(|entry| detail(entry, numbers.get(&entry.connection).copied().unwrap_or(0)))
        .collect();
    Ok(joined(joined(head(core), page), json!({ "total": wanted.len(), "subscriptions_list": list })))
}

/// A subscription with everything that is known of it.
pub(super) fn detail(entry: &broker::SubscriptionInfo, number: u64) -> Value {
    let mut detail = json!({
        "account": &*entry.account,
        "subject": &*entry.subject,
        "sid": String::from_utf8_lossy(&entry.sid),
        "msgs": entry.messages,
        "cid": number,
    });
    if let (Some(queue), Value::Object(fields)) = (&entry.queue, &mut detail) {
        fields.insert("qgroup".into(), String::from_utf8_lossy(queue).into());
    }
    detail
}
