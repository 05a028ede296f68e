"""What the account and single requests may have, as a transcript: limits_transcript.py URL.

Two servers with the same limits print the same.
"""

import asyncio
import json
import sys

import nats

HIDDEN = {"created", "ts", "_nats.ver", "cluster", "last_active", "first_ts", "last_ts"}
MEBIBYTE = 1 << 20


def plain(value):
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items() if key not in HIDDEN}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


async def main(url):
    client = await nats.connect(url)

    async def api(operation, body=None):
        text = b"" if body is None else json.dumps(body).encode()
        answer = await client.request(f"$JS.API.{operation}", text, timeout=5)
        print(operation, text.decode(), "->", json.dumps(plain(json.loads(answer.data))))

    async def stream(name, operation="CREATE", **config):
        await api(f"STREAM.{operation}.{name}", {"name": name, "subjects": [name.lower()], **config})

    async def consumer(stream, name, **config):
        config = {"durable_name": name, "ack_policy": "explicit", **config}
        await api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})

    await api("INFO")
    await stream("A")
    await stream("A", max_bytes=6 * MEBIBYTE)
    await stream("A", max_bytes=5 * MEBIBYTE)
    await stream("B", max_bytes=5 * MEBIBYTE, duplicate_window=61 * 10**9)
    await stream("B", max_bytes=5 * MEBIBYTE, max_consumers=3)
    await stream("B", max_bytes=5 * MEBIBYTE, max_consumers=2)
    await stream("C", max_bytes=1)
    await stream("B", "UPDATE", max_bytes=5 * MEBIBYTE + 1)
    await stream("B", "UPDATE", max_bytes=2 * MEBIBYTE)
    await stream("B", "UPDATE")
    await stream("M", max_bytes=501 * 1024, storage="memory")
    await stream("M", max_bytes=500 * 1024, storage="memory")
    await stream("N", max_bytes=500 * 1024, storage="memory")
    await stream("O", max_bytes=500 * 1024, storage="memory")
    await stream("P", max_bytes=1024)
    await consumer("A", "a")
    await consumer("A", "b", max_ack_pending=2001)
    await consumer("A", "b", max_ack_pending=5001)
    await consumer("A", "b", max_ack_pending=-1)
    await consumer("A", "c")
    await consumer("B", "a", max_batch=101)
    await consumer("B", "a", ack_policy="none")
    await api("INFO")
    await client.close()


asyncio.run(main(sys.argv[1]))
