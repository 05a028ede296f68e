"""Work queues, interest and memory streams by nats-py: edge_queues.py URL. Prints a line per step that went well."""

import asyncio
import sys

import nats
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType
from nats.js.errors import APIError


async def refused(call, code) -> None:
    try:
        await call
    except APIError as error:
        assert error.err_code == code, error
    else:
        raise AssertionError(f"not refused with {code}")


async def left(js, stream) -> list:
    info = await js.stream_info(stream)
    return [info.state.messages, info.state.first_seq, info.state.last_seq]


async def work_queue(js) -> None:
    """Two workers share a queue, a third one has a subject of its own."""
    info = await js.add_stream(name="WORK", subjects=["work.>"], retention=RetentionPolicy.WORK_QUEUE)
    assert info.config.retention == RetentionPolicy.WORK_QUEUE, info
    for number in range(40):
        await js.publish("work.a" if number % 4 else "work.b", b"%d" % number)
    config = ConsumerConfig(filter_subject="work.a", ack_policy=AckPolicy.EXPLICIT)
    workers = [await js.pull_subscribe("work.a", durable="a", config=config) for _ in range(2)]
    other = await js.pull_subscribe("work.b", durable="b")
    await refused(js.add_consumer("WORK", ConsumerConfig(durable_name="all", ack_policy=AckPolicy.EXPLICIT)), 10099)
    done = []

    async def work(worker, count) -> None:
        for message in await worker.fetch(count, timeout=10):
            done.append(int(message.data))
            await message.ack_sync(timeout=10)

    await asyncio.gather(work(workers[0], 15), work(workers[1], 15))
    assert sorted(done) == [number for number in range(40) if number % 4], done
    assert (await left(js, "WORK"))[0] == 10
    await work(other, 10)
    assert await left(js, "WORK") == [0, 41, 40], await left(js, "WORK")
    print("work queue")


async def interest(js) -> None:
    await js.add_stream(name="NEWS", subjects=["news"], retention=RetentionPolicy.INTEREST)
    ack = await js.publish("news", b"nobody listens")
    assert ack.seq == 1 and await left(js, "NEWS") == [0, 2, 1], await left(js, "NEWS")
    readers = [await js.pull_subscribe("news", durable=name) for name in ("one", "two")]
    for _ in range(3):
        await js.publish("news", b"x")
    for reader, expected in zip(readers, (3, 0)):
        for message in await reader.fetch(3, timeout=10):
            await message.ack_sync(timeout=10)
        assert (await left(js, "NEWS"))[0] == expected
    print("interest")


async def memory(js) -> None:
    info = await js.add_stream(name="MEM", subjects=["mem"], storage=StorageType.MEMORY)
    assert info.config.storage == StorageType.MEMORY, info
    await js.publish("mem", b"12345")
    account = await js.account_info()
    assert account.memory == len("mem") + 5 + 16, account
    subscription = await js.pull_subscribe("mem", durable="reader")
    (message,) = await subscription.fetch(1, timeout=10)
    await message.ack_sync(timeout=10)
    await js.delete_stream("MEM")
    assert (await js.account_info()).memory == 0
    print("memory")


async def main() -> None:
    client = await nats.connect(sys.argv[1], connect_timeout=10)
    js = client.jetstream(timeout=10)
    await work_queue(js)
    await interest(js)
    await memory(js)
    await client.close()


asyncio.run(main())
