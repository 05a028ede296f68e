"""Key-value and object buckets in every operation of nats-py: buckets_whole.py URL. Prints a line per step that went well; a stock server says the same."""

import asyncio
import io
import sys

import nats
from nats.js.api import (
    KeyValueConfig,
    ObjectMeta,
    ObjectMetaOptions,
    ObjectStoreConfig,
    RePublish,
    StorageType,
    StoreCompression,
    StreamConfig,
    StreamSource,
    SubjectTransform,
)
from nats.js.errors import (
    APIError,
    BucketNotFoundError,
    KeyNotFoundError,
    KeyWrongLastSequenceError,
    NoKeysError,
    ObjectNotFoundError,
)


async def history(kv, key):
    # The client takes a watch for empty when everything was delivered before it asks how much there is: on a slow machine now and then.
    for _ in range(10):
        try:
            return await kv.history(key)
        except NoKeysError:
            await asyncio.sleep(0.1)
    return await kv.history(key)


async def raises(call, kind) -> None:
    try:
        got = await call
    except kind:
        return
    raise AssertionError(f"no {kind}: {got}")


async def seen(watcher, count) -> list:
    """So many updates, without the marks that a watcher has caught up."""
    got = []
    while len(got) < count:
        update = await watcher.updates(timeout=10)
        if update is not None:
            got.append((update.key, update.value, update.operation))
    return got


async def values(js) -> None:
    config = KeyValueConfig(
        bucket="B", history=3, max_value_size=200, max_bytes=100_000, description="some", storage=StorageType.FILE, ttl=3600,
    )  # fmt: skip
    kv = await js.create_key_value(config)
    assert [await kv.put("a.1", b"1"), await kv.create("a.2", b"2")] == [1, 2]
    await raises(kv.create("a.2", b"x"), KeyWrongLastSequenceError)
    await raises(kv.update("a.1", b"x", last=9), KeyWrongLastSequenceError)
    assert await kv.update("a.1", b"3", last=1) == 3
    await raises(kv.put("a.1", b"x" * 201), APIError)
    entry, first = await kv.get("a.1"), await kv.get("a.1", revision=1)
    assert (entry.value, entry.revision, first.value) == (b"3", 3, b"1"), (entry, first)
    await raises(kv.get("none"), KeyNotFoundError)
    await raises(kv.get("a.1", revision=2), KeyNotFoundError)
    await kv.delete("a.2")
    await raises(kv.get("a.2"), KeyNotFoundError)
    assert await kv.create("a.2", b"again") == 5
    assert [entry.operation for entry in await history(kv, "a.2")] == [None, "DEL", None]
    await raises(kv.delete("a.2", last=1), APIError)
    for number in range(5):
        await kv.put("a.3", b"%d" % number)
    assert [entry.value for entry in await history(kv, "a.3")] == [b"2", b"3", b"4"]
    await kv.purge("a.3")
    assert [entry.operation for entry in await history(kv, "a.3")] == ["PURGE"]
    assert sorted(await kv.keys()) == ["a.1", "a.2"] and await kv.keys(filters=["a.2"]) == ["a.2"]
    await kv.purge_deletes(olderthan=0)
    status = await kv.status()
    assert (status.history, status.ttl, status.values) == (3, 3600, 5), status
    await raises(js.key_value("NONE"), BucketNotFoundError)
    empty = await js.create_key_value(bucket="EMPTY")
    await raises(empty.keys(), NoKeysError)
    assert await js.delete_key_value("EMPTY")
    await raises(js.key_value("EMPTY"), BucketNotFoundError)
    print("values")


async def watched(js) -> None:
    kv = await js.create_key_value(bucket="W", history=5)
    for key, value in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        await kv.put(key, value)
    await kv.delete("b")
    everything = await kv.watchall(include_history=True)
    last = await kv.watchall()
    present = await kv.watchall(ignore_deletes=True)
    one = await kv.watch("a", meta_only=True)
    assert await seen(everything, 4) == [("a", b"1", None), ("b", b"2", None), ("a", b"3", None), ("b", b"", "DEL")]
    assert await seen(last, 2) == [("a", b"3", None), ("b", b"", "DEL")]
    assert await seen(present, 1) == [("a", b"3", None)]
    update = await one.updates(timeout=10)
    assert (update.key, update.value) == ("a", b""), update
    await kv.put("b", b"4")
    await kv.purge("a")
    for watcher in (everything, last):
        assert await seen(watcher, 2) == [("b", b"4", None), ("a", b"", "PURGE")]
    assert await seen(present, 1) == [("b", b"4", None)]
    for watcher in (everything, last, present, one):
        await watcher.stop()
    print("watched")


async def lives(js) -> None:
    """A life time per key, and markers where a limit removed something."""
    kv = await js.create_key_value(config=KeyValueConfig(bucket="L", limit_marker_ttl=1, history=2))
    await kv.create("short", b"x", msg_ttl=1)
    await kv.put("long", b"y")
    await kv.put("purged", b"z")
    await kv.purge("purged", msg_ttl=1)
    watcher = await kv.watchall()
    assert await seen(watcher, 3) == [("short", b"x", None), ("long", b"y", None), ("purged", b"", "PURGE")]
    gone = await watcher.updates(timeout=10)
    while gone is None:
        gone = await watcher.updates(timeout=10)
    assert (gone.key, gone.value) == ("short", b""), gone
    await watcher.stop()
    # The library takes the marker of a limit for an empty value.
    assert not (await kv.get("short")).value
    marker = await js.get_last_msg("KV_L", "$KV.L.short")
    assert marker.headers["Nats-Marker-Reason"] == "MaxAge", marker
    assert (await kv.status()).marker_ttl == 1
    print("lives")


async def told(js) -> None:
    """Republished values; a bucket that is compressed, in memory, or limited."""
    heard = await js._nc.subscribe("heard.>")
    config = KeyValueConfig(bucket="R", republish=RePublish(src=">", dest="heard.>"), storage=StorageType.MEMORY, max_bytes=200)
    kv = await js.create_key_value(config)
    await kv.put("k", b"v")
    message = await heard.next_msg(timeout=10)
    assert (message.subject, message.data) == ("heard.$KV.R.k", b"v"), message
    await raises(kv.put("large", b"x" * 200), APIError)
    assert (await kv.get("k")).value == b"v"
    stream = StreamConfig(
        name="KV_Z", subjects=["$KV.Z.>"], compression=StoreCompression.S2, max_msgs_per_subject=1, allow_direct=True,
        allow_rollup_hdrs=True, deny_delete=True, discard="new", metadata={"a": "b"},
    )  # fmt: skip
    info = await js.add_stream(stream)
    assert info.config.compression == StoreCompression.S2, info
    kv = await js.key_value("Z")
    await kv.put("k", b"v" * 1000)
    assert (await kv.get("k")).value == b"v" * 1000
    print("told")


async def copies(js) -> None:
    """A bucket that mirrors another, and one that gathers several."""
    for name, value in (("ONE", b"1"), ("TWO", b"2")):
        kv = await js.create_key_value(bucket=name)
        await kv.put(f"k.{name}", value)
    common = {"max_msgs_per_subject": 1, "allow_direct": True, "allow_rollup_hdrs": True, "deny_delete": True}
    await js.add_stream(StreamConfig(name="KV_MIRROR", mirror=StreamSource(name="KV_ONE"), mirror_direct=True, **common))
    sources = [
        StreamSource(name=f"KV_{name}", subject_transforms=[SubjectTransform(src=f"$KV.{name}.>", dest="$KV.SUM.>")])
        for name in ("ONE", "TWO")
    ]
    await js.add_stream(StreamConfig(name="KV_SUM", subjects=["$KV.SUM.>"], sources=sources, **common))
    for name, messages in (("KV_MIRROR", 1), ("KV_SUM", 2)):
        for _ in range(200):
            if (await js.stream_info(name)).state.messages == messages:
                break
            await asyncio.sleep(0.02)
    total = await js.key_value("SUM")
    assert sorted(await total.keys()) == ["k.ONE", "k.TWO"], await total.keys()
    assert (await total.get("k.TWO")).value == b"2"
    got = await js.get_msg("KV_MIRROR", subject="$KV.ONE.k.ONE", direct=True)
    assert got.data == b"1", got
    print("copies")


async def objects(js) -> None:
    store = await js.create_object_store("O", config=ObjectStoreConfig(bucket="O", description="objects", max_bytes=10_000_000))
    large = bytes(range(256)) * 2000
    info = await store.put("large", large, meta=ObjectMeta(name="large", description="much", options=ObjectMetaOptions(max_chunk_size=1000)))
    assert (info.size, info.chunks) == (512_000, 512), info
    assert (await store.get("large")).data == large
    await store.put("empty", b"")
    assert (await store.get("empty")).data in (b"", None)
    await store.put("file", io.BytesIO(b"from a file"))
    target = io.BytesIO()
    await store.get("file", writeinto=target)
    assert target.getvalue() == b"from a file"
    await store.put("file", b"again")
    again = await store.get("file")
    assert again.data == b"again" and again.info.digest.startswith("SHA-256="), again.info
    watcher = await store.watch()
    names = []
    while len(names) < 3:
        update = await watcher.updates(timeout=10)
        if update is not None:
            names.append(update.name)
    assert sorted(names) == ["empty", "file", "large"], names
    await store.update_meta("file", ObjectMeta(name="file", description="better", headers={"A": "b"}))
    changed = await store.get_info("file")
    assert (changed.description, changed.headers, changed.digest) == ("better", {"A": "b"}, again.info.digest), changed
    while (update := await watcher.updates(timeout=10)) is None or update.description != "better":
        pass
    await watcher.stop()
    await store.delete("large")
    await raises(store.get("large"), ObjectNotFoundError)
    listed = sorted(info.name for info in await store.list(ignore_deletes=True))
    assert listed == ["empty", "file"], listed
    status = await store.status()
    assert (status.bucket, status.description, status.sealed) == ("O", "objects", False), status
    assert 0 < status.size < 10_000, status
    await store.seal()
    assert (await store.status()).sealed
    await raises(store.put("more", b"x"), APIError)
    assert await js.delete_object_store("O")
    await raises(js.object_store("O"), BucketNotFoundError)
    print("objects")


STEPS = (values, watched, lives, told, copies, objects)


async def main(url: str) -> None:
    client = await nats.connect(url, connect_timeout=10)
    js = client.jetstream(timeout=10)
    for step in STEPS:
        await step(js)
    await client.close()


asyncio.run(main(sys.argv[1]))
