//! Reads the hub's stream back and compares it with what was acknowledged to the sensors.

use std::fmt;

use anyhow::{Context, Result};
use base64::Engine;
use harness::{RawNats, Server};
use serde_json::{Value, json};

use super::sensors::{Sensors, reading};

/// What was found at the hub.
#[derive(Default)]
pub(crate) struct Verdict {
    acknowledged: u64,
    arrived: u64,
    missing: u64,
    repeated: u64,
    out_of_order: u64,
    altered: u64,
}

impl Verdict {
    /// Everything that was acknowledged is there once, in order, unchanged.
    pub(crate) fn is_good(&self) -> bool {
        self.acknowledged > 0 && self.missing + self.repeated + self.out_of_order + self.altered == 0
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { acknowledged, arrived, missing, repeated, out_of_order, altered } = self;
        writeln!(out, "acknowledged to the sensors {acknowledged}, found at the hub {arrived}")?;
        writeln!(out, "missing {missing}, twice {repeated}, out of order {out_of_order}, altered {altered}")?;
        writeln!(out, "{}", if self.is_good() { "PASSED: every message once and in order" } else { "FAILED" })
    }
}

/// Reads the whole of FLEET.
pub(crate) fn judge(hub: &Server, sensors: &Sensors) -> Result<Verdict> {
    let (mut client, _) = RawNats::connect(hub.address("nats")).context("reading the hub's stream")?;
    let expected = sensors.each();
    let mut last = vec![0; expected.len()];
    let mut verdict = Verdict { acknowledged: expected.iter().sum(), ..Verdict::default() };
    let mut sequence = 1;
    while let Some(message) = next_message(&mut client, sequence)? {
        sequence = message["seq"].as_u64().unwrap_or(u64::MAX - 1) + 1;
        verdict.arrived += 1;
        verdict.count(&message, &mut last);
    }
    verdict.missing += expected.iter().zip(&last).map(|(expected, last)| expected.saturating_sub(*last)).sum::<u64>();
    Ok(verdict)
}

impl Verdict {
    fn count(&mut self, message: &Value, last: &mut [u64]) {
        let payload = message["data"].as_str().unwrap_or_default();
        let payload = base64::engine::general_purpose::STANDARD.decode(payload).unwrap_or_default();
        let content: Value = serde_json::from_slice(&payload).unwrap_or_default();
        let (sensor, number) = (content["sensor"].as_u64(), content["number"].as_u64());
        let (Some(sensor), Some(number)) = (sensor.and_then(|sensor| usize::try_from(sensor).ok()), number) else {
            self.altered += 1;
            return;
        };
        let subject = format!("edge.pump-station-7.sensors.{sensor}.temperature");
        if payload != reading(sensor, number).as_bytes() || message["subject"] != subject || sensor >= last.len() {
            self.altered += 1;
        } else if number == last[sensor] {
            self.repeated += 1;
        } else if number < last[sensor] {
            self.out_of_order += 1;
        } else {
            self.missing += number - last[sensor] - 1;
            last[sensor] = number;
        }
    }
}

/// The first message at or after a sequence.
fn next_message(client: &mut RawNats, sequence: u64) -> Result<Option<Value>> {
    let get = json!({ "seq": sequence, "next_by_subj": "edge.>" }).to_string();
    let answer = client.request("$JS.API.STREAM.MSG.GET.FLEET", get.as_bytes())?;
    let answer: Value = serde_json::from_slice(&answer.payload).context("the hub's answer")?;
    Ok(answer.get("message").cloned())
}
