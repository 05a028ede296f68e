//! What streams, consumers and buckets can be told to do, by the official Rust client, against the gateway and against stock nats-server: both tell
//! the same story.

use std::collections::HashMap;
use std::future::IntoFuture;
use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PriorityPolicy, PullConsumer, ReplayPolicy, pull};
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::kv::{self, Operation};
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::{
    Compression, ConsumerLimits, DiscardPolicy, PersistenceMode, Republish, RetentionPolicy, Source, StorageType,
    Stream, SubjectTransform,
};
use async_nats::jetstream::{self, AckKind, object_store, stream};
use async_nats::{HeaderMap, service};
use futures_util::{StreamExt, TryStreamExt};
use harness::peers::{self, Peer};
use harness::{Gateway, StockHub};
use service::ServiceExt;
use tokio::io::AsyncReadExt;

/// For a whole story; a busy machine needs a part of it.
const LIMIT: Duration = Duration::from_secs(60);

const CONFIGURATION: &str = r#"
server_name: same
listen: "127.0.0.1:<nats>"
jetstream { store_dir: "<dir>/store", max_file_store: 256MB, max_memory_store: 64MB }
"#;

async fn on_both(story: impl AsyncFn(&jetstream::Context) -> Result<()>) -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let (gateway, stock) = (Gateway::start(CONFIGURATION)?, StockHub::start(CONFIGURATION)?);
    let tell = async |url: String| {
        let context = jetstream::new(async_nats::connect(url).await?);
        tokio::time::timeout(LIMIT, story(&context)).await?
    };
    let (ours, stocks) = tokio::join!(tell(gateway.url()), tell(stock.url()));
    stocks.context("stock")?;
    ours.context("ours")
}

async fn until(condition: impl AsyncFn() -> Result<bool>) -> Result<()> {
    while !condition().await? {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// The refusal carries that number.
fn refused<T, E: std::fmt::Debug>(result: Result<T, E>, code: u16) -> Result<()> {
    let error = result.err().with_context(|| format!("not refused with {code}"))?;
    ensure!(format!("{error:?}").contains(&code.to_string()), "not {code}: {error:?}");
    Ok(())
}

/// An acknowledgement's error holds its source, which `Debug` of the client shows.
async fn publish(
    context: &jetstream::Context,
    subject: &str,
    headers: &[(&str, &str)],
    payload: &str,
) -> Result<PublishAck, PublishError> {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, *value);
    }
    context.publish_with_headers(subject.to_owned(), map, payload.to_owned().into()).await?.into_future().await
}

async fn filled(context: &jetstream::Context, config: stream::Config, count: usize) -> Result<Stream> {
    let prefix = config.name.to_lowercase();
    let subjects = vec![format!("{prefix}.>")];
    let stream = context.create_stream(stream::Config { subjects, ..config }).await?;
    for number in 0..count {
        publish(context, &format!("{prefix}.{}", number % 3), &[], &number.to_string()).await?;
    }
    Ok(stream)
}

fn named(name: &str) -> stream::Config {
    stream::Config { name: name.into(), ..Default::default() }
}

/// Messages, first and last sequence.
async fn state(stream: &Stream) -> Result<(u64, u64, u64)> {
    let state = stream.get_info().await?.state;
    Ok((state.messages, state.first_sequence, state.last_sequence))
}

#[tokio::test]
async fn retention_limits_and_updates() -> Result<()> {
    on_both(async |context| {
        let work = stream::Config { retention: RetentionPolicy::WorkQueue, storage: StorageType::Memory, ..named("W") };
        let queue = filled(context, work.clone(), 6).await?;
        refused(context.update_stream(stream::Config { retention: RetentionPolicy::Limits, ..work }).await, 10052)?;
        let explicit = pull::Config { ack_policy: AckPolicy::Explicit, ..Default::default() };
        let worker = pull::Config { durable_name: Some("a".into()), filter_subject: "w.0".into(), ..explicit.clone() };
        let consumer = queue.create_consumer(worker).await?;
        let overlapping = pull::Config { durable_name: Some("b".into()), ..explicit };
        refused(queue.create_consumer(overlapping).await, 10099)?;
        let mut messages = consumer.fetch().max_messages(2).messages().await?;
        while let Some(message) = messages.next().await {
            message.map_err(Error::from_boxed)?.double_ack().await.map_err(Error::from_boxed)?;
        }
        assert_eq!(state(&queue).await?.0, 4);

        let once = stream::Config {
            discard: DiscardPolicy::New,
            discard_new_per_subject: true,
            max_messages_per_subject: 1,
            max_messages: 3,
            max_message_size: 10,
            first_sequence: Some(100),
            consumer_limits: Some(ConsumerLimits { inactive_threshold: LIMIT, max_ack_pending: 5 }),
            ..named("ONCE")
        };
        let once = filled(context, once, 2).await?;
        assert_eq!(state(&once).await?, (2, 100, 101));
        refused(publish(context, "once.0", &[], "again").await, 10077)?;
        refused(publish(context, "once.2", &[], "much too long").await, 10054)?;
        let greedy = pull::Config { durable_name: Some("g".into()), max_ack_pending: 6, ..Default::default() };
        refused(once.create_consumer(greedy).await, 10121)?;

        let old = stream::Config { max_messages: 5, max_messages_per_subject: 2, ..named("OLD") };
        let stream = filled(context, old.clone(), 9).await?;
        assert_eq!(state(&stream).await?, (5, 5, 9));
        let subjects = vec!["old.>".into()];
        context.update_stream(stream::Config { max_messages: 2, subjects: subjects.clone(), ..old.clone() }).await?;
        assert_eq!(state(&stream).await?, (2, 8, 9));
        let aging = stream::Config {
            max_age: Duration::from_millis(300),
            duplicate_window: Duration::from_millis(200),
            subjects,
            ..old
        };
        context.update_stream(aging).await?;
        until(async || Ok(state(&stream).await?.0 == 0)).await
    })
    .await
}

#[tokio::test]
async fn rollup_seal_and_deny() -> Result<()> {
    on_both(async |context| {
        let config = stream::Config { allow_rollup: true, deny_delete: true, ..named("R") };
        let mut stream = filled(context, config, 6).await?;
        publish(context, "r.0", &[("Nats-Rollup", "sub")], "sum").await?;
        assert_eq!(state(&stream).await?, (5, 2, 7));
        publish(context, "r.1", &[("Nats-Rollup", "all")], "all").await?;
        assert_eq!(state(&stream).await?, (1, 8, 8));
        refused(stream.delete_message(8).await, 10057)?;
        let config = stream.info().await?.config.clone();
        refused(context.update_stream(stream::Config { deny_delete: false, ..config.clone() }).await, 10052)?;
        context.update_stream(stream::Config { sealed: true, ..config }).await?;
        refused(publish(context, "r.0", &[], "no").await, 10109)?;
        let closed = filled(context, stream::Config { deny_purge: true, ..named("C") }, 2).await?;
        refused(closed.purge().await, 10110)?;
        let lazy = stream::Config { persist_mode: Some(PersistenceMode::Async), ..named("L") };
        assert_eq!(state(&filled(context, lazy, 3).await?).await?, (3, 1, 3));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn transforms_republish_and_copies() -> Result<()> {
    on_both(async |context| {
        let mut heard = context.client().subscribe("out.>").await?;
        let transform = |source: &str, destination: &str| SubjectTransform {
            source: source.into(),
            destination: destination.into(),
        };
        let config = stream::Config {
            subject_transform: Some(transform("in.*", "kept.$1")),
            republish: Some(Republish { source: "kept.>".into(), destination: "out.>".into(), headers_only: false }),
            metadata: HashMap::from([("owner".into(), "me".into())]),
            compression: Some(Compression::S2),
            allow_direct: true,
            ..named("IN")
        };
        let mut stream = filled(context, config, 3).await?;
        let info = stream.info_with_subjects(">").await?.try_collect::<Vec<_>>().await?;
        assert_eq!(info.len(), 3);
        ensure!(info.iter().all(|(subject, count)| subject.starts_with("kept.") && *count == 1), "{info:?}");
        for number in 0..3_u64 {
            let message = heard.next().await.context("nothing was republished")?;
            assert_eq!(message.subject.as_str(), format!("out.{number}"));
            let headers = message.headers.context("no headers")?;
            assert_eq!(headers.get("Nats-Sequence").map(ToString::to_string), Some((number + 1).to_string()));
        }
        let config = stream.info().await?.config.clone();
        assert_eq!(
            (config.metadata.get("owner").map(String::as_str), config.compression),
            (Some("me"), Some(Compression::S2))
        );
        let mirror = Source { name: "IN".into(), start_sequence: Some(2), ..Default::default() };
        let mirror = context.create_stream(stream::Config { mirror: Some(mirror), ..named("M") }).await?;
        let source =
            Source { name: "IN".into(), subject_transforms: vec![transform("kept.1", "all.1")], ..Default::default() };
        let sourced = context.create_stream(stream::Config { sources: Some(vec![source]), ..named("S") }).await?;
        until(async || Ok((state(&mirror).await?.0, state(&sourced).await?.0) == (2, 1))).await?;
        assert_eq!(mirror.get_raw_message(3).await?.payload, "2");
        assert_eq!(sourced.get_raw_message(1).await?.subject.as_str(), "all.1");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn messages_are_got_and_removed() -> Result<()> {
    on_both(async |context| {
        let mut stream = filled(context, stream::Config { allow_direct: true, ..named("D") }, 10).await?;
        assert_eq!(stream.direct_get(4).await?.payload, "3");
        assert_eq!(stream.direct_get_last_for_subject("d.1").await?.sequence, 8);
        assert_eq!(stream.direct_get_next_for_subject("d.0", Some(5)).await?.sequence, 7);
        assert_eq!(stream.direct_get_first_for_subject("d.2").await?.sequence, 3);
        ensure!(stream.direct_get(99).await.is_err(), "a message that is not there");
        assert_eq!(stream.get_last_raw_message_by_subject("d.2").await?.sequence, 9);
        assert_eq!(stream.raw_message_builder().sequence(4).next_by_subject("d.2").send().await?.sequence, 6);
        ensure!(stream.delete_message(5).await?, "not deleted");
        refused(stream.delete_message(5).await, 10043)?;
        ensure!(stream.get_raw_message(5).await.is_err(), "a deleted message");
        assert_eq!(stream.purge().filter("d.0").keep(1).await?.purged, 3);
        assert_eq!(stream.purge().filter("d.1").sequence(8).await?.purged, 1);
        let info = stream.info_builder().with_deleted(true).subjects("d.*").fetch().await?;
        let state = info.info.state.clone();
        assert_eq!((state.first_sequence, state.deleted.context("no details")?), (3, vec![4, 5, 7]));
        assert_eq!(stream.purge().keep(2).await?.purged, 3);
        assert_eq!(stream.purge().sequence(10).await?.purged, 1);
        assert_eq!(stream.purge().await?.purged, 1);
        assert_eq!(stream.info().await?.state.messages, 0);
        assert_eq!(context.stream_by_subject("d.7").await?, "D");
        let names: Vec<String> = context.stream_names().try_collect().await?;
        assert_eq!(names, ["D"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn expectations_lives_counters_batches_and_schedules() -> Result<()> {
    on_both(async |context| {
        filled(context, named("E"), 1).await?;
        ensure!(!publish(context, "e.0", &[("Nats-Msg-Id", "1")], "x").await?.duplicate, "a duplicate");
        ensure!(publish(context, "e.0", &[("Nats-Msg-Id", "1")], "x").await?.duplicate, "no duplicate");
        let wrong = [
            ("Nats-Expected-Last-Sequence", "9"),
            ("Nats-Expected-Last-Subject-Sequence", "9"),
            ("Nats-Expected-Last-Msg-Id", "9"),
            ("Nats-Expected-Stream", "OTHER"),
        ];
        for expectation in wrong {
            ensure!(publish(context, "e.0", &[expectation], "x").await.is_err(), "{expectation:?}");
        }

        let lives = stream::Config {
            allow_message_ttl: true,
            subject_delete_marker_ttl: Some(Duration::from_secs(1)),
            allow_message_counter: false,
            ..named("T")
        };
        let stream = filled(context, lives, 0).await?;
        publish(context, "t.a", &[("Nats-TTL", "1s")], "short").await?;
        publish(context, "t.b", &[("Nats-TTL", "never")], "long").await?;
        refused(publish(context, "t.b", &[("Nats-TTL", "x")], "x").await, 10165)?;
        until(async || Ok(state(&stream).await?.2 == 3)).await?;
        let marker = stream.get_last_raw_message_by_subject("t.a").await?;
        assert_eq!(marker.headers.get("Nats-Marker-Reason").map(ToString::to_string).as_deref(), Some("MaxAge"));

        filled(context, stream::Config { allow_message_counter: true, ..named("N") }, 0).await?;
        let mut values = Vec::new();
        for step in ["+5", "-7", "+0"] {
            values.push(publish(context, "n.a", &[("Nats-Incr", step)], "").await?.value.context("no value")?);
        }
        assert_eq!(values, ["5", "-2", "-2"]);
        refused(publish(context, "n.a", &[], "x").await, 10169)?;

        let batches = filled(context, stream::Config { allow_atomic_publish: true, ..named("B") }, 0).await?;
        let (id, commit) = (("Nats-Batch-Id", "b"), ("Nats-Batch-Commit", "1"));
        for number in ["1", "2"] {
            let mut headers = HeaderMap::new();
            headers.insert("Nats-Batch-Id", "b");
            headers.insert("Nats-Batch-Sequence", number);
            context.client().publish_with_headers("b.a", headers, number.into()).await?;
        }
        assert_eq!(state(&batches).await?.0, 0);
        let ack = publish(context, "b.b", &[id, ("Nats-Batch-Sequence", "3"), commit], "3").await?;
        assert_eq!((ack.sequence, ack.batch_id.as_deref(), ack.batch_size), (3, Some("b"), Some(3)));

        let planned = stream::Config { allow_message_schedules: true, ..named("P") };
        let planned = filled(context, planned, 0).await?;
        let at = [("Nats-Schedule", "@at 2020-01-01T00:00:00Z"), ("Nats-Schedule-Target", "p.target")];
        publish(context, "p.plan", &at, "now").await?;
        until(async || Ok(planned.get_last_raw_message_by_subject("p.target").await.is_ok())).await?;
        let account = context.query_account().await?;
        assert_eq!(account.streams, 5);
        Ok(())
    })
    .await
}

async fn fetch(consumer: &PullConsumer, count: usize) -> Result<Vec<jetstream::Message>> {
    let mut messages = consumer.batch().max_messages(count).expires(Duration::from_secs(5)).messages().await?;
    let mut got = Vec::new();
    while got.len() < count
        && let Some(message) = messages.next().await
    {
        got.push(message.map_err(Error::from_boxed)?);
    }
    Ok(got)
}

fn sequences(messages: &[jetstream::Message]) -> Result<Vec<u64>> {
    messages.iter().map(|message| Ok(message.info().map_err(Error::from_boxed)?.stream_sequence)).collect()
}

#[tokio::test]
async fn consumers_begin_filter_and_replay() -> Result<()> {
    on_both(async |context| {
        let stream = filled(context, named("F"), 10).await?;
        let none = pull::Config { ack_policy: AckPolicy::None, ..Default::default() };
        let third = stream.get_raw_message(8).await?.time;
        let per_subject = DeliverPolicy::LastPerSubject;
        let cases = [
            (pull::Config { deliver_policy: DeliverPolicy::Last, ..none.clone() }, vec![10]),
            (
                pull::Config { deliver_policy: per_subject, filter_subject: "f.*".into(), ..none.clone() },
                vec![8, 9, 10],
            ),
            (
                pull::Config { deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: 9 }, ..none.clone() },
                vec![9, 10],
            ),
            (
                pull::Config { deliver_policy: DeliverPolicy::ByStartTime { start_time: third }, ..none.clone() },
                vec![8, 9, 10],
            ),
            (pull::Config { filter_subject: "f.0".into(), ..none.clone() }, vec![1, 4, 7, 10]),
            (
                pull::Config { filter_subjects: vec!["f.1".into(), "f.2".into()], ..none.clone() },
                vec![2, 3, 5, 6, 8, 9],
            ),
        ];
        for (config, expected) in cases {
            let consumer = stream.create_consumer(config.clone()).await?;
            assert_eq!(sequences(&fetch(&consumer, expected.len()).await?)?, expected, "{config:?}");
        }
        let heads = pull::Config {
            headers_only: true,
            memory_storage: true,
            description: Some("heads".into()),
            ..none.clone()
        };
        let heads = fetch(&stream.create_consumer(heads).await?, 1).await?;
        let size = heads[0].headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Size")).map(ToString::to_string);
        assert_eq!((heads[0].payload.len(), size.as_deref()), (0, Some("1")));
        let slow = filled(context, named("O"), 1).await?;
        tokio::time::sleep(Duration::from_millis(250)).await;
        publish(context, "o.1", &[], "later").await?;
        let replayed = slow.create_consumer(pull::Config { replay_policy: ReplayPolicy::Original, ..none }).await?;
        let begun = std::time::Instant::now();
        assert_eq!(sequences(&fetch(&replayed, 2).await?)?, [1, 2]);
        ensure!(begun.elapsed() > Duration::from_millis(200), "replayed faster than it was");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn consumers_are_acknowledged_paused_reset_and_changed() -> Result<()> {
    on_both(async |context| {
        let stream = filled(context, named("A"), 4).await?;
        let config = pull::Config {
            durable_name: Some("c".into()),
            ack_policy: AckPolicy::Explicit,
            backoff: vec![Duration::from_millis(200), Duration::from_secs(30)],
            max_deliver: 5,
            sample_frequency: 100,
            metadata: HashMap::from([("a".into(), "b".into())]),
            ..Default::default()
        };
        let mut samples = context.client().subscribe("$JS.EVENT.METRIC.CONSUMER.ACK.A.c").await?;
        let mut consumer = stream.create_consumer_strict(config.clone()).await?;
        refused(stream.create_consumer_strict(pull::Config { max_deliver: 9, ..config.clone() }).await, 10148)?;
        let messages = fetch(&consumer, 4).await?;
        for (message, kind) in messages.iter().zip([AckKind::Ack, AckKind::Nak(None), AckKind::Term, AckKind::Progress])
        {
            message.ack_with(kind).await.map_err(Error::from_boxed)?;
        }
        let again = fetch(&consumer, 2).await?;
        let mut delivered = sequences(&again)?;
        delivered.sort_unstable();
        assert_eq!(delivered, [2, 4], "one was refused, one waited for longer than it may");
        for message in &again {
            message.double_ack().await.map_err(Error::from_boxed)?;
        }
        let info = consumer.info().await?;
        assert_eq!((info.ack_floor.stream_sequence, info.num_ack_pending, info.num_pending), (4, 0, 0));
        ensure!(samples.next().await.is_some(), "no sample");

        let later = stream.get_raw_message(1).await?.time + Duration::from_secs(3600);
        ensure!(stream.pause_consumer("c", later).await?.paused, "not paused");
        ensure!(consumer.info().await?.paused, "not shown as paused");
        ensure!(!stream.resume_consumer("c").await?.paused, "not resumed");
        let reset = consumer.reset(Some(3)).await?;
        assert_eq!((reset.reset_seq, reset.info.num_pending), (3, 2));
        assert_eq!(sequences(&fetch(&consumer, 2).await?)?, [3, 4]);
        let changed = pull::Config { filter_subject: "a.0".into(), max_deliver: 7, ..config.clone() };
        let changed = stream.update_consumer(changed).await?;
        assert_eq!(changed.cached_info().config.max_deliver, 7);
        refused(stream.update_consumer(pull::Config { ack_policy: AckPolicy::All, ..config }).await, 10012)?;
        let idle = pull::Config {
            name: Some("idle".into()),
            inactive_threshold: Duration::from_millis(300),
            ..Default::default()
        };
        stream.create_consumer(idle).await?;
        until(async || Ok(stream.consumer_names().try_collect::<Vec<String>>().await? == ["c"])).await?;
        ensure!(stream.delete_consumer("c").await?.success, "not deleted");
        refused(stream.consumer_info("c").await, 10014)
    })
    .await
}

#[tokio::test]
async fn a_pinned_consumer_and_an_overflow() -> Result<()> {
    on_both(async |context| {
        let stream = filled(context, named("G"), 6).await?;
        let group = |name: &str, policy| pull::Config {
            durable_name: Some(name.into()),
            priority_policy: policy,
            priority_groups: vec!["g".into()],
            ..Default::default()
        };
        let overflow = stream.create_consumer(group("o", PriorityPolicy::Overflow)).await?;
        let none = overflow.fetch().group("g").min_pending(7).max_messages(1).expires(Duration::from_millis(300));
        assert_eq!(none.messages().await?.count().await, 0);
        let some = overflow.fetch().group("g").min_pending(6).max_messages(1).messages().await?;
        assert_eq!(some.count().await, 1);
        let pinned = stream.create_consumer(group("p", PriorityPolicy::PinnedClient)).await?;
        let mut messages = pinned.stream().group("g").max_messages_per_batch(2).messages().await?;
        for _ in 0..3 {
            let message = messages.next().await.context("the end")??;
            message.ack().await.map_err(Error::from_boxed)?;
        }
        stream.unpin_consumer("p", "g").await?;
        refused(stream.unpin_consumer("p", "other").await, 10160)
    })
    .await
}

#[tokio::test]
async fn buckets_in_every_operation() -> Result<()> {
    on_both(async |context| {
        let mut republished = context.client().subscribe("heard.>").await?;
        let config = kv::Config {
            bucket: "B".into(),
            history: 4,
            max_value_size: 300,
            max_bytes: 1 << 20,
            compression: true,
            limit_markers: Some(Duration::from_secs(1)),
            republish: Some(Republish { source: ">".into(), destination: "heard.>".into(), headers_only: true }),
            ..Default::default()
        };
        let bucket = context.create_key_value(config.clone()).await?;
        assert_eq!(bucket.put("a", "1".into()).await?, 1);
        let told = republished.next().await.context("nothing was republished")?;
        assert_eq!((told.subject.as_str(), told.payload.len()), ("heard.$KV.B.a", 0));
        refused(bucket.put("a", vec![0; 301].into()).await, 10054)?;
        assert_eq!(bucket.update("a", "2".into(), 1).await?, 2);
        bucket.create_with_ttl("short", "x".into(), Duration::from_secs(1)).await?;
        ensure!(bucket.delete_expect_revision("a", Some(1)).await.is_err(), "deleted over a newer one");
        bucket.delete_expect_revision("a", Some(2)).await?;
        assert_eq!(bucket.entry("a").await?.map(|entry| entry.operation), Some(Operation::Delete));
        assert_eq!(bucket.create("a", "3".into()).await?, 5);
        bucket.put("b", "4".into()).await?;
        bucket.put("c", "5".into()).await?;
        bucket.purge_with_ttl("c", Duration::from_secs(30)).await?;
        let history: Vec<_> = bucket.history("a").await?.try_collect().await?;
        let operations: Vec<_> = history.iter().map(|entry| (entry.revision, entry.operation)).collect();
        assert_eq!(operations, [(1, Operation::Put), (2, Operation::Put), (4, Operation::Delete), (5, Operation::Put)]);
        let mut watch = bucket.watch_many_with_history(["a", "c"]).await?;
        let mut later = bucket.watch_from_revision(">", 6).await?;
        let mut seen = Vec::new();
        while seen.len() < 5 {
            let entry = watch.next().await.context("the watch ended")??;
            seen.push((entry.key, entry.revision));
        }
        assert_eq!(seen, [1, 2, 4, 5, 8].map(|at| (if at == 8 { "c" } else { "a" }.to_owned(), at)));
        assert_eq!(later.next().await.context("the watch ended")??.revision, 6);
        until(async || Ok(bucket.get("short").await?.is_none())).await?;
        let marker = bucket.entry("short").await?.context("no marker")?;
        ensure!(marker.operation != Operation::Put, "{marker:?}");
        let mut keys: Vec<String> = bucket.keys().await?.try_collect().await?;
        keys.sort();
        assert_eq!(keys, ["a", "b"]);
        ensure!(bucket.purge_expect_revision("a", Some(1)).await.is_err(), "purged over a newer one");
        bucket.purge("a").await?;
        context.update_key_value(kv::Config { history: 6, description: "more".into(), ..config }).await?;
        assert_eq!(bucket.status().await?.history(), 6);

        let source = |name: &str| Source { name: name.into(), ..Default::default() };
        let mirror = kv::Config { bucket: "M".into(), mirror: Some(source("B")), ..Default::default() };
        let mirror = context.create_key_value(mirror).await?;
        let gathered = kv::Config { bucket: "G".into(), sources: Some(vec![source("B")]), ..Default::default() };
        let gathered = context.create_key_value(gathered).await?;
        for copy in [&mirror, &gathered] {
            until(async || Ok(copy.get("b").await?.as_deref() == Some(&b"4"[..]))).await?;
        }
        mirror.put("d", "through the mirror".into()).await?;
        until(async || Ok(mirror.get("d").await?.is_some())).await?;
        assert_eq!(bucket.get("d").await?.as_deref(), Some(&b"through the mirror"[..]));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn objects_in_every_operation() -> Result<()> {
    on_both(async |context| {
        let config = object_store::Config {
            bucket: "O".into(),
            description: Some("objects".into()),
            compression: true,
            max_bytes: 10 << 20,
            ..Default::default()
        };
        let mut bucket = context.create_object_store(config).await?;
        let data: Vec<u8> = (0..500_000_u32).map(|at| (at % 251) as u8).collect();
        let meta = object_store::ObjectMetadata {
            name: "large".into(),
            description: Some("much".into()),
            chunk_size: Some(5000),
            metadata: HashMap::from([("a".into(), "b".into())]),
            ..Default::default()
        };
        let info = bucket.put(meta, &mut &data[..]).await?;
        assert_eq!((info.size, info.chunks), (500_000, 100));
        bucket.put("empty", &mut &b""[..]).await?;
        bucket.put("small", &mut &b"first"[..]).await?;
        bucket.put("small", &mut &b"second"[..]).await?;
        let read = async |name: &str| -> Result<Vec<u8>> {
            let mut bytes = Vec::new();
            bucket.get(name).await?.read_to_end(&mut bytes).await?;
            Ok(bytes)
        };
        ensure!(read("large").await? == data, "the object came back changed");
        assert_eq!((read("empty").await?, read("small").await?), (Vec::new(), b"second".to_vec()));
        let mut watch = bucket.watch_with_history().await?;
        let mut names = Vec::new();
        while names.len() < 3 {
            names.push(watch.next().await.context("the watch ended")??.name);
        }
        assert_eq!(names, ["large", "empty", "small"]);
        let changed = object_store::UpdateMetadata {
            name: "renamed".into(),
            description: Some("better".into()),
            metadata: HashMap::new(),
            headers: None,
        };
        bucket.update_metadata("small", changed).await?;
        assert_eq!(bucket.info("renamed").await?.description.as_deref(), Some("better"));
        ensure!(bucket.info("small").await.is_err(), "still there under its old name");
        assert_eq!(read("renamed").await?, b"second");
        bucket.add_link("link", &bucket.get("renamed").await?).await?;
        assert_eq!(read("link").await?, b"second");
        let linked = bucket.add_bucket_link("bucket", "O").await?;
        assert_eq!(
            linked.options.and_then(|options| options.link).map(|link| (link.bucket, link.name)),
            Some(("O".into(), None))
        );
        bucket.delete("large").await?;
        ensure!(bucket.get("large").await.is_err(), "a deleted object");
        let state = context.get_stream("OBJ_O").await?.cached_info().state.clone();
        ensure!(state.bytes < 10_000, "{state:?}: the chunks are still there");
        bucket.seal().await?;
        ensure!(bucket.put("more", &mut &b"x"[..]).await.is_err(), "a sealed bucket took more");
        context.delete_object_store("O").await?;
        ensure!(context.get_object_store("O").await.is_err(), "a removed bucket was found");
        Ok(())
    })
    .await
}

/// Everybody who answers within a quarter of a second.
async fn answers(client: &async_nats::Client, subject: &str) -> Result<Vec<serde_json::Value>> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    client.publish_with_reply(subject.to_owned(), inbox, "".into()).await?;
    let mut all = Vec::new();
    while let Ok(Some(answer)) = tokio::time::timeout(Duration::from_millis(250), answers.next()).await {
        if !answer.payload.is_empty() {
            all.push(serde_json::from_slice(&answer.payload)?);
        }
    }
    Ok(all)
}

#[tokio::test]
async fn services_in_every_operation() -> Result<()> {
    on_both(async |context| {
        let client = context.client();
        let mut services = Vec::new();
        for instance in ["a", "b"] {
            let service = client
                .service_builder()
                .description("adds")
                .start("adder", "1.2.3")
                .await
                .map_err(Error::from_boxed)?;
            let group = service.group("v2");
            let endpoint = service.endpoint("add").await.map_err(Error::from_boxed)?;
            let other = group
                .endpoint_builder()
                .name("length")
                .queue_group("others")
                .add("len.*")
                .await
                .map_err(Error::from_boxed)?;
            let mut requests = futures_util::stream::select(endpoint, other);
            let answering = tokio::spawn(async move {
                while let Some(request) = requests.next().await {
                    let answer = match request.message.payload.len() {
                        0 => Err(service::error::Error { code: 400, status: "nothing to add".into() }),
                        length => Ok(format!("{instance}{length}").into()),
                    };
                    if request.respond(answer).await.is_err() {
                        break;
                    }
                }
            });
            services.push((service, answering));
        }
        client.flush().await?;
        let mut instances = std::collections::BTreeSet::new();
        for _ in 0..40 {
            let answer = client.request("add", "xyz".into()).await?;
            ensure!(answer.payload.ends_with(b"3"), "{:?}", answer.payload);
            instances.insert(answer.payload[0]);
        }
        assert_eq!(instances.len(), 2);
        ensure!(client.request("v2.len.any", "four".into()).await?.payload.ends_with(b"4"), "a group's endpoint");
        let failed = client.request("add", "".into()).await?.headers.context("no headers")?;
        assert_eq!(failed.get("Nats-Service-Error-Code").map(ToString::to_string).as_deref(), Some("400"));
        for subject in ["$SRV.PING", "$SRV.PING.adder", "$SRV.INFO.adder", "$SRV.STATS.adder"] {
            assert_eq!(answers(&client, subject).await?.len(), 2, "{subject}");
        }
        assert_eq!(answers(&client, "$SRV.PING.nobody").await?.len(), 0);
        let stats = answers(&client, "$SRV.STATS.adder").await?;
        let requests: u64 = stats
            .iter()
            .flat_map(|each| each["endpoints"].as_array().into_iter().flatten())
            .filter_map(|endpoint| endpoint["num_requests"].as_u64())
            .sum();
        assert_eq!(requests, 42);
        for (at, (service, answering)) in services.into_iter().enumerate() {
            service.stop().await.map_err(Error::from_boxed)?;
            answering.abort();
            client.flush().await?;
            assert_eq!(answers(&client, "$SRV.PING.adder").await?.len(), 1 - at);
        }
        let nobody = client.request("add", "x".into()).await;
        ensure!(nobody.is_err(), "a stopped service answers: {nobody:?}");
        Ok(())
    })
    .await
}
