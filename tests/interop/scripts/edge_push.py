"""Push and ordered consumers by nats-py: edge_push.py URL. Prints a line per step that went well."""

import asyncio
import sys

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy

MESSAGES = 2000


async def numbered(subscription, count: int, acknowledge: bool = True) -> None:
    for number in range(count):
        message = await subscription.next_msg(timeout=20)
        assert message.data == b"%d" % number, message
        if acknowledge and number == count - 1:
            await message.ack_sync(timeout=10)
        elif acknowledge:
            await message.ack()


async def plain(js) -> None:
    subscription = await js.subscribe("push.a", deliver_policy=DeliverPolicy.ALL)
    await numbered(subscription, 10)
    info = await subscription.consumer_info()
    assert info.push_bound and info.ack_floor.stream_seq == 10, info
    await subscription.unsubscribe()
    print("plain")


async def durable(js) -> None:
    config = ConsumerConfig(max_ack_pending=5, ack_wait=2)
    subscription = await js.subscribe("push.a", durable="kept", manual_ack=True, config=config)
    await numbered(subscription, 5)
    await subscription.unsubscribe()
    for _ in range(100):
        info = await js.consumer_info("PUSH", "kept")
        if not info.push_bound:
            break
        await asyncio.sleep(0.05)
    assert not info.push_bound and info.ack_floor.stream_seq == 5, info
    again = await js.subscribe("push.a", durable="kept", manual_ack=True)
    # What the first one did not acknowledge comes again.
    message = await again.next_msg(timeout=20)
    assert int(message.data) == 5, message
    await again.unsubscribe()
    assert await js.delete_consumer("PUSH", "kept")
    print("durable")


async def group(js) -> None:
    seen, counts = set(), [0, 0]
    done = asyncio.Event()

    def member(which):
        async def take(message):
            counts[which] += 1
            seen.add(int(message.data))
            if len(seen) == 500:
                done.set()

        return take

    subscriptions = [await js.subscribe("push.g", queue="workers", cb=member(which)) for which in range(2)]
    for number in range(500):
        await js.publish_async("push.g", b"%d" % number)
    await asyncio.wait_for(done.wait(), 60)
    assert all(counts), counts
    for subscription in subscriptions:
        await subscription.unsubscribe()
    print("group")


async def flow(js) -> None:
    subscription = await js.subscribe("push.a", flow_control=True, idle_heartbeat=0.5)
    await numbered(subscription, MESSAGES)
    # Nothing comes for longer than two heartbeats, and nothing is seen of them.
    await asyncio.sleep(1.5)
    await js.publish("push.a", b"late")
    assert (await subscription.next_msg(timeout=20)).data == b"late"
    await subscription.unsubscribe()
    print("flow")


async def ordered(js) -> None:
    subscription = await js.subscribe("push.a", ordered_consumer=True)
    await numbered(subscription, MESSAGES, acknowledge=False)
    assert (await subscription.next_msg(timeout=20)).data == b"late"
    await subscription.unsubscribe()
    print("ordered")


async def main(url: str) -> None:
    client = await nats.connect(url)
    js = client.jetstream()
    await js.add_stream(name="PUSH", subjects=["push.>"])
    for number in range(MESSAGES):
        await js.publish_async("push.a", b"%d" % number)
    await js.publish_async_completed()
    for step in (plain, durable, group, flow, ordered):
        await step(js)
    await client.drain()


asyncio.run(main(sys.argv[1]))
