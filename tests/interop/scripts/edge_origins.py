"""Mirrors and sources of streams on the same server by nats-py: edge_origins.py URL. Prints a line per step that went well."""

import asyncio
import sys

import nats
from nats.js.api import KeyValueConfig, StreamConfig, StreamSource, SubjectTransform
from nats.js.errors import APIError


async def until(js, stream, messages) -> None:
    for _ in range(200):
        info = await js.stream_info(stream)
        if info.state.messages == messages:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(info)


async def mirror(js) -> None:
    await js.add_stream(name="EV", subjects=["ev.>"], allow_direct=True)
    for number in range(50):
        await js.publish(f"ev.{number % 5}", b"%d" % number)
    info = await js.add_stream(name="MIR", mirror=StreamSource(name="EV"))
    assert info.config.mirror.name == "EV" and not info.config.subjects, info
    assert info.config.mirror_direct, info
    await until(js, "MIR", 50)
    for sequence in (1, 25, 50):
        here, there = await js.get_msg("MIR", sequence), await js.get_msg("EV", sequence)
        assert (here.subject, here.data, here.time) == (there.subject, there.data, there.time), (here, there)
    info = await js.stream_info("MIR")
    assert (info.mirror.name, info.mirror.lag, info.mirror.error) == ("EV", 0, None), info
    try:
        await js.add_stream(name="BAD", subjects=["bad"], mirror=StreamSource(name="EV"))
        raise AssertionError("a mirror with subjects")
    except APIError as error:
        assert error.err_code == 10034, error
    print("mirror")


async def sources(js) -> None:
    await js.add_stream(name="OTHER", subjects=["other.>"])
    await js.publish("other.x", b"x")
    transform = SubjectTransform(src="ev.*", dest="all.$1")
    config = StreamConfig(
        name="ALL",
        subjects=["own"],
        sources=[
            StreamSource(name="EV", subject_transforms=[transform]),
            StreamSource(name="OTHER", filter_subject="other.x"),
        ],
    )
    await js.add_stream(config)
    await until(js, "ALL", 51)
    await js.publish("other.y", b"not wanted")
    await js.publish("other.x", b"wanted")
    ack = await js.publish("own", b"published here")
    assert ack.stream == "ALL", ack
    await until(js, "ALL", 53)
    got = await js.get_last_msg("ALL", "all.3")
    assert got.headers["Nats-Stream-Source"].startswith("EV 49 ev.* all.$1 ev.3 "), got.headers
    info = await js.stream_info("ALL")
    assert sorted(source.name for source in info.sources) == ["EV", "OTHER"], info
    print("sources")


async def bucket(js) -> None:
    """A bucket that is a mirror of another: values of the first, read from the second."""
    first = await js.create_key_value(config=KeyValueConfig(bucket="first", history=3))
    await first.put("a", b"1")
    await first.put("a", b"2")
    await js.add_stream(name="KV_second", mirror=StreamSource(name="KV_first"), max_msgs_per_subject=3, allow_direct=True)
    await until(js, "KV_second", 2)
    got = await js.get_last_msg("KV_second", "$KV.first.a")
    assert (got.data, got.seq) == (b"2", 2), got
    print("bucket")


async def main(url: str) -> None:
    client = await nats.connect(url)
    js = client.jetstream()
    await mirror(js)
    await sources(js)
    await bucket(js)
    await client.close()


asyncio.run(main(sys.argv[1]))
