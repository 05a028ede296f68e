//! What a running gateway does for `edge-gateway forward adopt`, `store check` and `store export`: the other end is [`crate::own_commands`].
//!
//! | request | does |
//! |---|---|
//! | `POST /forward/adopt?stream=S` | goes on beside what a second box left |
//! | `POST /store/slice?stream=S&from=N` | one line of JSON about the slice, then a line for each message |
//! | `POST /store/slice?stream=S&from=N&count=1` | the first of these lines alone |

use std::collections::BTreeMap;

use jetstream::identity::Sequence;
use serde_json::json;
use server::{CoreHandle, OperationAnswer, Operations, Page};

use crate::forwarder::{Adoption, Forwards};
use crate::own_commands::line;
use crate::slices::Slices;

/// See the module.
#[derive(Debug)]
pub(crate) struct StoreOperations {
    pub(crate) core: CoreHandle,
    pub(crate) forwards: Forwards,
    pub(crate) slices: Slices,
}

impl Operations for StoreOperations {
    fn call(&self, path: &str, arguments: &BTreeMap<String, String>) -> OperationAnswer {
        let stream = arguments.get("stream").cloned().unwrap_or_default();
        match path {
            "/forward/adopt" => {
                let page = adopt(&self.forwards, &stream);
                Box::pin(async { Some(page) })
            }
            "/store/slice" => {
                let from = arguments.get("from").and_then(|from| from.parse().ok()).unwrap_or(1);
                let only_count = arguments.contains_key("count");
                let (core, slices) = (self.core.clone(), self.slices.clone());
                Box::pin(async move { Some(slice(&core, &slices, &stream, Sequence(from), only_count).await) })
            }
            _ => Box::pin(async { None }),
        }
    }
}

fn adopt(forwards: &Forwards, stream: &str) -> Page {
    match forwards.adopt(stream) {
        Adoption::Adopted => Page::text(200, "adopted\n"),
        Adoption::Nothing => Page::text(200, "nothing to adopt\n"),
        Adoption::NoForward => Page::text(404, format!("this gateway does not forward a stream {stream:?}\n")),
        Adoption::NotRunning => Page::text(409, format!("the forward of {stream:?} does not run: see its status\n")),
    }
}

async fn slice(core: &CoreHandle, slices: &Slices, stream: &str, from: Sequence, only_count: bool) -> Page {
    let (messages, next) = match slices.read(core, stream, from).await {
        Ok(slice) => slice,
        Err(reason) => return Page::text(404, format!("{reason}\n")),
    };
    let bytes: usize = messages.bytes();
    let mut body = json!({ "messages": messages.len(), "bytes": bytes, "next": next.0 }).to_string();
    body.push('\n');
    if !only_count {
        messages.iter().for_each(|message| line::write(&mut body, &message));
    }
    Page { status: 200, content_type: "application/x-ndjson", body: body.into_bytes() }
}
