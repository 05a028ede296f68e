//! Key-value and object buckets in every operation.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::kv::{self, Operation};
use async_nats::jetstream::object_store;
use async_nats::jetstream::stream::{Republish, Source};
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncReadExt;

use super::{on_both, refused, until};

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
        let mut later = bucket.watch_all_from_revision(6).await?;
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
        context.create_key_value(mirror).await?;
        let gathered = kv::Config { bucket: "G".into(), sources: Some(vec![source("B")]), ..Default::default() };
        context.create_key_value(gathered).await?;
        for copy in ["KV_M", "KV_G"] {
            let copy = context.get_stream(copy).await?;
            until(async || Ok(copy.get_info().await?.state.subjects_count >= 3)).await?;
        }
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
