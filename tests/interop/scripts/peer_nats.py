"""Subscribes, publishes and prints what comes back: peer_nats.py URL."""

import asyncio
import sys

import nats


async def main(url: str) -> None:
    client = await nats.connect(url)
    subscription = await client.subscribe("greet")
    await client.publish("greet", b"hello")
    message = await subscription.next_msg(timeout=10)
    print(message.data.decode())
    await client.drain()


asyncio.run(main(sys.argv[1]))
