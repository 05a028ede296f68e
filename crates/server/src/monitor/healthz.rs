//! `/healthz`: may this process be relied on?
//!
//! Not before the store is recovered, not while it is in trouble, and not when a stream or consumer that is asked for does not exist. A link that is
//! down is no illness of an edge: that is what it is for.

use jetstream::command::Statistics;
use serde::Serialize;

use super::query::Query;
use super::{BadQuery, JSON, Page};
use crate::status::{Phase, Status};

pub(super) fn page(status: &Status, query: &Query, statistics: Option<&Statistics>) -> Result<Page, BadQuery> {
    let details = query.flag("details")?;
    let only_enabled = query.flag("js-enabled-only")?;
    // Without assets to look at beyond the server itself the two are the same here.
    query.flag("js-server-only")?;
    let (code, error) = judge(status, only_enabled, query, statistics);
    let status = match (&error, code) {
        (None, _) => "ok",
        (Some(_), 503) => "unavailable",
        (Some(_), _) => "error",
    };
    let body = match (&error, details) {
        (Some(error), true) => Body { status, status_code: Some(code), error: None, errors: vec![Trouble::new(error)] },
        _ => Body { status, status_code: None, error: error.as_deref(), errors: Vec::new() },
    };
    // Stock does not indent this one, and scripts compare it.
    Ok(Page { status: code, content_type: JSON, body: serde_json::to_vec(&body).unwrap_or_default() })
}

/// In stock's order.
#[derive(Serialize)]
struct Body<'a> {
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<Trouble<'a>>,
}

#[derive(Serialize)]
struct Trouble<'a> {
    r#type: &'static str,
    error: &'a str,
}

impl Trouble<'_> {
    fn new(error: &str) -> Trouble<'_> {
        Trouble { r#type: "JETSTREAM", error }
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
