//! Consumers: where they begin, what they filter, how they are acknowledged, paused, reset, changed and pinned.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PriorityPolicy, PullConsumer, ReplayPolicy, pull};
use async_nats::jetstream::{self, AckKind};
use futures_util::{StreamExt, TryStreamExt};

use super::{filled, named, on_both, publish, refused, until};

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
        let other = pull::Config { max_deliver: 9, ..config.clone() };
        ensure!(stream.create_consumer_strict(other).await.is_err(), "created over another one");
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
        ensure!(stream.consumer_info("c").await.is_err(), "still there");
        Ok(())
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
