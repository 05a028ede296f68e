"""What a user may not, as nats-py sees it: edge_permissions.py URL. The user may publish and subscribe below `open.` only."""

import asyncio
import sys

import nats


async def main(url: str) -> None:
    errors: asyncio.Queue = asyncio.Queue()

    async def error(problem):
        await errors.put(str(problem).lower())

    client = await nats.connect(url, user="u", password="p", error_cb=error)
    subscription = await client.subscribe("open.>")
    await client.publish("shut", b"no")
    await client.subscribe("shut.>")
    await client.flush()
    told = sorted([await asyncio.wait_for(errors.get(), 10) for _ in range(2)])
    assert 'permissions violation for publish to "shut"' in told[0], told
    assert 'permissions violation for subscription to "shut.>"' in told[1], told
    await client.publish("open.a", b"yes")
    assert (await subscription.next_msg(timeout=10)).data == b"yes"
    print("refused and still there")
    await client.drain()


asyncio.run(main(sys.argv[1]))
