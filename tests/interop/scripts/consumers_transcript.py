"""Priority groups, resets and advisories, as a transcript without times and ids: consumers_transcript.py URL.

Two servers that behave alike print the same.
"""

import asyncio
import json
import sys

import nats

# What differs from server to server and from run to run.
HIDDEN = {"created", "ts", "timestamp", "start", "rtt", "host", "_nats.ver", "ack_time", "pinned_ts", "cluster", "last_active", "pause_remaining", "last_ts", "first_ts", "server"}
QUIET = 0.35


class Transcript:
    def __init__(self, client):
        self.client = client
        self.told = []
        self.pins = {}

    def pin(self, text):
        return self.pins.setdefault(text, f"PIN{len(self.pins) + 1}") if text else text

    def plain(self, value, advisory=False):
        if isinstance(value, dict):
            kept = {}
            for key, inner in value.items():
                if key in HIDDEN or (advisory and key == "id"):
                    continue
                if key in ("pinned_client_id", "pinned_id"):
                    inner = self.pin(inner)
                if key == "response":
                    inner = self.plain(json.loads(inner))
                kept[key] = self.plain(inner, advisory)
            return kept
        return [self.plain(inner, advisory) for inner in value] if isinstance(value, list) else value

    async def api(self, operation, body=None):
        text = b"" if body is None else json.dumps(body).encode() if not isinstance(body, bytes) else body
        try:
            answer = await self.client.request(f"$JS.API.{operation}", text, timeout=2)
            shown = self.plain(json.loads(answer.data))
        except Exception as error:
            shown = type(error).__name__
        print(operation, text.decode(), "->", json.dumps(shown))

    async def create(self, name, **config):
        config = {"durable_name": name, "ack_policy": "explicit", **config}
        await self.api(f"CONSUMER.CREATE.S.{name}", {"stream_name": "S", "config": config})

    async def request(self, consumer, body):
        """A pull request; what comes for it is read by `read`."""
        inbox = self.client.new_inbox()
        subscription = await self.client.subscribe(inbox)
        if isinstance(body, dict):
            body = json.dumps({key: self.known(value) for key, value in body.items()})
        await self.client.publish(f"$JS.API.CONSUMER.MSG.NEXT.S.{consumer}", body.encode(), reply=inbox)
        await self.client.flush()
        return subscription

    def known(self, value):
        return next((pin for pin, name in self.pins.items() if name == value), value)

    async def read(self, title, subscription, acknowledge=b"+ACK"):
        while True:
            try:
                message = await subscription.next_msg(timeout=QUIET)
            except (asyncio.TimeoutError, nats.errors.TimeoutError):
                break
            headers = dict(message.headers or {})
            if "Nats-Pin-Id" in headers:
                headers["Nats-Pin-Id"] = self.pin(headers["Nats-Pin-Id"])
            print(" ", title, "Status" not in headers and message.subject, message.data.decode(), json.dumps(headers))
            if message.reply and acknowledge:
                await self.client.publish(message.reply, acknowledge)
        await self.client.flush()

    async def pull(self, consumer, body, acknowledge=b"+ACK"):
        subscription = await self.request(consumer, body)
        await self.read(f"{consumer} {body}", subscription, acknowledge)
        await subscription.unsubscribe()

    async def events(self, title):
        await asyncio.sleep(QUIET)
        print("told after", title)
        for line in sorted(self.told):
            print(" ", line)
        self.told.clear()

    async def hear(self, message):
        event = json.loads(message.data)
        self.told.append(f"{message.subject} {json.dumps(self.plain(event, advisory=True))}")


async def configurations(it):
    for wrong in (
        {"priority_policy": "overflow"},
        {"priority_groups": ["g"]},
        {"priority_timeout": 1000},
        {"priority_policy": "overflow", "priority_groups": [""]},
        {"priority_policy": "overflow", "priority_groups": ["a.b"]},
        {"priority_policy": "overflow", "priority_groups": ["abcdefghijklmnopq"]},
        {"priority_policy": "first", "priority_groups": ["g"]},
        {"priority_policy": "overflow", "priority_groups": ["g"], "deliver_subject": "to"},
        {"priority_policy": "overflow", "priority_groups": "g"},
        {"sample_freq": "many"},
        {"sample_freq": "-1"},
        {"sample_freq": "99999999999999999999"},
        {"sample_freq": 5},
        {"filter_subjects": ["s.a"]},
    ):
        await it.create("x", **wrong)
    await it.create("overflow", priority_policy="overflow", priority_groups=["g", "h"])
    await it.create("pinned", priority_policy="pinned_client", priority_groups=["g"])
    await it.create("prioritized", priority_policy="prioritized", priority_groups=["g"], sample_freq="100%")
    await it.create("plain")
    await it.api("CONSUMER.INFO.S.pinned")
    # Groups may be changed.
    await it.create("overflow", priority_policy="overflow", priority_groups=["g"], description="changed")


async def refusals(it):
    short = {"expires": 100_000_000}
    for consumer, body in (
        ("overflow", {**short}),
        ("overflow", {"group": "other", **short}),
        ("overflow", {"group": "g", "id": "x", **short}),
        ("overflow", {"group": "g", "priority": 10, **short}),
        ("pinned", {"group": "g", "min_pending": 1, **short}),
        ("pinned", {"group": "g", "min_ack_pending": 1, **short}),
        ("prioritized", {"group": "g", "priority": -1, **short}),
        ("plain", {"min_pending": 1, **short}),
        ("plain", {"id": "x", **short}),
        ("plain", {"group": "g", "priority": 3, **short}),
        ("overflow", {"group": 5, **short}),
        ("overflow", {"batch": "x", **short}),
        ("overflow", {"group": "g", "no_wait": True}),
    ):
        await it.pull(consumer, body)


async def overflow(it):
    for number in range(3):
        await it.client.publish("s.a", b"%d" % number)
    waiting = await it.request("overflow", {"group": "g", "min_pending": 4, "batch": 2, "expires": 5_000_000_000})
    await it.read("below its threshold", waiting)
    await it.client.publish("s.a", b"3")
    await it.read("at its threshold", waiting)
    helper = await it.request("overflow", {"group": "g", "min_ack_pending": 2, "batch": 1, "expires": 5_000_000_000})
    await it.pull("overflow", {"group": "g", "batch": 1, "expires": 1_000_000_000}, None)
    await it.read("one unacknowledged", helper)
    await it.pull("overflow", {"group": "g", "batch": 1, "expires": 1_000_000_000}, None)
    await it.client.publish("s.a", b"4")
    await it.read("two unacknowledged", helper)
    await it.api("CONSUMER.INFO.S.overflow")


async def prioritized(it):
    await it.pull("prioritized", {"group": "g", "batch": 100, "no_wait": True})
    long = {"group": "g", "expires": 5_000_000_000}
    low = await it.request("prioritized", {"priority": 5, "batch": 3, **long})
    high = await it.request("prioritized", {"priority": 1, "batch": 2, **long})
    also = await it.request("prioritized", {"priority": 1, "batch": 2, **long})
    # Stock takes requests up by and by.
    await asyncio.sleep(QUIET)
    for number in range(6):
        await it.client.publish("s.b", b"%d" % number)
    for title, subscription in (("low", low), ("high", high), ("also high", also)):
        await it.read(title, subscription)


async def pinned(it):
    await it.events("groups")
    long = {"group": "g", "expires": 5_000_000_000}
    await it.pull("pinned", {"batch": 1, **long})
    await it.pull("pinned", {"id": "PIN1", "batch": 1, **long})
    second = await it.request("pinned", {"batch": 1, **long})
    await it.read("not pinned", second)
    await it.pull("pinned", {"id": "another", **long})
    await it.api("CONSUMER.INFO.S.pinned")
    for body in ({"group": "g"}, {"group": "other"}, {"group": "a.b"}, {}, b"", {"group": "g", "more": 1}):
        await it.api("CONSUMER.UNPIN.S.pinned", body)
    await it.api("CONSUMER.UNPIN.S.nobody", {"group": "g"})
    await it.api("CONSUMER.UNPIN.NONE.pinned", {"group": "g"})
    await it.read("pinned now", second)
    await it.pull("pinned", {"id": "PIN1", **long})
    await it.create("short", priority_policy="pinned_client", priority_groups=["g"], priority_timeout=500_000_000)
    await it.pull("short", {"batch": 1, **long})
    await asyncio.sleep(0.7)
    await it.pull("short", {"id": "PIN3", "batch": 1, **long})
    await it.events("pinning")


async def resets(it):
    await it.create("again")
    await it.pull("again", {"batch": 3, "no_wait": True})
    await it.pull("again", {"batch": 2, "no_wait": True}, None)
    for body in (None, {"seq": 2}, {"seq": 1000}, {"seq": 0}, {"seq": "x"}, b"x", {"more": 1}):
        await it.api("CONSUMER.RESET.S.again", body)
    await it.pull("again", {"batch": 1, "no_wait": True})
    await it.create("fourth", deliver_policy="by_start_sequence", opt_start_seq=4)
    await it.api("CONSUMER.RESET.S.fourth", {"seq": 3})
    await it.api("CONSUMER.RESET.S.fourth", {"seq": 5})
    await it.create("newest", deliver_policy="new")
    await it.api("CONSUMER.RESET.S.newest", {"seq": 3})
    await it.api("CONSUMER.RESET.S.newest")
    await it.api("CONSUMER.RESET.S.nobody")


async def updates(it):
    """What a request may insist on, and what an update may change."""
    explicit = {"ack_policy": "explicit"}
    for action in ("update", "create", "create", "bogus"):
        await it.api("CONSUMER.CREATE.S.u", {"stream_name": "S", "config": {"durable_name": "u", **explicit}, "action": action})
    for change in (
        {"deliver_policy": "new"},
        {"mem_storage": True},
        {"ack_policy": "all"},
        {"replay_policy": "original"},
        {"deliver_subject": "d"},
        {"deliver_subject": "d", "idle_heartbeat": 10**9},
        {"max_waiting": 5},
        {"max_deliver": 3, "backoff": [10**9, 10**9]},
        {"max_deliver": 1, "backoff": [10**9, 10**9]},
        {"filter_subject": "s.a"},
        {"filter_subjects": ["s.a", "s.b"]},
        {"max_ack_pending": 5, "headers_only": True, "max_batch": 5, "max_expires": 10**9, "max_bytes": 100},
        {"inactive_threshold": 10**11, "sample_freq": "5%", "metadata": {"a": "b"}},
        {"direct": True},
        {"sourcing": True},
        {"priority_policy": "overflow", "priority_groups": ["a"]},
        {"rate_limit_bps": 5},
        {"pause_until": "2100-01-01T00:00:00Z"},
        {"deliver_policy": "by_start_sequence", "opt_start_seq": 5},
    ):
        await it.create("u", **change)
    await it.create("pushed", deliver_subject="d.p")
    await it.create("pushed")
    await it.create("pushed", deliver_subject="d.q")
    subscription = await it.client.subscribe("d.q")
    await it.client.flush()
    await asyncio.sleep(QUIET)
    await it.create("pushed", deliver_subject="d.r")
    await it.create("pushed", deliver_subject="d.q", idle_heartbeat=10**9)
    await subscription.unsubscribe()
    await it.create("few", max_waiting=1, max_batch=5, max_expires=10**10, max_bytes=1000)
    last = await it.request("few", {"batch": 1, "expires": 5_000_000_000, "max_bytes": 1})
    for body in (
        '{"batch":6,"expires":1000000000}',
        '{"batch":1,"expires":11000000000}',
        '{"batch":1,"max_bytes":1001,"expires":1000000000}',
        '{"batch":1,"expires":1000000000}',
        '{"batch":1,"expires":1000000000,"idle_heartbeat":400000000}',
        '{"batch":1,"expires":100,"idle_heartbeat":100}',
        "{x}",
    ):
        await it.pull("few", body)
    await last.unsubscribe()


async def tellings(it):
    await it.events("resets")
    await it.create("told", sample_freq="100", max_deliver=1, ack_wait=300_000_000)
    for number, acknowledgement in enumerate((b"", b"-NAK", b"+TERM", b"+TERM no good ", b"+ACK", b"+NXT")):
        await it.pull("told", {"batch": 1, "no_wait": True}, acknowledgement or None)
    await asyncio.sleep(0.8)
    await it.events("acknowledgements")
    await it.api("CONSUMER.INFO.S.told")
    await it.api("CONSUMER.PAUSE.S.told", {"pause_until": "2100-01-01T00:00:00Z"})
    await it.api("CONSUMER.PAUSE.S.told")
    await it.create("removed")
    await it.pull("removed", {"batch": 2, "no_wait": True}, None)
    await it.api("STREAM.MSG.DELETE.S", {"seq": 1})
    await it.events("pauses and deletes")
    await it.pull("removed", {"batch": 4, "no_wait": True}, None)
    await it.api("STREAM.PURGE.S", {"filter": "s.a"})
    await it.api("CONSUMER.INFO.S.removed")
    await it.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "max_msgs": 5})
    await it.api("CONSUMER.DELETE.S.told")
    await it.api("CONSUMER.CREATE.S.silent", {"stream_name": "S", "config": {"durable_name": "silent", "ack_policy": "none"}})
    subscription = await it.request("silent", {"batch": 1, "no_wait": True})
    message = await subscription.next_msg(timeout=2)
    try:
        await it.client.request(message.reply, b"+ACK", timeout=2)
        print("confirmed")
    except nats.errors.NoRespondersError:
        print("nobody")
    await it.api("STREAM.DELETE.S")
    await it.events("the end")


async def main(url):
    client = await nats.connect(url, name="transcript")
    it = Transcript(client)
    await client.subscribe("$JS.EVENT.>", cb=it.hear)
    await it.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]})
    for section in (configurations, refusals, overflow, prioritized, pinned, resets, updates, tellings):
        print("==", section.__name__)
        await section(it)
    await client.close()


asyncio.run(main(sys.argv[1]))
