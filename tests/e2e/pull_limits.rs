//! Hubs that pull, at the limits: a message that the hub does not take, a link that is narrow, and the edge's API asked through it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::peers::{self, Peer};
use harness::{Gateway, Proxy, RawNats, StockHub};
use serde_json::Value;

use crate::forward::command;
use crate::hub::{Linked, ask};
use crate::pull_flap::{count, create};

fn publish(client: &mut RawNats, subject: &str, body: &[u8]) -> Result<()> {
    let answer: Value = serde_json::from_slice(&client.request(subject, body)?.payload)?;
    ensure!(answer["error"].is_null(), "{answer}");
    Ok(())
}

/// What `status` says of the link.
fn link_status(linked: &Linked) -> Result<Value> {
    let status: Value = serde_json::from_str(&command(&linked.gateway, &["status", "--json"])?.success()?)?;
    Ok(status["status"]["links"][0].clone())
}

/// A stock edge's link flaps for such a message, once a second. Here what is in front of it arrives, what is behind it waits, the link stays, and
/// the owner is told; once the message is gone, the rest arrives.
#[test]
fn a_message_larger_than_the_hub_takes_is_said_and_costs_no_link() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let hub = StockHub::start(&format!("{}max_payload: 65536\n", StockHub::PLAIN))?;
    let streams = "streams { EV { subjects: [\"ev.>\"] }, WQ { subjects: [wq], retention: workqueue } }";
    let linked = Linked::to(hub, streams)?;
    for (name, kind, origin) in [("AGG", "sources", "EV"), ("MIR", "mirror", "EV"), ("JOBS", "sources", "WQ")] {
        create(&linked.hub, name, kind, origin, 1)?;
    }
    let (mut client, _) = RawNats::connect(linked.gateway.address("nats"))?;
    for subject in ["ev.a", "wq"] {
        for _ in 0..20 {
            publish(&mut client, subject, b"small")?;
        }
        publish(&mut client, subject, &vec![b'x'; 100_000])?;
        for _ in 0..20 {
            publish(&mut client, subject, b"behind")?;
        }
    }
    for name in ["AGG", "MIR", "JOBS"] {
        linked.wait(&format!("{name} has what is in front"), || Ok(count(&linked.hub, name)? == 20))?;
    }
    linked.wait("status says what is held back", || {
        let text = link_status(&linked)?["withheld"].as_str().unwrap_or_default().to_owned();
        Ok(text.contains("message 21 of stream") && text.contains("the hub takes 65536"))
    })?;
    let text = command(&linked.gateway, &["status"])?.success()?;
    ensure!(text.contains("message 21 of stream"), "{text}");
    let jobs = ask(&linked.gateway, "$JS.API.STREAM.INFO.WQ", "")?;
    linked.wait("the queue gives up what the hub has, and nothing else", || {
        Ok(ask(&linked.gateway, "$JS.API.STREAM.INFO.WQ", "")?["state"]["messages"] == 21)
    })?;
    ensure!(linked.link.accepted() == 1, "the link was dialled {} times\n{jobs}", linked.link.accepted());
    for stream in ["EV", "WQ"] {
        let gone = ask(&linked.gateway, &format!("$JS.API.STREAM.MSG.DELETE.{stream}"), r#"{"seq":21}"#)?;
        ensure!(gone["success"] == true, "{gone}");
    }
    let since = Instant::now();
    for name in ["AGG", "MIR", "JOBS"] {
        linked.wait(&format!("{name} has the rest"), || Ok(count(&linked.hub, name)? == 40))?;
    }
    println!("the rest was there after {:.1?}", since.elapsed());
    linked.wait("the queue is empty", || Ok(count(&linked.gateway, "WQ")? == 0))?;
    ensure!(linked.link.accepted() == 1, "the link was dialled {} times", linked.link.accepted());
    Ok(())
}

/// Several streams with a backlog on a link of 100 kB/s: no hub gives a consumer up because it hears nothing, and an answer does not wait behind all of it.
#[test]
fn a_narrow_link_starves_neither_heartbeats_nor_answers() -> Result<()> {
    const STREAMS: [&str; 6] = ["A", "B", "C", "D", "E", "F"];
    const MESSAGES: u64 = 100;
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let declared = STREAMS.map(|name| format!("{name} {{ subjects: [\"{name}\"] }}")).join(", ");
    // A link that is dead is found out by silence: on this one a PONG may take seconds.
    let hub = StockHub::start(StockHub::PLAIN)?;
    let link = Proxy::start(hub.address("leaf"))?;
    let remote = format!(
        "leafnodes {{ remotes: [ {{ url: \"nats-leaf://{}\", ignore_discovered_servers: true }} ] }}\n",
        link.address()
    );
    let patient = "uplink { ping_interval: \"5s\", ping_max: 2, reconnect { min: \"50ms\", max: \"300ms\" } }\n";
    let gateway = Gateway::start(&format!("{}{remote}{patient}streams {{ {declared} }}", Gateway::PLAIN))?;
    let mut linked = Linked { gateway, link, hub };
    linked.link.cut();
    let (mut client, _) = RawNats::connect(linked.gateway.address("nats"))?;
    for name in STREAMS {
        for _ in 0..MESSAGES {
            publish(&mut client, name, &[b'x'; 4_000])?;
        }
    }
    linked.link.set_rate(Some(100_000));
    linked.link.restore()?;
    linked.wait("the link is up", || Ok(link_status(&linked)?["up"] == true))?;
    linked.wait("the edge is reached", || Ok(ask(&linked.hub, "$JS.edge.API.INFO", "")?["domain"] == "edge"))?;
    let (mut watcher, _) = RawNats::connect(linked.hub.address("nats"))?;
    watcher.send("SUB $JS.edge.API.CONSUMER.CREATE.> 1\r\n")?;
    watcher.flush()?;
    let begun = Instant::now();
    for name in STREAMS {
        create(&linked.hub, &format!("H_{name}"), "sources", name, 1)?;
    }
    let mut slowest = Duration::ZERO;
    loop {
        let (mut client, _) = RawNats::connect(linked.hub.address("nats"))?;
        client.set_limit(Duration::from_secs(30));
        let asked = Instant::now();
        let answer = client.request("$JS.edge.API.INFO", b"");
        answer.with_context(|| format!("{}\n{}", linked.gateway.log_tail(), linked.hub.log_tail()))?;
        slowest = slowest.max(asked.elapsed());
        let there = STREAMS.iter().map(|name| count(&linked.hub, &format!("H_{name}"))).sum::<Result<u64>>()?;
        if there == MESSAGES * STREAMS.len() as u64 {
            break;
        }
        ensure!(begun.elapsed() < Duration::from_secs(120), "{there} in {:?}", begun.elapsed());
    }
    let took = begun.elapsed();
    let mut asked = 0;
    watcher.set_limit(Duration::from_millis(500));
    while watcher.message().is_ok() {
        asked += 1;
    }
    println!("{took:.1?}, the slowest answer {slowest:.1?}, {asked} consumers");
    ensure!(took > Duration::from_secs(15), "the link was not narrow: {took:?}");
    ensure!(asked == STREAMS.len(), "consumers were asked for {asked} times");
    // Some 200 kB lie in the narrow link itself. A hub that hears nothing for ten seconds gives up.
    ensure!(slowest < Duration::from_secs(9), "an answer took {slowest:?}");
    Ok(())
}

/// The edge's API, asked at the hub through the domain, says what it says at the edge.
#[test]
fn the_api_of_the_edge_is_the_same_through_the_link() -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let linked = Linked::with("streams { EV { subjects: [\"ev.>\"], consumers { c {} } } }")?;
    let (mut client, _) = RawNats::connect(linked.gateway.address("nats"))?;
    for number in 0..10 {
        publish(&mut client, &format!("ev.{}", number % 3), b"x")?;
    }
    for (subject, body) in [
        ("STREAM.INFO.EV", r#"{"subjects_filter":">","deleted_details":true}"#),
        ("STREAM.NAMES", ""),
        ("STREAM.LIST", ""),
        ("STREAM.MSG.GET.EV", r#"{"last_by_subj":"ev.*"}"#),
        ("STREAM.MSG.DELETE.EV", r#"{"seq":99}"#),
        ("STREAM.INFO.NONE", ""),
        ("CONSUMER.NAMES.EV", ""),
        ("CONSUMER.LIST.EV", ""),
        ("CONSUMER.INFO.EV.c", ""),
        ("CONSUMER.INFO.EV.none", ""),
    ] {
        let mut here = ask(&linked.gateway, &format!("$JS.API.{subject}"), body)?;
        let mut there = ask(&linked.hub, &format!("$JS.edge.API.{subject}"), body)?;
        for answer in [&mut here, &mut there] {
            forget_times(answer);
        }
        ensure!(here == there, "{subject}: {here} here, {there} at the hub");
    }
    let purged = ask(&linked.hub, "$JS.edge.API.STREAM.PURGE.EV", r#"{"filter":"ev.1"}"#)?;
    ensure!(purged["purged"] == 3, "{purged}");
    let left = count(&linked.gateway, "EV").context("the stream")?;
    ensure!(left == 7, "{left}");
    Ok(())
}

/// `ts` is when it was asked.
fn forget_times(answer: &mut Value) {
    match answer {
        Value::Object(fields) => {
            fields.remove("ts");
            fields.values_mut().for_each(forget_times);
        }
        Value::Array(values) => values.iter_mut().for_each(forget_times),
        _ => {}
    }
}
