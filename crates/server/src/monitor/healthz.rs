//! `/healthz`: may this process be relied on?
//!
//! Not before the store is recovered, not while it is in trouble, and not when a stream or consumer that is asked for does not exist. A link that is
//! down is no illness of an edge: that is what it is for.

use jetstream::command::Statistics;
use serde_json::{Value, json};

use super::query::Query;
use super::{BadQuery, JSON, Page};
use crate::status::{Phase, Status};

pub(super) fn page(status: &Status, query: &Query, statistics: Option<&Statistics>) -> Result<Page, BadQuery> {
    let details = query.flag("details")?;
    let only_enabled = query.flag("js-enabled-only")?;
    // Without assets to look at beyond the server itself the two are the same here.
    query.flag("js-server-only")?;
    let (code, error) = judge(status, only_enabled, query, statistics);
    let page = match (&error, code) {
        (None, _) => json!({ "status": "ok" }),
        (Some(error), 503) => body("unavailable", code, error, details),
        (Some(error), _) => body("error", code, error, details),
    };
    // Stock does not indent this one, and scripts compare it.
    Ok(Page { status: code, content_type: JSON, body: page.to_string().into_bytes() })
}

fn body(status: &str, code: u16, error: &str, details: bool) -> Value {
    if details {
        json!({ "status": status, "status_code": code, "errors": [{ "type": "JETSTREAM", "error": error }] })
    } else {
        json!({ "status": status, "error": error })
    }
}

fn judge(status: &Status, only_enabled: bool, query: &Query, statistics: Option<&Statistics>) -> (u16, Option<String>) {
    let unavailable = |reason: &str| (503, Some(reason.to_owned()));
    match status.phase {
        Phase::Recovering => return unavailable("the store is being recovered"),
        Phase::Stopping => return unavailable("server is shutting down"),
        Phase::Serving | Phase::LameDuck => {}
    }
    if status.jetstream.is_none() {
        return if only_enabled { unavailable("JetStream not enabled") } else { (200, None) };
    }
    if let Some(trouble) = &status.store_trouble {
        return unavailable(trouble);
    }
    let Some(stream) = query.text("stream") else { return (200, None) };
    match query.text("account") {
        None => return (400, Some("\"account\" must not be empty when checking stream health".to_owned())),
        Some("$G") => {}
        Some(_) => return (404, Some("JetStream account not found".to_owned())),
    }
    let Some(statistics) = statistics else { return unavailable("the store does not answer") };
    match statistics.streams.iter().find(|(info, _)| *info.config.name == *stream) {
        None => (404, Some("JetStream stream not found".to_owned())),
        Some((_, consumers)) => match query.text("consumer") {
            Some(name) if !consumers.iter().any(|consumer| *consumer.name == *name) => {
                (404, Some("JetStream consumer not found".to_owned()))
            }
            _ => (200, None),
        },
    }
}
