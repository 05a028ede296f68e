//! The running gateway, as our own commands see it: HTTP on the socket in the store folder.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::Deserialize;
use server::status::Report;

use crate::status::{StatusError, call};

/// A gateway that answers.
pub(crate) struct Running {
    folder: PathBuf,
    pub(crate) report: Report,
}

/// The first line of a slice.
#[derive(Debug, Deserialize)]
pub(super) struct SliceHead {
    pub(super) messages: u64,
    pub(super) next: u64,
}

impl Running {
    /// `None`: no gateway runs on this store.
    pub(super) fn find(folder: &Path) -> anyhow::Result<Option<Running>> {
        match report(folder) {
            Ok(report) => Ok(Some(Running { folder: folder.to_owned(), report })),
            Err(StatusError::NotRunning(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What it says now.
    pub(super) fn report_again(&self) -> anyhow::Result<Report> {
        Ok(report(&self.folder)?)
    }

    /// The text of an answer; another than 200 is an error with its text.
    pub(super) fn post(&self, path: &str, arguments: &[(&str, &str)]) -> anyhow::Result<String> {
        let query: Vec<String> = arguments.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let (code, body) = call(&self.folder, "POST", &format!("{path}?{}", query.join("&")))?;
        match code {
            200 => Ok(body),
            _ => bail!("{}", body.trim_end()),
        }
    }

    /// The messages of a stream from a sequence on: the head, and the lines behind it.
    pub(super) fn slice(&self, stream: &str, from: u64, only_count: bool) -> anyhow::Result<(SliceHead, String)> {
        let from = from.to_string();
        let mut arguments = vec![("stream", stream), ("from", &*from)];
        if only_count {
            arguments.push(("count", "1"));
        }
        let answer = self.post("/store/slice", &arguments)?;
        let (head, lines) = answer.split_once('\n').context("the gateway's answer is cut")?;
        Ok((serde_json::from_str(head).context("the gateway's answer is not understood")?, lines.to_owned()))
    }
}

fn report(folder: &Path) -> Result<Report, StatusError> {
    let (code, body) = call(folder, "GET", "/status")?;
    let strange = |reason: String| StatusError::Strange(folder.to_owned(), reason);
    match code {
        200 => serde_json::from_str(&body).map_err(|error| strange(error.to_string())),
        code => Err(strange(format!("status {code}"))),
    }
}

/// As a value of a query.
fn escaped(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' => out.push(char::from(byte)),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn names_survive_a_query() {
        assert_eq!(escaped("A-b_1&=%é"), "A-b_1%26%3D%25%C3%A9");
    }
}
