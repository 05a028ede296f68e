//! A GET over a plain socket, for monitoring endpoints.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::wire::Wire;

/// Status and body of `GET path`.
///
/// # Errors
/// When nobody answers in time, or not in HTTP.
pub fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut wire = Wire::connect(address)?;
    wire.send(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let answer =
        String::from_utf8(wire.wait_for_close()?).with_context(|| format!("the body of {path} is not UTF-8"))?;
    let (head, body) =
        answer.split_once("\r\n\r\n").with_context(|| format!("no HTTP answer to {path}: {answer:?}"))?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.with_context(|| format!("no HTTP status in {head:?}"))?, body.to_owned()))
}

/// The body of a successful `GET path` as JSON.
///
/// # Errors
/// When the status is not 200 or the body is something else.
pub fn get_json(address: SocketAddr, path: &str) -> Result<Value> {
    let (status, body) = get(address, path)?;
    anyhow::ensure!(status == 200, "{path} answered {status}: {body}");
    serde_json::from_str(&body).with_context(|| format!("{path} is not JSON: {body}"))
}
