//! What a client may take of the gateway, and what it is told beyond that: connections, subscriptions, time, memory.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::{Gateway, RawNats, http};

const LIMIT: Duration = Duration::from_secs(20);

fn with(keys: &str) -> String {
    format!("{}{keys}\n", Gateway::PLAIN)
}

#[test]
fn one_connection_too_many_is_told_so_and_closed() -> Result<()> {
    let gateway = Gateway::start(&with("max_connections: 2"))?;
    let (mut first, _) = RawNats::connect(gateway.address("nats"))?;
    let (second, _) = RawNats::connect(gateway.address("nats"))?;
    let mut third = RawNats::dial(gateway.address("nats"))?;
    third.info()?;
    ensure!(third.expect_close()?.contains("-ERR 'maximum connections exceeded'"));
    // Who leaves makes room.
    drop(second);
    let deadline = std::time::Instant::now() + LIMIT;
    while RawNats::connect(gateway.address("nats")).is_err() {
        ensure!(std::time::Instant::now() < deadline, "the place is not free again");
        first.flush()?;
    }
    Ok(())
}

#[test]
fn one_subscription_too_many_is_refused_and_the_client_stays() -> Result<()> {
    let gateway = Gateway::start(&with("max_subscriptions: 2"))?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    client.send("SUB a 1\r\nSUB b 2\r\nSUB c 3\r\n")?;
    client.skip_to("-ERR 'maximum subscriptions exceeded'")?;
    client.send("UNSUB 1\r\nSUB c 4\r\nPUB c 1\r\nx\r\n")?;
    ensure!(client.message()?.line == "MSG c 4 1");
    Ok(())
}

#[test]
fn who_answers_no_ping_is_stale() -> Result<()> {
    let gateway = Gateway::start(&with("ping_interval: \"200ms\"\nping_max: 1"))?;
    let mut mute = RawNats::dial(gateway.address("nats"))?;
    mute.info()?;
    mute.send("CONNECT {\"verbose\":false}\r\n")?;
    let said = mute.expect_close()?;
    ensure!(said.contains("PING\r\n") && said.ends_with("-ERR 'Stale Connection'\r\n"), "{said:?}");
    let seen = http::get_json(gateway.address("http"), "/varz")?;
    ensure!(seen["stale_connections"] == 1 || seen["stale_connection_stats"]["clients"] == 1, "{seen}");
    Ok(())
}

#[test]
fn who_reads_too_slowly_is_closed_and_counted_and_the_others_go_on() -> Result<()> {
    let gateway = Gateway::start(&with("max_pending: 1MB\nwrite_deadline: \"2s\""))?;
    let (mut slow, _) = RawNats::connect(gateway.address("nats"))?;
    slow.send("SUB flood 1\r\n")?;
    slow.flush()?;
    let (mut quick, _) = RawNats::connect(gateway.address("nats"))?;
    quick.send("SUB tick 1\r\n")?;
    let (mut loud, _) = RawNats::connect(gateway.address("nats"))?;
    // More than the kernel's buffers of a loopback connection and `max_pending` hold.
    let piece = format!("PUB flood 100000\r\n{}\r\n", "x".repeat(100_000)).repeat(10);
    let deadline = std::time::Instant::now() + LIMIT;
    while http::get_json(gateway.address("http"), "/varz")?["slow_consumers"] == 0 {
        ensure!(std::time::Instant::now() < deadline, "nobody was too slow");
        loud.send(&piece)?;
        loud.send("PUB tick 1\r\nt\r\n")?;
        ensure!(quick.message()?.payload == b"t");
    }
    let closed = http::get_json(gateway.address("http"), "/connz?state=closed")?;
    let reason = closed["connections"][0]["reason"].as_str().unwrap_or_default().to_owned();
    ensure!(reason.starts_with("Slow Consumer"), "{closed}");
    Ok(())
}
