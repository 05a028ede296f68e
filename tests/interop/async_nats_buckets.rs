//! Key-value and object buckets, push and ordered consumers by the official Rust client.

use std::future::IntoFuture;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use async_nats::jetstream::kv::{self, Operation};
use async_nats::jetstream::{self, object_store, stream};
use futures_util::StreamExt;
use harness::{Gateway, Server};
use tokio::io::AsyncReadExt;

/// For one answer; a busy machine needs a part of it.
const LIMIT: Duration = Duration::from_secs(30);
/// A large object, and what the gateway may take more for it: less than half of it.
const OBJECT: usize = 64 << 20;
const MEMORY_FOR_IT: u64 = 28 << 20;

async fn within<T>(future: impl IntoFuture<Output = T>) -> Result<T> {
    tokio::time::timeout(LIMIT, future.into_future()).await.context("no answer in time")
}

async fn context(gateway: &Server) -> Result<jetstream::Context> {
    Ok(jetstream::new(async_nats::connect(gateway.url()).await?))
}

#[tokio::test]
async fn a_bucket_of_values() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let jetstream = context(&gateway).await?;
    let config = kv::Config { bucket: "B".into(), history: 3, max_bytes: 1 << 20, ..Default::default() };
    let bucket = jetstream.create_key_value(config).await?;
    assert_eq!(bucket.put("a", "1".into()).await?, 1);
    assert_eq!(bucket.create("b", "2".into()).await?, 2);
    assert_eq!(bucket.create("b", "x".into()).await.unwrap_err().kind(), kv::CreateErrorKind::AlreadyExists);
    assert_eq!(bucket.update("a", "x".into(), 7).await.unwrap_err().kind(), kv::UpdateErrorKind::WrongLastRevision);
    assert_eq!(bucket.update("a", "3".into(), 1).await?, 3);
    assert_eq!(bucket.get("a").await?.as_deref(), Some(&b"3"[..]));
    let first = bucket.entry_for_revision("a", 1).await?.context("no first revision")?;
    assert_eq!(&first.value[..], b"1");
    bucket.delete("b").await?;
    assert_eq!(bucket.get("b").await?, None);
    assert_eq!(bucket.create("b", "4".into()).await?, 5);
    let mut history = bucket.history("b").await?;
    let mut seen = Vec::new();
    while let Some(entry) = within(history.next()).await? {
        let entry = entry?;
        seen.push((entry.revision, entry.operation));
    }
    assert_eq!(seen, [(2, Operation::Put), (4, Operation::Delete), (5, Operation::Put)]);
    bucket.purge("b").await?;
    let mut keys = bucket.keys().await?;
    let mut names = Vec::new();
    while let Some(key) = within(keys.next()).await? {
        names.push(key?);
    }
    assert_eq!(names, ["a"]);
    assert_eq!(bucket.status().await?.history(), 3);
    jetstream.delete_key_value("B").await?;
    ensure!(jetstream.get_key_value("B").await.is_err(), "a removed bucket was found");
    Ok(())
}

#[tokio::test]
async fn what_happens_to_a_bucket_is_watched() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let bucket = context(&gateway)
        .await?
        .create_key_value(kv::Config { bucket: "B".into(), history: 5, ..Default::default() })
        .await?;
    bucket.put("a.1", "old".into()).await?;
    let mut fresh = bucket.watch_all().await?;
    let mut whole = bucket.watch_with_history("a.*").await?;
    for number in 0..200 {
        bucket.put(format!("a.{}", number % 2), number.to_string().into()).await?;
    }
    bucket.delete("a.0").await?;
    let first = within(whole.next()).await?.context("the watch ended")??;
    assert_eq!(&first.value[..], b"old");
    for watch in [&mut fresh, &mut whole] {
        for number in 0..200 {
            let entry = within(watch.next()).await?.context("the watch ended")??;
            assert_eq!(entry.value, number.to_string());
        }
        let entry = within(watch.next()).await?.context("the watch ended")??;
        assert_eq!((entry.key.as_str(), entry.operation), ("a.0", Operation::Delete));
    }
    Ok(())
}

#[tokio::test]
async fn a_bucket_of_objects() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let jetstream = context(&gateway).await?;
    let config = object_store::Config { bucket: "O".into(), ..Default::default() };
    let mut bucket = jetstream.create_object_store(config).await?;
    let mut watch = bucket.watch().await?;
    let info = bucket.put("one", &mut &b"first"[..]).await?;
    assert_eq!((info.size, info.chunks), (5, 1));
    assert_eq!(within(watch.next()).await?.context("the watch ended")??.name, "one");
    bucket.put("two", &mut &b"second"[..]).await?;
    bucket.add_link("link", &bucket.get("one").await?).await?;
    let mut linked = String::new();
    bucket.get("link").await?.read_to_string(&mut linked).await?;
    assert_eq!(linked, "first");
    bucket.delete("two").await?;
    let mut list = bucket.list().await?;
    let mut names = Vec::new();
    while let Some(info) = within(list.next()).await? {
        names.push(info?.name);
    }
    names.sort();
    assert_eq!(names, ["link", "one"]);
    bucket.seal().await?;
    ensure!(bucket.put("three", &mut &b"third"[..]).await.is_err(), "a sealed bucket took more");
    let mut one = String::new();
    bucket.get("one").await?.read_to_string(&mut one).await?;
    assert_eq!(one, "first");
    Ok(())
}

/// Highest resident memory so far, bytes.
fn peak_memory(gateway: &Server) -> Result<u64> {
    let pid = gateway.pid().context("not running")?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse::<u64>()? << 10)
}

#[tokio::test]
async fn a_large_object_takes_little_memory() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let jetstream = context(&gateway).await?;
    let bucket =
        jetstream.create_object_store(object_store::Config { bucket: "O".into(), ..Default::default() }).await?;
    let before = peak_memory(&gateway)?;
    let data: Vec<u8> = (0..OBJECT).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let info = bucket.put("large", &mut &data[..]).await?;
    assert_eq!((info.size, info.chunks), (OBJECT, OBJECT.div_ceil(128 << 10)));
    let stored = peak_memory(&gateway)?;
    let mut read = Vec::with_capacity(OBJECT);
    bucket.get("large").await?.read_to_end(&mut read).await?;
    ensure!(read == data, "the object came back changed");
    let after = peak_memory(&gateway)?;
    let grown = after.saturating_sub(before);
    ensure!(grown < MEMORY_FOR_IT, "{grown} bytes more at the peak ({before} before, {stored} when it was stored)");
    Ok(())
}

async fn stream_of(jetstream: &jetstream::Context, messages: u64) -> Result<stream::Stream> {
    let config = stream::Config { name: "S".into(), subjects: vec!["s".into()], ..Default::default() };
    let stream = jetstream.create_stream(config).await?;
    for number in 1..=messages {
        within(jetstream.publish("s", number.to_string().into()).await?).await??;
    }
    Ok(stream)
}

#[tokio::test]
async fn a_push_consumer_of_a_group_is_acknowledged() -> Result<()> {
    const MESSAGES: u64 = 100;
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let stream = stream_of(&context(&gateway).await?, MESSAGES).await?;
    let config = push::Config {
        durable_name: Some("p".into()),
        deliver_subject: "to.p".into(),
        deliver_group: Some("group".into()),
        ack_policy: AckPolicy::Explicit,
        idle_heartbeat: Duration::from_secs(1),
        flow_control: true,
        ..Default::default()
    };
    let mut consumer = stream.create_consumer(config).await?;
    let (first, second) = (consumer.messages().await?, consumer.messages().await?);
    let mut both = futures_util::stream::select(first, second);
    let mut seen = std::collections::BTreeSet::new();
    while (seen.len() as u64) < MESSAGES {
        let message = within(both.next()).await?.context("the consumer ended")??;
        seen.insert(message.info().map_err(anyhow::Error::from_boxed)?.stream_sequence);
        message.double_ack().await.map_err(anyhow::Error::from_boxed)?;
    }
    let info = consumer.info().await?;
    assert_eq!((info.ack_floor.stream_sequence, info.num_ack_pending, info.num_pending), (MESSAGES, 0, 0));
    Ok(())
}

#[tokio::test]
async fn an_ordered_consumer_goes_on_after_the_gateway_was_killed() -> Result<()> {
    const MESSAGES: u64 = 300;
    let mut gateway = Gateway::start(Gateway::PLAIN)?;
    let jetstream = context(&gateway).await?;
    let stream = stream_of(&jetstream, MESSAGES).await?;
    let config = push::OrderedConfig {
        deliver_subject: jetstream.client().new_inbox(),
        deliver_policy: DeliverPolicy::All,
        ..Default::default()
    };
    let mut messages = stream.create_consumer(config).await?.messages().await?;
    let mut next = 1;
    while next <= MESSAGES / 2 {
        let message = within(messages.next()).await?.context("the consumer ended")??;
        assert_eq!(message.payload, next.to_string());
        next += 1;
    }
    gateway.kill9()?;
    gateway.restart()?;
    let again = context(&gateway).await?;
    for number in MESSAGES + 1..=MESSAGES + 50 {
        within(again.publish("s", number.to_string().into()).await?).await??;
    }
    while next <= MESSAGES + 50 {
        // It says that it missed heartbeats, and makes the consumer anew.
        let Ok(message) = within(messages.next()).await?.context("the consumer ended")? else { continue };
        assert_eq!(message.payload, next.to_string());
        next += 1;
    }
    Ok(())
}
