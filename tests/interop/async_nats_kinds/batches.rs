//! Atomic batches, fast ingest and batches of direct gets by the extensions that the client's makers publish beside it (`jetstream-extra`, of orbit.rs).

use std::sync::{Arc, Mutex};

use anyhow::{Result, ensure};
use async_nats_of_jetstream_extra::HeaderMap;
use async_nats_of_jetstream_extra::jetstream::Context;
use async_nats_of_jetstream_extra::jetstream::message::{OutboundMessage, PublishMessage};
use futures_util::{TryStreamExt, stream};
use jetstream_extra::batch_fetch::BatchFetchExt;
use jetstream_extra::batch_publish::{BatchPublishErrorKind, BatchPublishExt};
use jetstream_extra::batch_publish_fast::{FastPublishErrorKind, FastPublishExt, GapMode};
use serde_json::{Value, json};

use super::on_both_as;

async fn on_both(story: impl AsyncFn(&Context) -> Result<()>) -> Result<()> {
    on_both_as(async |url| {
        let client = async_nats_of_jetstream_extra::connect(url).await?;
        story(&async_nats_of_jetstream_extra::jetstream::new(client)).await
    })
    .await
}

async fn made(context: &Context, config: Value) -> Result<()> {
    let subject = format!("STREAM.CREATE.{}", config["name"].as_str().unwrap_or_default());
    let answer: Value = context.request(subject, &config).await?;
    ensure!(answer["error"].is_null(), "{answer}");
    Ok(())
}

async fn state(context: &Context, stream: &str) -> Result<(u64, u64)> {
    let state = context.get_stream(stream).await?.cached_info().state.clone();
    Ok((state.messages, state.last_sequence))
}

fn message(subject: String, payload: String, headers: &[(&str, &str)]) -> OutboundMessage {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.insert(*name, *value);
    }
    PublishMessage::build().payload(payload.into()).headers(map).outbound_message(subject)
}

#[tokio::test]
async fn atomic_batches_of_the_extension() -> Result<()> {
    on_both(async |context| {
        made(context, json!({"name": "A", "subjects": ["a.>"], "allow_atomic": true, "allow_direct": true})).await?;
        let mut batch = context.batch_publish().ack_every(10).build();
        for number in 1..=99 {
            batch.add(format!("a.{}", number % 3), number.to_string().into()).await?;
        }
        assert_eq!(state(context, "A").await?, (0, 0));
        let id = batch.batch_id().to_owned();
        let ack = batch.commit("a.last", "100".into()).await?;
        assert_eq!((ack.stream.as_str(), ack.sequence, ack.batch_id, ack.batch_size), ("A", 100, id, 100));

        let all = stream::iter((101..=1100).map(|number| message("a.all".into(), number.to_string(), &[("N", "x")])));
        let ack = context.batch_publish_all().ack_every(100).publish(all).await?;
        assert_eq!((ack.sequence, ack.batch_size), (1100, 1000));

        let mut left = context.batch_publish().build();
        left.add("a.left", "x".into()).await?;
        left.discard();
        // One message is refused, so all are.
        let mut refused = context.batch_publish().build();
        refused.add("a.1", "x".into()).await?;
        let late = message("a.2".into(), "y".into(), &[("Nats-Expected-Last-Subject-Sequence", "1")]);
        ensure!(refused.commit_message(late).await.is_err(), "a wrong sequence was taken");
        assert_eq!(state(context, "A").await?, (1100, 1100));

        made(context, json!({"name": "NONE", "subjects": ["none"]})).await?;
        let none = context.batch_publish().build().commit("none", "x".into()).await;
        assert_eq!(none.err().map(|error| error.kind()), Some(BatchPublishErrorKind::BatchPublishNotEnabled));

        let got: Vec<_> = context.get_batch("A", 5).sequence(97).send().await?.try_collect().await?;
        assert_eq!(got.iter().map(|message| message.sequence).collect::<Vec<_>>(), [97, 98, 99, 100, 101]);
        let got: Vec<_> = context.get_batch("A", 100).subject("a.1").send().await?.try_collect().await?;
        assert_eq!((got.len(), got[32].sequence), (33, 97));
        let subjects = vec!["a.0".to_owned(), "a.1".into(), "a.last".into()];
        let got: Vec<_> = context.get_last_messages_for("A").subjects(subjects).send().await?.try_collect().await?;
        assert_eq!(got.iter().map(|message| message.sequence).collect::<Vec<_>>(), [97, 99, 100]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn fast_ingest_of_the_extension() -> Result<()> {
    on_both(async |context| {
        made(context, json!({"name": "F", "subjects": ["f.>"], "allow_batched": true})).await?;
        let mut batch = context.fast_publish().flow(50).build()?;
        for number in 1..2000 {
            let ack = batch.add(format!("f.{}", number % 3), number.to_string().into()).await?;
            assert_eq!(ack.batch_sequence, number);
            ensure!(ack.ack_sequence + 200 > number, "{ack:?}: far behind");
        }
        let ack = batch.commit("f.last", "2000".into()).await?;
        assert_eq!((ack.stream.as_str(), ack.sequence, ack.batch_size), ("F", 2000, 2000));
        let stored = context.get_stream("F").await?.get_raw_message(1234).await?;
        assert_eq!(stored.payload, "1234");

        let mut ended = context.fast_publish().flow(2).max_outstanding_acks(3).build()?;
        for number in ["a", "b", "c"] {
            ended.add("f.end", number.into()).await?;
        }
        let ack = ended.close().await?;
        assert_eq!((ack.sequence, ack.batch_size), (2003, 3));
        let none = context.fast_publish().build()?.close().await;
        assert_eq!(none.err().map(|error| error.kind()), Some(FastPublishErrorKind::EmptyBatch));

        // What is refused in its middle ends one that allows no gaps, and leaves a hole in one that does.
        for (mode, taken) in [(GapMode::Fail, 2), (GapMode::Ok, 3)] {
            let told = Arc::new(Mutex::new(Vec::new()));
            let tell = Arc::clone(&told);
            let mut holed = context
                .fast_publish()
                .flow(10)
                .gap_mode(mode)
                .on_error(move |error| tell.lock().expect("a lock").push(error.kind()))
                .build()?;
            let before = state(context, "F").await?.0;
            for (at, expect) in ["", "", "OTHER", ""].into_iter().enumerate() {
                let headers: &[(&str, &str)] =
                    if expect.is_empty() { &[] } else { &[("Nats-Expected-Stream", expect)] };
                // The publisher learns of the refusal with one of the messages behind it.
                let added = holed.add_message(message("f.hole".into(), at.to_string(), headers)).await;
                ensure!(added.is_ok() || mode == GapMode::Fail, "{added:?}");
            }
            let end = holed.close().await;
            ensure!(end.is_ok() || mode == GapMode::Fail, "{end:?}");
            ensure!(!told.lock().expect("a lock").is_empty(), "nothing was told of the refusal");
            assert_eq!(state(context, "F").await?.0 - before, taken, "{mode:?}");
        }

        made(context, json!({"name": "NONE", "subjects": ["none"]})).await?;
        let none = context.fast_publish().build()?.add("none", "x".into()).await;
        assert_eq!(none.err().map(|error| error.kind()), Some(FastPublishErrorKind::NotEnabled));
        Ok(())
    })
    .await
}
