//! Loss is accounted for: what an outage costs a small stream is told to a stock hub before the data behind it, and the equation holds over a kill.

use anyhow::{Context, Result, ensure};
use harness::peers::{self, Peer};
use harness::{Gateway, Proxy, RawNats, StockHub, http};
use serde_json::{Value, json};

use crate::forward::{command, decoded, forwards, message, messages, publish};
use crate::hub::{Linked, ask};

fn linked() -> Result<Linked> {
    let hub = StockHub::start(StockHub::PLAIN)?;
    let link = Proxy::start(hub.address("leaf"))?;
    let blocks = format!(
        r#"
leafnodes {{ remotes: [ {{ url: "nats-leaf://{}", ignore_discovered_servers: true }} ] }}
uplink {{ ping_interval: "300ms", ping_max: 2, reconnect {{ min: "50ms", max: "300ms" }} }}
streams {{ LOSSY {{ subjects: ["lossy.>"], max_msgs: 5 }} }}
forward {{ LOSSY {{ to: FLEET, prefix: edge.p7, create {{ subjects: ["edge.>"] }} }} }}
"#,
        link.address()
    );
    let gateway = Gateway::start(&format!("{}{blocks}", Gateway::PLAIN))?;
    let linked = Linked { gateway, link, hub };
    linked.wait("the forward is up", || Ok(forwards(&linked.gateway)?[0]["state"] == "idle"))?;
    Ok(linked)
}

fn store(linked: &Linked, count: u32) -> Result<()> {
    let (mut client, _) = RawNats::connect(linked.gateway.address("nats"))?;
    for number in 0..count {
        let answer = publish(&mut client, "lossy.a", "", format!("{number}").as_bytes())?;
        ensure!(answer["seq"].as_u64() > Some(0), "{answer}");
    }
    Ok(())
}

/// Accepted, delivered, held, and what was dropped by the named causes; the equation holds.
fn account(linked: &Linked, causes: &[&str]) -> Result<Vec<u64>> {
    let forward = forwards(&linked.gateway)?.remove(0);
    let ledger = &forward["ledger"];
    if ledger.is_null() {
        return Ok(Vec::new()); // just started
    }
    let number = |value: &Value| value.as_u64().with_context(|| format!("{forward}"));
    let mut numbers = vec![number(&ledger["accepted"])?, number(&ledger["delivered"])?, number(&ledger["held"])?];
    let dropped = ledger["dropped"].as_object().context("no causes")?;
    let all: u64 = dropped.values().filter_map(Value::as_u64).sum();
    ensure!(numbers[0] == numbers[1] + numbers[2] + all, "{ledger}");
    for cause in causes {
        numbers.push(number(&dropped[*cause])?);
    }
    Ok(numbers)
}

/// A gap record at the hub, without its time.
fn record(linked: &Linked, sequence: u64) -> Result<Value> {
    let found = message(&linked.hub, "FLEET", sequence)?;
    ensure!(found["subject"] == "edge.p7.$gap.LOSSY", "{found}");
    let mut body: Value = serde_json::from_str(&decoded(&found["data"])?)?;
    let time = body["time"].take();
    ensure!(time.as_str().is_some_and(|time| time.starts_with("20") && time.ends_with('Z')), "{time}");
    Ok(body)
}

#[test]
fn what_an_outage_costs_is_told_to_the_hub_before_what_came_after() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut linked = linked()?;
    store(&linked, 2)?;
    linked.wait("two are there", || Ok(messages(&linked.hub, "FLEET")? == 2))?;
    linked.wait("and counted", || Ok(account(&linked, &["limit"])? == [2, 2, 0, 0]))?;

    linked.link.cut();
    store(&linked, 10)?;
    linked.gateway.kill9()?;
    linked.gateway.restart()?;
    store(&linked, 10)?;
    linked.wait("one record over both", || Ok(account(&linked, &["limit", "damaged"])? == [22, 2, 5, 15, 0]))?;
    ensure!(messages(&linked.gateway, "GAPS")? == 0, "it is still open");

    linked.link.restore()?;
    linked.wait("the record and the rest", || Ok(messages(&linked.hub, "FLEET")? == 8))?;
    let lost = json!({
        "stream": "LOSSY", "first": 3, "last": 17, "count": 15, "bytes": 15 * (22 + 7 + 1 + 8), "reason": "limit", "time": null,
    });
    let told = record(&linked, 3)?;
    ensure!(told == lost, "{told}");
    for (sequence, body) in (4..=8).zip(5..) {
        let found = message(&linked.hub, "FLEET", sequence)?;
        ensure!(found["subject"] == "edge.p7.lossy.a" && decoded(&found["data"])? == body.to_string(), "{found}");
    }
    linked.wait("all is counted", || Ok(account(&linked, &["limit"])? == [22, 7, 0, 15]))?;
    for line in ["22 accepted = 7 delivered + 0 held + 15 LOST (15 limit)", "GAPS → FLEET  idle, 1 records, 0 not"] {
        linked.wait(line, || Ok(command(&linked.gateway, &["status"])?.success()?.contains(line)))?;
    }
    let (_, metrics) = http::get(linked.gateway.address("http"), "/metrics")?;
    for (name, value) in [("accepted", 22), ("delivered", 7), ("held", 0), ("dropped", 15)] {
        let start = format!("tributary_forward_{name}_messages{{");
        let mut lines = metrics.lines().filter(|line| line.starts_with(&start) && line.contains("stream=\"LOSSY\""));
        let is_there = lines.any(|line| {
            line.ends_with(&format!(" {value}")) && (name != "dropped" || line.contains("reason=\"limit\""))
        });
        ensure!(is_there, "{name}: {metrics}");
    }

    // Another cause, and a deleted stream.
    linked.link.cut();
    store(&linked, 3)?;
    ask(&linked.gateway, "$JS.API.STREAM.PURGE.LOSSY", "")?;
    store(&linked, 2)?;
    ask(&linked.gateway, "$JS.API.STREAM.DELETE.LOSSY", "")?;
    linked.link.restore()?;
    linked.wait("two more records", || Ok(messages(&linked.hub, "FLEET")? == 10))?;
    let expected = [(9, 23, 25, 3, "purge"), (10, 26, 27, 2, "delete")];
    for (sequence, first, last, count, reason) in expected {
        let told = record(&linked, sequence)?;
        ensure!(
            told["first"] == first && told["last"] == last && told["count"] == count && told["reason"] == reason,
            "{told}"
        );
    }
    let expected = [27, 7, 0, 15, 3, 2];
    linked.wait("and counted", || Ok(account(&linked, &["limit", "purge", "delete"])? == expected))?;
    Ok(())
}

#[test]
fn what_a_filtered_purge_leaves_goes_up_without_another_publish() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let mut linked = linked()?;
    linked.link.cut();
    linked.wait("it is noticed", || Ok(forwards(&linked.gateway)?[0]["state"] != "idle"))?;
    let (mut client, _) = RawNats::connect(linked.gateway.address("nats"))?;
    for subject in ["lossy.a", "lossy.b", "lossy.a", "lossy.b"] {
        publish(&mut client, subject, "", b"x")?;
    }
    let purged = ask(&linked.gateway, "$JS.API.STREAM.PURGE.LOSSY", r#"{"filter":"lossy.a"}"#)?;
    ensure!(purged["purged"] == 2, "{purged}");
    linked.link.restore()?;
    linked.wait("what was left is there", || Ok(account(&linked, &["purge"])? == [4, 2, 0, 2]))?;
    let body = json!({ "subjects_filter": "edge.p7.lossy.>" }).to_string();
    let subjects = ask(&linked.hub, "$JS.API.STREAM.INFO.FLEET", &body)?["state"]["subjects"].clone();
    ensure!(subjects == json!({ "edge.p7.lossy.b": 2 }), "{subjects}");
    Ok(())
}
