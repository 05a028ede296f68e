//! The official Rust client against the gateway: core messages, streams, pull consumers.

use std::future::IntoFuture;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{self, AckKind, stream};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt;
use harness::{Gateway, Server};

/// For one answer; a busy machine needs a part of it.
const LIMIT: Duration = Duration::from_secs(20);

async fn connected(gateway: &Server) -> Result<Client> {
    Ok(async_nats::connect(gateway.url()).await?)
}

async fn within<T>(future: impl IntoFuture<Output = T>) -> Result<T> {
    tokio::time::timeout(LIMIT, future.into_future()).await.context("no answer in time")
}

/// Waits until the server has handled what the client sent; its flush only empties its own buffer.
async fn settled(client: &Client) -> Result<()> {
    let answer = within(client.request("nobody.is.here", "".into())).await?;
    ensure!(answer.is_err(), "somebody answered: {answer:?}");
    Ok(())
}

async fn stream_of_ten(gateway: &Server) -> Result<(jetstream::Context, stream::Stream)> {
    let jetstream = jetstream::new(connected(gateway).await?);
    let config = stream::Config { name: "S".into(), subjects: vec!["s.>".into()], ..Default::default() };
    let stream = jetstream.create_stream(config).await?;
    for number in 1..=10_u64 {
        let ack = within(jetstream.publish(format!("s.{}", number % 2), format!("m{number}").into()).await?).await??;
        assert_eq!((ack.stream.as_str(), ack.sequence, ack.duplicate), ("S", number, false));
    }
    Ok((jetstream, stream))
}

#[tokio::test]
async fn a_mirror_and_a_source_of_a_stream() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let (jetstream, _) = stream_of_ten(&gateway).await?;
    let origin = || stream::Source { name: "S".into(), ..Default::default() };
    let filtered = stream::Source { filter_subject: Some("s.1".into()), ..origin() };
    let mirror = stream::Config { name: "MIR".into(), mirror: Some(origin()), ..Default::default() };
    let sourcing = stream::Config { name: "ODD".into(), sources: Some(vec![filtered]), ..Default::default() };
    for (config, messages) in [(mirror, 10), (sourcing, 5)] {
        let mut stream = jetstream.create_stream(config).await?;
        let filled = async {
            while stream.info().await?.state.messages < messages {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        within(filled).await??;
        let info = stream.info().await?;
        let origin = info.mirror.as_ref().or(info.sources.first()).context("no origin is shown")?;
        assert_eq!((info.state.messages, origin.name.as_str(), origin.lag), (messages, "S", 0));
        let last = stream.get_last_raw_message_by_subject("s.1").await?;
        assert_eq!(&last.payload[..], b"m9");
    }
    Ok(())
}

#[tokio::test]
async fn messages_headers_and_wildcards() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let (publisher, subscriber) = (connected(&gateway).await?, connected(&gateway).await?);
    let mut received = subscriber.subscribe("room.*.temperature").await?;
    settled(&subscriber).await?;
    let mut headers = HeaderMap::new();
    headers.append("Unit", "C");
    headers.append("Unit", "F");
    publisher.publish("room.1.humidity", "no".into()).await?;
    publisher.publish_with_headers("room.1.temperature", headers, "21".into()).await?;
    publisher.flush().await?;
    let message = within(received.next()).await?.context("the subscription ended")?;
    assert_eq!((message.subject.as_str(), &message.payload[..]), ("room.1.temperature", &b"21"[..]));
    let headers = message.headers.context("no headers")?;
    let units: Vec<&str> = headers.get_all("Unit").map(async_nats::HeaderValue::as_str).collect();
    assert_eq!(units, ["C", "F"]);
    Ok(())
}

#[tokio::test]
async fn requests_are_answered_or_have_no_responders() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let client = connected(&gateway).await?;
    let mut requests = client.subscribe("echo").await?;
    client.flush().await?;
    let service = client.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply {
                let _ = service.publish(reply, request.payload).await;
            }
        }
    });
    let answer = within(client.request("echo", "hello".into())).await??;
    assert_eq!(&answer.payload[..], b"hello");
    let error = within(client.request("nobody", "hello".into())).await?.unwrap_err();
    assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders);
    Ok(())
}

#[tokio::test]
async fn a_queue_group_shares_what_comes() -> Result<()> {
    const MESSAGES: usize = 200;
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let (publisher, member) = (connected(&gateway).await?, connected(&gateway).await?);
    let first = member.queue_subscribe("work", "group".into()).await?;
    let second = publisher.queue_subscribe("work", "group".into()).await?;
    settled(&member).await?;
    settled(&publisher).await?;
    for number in 0..MESSAGES {
        publisher.publish("work", number.to_string().into()).await?;
    }
    let mut both = futures_util::stream::select(first.map(|message| (1, message)), second.map(|message| (2, message)));
    let mut seen = Vec::new();
    let mut shares = [0, 0];
    while seen.len() < MESSAGES {
        let (who, message) = within(both.next()).await?.context("a subscription ended")?;
        shares[who - 1] += 1;
        seen.push(std::str::from_utf8(&message.payload)?.parse::<usize>()?);
    }
    seen.sort_unstable();
    ensure!(seen.iter().copied().eq(0..MESSAGES), "not each message once: {seen:?}");
    ensure!(shares.iter().all(|share| *share > 0), "one member got everything: {shares:?}");
    Ok(())
}

#[tokio::test]
async fn a_stream_is_created_read_purged_and_deleted() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let (jetstream, mut stream) = stream_of_ten(&gateway).await?;
    let message = stream.get_raw_message(3).await?;
    assert_eq!((message.subject.as_str(), &message.payload[..]), ("s.1", &b"m3"[..]));
    assert_eq!(stream.get_last_raw_message_by_subject("s.0").await?.sequence, 10);
    ensure!(stream.delete_message(4).await?);
    ensure!(stream.get_raw_message(4).await.is_err(), "a deleted message was read");
    let state = stream.info().await?.state.clone();
    assert_eq!((state.messages, state.first_sequence, state.last_sequence), (9, 1, 10));
    assert_eq!(stream.purge().filter("s.1").await?.purged, 5);
    assert_eq!(stream.purge().await?.purged, 4);
    assert_eq!(stream.info().await?.state.last_sequence, 10);
    jetstream.delete_stream("S").await?;
    let error = jetstream.get_stream("S").await.unwrap_err().to_string();
    ensure!(error.contains("10059") || error.contains("stream not found"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_repeated_message_id_is_a_duplicate() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let (jetstream, _) = stream_of_ten(&gateway).await?;
    for duplicate in [false, true] {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Msg-Id", "once");
        let ack = within(jetstream.publish_with_headers("s.id", headers, "x".into()).await?).await??;
        assert_eq!((ack.sequence, ack.duplicate), (11, duplicate));
    }
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Sequence", "7");
    let error = within(jetstream.publish_with_headers("s.id", headers, "x".into()).await?).await?.unwrap_err();
    assert_eq!(error.kind(), jetstream::context::PublishErrorKind::WrongLastSequence);
    Ok(())
}

#[tokio::test]
async fn a_pull_consumer_is_acked_naked_and_redelivered() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let (_, stream) = stream_of_ten(&gateway).await?;
    let config = pull::Config { durable_name: Some("c".into()), ack_wait: LIMIT, ..Default::default() };
    let mut consumer = stream.create_consumer(config).await?;
    let mut batch = consumer.fetch().max_messages(4).messages().await?;
    let mut sequences = Vec::new();
    while let Some(message) = within(batch.next()).await? {
        let message = message.map_err(anyhow::Error::from_boxed)?;
        let sequence = message.info().map_err(anyhow::Error::from_boxed)?.stream_sequence;
        sequences.push(sequence);
        let acknowledged = match sequence {
            2 => message.ack_with(AckKind::Nak(None)).await,
            3 => message.ack_with(AckKind::Term).await,
            _ => message.double_ack().await,
        };
        acknowledged.map_err(anyhow::Error::from_boxed)?;
    }
    assert_eq!(sequences, [1, 2, 3, 4]);
    let mut rest = consumer.batch().max_messages(20).expires(Duration::from_secs(1)).messages().await?;
    let mut redelivered = Vec::new();
    while let Some(message) = within(rest.next()).await? {
        let message = message.map_err(anyhow::Error::from_boxed)?;
        let info = message.info().map_err(anyhow::Error::from_boxed)?;
        redelivered.push((info.stream_sequence, info.delivered));
        message.double_ack().await.map_err(anyhow::Error::from_boxed)?;
    }
    redelivered.sort_unstable();
    assert_eq!(redelivered, [(2, 2), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1)]);
    let info = consumer.info().await?;
    assert_eq!((info.ack_floor.stream_sequence, info.num_ack_pending, info.num_pending), (10, 0, 0));
    Ok(())
}

#[tokio::test]
async fn a_consumer_waits_for_what_is_published_later() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let (jetstream, stream) = stream_of_ten(&gateway).await?;
    let config = pull::Config {
        filter_subject: "s.later".into(),
        deliver_policy: jetstream::consumer::DeliverPolicy::New,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut messages = consumer.messages().await?;
    for round in 0..3 {
        within(jetstream.publish("s.later", format!("late {round}").into()).await?).await??;
        let message = within(messages.next()).await?.context("the consumer ended")??;
        assert_eq!(message.payload, format!("late {round}"));
        message.ack().await.map_err(anyhow::Error::from_boxed)?;
    }
    Ok(())
}
