//! What streams, consumers, buckets and services can be told to do, by the official Rust client, against the gateway and against stock nats-server:
//! both tell the same story.

mod batches;
mod buckets;
mod consumers;
mod services;
mod streams;
mod values;

use std::future::IntoFuture;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use async_nats::HeaderMap;
use async_nats::jetstream::context::PublishError;
use async_nats::jetstream::publish::PublishAck;
use async_nats::jetstream::stream::Stream;
use async_nats::jetstream::{self, stream};
use harness::peers::{self, Peer};
use harness::{Gateway, StockHub};

/// For a whole story; a busy machine needs a part of it.
const LIMIT: Duration = Duration::from_secs(60);

const CONFIGURATION: &str = r#"
server_name: same
listen: "127.0.0.1:<nats>"
jetstream { store_dir: "<dir>/store", max_file_store: 256MB, max_memory_store: 64MB }
"#;

async fn on_both(story: impl AsyncFn(&jetstream::Context) -> Result<()>) -> Result<()> {
    on_both_as(async |url| story(&jetstream::new(async_nats::connect(url).await?)).await).await
}

/// The same for who connects by itself.
async fn on_both_as(story: impl AsyncFn(String) -> Result<()>) -> Result<()> {
    if !peers::available(Peer::NatsServer) {
        return Ok(());
    }
    let (gateway, stock) = (Gateway::start(CONFIGURATION)?, StockHub::start(CONFIGURATION)?);
    let tell = async |url: String| tokio::time::timeout(LIMIT, story(url)).await?;
    // Boxed: these futures are large.
    let (ours, stocks) = tokio::join!(Box::pin(tell(gateway.url())), Box::pin(tell(stock.url())));
    // Neither hides the other: a story that is wrong fails on both.
    match (ours, stocks) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(ours), Ok(())) => Err(ours.context("ours")),
        (Ok(()), Err(stock)) => Err(stock.context("stock")),
        (Err(ours), Err(stock)) => bail!("both\nours:  {ours:?}\nstock: {stock:?}"),
    }
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
