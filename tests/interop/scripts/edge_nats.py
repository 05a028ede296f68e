"""Core messages and JetStream by nats-py: edge_nats.py URL. Prints a line per step that went well."""

import asyncio
import sys

import nats
from nats.errors import NoRespondersError
from nats.js.api import ConsumerConfig
from nats.js.errors import NotFoundError


async def core(client) -> None:
    async def echo(message):
        await message.respond(message.data + b"!")

    await client.subscribe("echo", queue="q", cb=echo)
    answer = await client.request("echo", b"hello", timeout=10)
    assert answer.data == b"hello!", answer
    try:
        await client.request("nobody", b"", timeout=10)
        raise AssertionError("somebody answered")
    except NoRespondersError:
        pass
    subscription = await client.subscribe("head.*")
    await client.publish("head.er", b"body", headers={"Unit": "C"})
    message = await subscription.next_msg(timeout=10)
    assert (message.data, message.headers) == (b"body", {"Unit": "C"}), message
    print("core")


async def stream(js) -> None:
    await js.add_stream(name="PY", subjects=["py.>"])
    for number in range(1, 21):
        ack = await js.publish("py.a", b"%d" % number)
        assert (ack.stream, ack.seq) == ("PY", number), ack
    ids = [await js.publish("py.b", b"once", headers={"Nats-Msg-Id": "1"}) for _ in range(2)]
    assert [(ack.seq, bool(ack.duplicate)) for ack in ids] == [(21, False), (21, True)], ids
    message = await js.get_msg("PY", 7)
    assert (message.subject, message.data) == ("py.a", b"7"), message
    info = await js.stream_info("PY")
    assert (info.state.messages, info.state.last_seq) == (21, 21), info
    print("stream")


async def consumer(js) -> None:
    config = ConsumerConfig(max_deliver=3, ack_wait=30)
    subscription = await js.pull_subscribe("py.a", durable="pull", config=config)
    first = await subscription.fetch(5, timeout=10)
    assert [message.data for message in first] == [b"1", b"2", b"3", b"4", b"5"], first
    await first[0].nak()
    for message in first[1:]:
        await message.ack_sync(timeout=10)
    seen = []
    while len(seen) < 16:
        for message in await subscription.fetch(20, timeout=5):
            seen.append(message.metadata.sequence.stream)
            await message.ack_sync(timeout=10)
    assert sorted(seen) == [1] + list(range(6, 21)), seen
    info = await js.consumer_info("PY", "pull")
    assert (info.num_pending, info.num_ack_pending, info.ack_floor.consumer_seq) == (0, 0, 21), info
    print("consumer")


async def remove(js) -> None:
    assert await js.purge_stream("PY", subject="py.a")
    assert (await js.stream_info("PY")).state.messages == 1
    assert await js.delete_consumer("PY", "pull")
    assert await js.delete_stream("PY")
    try:
        await js.stream_info("PY")
        raise AssertionError("the stream is still there")
    except NotFoundError:
        pass
    print("removed")


async def main(url: str) -> None:
    client = await nats.connect(url)
    js = client.jetstream()
    await core(client)
    await stream(js)
    await consumer(js)
    await remove(js)
    await client.drain()


asyncio.run(main(sys.argv[1]))
