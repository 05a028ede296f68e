//! What monitoring answers: nats-server's pages with its field names, `/metrics` for Prometheus, `/status` for our own command.
//!
//! One page, one file. Pages are made when asked, from the broker's read-only view, the gateway's [`Status`] and the store's
//! counters; fields of things that don't exist here (routes, gateways, clusters) have stock's zero values. Not here: HTTP.

mod accountz;
mod connz;
mod healthz;
mod jsz;
mod leafz;
mod metrics;
mod pulls;
mod query;
mod report;
mod subsz;
mod text;
mod varz;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

use crate::core_loop::{Core, CoreHandle};
use crate::operations::Operations;
use crate::status::{SharedStatus, Status};
pub(crate) use connz::Closed;
use query::Query;
pub use text::timestamp;

/// Paths are counted by name (`http_req_stats`); `/` and these.
const PATHS: [&str; 14] = [
    "/",
    "/varz",
    "/connz",
    "/routez",
    "/gatewayz",
    "/leafz",
    "/subsz",
    "/accountz",
    "/accstatz",
    "/jsz",
    "/healthz",
    "/raftz",
    "/metrics",
    "/status",
];

/// Answers for a core; cheap to clone.
#[derive(Clone, Debug)]
pub struct Monitor {
    core: CoreHandle,
    status: SharedStatus,
    requests: Rc<RefCell<BTreeMap<&'static str, u64>>>,
    /// What stands before every path (`http_base_path`).
    base: Rc<str>,
    status_page: bool,
    operations: Option<Rc<dyn Operations>>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: &'static str,
    /// The body.
    pub body: Vec<u8>,
}

const JSON: &str = "application/json";
const PLAIN: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

impl Page {
    fn json(value: &Value) -> Page {
        // nats-server indents by two, and so does this.
        let body = serde_json::to_vec_pretty(value).unwrap_or_default();
        Page { status: 200, content_type: JSON, body }
    }

    /// Plain text.
    pub fn text(status: u16, text: impl Into<String>) -> Page {
        Page { status, content_type: PLAIN, body: text.into().into_bytes() }
    }
}

/// A query that can't be answered: 400 with this text.
type BadQuery = String;

impl Monitor {
    /// Answers for this core; `base_path` stands before every path (`http_base_path`), usually empty.
    #[must_use]
    pub fn new(core: CoreHandle, status: SharedStatus, base_path: &str) -> Monitor {
        let base = base_path.trim_matches('/');
        let base = if base.is_empty() { String::new() } else { format!("/{base}") };
        Monitor { core, status, requests: Rc::default(), base: base.into(), status_page: false, operations: None }
    }

    /// The same, with what is done on request; only on the socket in the store folder.
    #[must_use]
    pub fn with_operations(&self, operations: Rc<dyn Operations>) -> Monitor {
        Monitor { operations: Some(operations), ..self.clone() }
    }

    /// Answers a POST; `None`: nothing is done here.
    pub(crate) async fn operation(&self, path: &str, query: &str) -> Option<Page> {
        let operations = self.operations.as_ref().filter(|_| self.status_page)?;
        Some(match Query::parse(query) {
            Ok(query) => operations
                .call(path, &query.into_map())
                .await
                .unwrap_or_else(|| Page::text(404, "this gateway knows no such operation\n")),
            Err(bad) => Page::text(400, bad),
        })
    }

    /// The same, and `/status` too.
    pub(crate) fn with_status_page(&self) -> Monitor {
        Monitor { status_page: true, base: "".into(), ..self.clone() }
    }

    /// Answers a GET.
    pub async fn page(&self, path: &str, query: &str) -> Page {
        let known = path.strip_prefix(&*self.base).and_then(|path| PATHS.into_iter().find(|known| *known == path));
        let known = known.filter(|path| *path != "/status" || self.status_page);
        let Some(path) = known.or((*self.base == *path).then_some("/")) else {
            return Page::text(404, "404 page not found\n");
        };
        *self.requests.borrow_mut().entry(path).or_default() += 1;
        match Query::parse(query) {
            Ok(query) => self.known_page(path, &query).await.unwrap_or_else(|bad| Page::text(400, bad)),
            Err(bad) => Page::text(400, bad),
        }
    }

    async fn known_page(&self, path: &str, query: &Query) -> Result<Page, BadQuery> {
        Ok(match path {
            "/varz" => Page::json(&varz::page(self, self.core.statistics().await.as_deref())),
            "/connz" => Page::json(&self.view(|core, _| connz::page(core, query))?),
            "/routez" => Page::json(&self.view(|core, _| routez(core))),
            "/gatewayz" => Page::json(&self.view(|core, _| gatewayz(core))),
            "/leafz" => Page::json(&self.view(leafz::page)),
            "/subsz" => Page::json(&self.view(|core, _| subsz::page(core, query))?),
            "/accountz" => Page::json(&self.view(|core, status| accountz::page(core, status, query))?),
            "/accstatz" => Page::json(&self.view(|core, _| accountz::statistics(core))),
            "/jsz" => Page::json(&jsz::page(self, query, self.core.statistics().await.as_deref())?),
            "/healthz" => {
                let statistics = self.needed_statistics(query).await;
                healthz::page(&self.status.borrow(), query, statistics.as_deref())?
            }
            "/raftz" => Page::text(404, "No Raft nodes registered"),
            "/metrics" => {
                let body = metrics::page(self, self.core.statistics().await.as_deref());
                Page { status: 200, content_type: PROMETHEUS, body: body.into_bytes() }
            }
            "/status" => Page::json(&report::page(self, self.core.statistics().await.as_deref())),
            _ => Page { status: 200, content_type: HTML, body: index().into_bytes() },
        })
    }

    /// `/healthz` asks the store only when a stream is asked for: a probe must cost nothing.
    async fn needed_statistics(&self, query: &Query) -> Option<Rc<jetstream::command::Statistics>> {
        if query.text("stream").is_some() { self.core.statistics().await } else { None }
    }

    /// Looks at the core and the status at one moment.
    fn view<T>(&self, look: impl FnOnce(&mut Core, &Status) -> T) -> T {
        let status = self.status.borrow();
        self.core.with(|core| look(core, &status))
    }
}

/// What most pages begin with.
fn head(core: &Core) -> Value {
    json!({
        "server_id": &*core.broker.settings().server.id,
        "now": text::timestamp(core.clock.now().wall_ns),
    })
}

/// Puts the fields of one object behind those of another.
fn joined(first: Value, second: Value) -> Value {
    match (first, second) {
        (Value::Object(mut first), Value::Object(second)) => {
            first.extend(second);
            Value::Object(first)
        }
        (first, _) => first,
    }
}

fn routez(core: &mut Core) -> Value {
    let name = &*core.broker.settings().server.name;
    joined(head(core), json!({ "server_name": name, "num_routes": 0, "routes": [] }))
}

fn gatewayz(core: &mut Core) -> Value {
    joined(head(core), json!({ "outbound_gateways": {}, "inbound_gateways": {} }))
}

fn index() -> String {
    let links: String = PATHS[1..13].iter().map(|path| format!("<a href=\".{path}\">{path}</a><br>\n")).collect();
    format!("<!DOCTYPE html>\n<html lang=\"en\"><head><title>Monitoring</title></head><body>\n{links}</body></html>\n")
}
