"""What a consumer can be told to do, by nats-py: consumer_kinds.py URL. Prints a line per step that went well; a stock server says the same.

What the library has no field for goes through its plain requests.
"""

import asyncio
import json
import sys
import time
from datetime import datetime, timedelta, timezone

import nats
from nats.errors import TimeoutError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, ReplayPolicy
from nats.js.errors import APIError, NotFoundError


async def refused(call, code) -> None:
    try:
        got = await call
    except APIError as error:
        assert error.err_code == code, error
    else:
        raise AssertionError(f"not refused with {code}: {got}")


async def until(condition) -> None:
    for _ in range(400):
        if await condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("not in time")


async def filled(js, name, count=10, **more) -> None:
    await js.add_stream(name=name, subjects=[f"{name.lower()}.>"], **more)
    for number in range(count):
        await js.publish(f"{name.lower()}.{number % 3}", b"%d" % number, headers={"Number": str(number)})


async def taken(js, stream, count, **config) -> list:
    """The stream's sequences that a new consumer gets."""
    info = await js.add_consumer(stream, ConsumerConfig(ack_policy=AckPolicy.NONE, **config))
    subscription = await js.pull_subscribe_bind(info.name, stream)
    messages = await subscription.fetch(count, timeout=5)
    return [message.metadata.sequence.stream for message in messages]


async def raw(client, stream, consumer, body) -> list:
    """What one request of a consumer is answered with, until it has its batch or is told why not."""
    inbox = client.new_inbox()
    subscription = await client.subscribe(inbox)
    await client.publish(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}", json.dumps(body).encode(), reply=inbox)
    got = []
    while len(got) < body.get("batch", 1):
        message = await subscription.next_msg(timeout=10)
        if message.headers and "Status" in message.headers:
            got.append(f"{message.headers['Status']} {message.headers.get('Description', '')}".strip())
            break
        got.append(message)
    await subscription.unsubscribe()
    return got


async def starts(js) -> None:
    """Every deliver policy, one and several filters."""
    await filled(js, "ST")
    assert await taken(js, "ST", 10) == list(range(1, 11))
    assert await taken(js, "ST", 1, deliver_policy=DeliverPolicy.LAST) == [10]
    of_each = {"deliver_policy": DeliverPolicy.LAST_PER_SUBJECT, "filter_subject": "st.*"}
    assert await taken(js, "ST", 3, **of_each) == [8, 9, 10]
    assert await taken(js, "ST", 3, deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=8) == [8, 9, 10]
    fifth = (await js.get_msg("ST", 5)).time
    moment = fifth.isoformat() if isinstance(fifth, datetime) else fifth
    by_time = {"stream_name": "ST", "config": {"name": "T", "deliver_policy": "by_start_time", "ack_policy": "none"}}
    by_time["config"]["opt_start_time"] = moment.replace("+00:00", "Z")
    answer = json.loads((await js._nc.request("$JS.API.CONSUMER.CREATE.ST.T", json.dumps(by_time).encode(), timeout=10)).data)
    # The library keeps microseconds of the nanoseconds.
    assert answer["num_pending"] in (6, 7), answer
    assert await taken(js, "ST", 4, filter_subject="st.0") == [1, 4, 7, 10]
    assert await taken(js, "ST", 7, filter_subjects=["st.0", "st.2"]) == [1, 3, 4, 6, 7, 9, 10]
    both = ConsumerConfig(filter_subjects=["st.0", "st.>"], ack_policy=AckPolicy.NONE)
    await refused(js.add_consumer("ST", both), 10138)
    info = await js.add_consumer("ST", ConsumerConfig(deliver_policy=DeliverPolicy.NEW, ack_policy=AckPolicy.NONE))
    assert info.num_pending == 0, info
    print("starts")


async def acknowledged(js) -> None:
    """Ack, nak, nak with delay, term, in progress, back-off, a maximum of deliveries, ack all."""
    await filled(js, "ACK", 6)
    config = ConsumerConfig(durable_name="c", ack_policy=AckPolicy.EXPLICIT, ack_wait=30, max_deliver=3, max_ack_pending=5)
    await js.add_consumer("ACK", config)
    subscription = await js.pull_subscribe_bind("c", "ACK")
    first, second, third, fourth, fifth = await subscription.fetch(5, timeout=5)
    info = await js.consumer_info("ACK", "c")
    assert (info.num_ack_pending, info.num_pending) == (5, 1), info
    try:
        await subscription.fetch(1, timeout=0.2)
        raise AssertionError("more than may be pending")
    except TimeoutError:
        pass
    await first.ack_sync()
    await second.nak()
    await third.nak(delay=0.3)
    await fourth.term()
    await fifth.in_progress()
    rest = []
    while len(rest) < 3:
        rest += await subscription.fetch(3 - len(rest), timeout=5)
    assert sorted((m.metadata.sequence.stream, m.metadata.num_delivered) for m in rest) == [(2, 2), (3, 2), (6, 1)], rest
    assert rest[2].metadata.sequence.stream == 3, "the delay was not kept"
    for message in [fifth, *rest]:
        await message.ack_sync()
    info = await js.consumer_info("ACK", "c")
    assert (info.ack_floor.stream_seq, info.num_ack_pending, info.num_redelivered) == (6, 0, 0), info
    await js.add_consumer("ACK", ConsumerConfig(durable_name="all", ack_policy=AckPolicy.ALL))
    subscription = await js.pull_subscribe_bind("all", "ACK")
    messages = await subscription.fetch(6, timeout=5)
    await messages[3].ack_sync()
    info = await js.consumer_info("ACK", "all")
    assert (info.ack_floor.stream_seq, info.num_ack_pending) == (4, 2), info
    backoff = ConsumerConfig(durable_name="slow", ack_policy=AckPolicy.EXPLICIT, backoff=[0.1, 0.4], max_deliver=3)
    await js.add_consumer("ACK", backoff)
    subscription = await js.pull_subscribe_bind("slow", "ACK")
    (message,) = await subscription.fetch(1, timeout=5)
    begun = time.monotonic()
    for delivery, least in ((2, 0.08), (3, 0.4)):
        while True:
            (message,) = await subscription.fetch(1, timeout=5)
            if message.metadata.sequence.stream == 1:
                break
            await message.ack()
        assert message.metadata.num_delivered == delivery and time.monotonic() - begun > least, message
    print("acknowledged")


async def requests(js) -> None:
    """The limits of a request, and how it ends."""
    client = js._nc
    await filled(js, "REQ", 5)
    limits = {"max_batch": 3, "max_expires": 2_000_000_000, "max_bytes": 1000, "max_waiting": 1}
    config = {"durable_name": "c", "ack_policy": "none", **limits}
    body = json.dumps({"stream_name": "REQ", "config": config}).encode()
    created = json.loads((await client.request("$JS.API.CONSUMER.CREATE.REQ.c", body, timeout=10)).data)
    assert "error" not in created, created
    assert await raw(client, "REQ", "c", {"batch": 4}) == ["409 Exceeded MaxRequestBatch of 3"]
    assert await raw(client, "REQ", "c", {"batch": 1, "expires": 3_000_000_000}) == ["409 Exceeded MaxRequestExpires of 2s"]
    assert await raw(client, "REQ", "c", {"batch": 1, "max_bytes": 2000}) == ["409 Exceeded MaxRequestMaxBytes of 1000"]
    got = await raw(client, "REQ", "c", {"batch": 3, "max_bytes": 150, "no_wait": True})
    assert got[-1] == "409 Message Size Exceeds MaxBytes" and 1 <= len(got) <= 3, got
    got = await raw(client, "REQ", "c", {"batch": 3, "no_wait": True})
    got += await raw(client, "REQ", "c", {"batch": 3, "no_wait": True})
    assert "404 No Messages" in got, got
    heartbeat = {"batch": 1, "expires": 500_000_000, "idle_heartbeat": 200_000_000}
    assert await raw(client, "REQ", "c", heartbeat) == ["100 Idle Heartbeat"]
    bad = {"batch": 1, "expires": 100_000_000, "idle_heartbeat": 90_000_000}
    assert await raw(client, "REQ", "c", bad) == ["400 Bad Request - heartbeat value too large"]
    await until(lambda: waiting_are(js, 0))
    waiting = asyncio.create_task(raw(client, "REQ", "c", {"batch": 1}))
    await until(lambda: waiting_are(js, 1))
    assert await raw(client, "REQ", "c", {"batch": 1, "expires": 500_000_000}) == ["409 Exceeded MaxWaiting"]
    assert await js.delete_consumer("REQ", "c")
    assert await waiting == ["409 Consumer Deleted"], waiting
    print("requests")


async def waiting_are(js, count) -> bool:
    return (await js.consumer_info("REQ", "c")).num_waiting == count


async def forms(js) -> None:
    """Headers only, replay as it was, metadata, a description, memory."""
    await filled(js, "FO", 3)
    config = ConsumerConfig(
        name="h", ack_policy=AckPolicy.NONE, headers_only=True, mem_storage=True, metadata={"a": "b"}, description="only",
    )  # fmt: skip
    info = await js.add_consumer("FO", config)
    assert (info.config.metadata["a"], info.config.description, info.config.mem_storage) == ("b", "only", True), info
    subscription = await js.pull_subscribe_bind("h", "FO")
    for number, message in enumerate(await subscription.fetch(3, timeout=5)):
        assert (message.data, message.headers["Nats-Msg-Size"], message.headers["Number"]) == (b"", "1", str(number))
    await js.add_stream(name="RE", subjects=["re"])
    for _ in range(3):
        await js.publish("re", b"x")
        await asyncio.sleep(0.15)
    config = ConsumerConfig(name="r", ack_policy=AckPolicy.NONE, replay_policy=ReplayPolicy.ORIGINAL)
    await js.add_consumer("RE", config)
    subscription = await js.pull_subscribe_bind("r", "RE")
    begun = time.monotonic()
    got = 0
    while got < 3:
        got += len(await subscription.fetch(1, timeout=5))
    assert time.monotonic() - begun > 0.28, "faster than it was"
    print("forms")


async def paused(js) -> None:
    await filled(js, "PA", 3)
    until_then = (datetime.now(timezone.utc) + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    await js.add_consumer("PA", ConsumerConfig(durable_name="c", ack_policy=AckPolicy.EXPLICIT, pause_until=until_then))
    info = await js.consumer_info("PA", "c")
    assert info.paused, info
    subscription = await js.pull_subscribe_bind("c", "PA")
    try:
        await subscription.fetch(1, timeout=0.3)
        raise AssertionError("delivered while paused")
    except TimeoutError:
        pass
    assert not (await js.resume_consumer("PA", "c")).paused
    assert len(await subscription.fetch(3, timeout=5)) == 3
    assert (await js.pause_consumer("PA", "c", until_then)).paused
    answer = await js.reset_consumer("PA", "c")
    assert answer.reset_seq == 1, answer
    await js.resume_consumer("PA", "c")
    assert [m.metadata.sequence.stream for m in await subscription.fetch(3, timeout=5)] == [1, 2, 3]
    print("paused")


async def idle(js) -> None:
    """A consumer that nobody uses goes; one that is used stays."""
    await filled(js, "ID", 1)
    await js.add_consumer("ID", ConsumerConfig(name="gone", ack_policy=AckPolicy.NONE, inactive_threshold=0.4))
    await js.add_consumer("ID", ConsumerConfig(durable_name="kept", ack_policy=AckPolicy.NONE))
    assert len(await js.consumers_info("ID")) == 2

    async def alone():
        return [info.name for info in await js.consumers_info("ID")] == ["kept"]

    await until(alone)
    try:
        await js.consumer_info("ID", "gone")
        raise AssertionError("still there")
    except NotFoundError as error:
        assert error.err_code == 10014, error
    print("idle")


async def updated(js) -> None:
    """What may change, and who may create."""
    client = js._nc
    await filled(js, "UP", 4)

    async def create(action, **config):
        body = {"stream_name": "UP", "config": {"durable_name": "c", "ack_policy": "explicit", **config}, "action": action}
        answer = await client.request("$JS.API.CONSUMER.CREATE.UP.c", json.dumps(body).encode(), timeout=10)
        return json.loads(answer.data)

    assert (await create("update"))["error"]["err_code"] == 10149
    assert (await create("create", max_deliver=5))["config"]["max_deliver"] == 5
    assert (await create("create", max_deliver=6))["error"]["err_code"] == 10148
    changed = await create("update", max_deliver=6, filter_subjects=["up.0", "up.1"], ack_wait=5_000_000_000)
    assert (changed["config"]["ack_wait"], changed["num_pending"]) == (5_000_000_000, 3), changed
    assert (await create("", ack_policy="all"))["error"]["err_code"] == 10012
    assert (await create("", deliver_policy="new"))["error"]["err_code"] == 10012
    print("updated")


async def pushed(js) -> None:
    """A rate, and a sample of the acknowledgements."""
    client = js._nc
    await js.add_stream(name="PU", subjects=["pu"])
    for _ in range(4):
        await js.publish("pu", b"x" * 500_000)
    samples = await client.subscribe("$JS.EVENT.METRIC.CONSUMER.ACK.PU.*")
    arrived = await client.subscribe("to.pu")
    config = ConsumerConfig(
        durable_name="p", deliver_subject="to.pu", ack_policy=AckPolicy.EXPLICIT, rate_limit_bps=8_000_000,
        sample_freq="100%", idle_heartbeat=5, flow_control=True,
    )  # fmt: skip
    await js.add_consumer("PU", config)
    begun = time.monotonic()
    for _ in range(4):
        message = await arrived.next_msg(timeout=5)
        while not message.reply.startswith("$JS.ACK."):
            message = await arrived.next_msg(timeout=5)
        await message.ack()
    assert time.monotonic() - begun > 0.2, "2 MB at 1 MB/s came at once, though only the first second is free"
    sample = json.loads((await samples.next_msg(timeout=5)).data)
    assert sample["type"] == "io.nats.jetstream.metric.v1.consumer_ack" and sample["consumer"] == "p", sample
    print("pushed")


async def groups(js) -> None:
    """Overflow, priorities and one pinned client, by plain requests."""
    client = js._nc
    await filled(js, "GR", 5)

    async def create(name, **config):
        body = {"stream_name": "GR", "config": {"durable_name": name, "ack_policy": "explicit", **config}}
        answer = await client.request(f"$JS.API.CONSUMER.CREATE.GR.{name}", json.dumps(body).encode(), timeout=10)
        return json.loads(answer.data)

    made = await create("over", priority_policy="overflow", priority_groups=["g"])
    assert made["config"]["priority_groups"] == ["g"], made
    assert (await raw(client, "GR", "over", {"batch": 1}))[0].startswith("400 Bad Request")
    late = {"group": "g", "batch": 1, "min_pending": 6, "expires": 300_000_000}
    assert (await raw(client, "GR", "over", late)) == ["408 Request Timeout"]
    got = await raw(client, "GR", "over", {"group": "g", "batch": 2, "min_pending": 5, "no_wait": True})
    assert got[0].data == b"0", got
    await create("pin", priority_policy="pinned_client", priority_groups=["g"], priority_timeout=60_000_000_000)
    got = await raw(client, "GR", "pin", {"group": "g", "batch": 1, "expires": 300_000_000, "no_wait": True})
    pin = got[0].headers["Nats-Pin-Id"]
    assert (await raw(client, "GR", "pin", {"group": "g", "id": "other", "batch": 1}))[0].startswith("423")
    got = await raw(client, "GR", "pin", {"group": "g", "id": pin, "batch": 9, "no_wait": True})
    assert got[0].data == b"1", got
    unpin = await client.request("$JS.API.CONSUMER.UNPIN.GR.pin", b'{"group":"g"}', timeout=10)
    assert "error" not in json.loads(unpin.data), unpin.data
    await js.publish("gr.0", b"new")
    got = await raw(client, "GR", "pin", {"group": "g", "batch": 1})
    assert got[0].data == b"new" and got[0].headers["Nats-Pin-Id"] != pin, got
    assert (await raw(client, "GR", "pin", {"group": "g", "id": pin, "batch": 1}))[0].startswith("423")
    print("groups")


async def told(js) -> None:
    """Advisories: what happens to streams and consumers, and what a message that nobody takes leads to."""
    client = js._nc
    heard = []

    async def hear(message):
        event = json.loads(message.data)
        # Idle consumers of other streams go meanwhile.
        if event.get("stream", "AD") == "AD":
            heard.append(event["type"].removeprefix("io.nats.jetstream.advisory.v1."))

    await client.subscribe("$JS.EVENT.ADVISORY.>", cb=hear)
    await client.flush()
    await filled(js, "AD", 2)
    config = ConsumerConfig(durable_name="c", ack_policy=AckPolicy.EXPLICIT, ack_wait=0.2, max_deliver=1)
    await js.add_consumer("AD", config)
    subscription = await js.pull_subscribe_bind("c", "AD")
    first, second = await subscription.fetch(2, timeout=5)
    await first.term()

    async def given_up():
        return "max_deliver" in heard and "terminated" in heard

    await until(given_up)
    await js.pause_consumer("AD", "c", "2100-01-01T00:00:00Z")
    await js.delete_consumer("AD", "c")
    await js.update_stream(name="AD", subjects=["ad.>"], max_msgs=10)
    await js.delete_stream("AD")

    async def all_of_it():
        return heard.count("stream_action") == 3 and heard.count("consumer_action") == 2 and "consumer_pause" in heard

    await until(all_of_it)
    assert "api_audit" in heard, heard
    print("told")


STEPS = (starts, acknowledged, requests, forms, paused, idle, updated, pushed, groups, told)


async def main(url: str) -> None:
    client = await nats.connect(url, connect_timeout=10)
    js = client.jetstream(timeout=10)
    for step in STEPS:
        await step(js)
    await client.close()


asyncio.run(main(sys.argv[1]))
