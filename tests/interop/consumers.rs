//! Priority groups, resets and advisories by official clients, and beside the stock server.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use async_nats::jetstream::consumer::{PriorityPolicy, pull};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use harness::peers::{self, Peer};
use harness::{Gateway, Server, StockHub, node, python};

const LIMIT: Duration = Duration::from_secs(120);

/// Both without a domain and under one name.
const GATEWAY: &str = r#"
server_name: same
listen: "127.0.0.1:<nats>"
jetstream { store_dir: "<dir>/store", max_file_store: 256MB }
"#;

const LISTEN: &str = "server_name: same\nlisten: \"127.0.0.1:<nats>\"\n";
const SERVER_LIMITS: &str = r#"jetstream { store_dir: "<dir>/store", max_file_store: 256MB, max_memory_store: 64MB
  limits { max_ack_pending: 5000, max_request_batch: 100, duplicate_window: "1m" }"#;
/// With the keys of an account of nats-server.
const ACCOUNT_LIMITS: &str = "max_mem: 1MB, max_store: 10MB, max_streams: 4, max_consumers: 2, max_ack_pending: 2000,
  mem_max_stream_bytes: 500KB, disk_max_stream_bytes: 5MB, max_bytes_required: true";

#[test]
fn groups_resets_and_advisories_are_those_of_stock() -> Result<()> {
    if !peers::available(Peer::NatsPy) || !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    compare("consumers_transcript.py", &Gateway::start(GATEWAY)?, &StockHub::start(GATEWAY)?)
}

#[test]
fn limits_are_those_of_stock() -> Result<()> {
    if !peers::available(Peer::NatsPy) || !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let ours = format!("{LISTEN}{SERVER_LIMITS}\n account {{ {ACCOUNT_LIMITS} }} }}");
    let users =
        format!("accounts {{ A {{ users: [ {{ user: a, password: a }} ], jetstream {{ {ACCOUNT_LIMITS} }} }} }}");
    let stock = format!("{LISTEN}{SERVER_LIMITS} }}\n{users}\nno_auth_user: a");
    compare("limits_transcript.py", &Gateway::start(&ours)?, &StockHub::start(&stock)?)
}

/// Runs a script against both at once; every line is equal.
fn compare(script: &str, gateway: &Server, stock: &Server) -> Result<()> {
    let transcript = |url: String| python::run(script, &[&url], LIMIT)?.success();
    let (ours, theirs) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| transcript(format!("nats://{}", stock.address("nats"))));
        (transcript(gateway.url()), theirs.join())
    });
    let (ours, theirs) = (ours?, theirs.map_err(|_| anyhow!("a thread panicked"))??);
    for (ours, theirs) in ours.lines().zip(theirs.lines()) {
        ensure!(ours == theirs, "ours:  {ours}\nstock: {theirs}");
    }
    ensure!(ours.lines().count() == theirs.lines().count(), "one says more than the other");
    Ok(())
}

#[test]
fn nats_js_pins_overflows_and_resets() -> Result<()> {
    if !peers::available(Peer::NatsJs) {
        return Ok(());
    }
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let said = node::run("edge_groups.mjs", &[&gateway.url()], LIMIT)?.success()?;
    ensure!(said == "pinned\noverflow\nreset\n", "{said}");
    Ok(())
}

/// The Rust client: who says a lower number gets everything while it asks.
#[tokio::test]
async fn async_nats_is_served_by_priority() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let jetstream = jetstream::new(async_nats::connect(gateway.url()).await?);
    let config = stream::Config { name: "P".into(), subjects: vec!["p".into()], ..Default::default() };
    let stream = jetstream.create_stream(config).await?;
    let config = pull::Config {
        durable_name: Some("c".into()),
        priority_policy: PriorityPolicy::Prioritized,
        priority_groups: vec!["all".into()],
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let wants = |priority| consumer.stream().group("all").priority(priority).max_messages_per_batch(20);
    let (mut low, mut high) = (wants(5).messages().await?, wants(1).messages().await?);
    // Both ask before anything is there.
    let waiting = async |count| -> Result<()> {
        while stream.consumer_info("c").await?.num_waiting < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    for messages in [&mut low, &mut high] {
        // A stream of this client asks when it is first polled.
        let polled = tokio::time::timeout(Duration::from_millis(300), messages.next()).await;
        ensure!(polled.is_err(), "a message out of nothing");
    }
    tokio::time::timeout(LIMIT, waiting(2)).await??;
    for number in 0..10 {
        jetstream.publish("p", number.to_string().into()).await?.await?;
    }
    for number in 0..10 {
        let message = tokio::time::timeout(LIMIT, high.next()).await?.context("the end")??;
        ensure!(message.payload == number.to_string().as_bytes(), "{:?}", message.payload);
        message.ack().await.map_err(|error| anyhow!("{error}"))?;
    }
    ensure!(tokio::time::timeout(Duration::from_millis(300), low.next()).await.is_err(), "the others get some too");
    Ok(())
}

/// A consumer that the configuration file declares sends by itself.
#[tokio::test]
async fn a_declared_consumer_pushes() -> Result<()> {
    let declared = r#"jetstream { store_dir: "<dir>/store" }
        streams { D { subjects: [ "d.>" ], consumers {
            c { deliver_subject: "to", filter_subject: "d.a", sample_freq: "100%" }
            g { priority_policy: overflow, priority_groups: [ jobs ] }
        } } }"#;
    let gateway = Gateway::start(&format!("{LISTEN}{declared}"))?;
    let client = async_nats::connect(gateway.url()).await?;
    let (mut pushed, mut told) = (client.subscribe("to").await?, client.subscribe("$JS.EVENT.METRIC.>").await?);
    let jetstream = jetstream::new(client.clone());
    jetstream.publish("d.b", "not this".into()).await?.await?;
    jetstream.publish("d.a", "this".into()).await?.await?;
    let message = tokio::time::timeout(LIMIT, pushed.next()).await?.context("the end")?;
    ensure!(&message.payload[..] == b"this" && &*message.subject == "d.a", "{message:?}");
    client.publish(message.reply.context("no reply subject")?, "".into()).await?;
    let metric = tokio::time::timeout(LIMIT, told.next()).await?.context("the end")?;
    ensure!(&*metric.subject == "$JS.EVENT.METRIC.CONSUMER.ACK.D.c", "{metric:?}");
    let info = jetstream.get_stream("D").await?.consumer_info("g").await?;
    ensure!(info.config.priority_groups == ["jobs"], "{info:?}");
    Ok(())
}
