//! Object buckets in every operation.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::object_store;
use futures_util::{StreamExt, TryStreamExt};
use tokio::io::AsyncReadExt;

use super::on_both;

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
        let mut fresh = bucket.watch().await?;
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
        let mut listed: Vec<String> = bucket.list().await?.map_ok(|info| info.name).try_collect().await?;
        listed.sort();
        assert_eq!(listed, ["bucket", "empty", "large", "link", "renamed"]);
        bucket.delete("large").await?;
        let mut told = Vec::new();
        while told.last() != Some(&("large".to_owned(), true)) {
            let info = fresh.next().await.context("the watch ended")??;
            told.push((info.name, info.deleted));
        }
        for name in ["renamed", "link", "bucket"] {
            ensure!(told.contains(&(name.into(), false)), "nothing was told of {name}: {told:?}");
        }
        let mut left: Vec<String> = bucket.list().await?.map_ok(|info| info.name).try_collect().await?;
        left.sort();
        assert_eq!(left, ["bucket", "empty", "link", "renamed"]);
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
