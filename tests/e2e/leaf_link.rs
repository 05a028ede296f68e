//! How leaf links live and die: which hub is taken, when a link is given up, and how soon it is back.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::peers::{self, Peer};
use harness::{Gateway, Proxy, RawNats, ports};
use serde_json::Value;

use crate::leaf::{LIMIT, edge, hub, links, reaches, remote, wait, wait_for_links, works_both_ways};

/// Finds out within a second that a hub is dead.
const QUICK: &str = "uplink { ping_interval: 300ms, ping_max: 2 }";

fn stock_is_there() -> bool {
    peers::available(Peer::NatsServer)
}

#[test]
fn a_dead_hub_is_left_for_the_next() -> Result<()> {
    if !stock_is_there() {
        return Ok(());
    }
    let (mut one, two) = (hub("", "")?, hub("", "")?);
    let urls: Vec<String> = [ports::free()?, one.port("leaf"), two.port("leaf")]
        .map(|port| format!("\"nats-leaf://127.0.0.1:{port}\""))
        .into();
    let remote = format!("{{ urls: [ {} ], no_randomize: true, ignore_discovered_servers: true }}", urls.join(", "));
    let gateway = edge(&remote, "")?;
    works_both_ways(&gateway, &one)?;
    one.kill9()?;
    works_both_ways(&gateway, &two)?;
    // The link stays where it is when the first is back.
    one.restart()?;
    ensure!(links(&one)?.is_empty() && links(&two)?.len() == 1);
    Ok(())
}

#[test]
fn a_hub_that_restarts_has_its_link_back_within_a_second() -> Result<()> {
    if !stock_is_there() {
        return Ok(());
    }
    let mut hub = hub("", "")?;
    let gateway = edge(&remote("nats-leaf", hub.address("leaf")), "")?;
    works_both_ways(&gateway, &hub)?;
    hub.kill9()?;
    wait_for_links(&gateway, 0)?;
    std::thread::sleep(Duration::from_secs(3));
    hub.restart()?;
    let up = Instant::now();
    wait_for_links(&gateway, 1)?;
    // The quick pause, and something for a busy machine.
    ensure!(up.elapsed() < Duration::from_secs(3), "took {:?}", up.elapsed());
    works_both_ways(&gateway, &hub)
}

#[test]
fn a_link_that_carries_nothing_is_given_up_and_made_anew() -> Result<()> {
    if !stock_is_there() {
        return Ok(());
    }
    let hub = hub("", "")?;
    let link = Proxy::start(hub.address("leaf"))?;
    let mut gateway = edge(&remote("nats-leaf", link.address()), QUICK)?;
    works_both_ways(&gateway, &hub)?;
    link.blackhole();
    let silent = Instant::now();
    wait_for_links(&gateway, 0)?;
    ensure!(silent.elapsed() < Duration::from_secs(5), "took {:?}", silent.elapsed());
    gateway.wait_for_log("nothing was received from the hub for too long", LIMIT)?;
    link.set_delay(Duration::ZERO);
    let mut link = link;
    link.restore()?;
    works_both_ways(&gateway, &hub)
}

#[test]
fn a_stopped_hub_is_given_up_as_well() -> Result<()> {
    if !stock_is_there() {
        return Ok(());
    }
    let hub = hub("", "")?;
    let gateway = edge(&remote("nats-leaf", hub.address("leaf")), QUICK)?;
    works_both_ways(&gateway, &hub)?;
    // Its kernel still takes what we send, and acknowledges it.
    hub.signal("STOP")?;
    let given_up = wait_for_links(&gateway, 0);
    hub.signal("CONT")?;
    given_up?;
    works_both_ways(&gateway, &hub)
}

#[test]
fn several_hubs_at_once_and_nothing_from_one_to_the_other() -> Result<()> {
    if !stock_is_there() {
        return Ok(());
    }
    let (one, two) = (hub("", "")?, hub("", "")?);
    let remotes = format!("{}, {}", remote("nats-leaf", one.address("leaf")), remote("nats-leaf", two.address("leaf")));
    let gateway = edge(&remotes, "")?;
    works_both_ways(&gateway, &one)?;
    works_both_ways(&gateway, &two)?;
    let (mut there, _) = RawNats::connect(two.address("nats"))?;
    there.send("SUB across.> 1\r\n")?;
    there.flush()?;
    reaches(&gateway, &two, "settled")?;
    let (mut here, _) = RawNats::connect(one.address("nats"))?;
    here.send("PUB across.a 1\r\nx\r\n")?;
    here.flush()?;
    reaches(&one, &gateway, "settled")?;
    ensure!(there.is_silent(Duration::from_millis(300))?, "{:?}", there.message());
    Ok(())
}

/// The first hub is the second one's hub as well: a message would go round for ever.
#[test]
fn a_loop_over_two_hubs_is_found() -> Result<()> {
    if !stock_is_there() {
        return Ok(());
    }
    let one = hub("", "")?;
    let two = harness::StockHub::start(&format!(
        "server_name: second\nlisten: \"127.0.0.1:<nats>\"\nhttp: \"127.0.0.1:<http>\"\n\
         leafnodes {{ listen: \"127.0.0.1:<leaf>\", remotes: [ {} ] }}\n",
        "{ url: \"nats-leaf://127.0.0.1:ONE\" }".replace("ONE", &one.port("leaf").to_string())
    ))?;
    reaches(&two, &one, "joined")?;
    let remotes = format!("{}, {}", remote("nats-leaf", one.address("leaf")), remote("nats-leaf", two.address("leaf")));
    let mut gateway = edge(&remotes, "")?;
    gateway.wait_for_log("Loop detected for leafnode account=\"$G\"", LIMIT)?;
    // One of the links carries on: breaking the loop must not cut the box off.
    std::thread::sleep(Duration::from_secs(1));
    wait_for_links(&gateway, 1)?;
    let (mut subscriber, _) = RawNats::connect(one.address("nats"))?;
    subscriber.send("SUB once 1\r\n")?;
    subscriber.flush()?;
    reaches(&gateway, &one, "settled")?;
    let (mut publisher, _) = RawNats::connect(gateway.address("nats"))?;
    publisher.send("PUB once 1\r\nx\r\n")?;
    subscriber.message()?;
    ensure!(subscriber.is_silent(Duration::from_millis(300))?, "it came twice");
    Ok(())
}

#[test]
fn two_gateways_of_one_name_are_told_so() -> Result<()> {
    if !stock_is_there() {
        return Ok(());
    }
    let hub = hub("", "")?;
    let mut first = edge(&remote("nats-leaf", hub.address("leaf")), "")?;
    works_both_ways(&first, &hub)?;
    let second = edge(&remote("nats-leaf", hub.address("leaf")), "")?;
    first.wait_for_log("Duplicate Remote LeafNode Connection (another gateway with the same server_name", LIMIT)?;
    // It waits, and does not evict the other in turn.
    works_both_ways(&second, &hub)?;
    std::thread::sleep(Duration::from_secs(2));
    ensure!(links(&second)?.len() == 1 && links(&first)?.is_empty());
    Ok(())
}

#[test]
fn compression_is_declined() -> Result<()> {
    if !stock_is_there() {
        return Ok(());
    }
    for mode in ["s2_auto", "on", "s2_best", "accept", "off"] {
        let hub = hub(&format!("compression: {mode}"), "")?;
        let gateway = edge(&remote("nats-leaf", hub.address("leaf")), "")?;
        works_both_ways(&gateway, &hub)?;
        ensure!(links(&hub)?[0]["compression"] == "off", "{:?}", links(&hub)?);
    }
    Ok(())
}

/// Stock leafs send it all the same, are cut, come back, and lose the message each time.
#[test]
fn what_is_too_large_for_the_hub_does_not_cost_the_link() -> Result<()> {
    if !stock_is_there() {
        return Ok(());
    }
    let hub = hub("", "max_payload: 1000")?;
    let gateway = edge(&remote("nats-leaf", hub.address("leaf")), "")?;
    works_both_ways(&gateway, &hub)?;
    let before = links(&hub)?;
    let (mut subscriber, _) = RawNats::connect(hub.address("nats"))?;
    subscriber.send("SUB size.> 1\r\n")?;
    subscriber.flush()?;
    reaches(&gateway, &hub, "settled")?;
    let (mut publisher, _) = RawNats::connect(gateway.address("nats"))?;
    let large = "x".repeat(1001);
    publisher.send(format!("PUB size.large 1001\r\n{large}\r\nPUB size.fits 1000\r\n{}\r\n", &large[1..]))?;
    ensure!(subscriber.message()?.line == "MSG size.fits 1 1000");
    ensure!(links(&hub)?[0]["id"] == before[0]["id"], "the link was cut\n{}", hub.log_tail());
    Ok(())
}

#[test]
fn the_round_trip_is_shown() -> Result<()> {
    if !stock_is_there() {
        return Ok(());
    }
    let hub = hub("", "")?;
    let link = Proxy::start(hub.address("leaf"))?;
    let gateway = edge(&remote("nats-leaf", link.address()), "")?;
    wait_for_links(&gateway, 1)?;
    link.set_delay(Duration::from_millis(40));
    let shown = || -> Result<String> {
        Ok(links(&gateway)?.first().and_then(|link| link["rtt"].as_str()).unwrap_or_default().to_owned())
    };
    wait("a round trip", &gateway, || Ok(!shown()?.is_empty()))?;
    let text = shown()?;
    let milliseconds = text.strip_suffix("ms").and_then(|number| number.parse::<f64>().ok());
    ensure!(milliseconds.is_some_and(|rtt| (80.0..5_000.0).contains(&rtt)), "{text}");
    Ok(())
}

/// What a forward carries does not cross live as well, whoever made the stream, and whatever it captures now.
#[test]
fn what_a_stream_made_over_the_api_captures_does_not_cross_live() -> Result<()> {
    if !stock_is_there() {
        return Ok(());
    }
    let hub = hub("", "jetstream { store_dir: \"<dir>/store\", domain: hub }")?;
    let blocks = format!(
        "leafnodes {{ remotes: [ {} ] }}\nforward {{ MADE {{ to: FLEET, prefix: up, create {{ subjects: [ \"up.>\" ] }} }} }}",
        remote("nats-leaf", hub.address("leaf"))
    );
    let gateway = Gateway::start(&format!("{}{blocks}\n", Gateway::PLAIN))?;
    let (mut hears, _) = RawNats::connect(hub.address("nats"))?;
    hears.send("SUB *.reading 1\r\n")?;
    hears.flush()?;
    reaches(&gateway, &hub, "settled")?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    // Nothing captures it yet: it crosses live.
    client.send("PUB a.reading 4\r\nlive\r\n")?;
    ensure!(hears.message()?.payload == b"live");
    let mut ask = |verb: &str, subjects: &str| -> Result<()> {
        let config = format!(r#"{{"name":"MADE","subjects":[{subjects}],"storage":"file"}}"#);
        let answer: Value = serde_json::from_slice(
            &client.request(&format!("$JS.API.STREAM.{verb}.MADE"), config.as_bytes())?.payload,
        )?;
        ensure!(answer.get("error").is_none(), "{answer}");
        Ok(())
    };
    ask("CREATE", "\"a.>\"")?;
    ask("UPDATE", "\"b.>\"")?;
    for subject in ["b.reading", "a.reading"] {
        let (mut publisher, _) = RawNats::connect(gateway.address("nats"))?;
        publisher.send(format!("PUB {subject} 1\r\nx\r\n"))?;
        publisher.flush()?;
    }
    let message = hears.message()?;
    ensure!(message.line.starts_with("MSG a.reading "), "captured, and live all the same: {message:?}");
    // It does get there, its own way.
    let (mut client, _) = RawNats::connect(hub.address("nats"))?;
    wait("the forwarded message", &gateway, || {
        let answer = RawNats::connect(hub.address("nats"))?.0.request("$JS.API.STREAM.INFO.FLEET", b"")?;
        Ok(String::from_utf8_lossy(&answer.payload).contains("\"messages\":1,"))
    })?;
    let got = client.request("$JS.API.STREAM.MSG.GET.FLEET", b"{\"seq\":1}")?;
    ensure!(String::from_utf8_lossy(&got.payload).contains("\"up.b.reading\""), "{got:?}");
    Ok(())
}

/// How soon the first message that was stored meanwhile is at the hub, once the link is back. `TRIBUTARY_OUTAGE` makes the outage longer, seconds.
fn first_message_after(outage: impl Fn(&mut Proxy), within: Duration) -> Result<Duration> {
    let seconds = std::env::var("TRIBUTARY_OUTAGE").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let hub = hub("", "jetstream { store_dir: \"<dir>/store\", domain: hub }")?;
    let mut link = Proxy::start(hub.address("leaf"))?;
    let blocks = format!(
        "leafnodes {{ remotes: [ {} ] }}\nstreams {{ S {{ subjects: [ \"s.>\" ] }} }}\n\
         forward {{ S {{ to: FLEET, prefix: up, create {{ subjects: [ \"up.>\" ] }} }} }}",
        remote("nats-leaf", link.address())
    );
    // With the deadlines that are the default.
    let gateway = Gateway::start(&format!("{}{blocks}\n", Gateway::PLAIN))?;
    let (mut hears, _) = RawNats::connect(hub.address("nats"))?;
    hears.send("SUB up.> 1\r\n")?;
    hears.flush()?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    client.request("s.a", b"before")?;
    hears.set_limit(LIMIT);
    ensure!(hears.message()?.payload.ends_with(b"before"));
    outage(&mut link);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(seconds) {
        client.request("s.a", b"meanwhile")?;
        std::thread::sleep(Duration::from_millis(50));
    }
    link.restore()?;
    let restored = Instant::now();
    let message = hears.message()?;
    let took = restored.elapsed();
    ensure!(message.payload.ends_with(b"meanwhile"), "{message:?}");
    eprintln!("first message {took:?} after an outage of {seconds} s");
    ensure!(took < within, "took {took:?}\n{}", gateway.log_tail());
    Ok(took)
}

#[test]
fn the_first_message_is_at_the_hub_soon_after_the_link_is_back() -> Result<()> {
    if !stock_is_there() {
        return Ok(());
    }
    // A second is what it must take; the rest is for a busy machine.
    first_message_after(Proxy::cut, Duration::from_secs(3))?;
    Ok(())
}

#[test]
fn the_first_message_is_at_the_hub_soon_after_a_silence() -> Result<()> {
    if !stock_is_there() {
        return Ok(());
    }
    first_message_after(|link| link.blackhole(), Duration::from_secs(3))?;
    Ok(())
}
