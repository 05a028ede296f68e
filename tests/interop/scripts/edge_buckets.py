"""Key-value and object buckets by nats-py: edge_buckets.py URL. Prints a line per step that went well."""

import asyncio
import hashlib
import sys

import nats
from nats.js.api import RePublish
from nats.js.errors import APIError, BucketNotFoundError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.errors import NoKeysError, ObjectNotFoundError


async def values(js) -> None:
    kv = await js.create_key_value(bucket="B", history=5, ttl=3600, max_bytes=1 << 20)
    assert await kv.put("a", b"1") == 1
    assert await kv.create("b", b"2") == 2
    for attempt in (kv.create("b", b"x"), kv.update("a", b"x", last=7)):
        try:
            await attempt
            raise AssertionError("another revision was overwritten")
        except KeyWrongLastSequenceError:
            pass
    assert await kv.update("a", b"3", last=1) == 3
    entry = await kv.get("a")
    assert (entry.value, entry.revision) == (b"3", 3), entry
    assert (await kv.get("a", revision=1)).value == b"1"
    await kv.delete("b")
    try:
        await kv.get("b")
        raise AssertionError("a deleted key was found")
    except KeyNotFoundError:
        pass
    assert await kv.create("b", b"4") == 5
    history = [(entry.revision, entry.operation) for entry in await kv.history("b")]
    assert history == [(2, None), (4, "DEL"), (5, None)], history
    assert sorted(await kv.keys()) == ["a", "b"]
    await kv.create("short", b"lived", msg_ttl=1)
    await asyncio.sleep(1.5)
    assert sorted(await kv.keys()) == ["a", "b"]
    await kv.purge("b")
    assert [(entry.revision, entry.operation) for entry in await kv.history("b")] == [(7, "PURGE")]
    assert await kv.keys() == ["a"]
    await kv.purge_deletes(olderthan=-1)
    try:
        await kv.history("b")
        raise AssertionError("a purged key has a history")
    except NoKeysError:
        pass
    status = await kv.status()
    assert (status.values, status.history, status.ttl) == (2, 5, 3600), status
    print("values")


async def watch(js) -> None:
    kv = await js.key_value("B")
    watcher = await kv.watchall()
    assert (await watcher.updates()).value == b"3"
    assert await watcher.updates() is None
    one = await kv.watch("c.*", include_history=True)
    assert await one.updates() is None
    for number in range(300):
        await kv.put("c.%d" % (number % 2), b"%d" % number)
    for number in range(300):
        assert (await watcher.updates()).value == b"%d" % number
        assert (await one.updates()).value == b"%d" % number
    await one.stop()
    living = await kv.watchall(ignore_deletes=True)
    await kv.delete("c.0")
    await kv.put("c.2", b"last")
    seen = []
    while not seen or seen[-1] != "c.2":
        entry = await living.updates()
        seen += [entry.key] if entry else []
    assert "a" in seen and seen.count("c.0") <= 1, seen
    await living.stop()
    await watcher.stop()
    await js.delete_key_value("B")
    try:
        await js.key_value("B")
        raise AssertionError("a removed bucket was found")
    except BucketNotFoundError:
        pass
    print("watch")


async def republished(client, js) -> None:
    kv = await js.create_key_value(bucket="R", direct=True, republish=RePublish(src=">", dest="told.>"))
    subscription = await client.subscribe("told.>")
    await client.flush()
    await kv.put("k", b"v")
    message = await subscription.next_msg(timeout=10)
    place = (message.headers["Nats-Stream"], message.headers["Nats-Sequence"], message.headers["Nats-Last-Sequence"])
    assert (message.subject, message.data, place) == ("told.$KV.R.k", b"v", ("KV_R", "1", "0")), message
    assert (await kv.get("k")).value == b"v"
    print("republished")


async def objects(js) -> None:
    store = await js.create_object_store("O")
    data = hashlib.sha256(b"seed").digest() * 20_000
    info = await store.put("large", data)
    assert (info.size, info.chunks) == (640_000, 5), info
    got = await store.get("large")
    assert got.data == data
    await store.put("large", b"small now")
    assert (await store.get("large")).data == b"small now"
    await store.put("other", b"")
    assert sorted(info.name for info in await store.list()) == ["large", "other"]
    watcher = await store.watch()
    names = {(await watcher.updates()).name, (await watcher.updates()).name}
    assert names == {"large", "other"} and await watcher.updates() is None, names
    await store.put("third", b"3")
    assert (await watcher.updates()).name == "third"
    await store.delete("other")
    assert (await watcher.updates()).deleted
    await watcher.stop()
    try:
        await store.get_info("other")
        raise AssertionError("a deleted object was found")
    except ObjectNotFoundError:
        pass
    await store.seal()
    assert (await store.status()).sealed
    assert (await store.get("large")).data == b"small now"
    try:
        await store.put("more", b"no")
        raise AssertionError("a sealed bucket took more")
    except APIError as error:
        assert "sealed" in str(error), error
    assert await js.delete_object_store("O")
    print("objects")


async def main(url: str) -> None:
    client = await nats.connect(url)
    js = client.jetstream()
    await values(js)
    await watch(js)
    await republished(client, js)
    await objects(js)
    await client.close()


asyncio.run(main(sys.argv[1]))
