//! Streams: retention, limits, removals, transforms, copies, and what a message's headers ask for.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::stream::{
    self, Compression, ConsumerLimits, DiscardPolicy, PersistenceMode, Republish, RetentionPolicy, Source, StorageType,
    SubjectTransform,
};
use futures_util::{StreamExt, TryStreamExt};

use super::{LIMIT, filled, named, on_both, publish, refused, state, until};

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
async fn expectations_lives_and_counters() -> Result<()> {
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
        Ok(())
    })
    .await
}

#[tokio::test]
async fn batches_and_schedules() -> Result<()> {
    on_both(async |context| {
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
        assert_eq!(account.streams, 2);
        Ok(())
    })
    .await
}
