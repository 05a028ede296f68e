//! Key-value buckets in every operation.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream::kv::{self, CreateErrorKind, Entry, Operation, PutErrorKind, UpdateErrorKind, Watch};
use async_nats::jetstream::stream::{Republish, Source, StorageType};
use futures_util::{Stream, StreamExt, TryStreamExt};

use super::{on_both, refused, until};

fn named(bucket: &str) -> kv::Config {
    kv::Config { bucket: bucket.into(), history: 5, ..Default::default() }
}

/// Key, revision, operation, and how many follow that are there already.
type Seen = (String, u64, Operation, u64);

fn seen(entry: Entry) -> Seen {
    (entry.key, entry.revision, entry.operation, entry.delta)
}

async fn history(bucket: &kv::Store, key: &str) -> Result<Vec<(u64, Operation)>> {
    let entries: Vec<_> = bucket.history(key).await?.try_collect().await?;
    Ok(entries.into_iter().map(|entry| (entry.revision, entry.operation)).collect())
}

async fn keys(bucket: &kv::Store) -> Result<Vec<String>> {
    let mut keys: Vec<String> = bucket.keys().await?.try_collect().await?;
    keys.sort();
    Ok(keys)
}

async fn next(watch: &mut (impl Stream<Item = Result<Entry, kv::WatcherError>> + Unpin)) -> Result<Entry> {
    Ok(watch.next().await.context("the watch ended")??)
}

/// So many revisions of a watch, with the operations and how many were to follow.
async fn shows(watch: &mut Watch, many: usize) -> Result<Vec<Seen>> {
    let mut all = Vec::new();
    while all.len() < many {
        all.push(seen(next(watch).await?));
    }
    Ok(all)
}

fn expected(list: &[(&str, u64, Operation, u64)]) -> Vec<Seen> {
    list.iter().map(|(key, revision, operation, delta)| ((*key).to_owned(), *revision, *operation, *delta)).collect()
}

#[tokio::test]
async fn values_in_every_operation() -> Result<()> {
    on_both(async |context| {
        let config = kv::Config {
            max_value_size: 300,
            max_bytes: 1 << 20,
            compression: true,
            max_age: super::LIMIT,
            ..named("B")
        };
        let bucket = context.create_key_value(config.clone()).await?;
        assert_eq!(bucket.put("a", "1".into()).await?, 1);
        assert_eq!(bucket.create("a", "x".into()).await.unwrap_err().kind(), CreateErrorKind::AlreadyExists);
        assert_eq!(bucket.update("a", "x".into(), 7).await.unwrap_err().kind(), UpdateErrorKind::WrongLastRevision);
        assert_eq!(bucket.update("a", "2".into(), 1).await?, 2);
        assert_eq!(bucket.update("new", "3".into(), 0).await?, 3);
        assert_eq!(bucket.put(".a", "x".into()).await.unwrap_err().kind(), PutErrorKind::InvalidKey);
        refused(bucket.put("a", vec![0; 301].into()).await, 10054)?;
        assert_eq!(bucket.get("a").await?.as_deref(), Some(&b"2"[..]));
        assert_eq!((bucket.get("none").await?, bucket.entry("none").await?), (None, None));
        let entry = bucket.entry("a").await?.context("no entry")?;
        assert_eq!((entry.revision, entry.operation, &entry.value[..]), (2, Operation::Put, &b"2"[..]));
        let first = bucket.entry_for_revision("a", 1).await?.context("no first revision")?;
        assert_eq!(&first.value[..], b"1");
        ensure!(bucket.entry_for_revision("a", 3).await?.is_none(), "the revision of another key");

        ensure!(bucket.delete_expect_revision("a", Some(1)).await.is_err(), "deleted over a newer one");
        bucket.delete_expect_revision("a", Some(2)).await?;
        assert_eq!(bucket.get("a").await?, None);
        assert_eq!(bucket.entry("a").await?.map(|entry| entry.operation), Some(Operation::Delete));
        assert_eq!(bucket.create("a", "5".into()).await?, 5);
        assert_eq!(
            history(&bucket, "a").await?,
            [(1, Operation::Put), (2, Operation::Put), (4, Operation::Delete), (5, Operation::Put)]
        );
        bucket.delete("new").await?;
        assert_eq!(keys(&bucket).await?, ["a"]);
        ensure!(bucket.purge_expect_revision("a", Some(1)).await.is_err(), "purged over a newer one");
        bucket.purge_expect_revision("a", Some(5)).await?;
        bucket.purge("new").await?;
        assert_eq!(history(&bucket, "a").await?, [(7, Operation::Purge)]);
        assert_eq!(keys(&bucket).await?, Vec::<String>::new());
        for number in 9..=20_u64 {
            assert_eq!(bucket.put("a/b=c_d.e", number.to_string().into()).await?, number);
        }
        assert_eq!(history(&bucket, "a/b=c_d.e").await?, [16, 17, 18, 19, 20].map(|at| (at, Operation::Put)));

        let status = context.get_key_value("B").await?.status().await?;
        assert_eq!((status.bucket(), status.values(), status.history(), status.max_age()), ("B", 7, 5, super::LIMIT));
        refused(context.create_key_value(kv::Config { history: 3, ..config.clone() }).await, 10058)?;
        context.update_key_value(kv::Config { history: 2, description: "less".into(), ..config }).await?;
        assert_eq!(context.get_key_value("B").await?.status().await?.values(), 4);
        context.create_or_update_key_value(kv::Config { storage: StorageType::Memory, ..named("C") }).await?;
        context
            .create_or_update_key_value(kv::Config { storage: StorageType::Memory, history: 9, ..named("C") })
            .await?;
        assert_eq!(context.get_key_value("C").await?.status().await?.history(), 9);
        ensure!(context.create_key_value(kv::Config { history: 65, ..named("D") }).await.is_err(), "much history");
        ensure!(context.create_key_value(named("D.E")).await.is_err(), "a bucket of that name");
        for name in ["B", "C"] {
            context.delete_key_value(name).await?;
            ensure!(context.get_key_value(name).await.is_err(), "a removed bucket was found");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn values_are_watched() -> Result<()> {
    on_both(async |context| {
        let bucket = context.create_key_value(named("W")).await?;
        for (key, value) in [("a.1", "1"), ("b", "2"), ("a.1", "3"), ("a.2", "4")] {
            bucket.put(key, value.into()).await?;
        }
        bucket.delete("b").await?;
        let (put, delete) = (Operation::Put, Operation::Delete);

        let mut whole = bucket.watch_with_history("a.*").await?;
        let mut each = bucket.watch_all_from_revision(2).await?;
        let mut later = bucket.watch_from_revision("a.1", 3).await?;
        // This client's `watch_many_with_history` asks for the last message of each subject (`DeliverPolicy::LastPerSubject`, 0.51), as
        // `watch_with_history` does: whoever waits for older ones waits for ever, whichever server it is.
        let mut many = bucket.watch_many_with_history(["a.1", "b"]).await?;
        assert_eq!(shows(&mut whole, 2).await?, expected(&[("a.1", 3, put, 1), ("a.2", 4, put, 0)]));
        assert_eq!(
            shows(&mut each, 4).await?,
            expected(&[("b", 2, put, 3), ("a.1", 3, put, 2), ("a.2", 4, put, 1), ("b", 5, delete, 0)])
        );
        assert_eq!(shows(&mut later, 1).await?, expected(&[("a.1", 3, put, 0)]));
        assert_eq!(shows(&mut many, 2).await?, expected(&[("a.1", 3, put, 1), ("b", 5, delete, 0)]));

        let mut all = bucket.watch_all().await?;
        let mut one = bucket.watch("a.1").await?;
        let mut two = bucket.watch_many(["a.2", "b"]).await?;
        bucket.put("a.1", "6".into()).await?;
        bucket.purge("a.2").await?;
        let changes = expected(&[("a.1", 6, put, 0), ("a.2", 7, Operation::Purge, 0)]);
        for watch in [&mut all, &mut whole, &mut each] {
            // Those who are told late are told that more follows.
            let told =
                shows(watch, 2).await?.into_iter().map(|(key, revision, operation, _)| (key, revision, operation, 0));
            assert_eq!(told.collect::<Vec<_>>(), changes);
        }
        for watch in [&mut one, &mut later, &mut many] {
            assert_eq!(shows(watch, 1).await?, changes[..1]);
        }
        assert_eq!(shows(&mut two, 1).await?, changes[1..]);

        let mut filling = bucket.watch_all().await?;
        for number in 8..=300_u64 {
            bucket.put(format!("c.{}", number % 7), number.to_string().into()).await?;
        }
        for number in 8..=300_u64 {
            let entry = next(&mut filling).await?;
            assert_eq!((entry.revision, &entry.value[..]), (number, number.to_string().as_bytes()));
        }
        let mut fresh = bucket.watch_with_history(">").await?;
        let mut current = Vec::new();
        while current.last() != Some(&true) {
            current.push(next(&mut fresh).await?.seen_current);
        }
        assert_eq!(current.len(), 10);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn values_live_for_a_time() -> Result<()> {
    on_both(async |context| {
        // No life is shorter than that of markers.
        let second = Duration::from_secs(1);
        let bucket = context.create_key_value(kv::Config { limit_markers: Some(second), ..named("L") }).await?;
        let mut watch = bucket.watch_all().await?;
        // Long enough that the others come before it ends.
        assert_eq!(bucket.create_with_ttl("short", "x".into(), 3 * second).await?, 1);
        bucket.put("long", "y".into()).await?;
        bucket.put("purged", "z".into()).await?;
        bucket.purge_with_ttl("purged", second).await?;
        bucket.put("other", "z".into()).await?;
        ensure!(bucket.purge_expect_revision_with_ttl("other", 3, second).await.is_err(), "purged over a newer one");
        bucket.purge_expect_revision_with_ttl("other", 5, second * 60).await?;
        let mut told = Vec::new();
        while told.last() != Some(&("short".to_owned(), Operation::Purge)) {
            let entry = next(&mut watch).await?;
            told.push((entry.key, entry.operation));
        }
        for (key, operation) in [
            ("short", Operation::Put),
            ("long", Operation::Put),
            ("purged", Operation::Purge),
            ("other", Operation::Purge),
        ] {
            ensure!(told.contains(&(key.to_owned(), operation)), "{key}: {told:?}");
        }
        // The markers go as well.
        for key in ["purged", "short"] {
            until(async || Ok(bucket.entry(key).await?.is_none())).await?;
        }
        assert_eq!(history(&bucket, "other").await?, [(6, Operation::Purge)]);
        assert_eq!(keys(&bucket).await?, ["long"]);
        assert_eq!(bucket.create("short", "again".into()).await?, 8);
        let plain = context.create_key_value(named("PLAIN")).await?;
        refused(plain.create_with_ttl("a", "x".into(), second).await, 10166)
    })
    .await
}

#[tokio::test]
async fn values_are_told_mirrored_and_gathered() -> Result<()> {
    on_both(async |context| {
        let mut heard = context.client().subscribe("heard.>").await?;
        let republish = Republish { source: ">".into(), destination: "heard.>".into(), headers_only: true };
        let origin = context.create_key_value(kv::Config { republish: Some(republish), ..named("O") }).await?;
        origin.put("a", "1".into()).await?;
        let told = heard.next().await.context("nothing was republished")?;
        assert_eq!((told.subject.as_str(), told.payload.len()), ("heard.$KV.O.a", 0));
        origin.put("a", "2".into()).await?;
        origin.put("b", "3".into()).await?;
        origin.delete("b").await?;

        let source = |name: &str| Source { name: name.into(), ..Default::default() };
        let mirror = kv::Config { mirror: Some(source("O")), mirror_direct: true, ..named("M") };
        let mirror = context.create_key_value(mirror).await?;
        // This client looks for the keys of a mirror, and puts, under the mirror's own name, where there are none, unless the mirror is of another domain.
        let stream = context.get_stream("KV_M").await?;
        until(async || Ok(stream.get_info().await?.state.messages == 4)).await?;
        assert_eq!(stream.direct_get_last_for_subject("$KV.O.a").await?.payload, "2");
        assert_eq!((mirror.get("a").await?, mirror.put("a", "x".into()).await.is_err()), (None, true));
        assert_eq!(origin.put("c", "5".into()).await?, 5);
        until(async || Ok(stream.direct_get_last_for_subject("$KV.O.c").await.is_ok())).await?;
        let status = context.get_key_value("M").await?.status().await?;
        assert_eq!(status.info.config.mirror.map(|mirror| mirror.name).as_deref(), Some("KV_O"));

        context.create_key_value(named("P")).await?.put("d", "x".into()).await?;
        let gathered = kv::Config { sources: Some(vec![source("O"), source("P")]), ..named("G") };
        context.create_key_value(gathered).await?;
        let stream = context.get_stream("KV_G").await?;
        until(async || Ok(stream.get_info().await?.state.messages == 6)).await
    })
    .await
}
