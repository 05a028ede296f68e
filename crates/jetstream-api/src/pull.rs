//! `CONSUMER.MSG.NEXT`: a request that is not answered with JSON but with messages, or with a status line.
//!
//! Unlike most other requests it is read leniently, as stock does: unknown fields are ignored.

use crate::json::{self, Object};
use jetstream::api_error::ApiError;
use jetstream::command::{Pull, PullGroup};

/// Reads a pull request; its inbox is left empty. The error is a status line without `NATS/1.0`.
pub(crate) fn pull(stream: &str, consumer: &str, payload: &[u8]) -> Result<Pull, String> {
    let mut pull = Pull { stream: stream.into(), consumer: consumer.into(), batch: 1, ..Pull::default() };
    let text = payload.trim_ascii();
    if !text.starts_with(b"{") {
        // A bare number, or nothing; anything else means 1, as for stock.
        let number = std::str::from_utf8(text).ok().and_then(|text| text.parse::<i64>().ok());
        (pull.batch, pull.odd_batch) = batch(number.unwrap_or(1));
        return Ok(pull);
    }
    pull.is_object = true;
    let bad = |text: &str| format!("400 Bad Request - {text}");
    let mut body = json::parse_lenient(text, "").map_err(|text| bad(&text))?;
    read_pull(&mut body, &mut pull).map_err(|error| bad(without_prefix(&error)))?;
    let (Some(heartbeat), expires) = (pull.heartbeat_ms, pull.expires_ms.unwrap_or(0)) else { return Ok(pull) };
    if heartbeat.saturating_mul(2) > expires {
        return Err(bad("heartbeat value too large"));
    }
    Ok(pull)
}

fn read_pull(body: &mut Object, pull: &mut Pull) -> Result<(), ApiError> {
    (pull.batch, pull.odd_batch) = batch(body.count("batch")?);
    pull.no_wait = body.flag("no_wait")?;
    let max_bytes = body.count("max_bytes")?;
    pull.max_bytes = u64::try_from(max_bytes).ok().filter(|bytes| *bytes > 0);
    pull.odd_bytes = max_bytes.min(0);
    pull.expires_ms = match body.duration("expires")? {
        0 => None,
        // Over before it began.
        ..0 => Some(0),
        nanos => Some(milliseconds(nanos)),
    };
    pull.heartbeat_ms = Some(body.duration("idle_heartbeat")?).filter(|nanos| *nanos > 0).map(milliseconds);
    let group = PullGroup {
        group: PullGroup::bounded(&body.text_or_empty("group")?),
        min_pending: body.signed("min_pending")?,
        min_ack_pending: body.signed("min_ack_pending")?,
        pin: PullGroup::bounded(&body.text_or_empty("id")?),
        priority: body.count("priority")?,
    };
    pull.group = (group != PullGroup::default()).then(|| Box::new(group));
    Ok(())
}

/// At least one and at most what this type holds, which nobody waits for; and what was said when that is another number.
fn batch(number: i64) -> (u32, Option<i64>) {
    let batch = u32::try_from(number.max(1)).unwrap_or(u32::MAX);
    (batch, Some(number).filter(|number| *number != i64::from(batch)))
}

/// Rounded up: what is asked for must not become "none".
fn milliseconds(nanos: i64) -> u64 {
    nanos.unsigned_abs().div_ceil(1_000_000)
}

fn without_prefix(error: &ApiError) -> &str {
    error.description.strip_prefix("invalid JSON: ").unwrap_or(&error.description)
}
