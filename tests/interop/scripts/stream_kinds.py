"""What a stream can be told to do, by nats-py: stream_kinds.py URL. Prints a line per step that went well; a stock server says the same.

What the library has no field for goes through its plain requests and headers.
"""

import asyncio
import base64
import json
import sys
from datetime import datetime, timezone

import nats
from nats.js.api import (
    AckPolicy,
    ConsumerConfig,
    DiscardPolicy,
    Header,
    PersistMode,
    RePublish,
    RetentionPolicy,
    StorageType,
    StreamConfig,
    StreamConsumerLimits,
    StreamSource,
    SubjectTransform,
)
from nats.js.errors import APIError, NotFoundError


async def refused(call, code) -> None:
    try:
        got = await call
    except APIError as error:
        assert error.err_code == code, error
    else:
        raise AssertionError(f"not refused with {code}: {got}")


async def api(js, operation, body=None) -> dict:
    """A request that may be refused: the answer as it is."""
    answer = await js._nc.request(f"$JS.API.{operation}", json.dumps(body).encode() if body else b"", timeout=10)
    return json.loads(answer.data)


async def state(js, stream) -> tuple:
    it = (await js.stream_info(stream)).state
    return it.messages, it.first_seq, it.last_seq


async def changes(js) -> None:
    """Which retentions may become which, and what never changes."""
    await js.add_stream(name="CH", subjects=["ch"], retention=RetentionPolicy.LIMITS)
    await js.publish("ch", b"nobody's")
    config = (await js.stream_info("CH")).config
    info = await js.update_stream(config.evolve(retention=RetentionPolicy.INTEREST))
    assert info.config.retention == RetentionPolicy.INTEREST, info
    await refused(js.update_stream(config.evolve(retention=RetentionPolicy.WORK_QUEUE)), 10052)
    await refused(js.update_stream(config.evolve(storage=StorageType.MEMORY)), 10052)
    assert (await js.update_stream(config.evolve(max_consumers=3))).config.max_consumers == 3
    await refused(js.update_stream(config.evolve(name="NONE")), 10059)
    info = await js.update_stream(config.evolve(retention=RetentionPolicy.LIMITS, subjects=["ch", "ch.>"]))
    assert (info.config.retention, info.config.subjects) == (RetentionPolicy.LIMITS, ["ch", "ch.>"]), info
    # Lower limits apply at once.
    for _ in range(9):
        await js.publish("ch", b"x")
    await js.update_stream(config.evolve(max_msgs=4, description="four"))
    assert (await state(js, "CH"))[0] == 4, await state(js, "CH")
    print("changes")


async def rollup(js) -> None:
    await js.add_stream(name="ROLL", subjects=["roll.>"], allow_rollup_hdrs=True)
    for number in range(10):
        await js.publish(f"roll.{number % 2}", b"%d" % number)
    await js.publish("roll.0", b"sum", headers={Header.ROLLUP: "sub"})
    assert await state(js, "ROLL") == (6, 2, 11), await state(js, "ROLL")
    await js.publish("roll.2", b"all", headers={Header.ROLLUP: "all"})
    assert await state(js, "ROLL") == (1, 12, 12), await state(js, "ROLL")
    await refused(js.publish("roll.2", b"all", headers={Header.ROLLUP: "some"}), 10111)
    await js.add_stream(name="FLAT", subjects=["flat"])
    await refused(js.publish("flat", b"x", headers={Header.ROLLUP: "sub"}), 10111)
    print("rollup")


async def full(js) -> None:
    """Full as a whole, full for one subject, too large, too old."""
    await js.add_stream(
        name="FULL", subjects=["full.>"], discard=DiscardPolicy.NEW, discard_new_per_subject=True,
        max_msgs_per_subject=2, max_msgs=5, max_msg_size=100,
    )  # fmt: skip
    for subject in ("full.a", "full.a", "full.b"):
        await js.publish(subject, b"x")
    await refused(js.publish("full.a", b"x"), 10077)
    await refused(js.publish("full.c", b"x" * 101), 10054)
    for subject in ("full.b", "full.c"):
        await js.publish(subject, b"x")
    await refused(js.publish("full.d", b"x"), 10077)
    assert await state(js, "FULL") == (5, 1, 5), await state(js, "FULL")
    await js.add_stream(name="OLD", subjects=["old.>"], max_msgs_per_subject=2, max_msgs=5, max_age=0.6)
    for number in range(10):
        await js.publish(f"old.{number % 4}", b"x")
    assert await state(js, "OLD") == (5, 6, 10), await state(js, "OLD")
    for _ in range(100):
        if await state(js, "OLD") == (0, 11, 10):
            break
        await asyncio.sleep(0.05)
    assert await state(js, "OLD") == (0, 11, 10), await state(js, "OLD")
    print("full")


async def forms(js) -> None:
    """First sequence, transform, republish, metadata, compression, memory, persistence."""
    heard = await js._nc.subscribe("again.>")
    await js.add_stream(
        StreamConfig(
            name="FORM", subjects=["in.*"], first_seq=1000, storage=StorageType.MEMORY,
            subject_transform=SubjectTransform(src="in.*", dest="stored.$1"),
            republish=RePublish(src="stored.>", dest="again.>"), metadata={"owner": "me"},
        )
    )  # fmt: skip
    ack = await js.publish("in.a", b"one")
    assert ack.seq == 1000, ack
    again = await heard.next_msg(timeout=10)
    assert (again.subject, again.data, again.headers["Nats-Sequence"]) == ("again.a", b"one", "1000"), again
    assert (again.headers["Nats-Stream"], again.headers["Nats-Subject"]) == ("FORM", "stored.a"), again.headers
    await js.publish("in.a", b"two")
    again = await heard.next_msg(timeout=10)
    assert again.headers["Nats-Last-Sequence"] == "1000", again.headers
    info = await js.stream_info("FORM", subjects_filter=">")
    assert info.state.subjects == {"stored.a": 2} and info.config.metadata["owner"] == "me", info
    config = info.config
    info = await js.update_stream(config.evolve(republish=RePublish(src="stored.>", dest="again.>", headers_only=True)))
    await js.publish("in.a", b"three")
    again = await heard.next_msg(timeout=10)
    assert (again.data, again.headers["Nats-Msg-Size"]) == (b"", "5"), again
    await refused(js.add_stream(name="LOOP", subjects=["loop.>"], republish=RePublish(src=">", dest="loop.x.>")), 10052)
    # Acknowledged before it is synced, because the stream says so.
    info = await js.add_stream(name="LAZY", subjects=["lazy"], persist_mode=PersistMode.ASYNC)
    assert info.config.persist_mode == PersistMode.ASYNC and (await js.publish("lazy", b"x")).seq == 1, info
    print("forms")


async def closed(js) -> None:
    """Sealed streams, and those that allow no removal."""
    await js.add_stream(name="KEEP", subjects=["keep"], deny_delete=True, deny_purge=True)
    for _ in range(3):
        await js.publish("keep", b"x")
    await refused(js.delete_msg("KEEP", 2), 10057)
    await refused(js.purge_stream("KEEP"), 10110)
    config = (await js.stream_info("KEEP")).config
    await refused(js.update_stream(config.evolve(deny_delete=False)), 10052)
    assert (await js.update_stream(config.evolve(sealed=True))).config.sealed
    try:
        await js.publish("keep", b"x", timeout=10)
        raise AssertionError("published into a sealed stream")
    except APIError as error:
        assert error.err_code == 10109, error
    await refused(js.update_stream(config), 10052)
    assert await state(js, "KEEP") == (3, 1, 3)
    print("closed")


async def direct(js) -> None:
    """One message, many, the last of many subjects, at a time before."""
    await js.add_stream(name="DIR", subjects=["dir.>"], allow_direct=True)
    for number in range(10):
        await js.publish(f"dir.{number % 3}", b"%d" % number)
    one = await js.get_msg("DIR", 4, direct=True)
    assert (one.subject, one.data, one.seq) == ("dir.0", b"3", 4), one
    after = await js.get_msg("DIR", 5, "dir.0", direct=True, next=True)
    assert (after.seq, after.data) == (7, b"6"), after
    last = await js.get_msg("DIR", subject="dir.1", direct=True)
    assert (last.seq, last.data) == (8, b"7"), last
    try:
        await js.get_msg("DIR", 99, direct=True)
        raise AssertionError("found")
    except NotFoundError:
        pass

    async def many(**request) -> list:
        inbox = js._nc.new_inbox()
        answers = await js._nc.subscribe(inbox)
        await js._nc.publish("$JS.API.DIRECT.GET.DIR", json.dumps(request).encode(), reply=inbox)
        got = []
        while True:
            message = await answers.next_msg(timeout=10)
            if "Status" in message.headers:
                got.append((message.headers["Status"], message.headers.get("Nats-Num-Pending")))
                break
            got.append(int(message.headers["Nats-Sequence"]))
        await answers.unsubscribe()
        return got

    assert await many(seq=3, batch=3) == [3, 4, 5, ("204", "5")], await many(seq=3, batch=3)
    assert await many(batch=10, next_by_subj="dir.1") == [2, 5, 8, ("204", "0")]
    assert await many(batch=10, max_bytes=1, seq=1) == [1, ("204", "9")], await many(batch=10, max_bytes=1, seq=1)
    assert await many(multi_last=["dir.>"]) == [8, 9, 10, ("204", "0")], await many(multi_last=["dir.>"])
    assert await many(multi_last=["dir.0", "dir.1"], up_to_seq=6) == [4, 5, ("204", "0")]
    assert await many(multi_last=["none.>"]) == [("404", None)], await many(multi_last=["none.>"])
    print("direct")


async def removed(js) -> None:
    """Erased bytes, purges of every form, deleted details, pages."""
    await js.add_stream(name="REM", subjects=["rem.>"])
    for number in range(20):
        await js.publish(f"rem.{number % 4}", b"%d" % number)
    assert await js.delete_msg("REM", 5)
    assert (await api(js, "STREAM.MSG.DELETE.REM", {"seq": 6, "no_erase": True}))["success"]
    await refused(js.delete_msg("REM", 5), 10043)
    await refused(js.get_msg("REM", 5), 10037)
    assert (await api(js, "STREAM.INFO.REM", {"deleted_details": True}))["state"]["deleted"] == [5, 6]
    assert await js.purge_stream("REM", subject="rem.3", keep=2)
    assert await js.purge_stream("REM", seq=4, subject="rem.0")
    info = await api(js, "STREAM.INFO.REM", {"deleted_details": True, "subjects_filter": "rem.*"})
    assert info["state"]["subjects"] == {"rem.0": 3, "rem.1": 4, "rem.2": 5, "rem.3": 2}, info
    assert info["state"]["deleted"] == [4, 5, 6, 8, 12], info
    assert (info["state"]["first_seq"], info["state"]["num_deleted"]) == (2, 5), info
    assert await js.purge_stream("REM", seq=10) and (await state(js, "REM"))[1] == 10
    assert await js.purge_stream("REM", keep=1) and await state(js, "REM") == (1, 20, 20)
    names = await api(js, "STREAM.NAMES", {"subject": "rem.9"})
    assert (names["streams"], names["total"]) == (["REM"], 1), names
    first = await api(js, "STREAM.NAMES", {"offset": 2})
    whole = await api(js, "STREAM.NAMES")
    assert first["streams"] == whole["streams"][2:] and first["offset"] == 2, first
    listed = await api(js, "STREAM.LIST", {"subject": "rem.>"})
    assert [each["config"]["name"] for each in listed["streams"]] == ["REM"], listed
    assert await js.find_stream_name_by_subject("rem.x") == "REM"
    print("removed")


async def limits(js) -> None:
    """What a stream says of its consumers."""
    await js.add_stream(
        name="LIM", subjects=["lim"], max_consumers=2,
        consumer_limits=StreamConsumerLimits(inactive_threshold=60, max_ack_pending=10),
    )  # fmt: skip
    info = await js.add_consumer("LIM", ConsumerConfig(durable_name="a", ack_policy=AckPolicy.EXPLICIT))
    assert (info.config.max_ack_pending, info.config.inactive_threshold) == (10, 60), info
    over = ConsumerConfig(durable_name="b", ack_policy=AckPolicy.EXPLICIT, max_ack_pending=11)
    await refused(js.add_consumer("LIM", over), 10121)
    over = ConsumerConfig(durable_name="b", ack_policy=AckPolicy.EXPLICIT, inactive_threshold=61)
    await refused(js.add_consumer("LIM", over), 10153)
    await js.add_consumer("LIM", ConsumerConfig(durable_name="b", ack_policy=AckPolicy.EXPLICIT))
    await refused(js.add_consumer("LIM", ConsumerConfig(durable_name="c")), 10026)
    print("limits")


async def expected(js) -> None:
    """What a publisher insists on."""
    await js.add_stream(name="EXP", subjects=["exp.>"])
    await js.publish("exp.a", b"x", headers={Header.MSG_ID: "1", Header.EXPECTED_LAST_SEQUENCE: "0"})
    assert (await js.publish("exp.a", b"x", headers={Header.MSG_ID: "1"})).duplicate
    await refused(js.publish("exp.b", b"x", headers={Header.EXPECTED_LAST_SEQUENCE: "5"}), 10071)
    await refused(js.publish("exp.b", b"x", headers={Header.EXPECTED_LAST_SUBJECT_SEQUENCE: "1"}), 10071)
    await refused(js.publish("exp.b", b"x", headers={Header.EXPECTED_LAST_MSG_ID: "2"}), 10070)
    await refused(js.publish("exp.b", b"x", stream="OTHER"), 10060)
    over = {"Nats-Expected-Last-Subject-Sequence": "1", "Nats-Expected-Last-Subject-Sequence-Subject": "exp.a"}
    assert (await js.publish("exp.b", b"x", headers=over)).seq == 2
    print("expected")


async def lives(js) -> None:
    """Messages of their own life time, and what is left in their place."""
    await js.add_stream(name="TTL", subjects=["ttl.>"], allow_msg_ttl=True, subject_delete_marker_ttl=1, max_age=60)
    await js.publish("ttl.a", b"short", msg_ttl=1)
    await js.publish("ttl.b", b"kept", headers={"Nats-TTL": "never"})
    await refused(js.publish("ttl.c", b"x", headers={"Nats-TTL": "0.1s"}), 10165)
    for _ in range(100):
        if (await js.stream_info("TTL")).state.last_seq == 3:
            break
        await asyncio.sleep(0.05)
    marker = await js.get_last_msg("TTL", "ttl.a")
    assert marker.headers["Nats-Marker-Reason"] == "MaxAge" and marker.headers["Nats-TTL"] == "1s", marker
    await js.add_stream(name="NOTTL", subjects=["nottl"])
    await refused(js.publish("nottl", b"x", msg_ttl=1), 10166)
    print("lives")


async def counters(js) -> None:
    await js.add_stream(name="CNT", subjects=["cnt.>"], allow_msg_counter=True, allow_direct=True)
    for step, value in (("+1", "1"), ("+41", "42"), ("-50", "-8"), ("0", "-8")):
        ack = await js.publish("cnt.a", b"", headers={"Nats-Incr": step})
        assert ack.val == value, ack
    assert json.loads((await js.get_last_msg("CNT", "cnt.a", direct=True)).data) == {"val": "-8"}
    large = await js.publish("cnt.b", b"", headers={"Nats-Incr": "+" + "9" * 40})
    assert large.val == "9" * 40, large
    await refused(js.publish("cnt.a", b"x", headers={"Nats-Incr": "1"}), 10170)
    await refused(js.publish("cnt.a", b""), 10169)
    await refused(js.publish("cnt.a", b"", headers={"Nats-Incr": "one"}), 10171)
    await js.add_stream(name="SUM", sources=[StreamSource(name="CNT")], allow_msg_counter=True)
    for _ in range(200):
        if (await js.stream_info("SUM")).state.messages == 5:
            break
        await asyncio.sleep(0.02)
    total = json.loads((await js.get_last_msg("SUM", "cnt.a")).data)
    assert total == {"val": "-8"}, total
    print("counters")


async def batches(js) -> None:
    """All or nothing, by headers."""
    await js.add_stream(name="BAT", subjects=["bat.>"], allow_atomic=True)

    def part(number, **more):
        return {"Nats-Batch-Id": "one", "Nats-Batch-Sequence": str(number), **more}

    first = await js._nc.request("bat.a", b"1", headers=part(1), timeout=10)
    assert first.data == b"", first
    await js._nc.publish("bat.b", b"2", headers=part(2))
    assert (await state(js, "BAT"))[0] == 0
    ack = await js.publish("bat.c", b"3", headers=part(3, **{"Nats-Batch-Commit": "1"}))
    assert (ack.seq, ack.batch_id, ack.batch_size) == (3, "one", 3), ack
    await refused(js.publish("bat.a", b"x", headers=part(2, **{"Nats-Batch-Commit": "1"})), 10176)
    assert await state(js, "BAT") == (3, 1, 3)
    await refused(js.publish("exp.a", b"x", headers=part(1)), 10174)
    print("batches")


async def fast(js) -> None:
    """Acknowledged many at a time; the library has no helper, so the reply subjects are made here: INBOX.ID.FLOW.GAP.NUMBER.OPERATION.$FI."""
    start, more, last, end, ping = range(5)
    await js.add_stream(name="FAST", subjects=["fast.>"], allow_batched=True)
    client, inbox = js._nc, js._nc.new_inbox()
    answers = await client.subscribe(f"{inbox}.>")

    async def send(id, number, operation, payload=b"", flow=10, gap="fail", headers=None):
        await client.publish("fast.a", payload, reply=f"{inbox}.{id}.{flow}.{gap}.{number}.{operation}.$FI", headers=headers)

    async def answer():
        return json.loads((await answers.next_msg(timeout=10)).data)

    await send("A", 1, start, b"1")
    assert (await answer())["type"] == "ack"
    for number in range(2, 100):
        await send("A", number, more, b"%d" % number)
    await send("A", 100, last, b"100")
    acks = []
    while (got := await answer()).get("type") == "ack":
        acks.append(got["seq"])
    assert acks == sorted(acks) and acks[-1] >= 90, acks
    assert (got["stream"], got["seq"], got["count"], got["batch"]) == ("FAST", 100, 100, "A"), got
    await send("B", 1, start, b"x")
    await send("B", 1, ping)
    assert [(await answer()).get("type") for _ in range(2)] == ["ack", "ack"]
    await send("B", 2, end)
    got = await answer()
    assert (got["seq"], got["count"]) == (101, 1), got
    for gap, stored in (("fail", 1), ("ok", 2)):
        await send("C" + gap, 1, start, b"x", gap=gap)
        assert (await answer())["type"] == "ack"
        await send("C" + gap, 4, last, b"x", gap=gap)
        assert (await answer())["type"] == "gap"
        got = await answer()
        assert got["stream"] == "FAST" and got["batch"] == "C" + gap, got
    assert (await state(js, "FAST"))[0] == 104, await state(js, "FAST")
    await client.publish("exp.a", b"x", reply=f"{inbox}.D.10.fail.1.0.$FI")
    assert (await answer())["error"]["err_code"] == 10205
    await send("E", 1, start, b"x", gap="maybe")
    assert (await answer())["error"]["err_code"] == 10206
    await answers.unsubscribe()
    print("fast")


async def schedules(js) -> None:
    """Published later, by the server."""
    await js.add_stream(name="SCH", subjects=["sch.>"], allow_msg_schedules=True, allow_msg_ttl=True)
    soon = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    later = {"Nats-Schedule": f"@at {soon}", "Nats-Schedule-Target": "sch.target", "Nats-Schedule-TTL": "60s"}
    await js.publish("sch.a", b"now", headers=later)
    for _ in range(200):
        if (await js.stream_info("SCH")).state.last_seq >= 2:
            break
        await asyncio.sleep(0.02)
    got = await js.get_last_msg("SCH", "sch.target")
    assert got.data == b"now" and got.headers["Nats-Scheduler"] == "sch.a" and got.headers["Nats-TTL"] == "60s", got
    assert got.headers["Nats-Schedule-Next"] == "purge", got.headers
    bad = {"Nats-Schedule": "@at never", "Nats-Schedule-Target": "sch.target"}
    await refused(js.publish("sch.b", b"x", headers=bad), 10189)
    print("schedules")


async def levels(js) -> None:
    """What the server says of itself, and what a request may require."""
    account = await js.account_info()
    assert account.api.level >= 2, account
    config = (await js.stream_info("TTL")).config
    assert int(config.metadata["_nats.req.level"]) >= 1 and "_nats.ver" in config.metadata, config.metadata
    require = {"Nats-Required-Api-Level": str(account.api.level + 1)}
    answer = await js._nc.request("$JS.API.INFO", b"", headers=require, timeout=10)
    assert json.loads(answer.data)["error"]["err_code"] == 10185, answer.data
    require = {"Nats-Required-Api-Level": str(account.api.level)}
    answer = await js._nc.request("$JS.API.INFO", b"", headers=require, timeout=10)
    assert "error" not in json.loads(answer.data), answer.data
    answer = await api(js, "STREAM.CREATE.STRICT", {"name": "STRICT", "subjects": ["strict"], "bogus": 1})
    assert answer["error"]["err_code"] == 10025, answer
    print("levels")


async def moved(js) -> None:
    """A snapshot taken in pieces, and restored under the same name."""
    client = js._nc
    await js.add_stream(name="SNAP", subjects=["snap.>"])
    for number in range(100):
        await js.publish(f"snap.{number % 7}", b"%d" % number * 50, headers={"N": str(number)})
    await js.add_consumer("SNAP", ConsumerConfig(durable_name="c", ack_policy=AckPolicy.EXPLICIT))
    before = (await js.stream_info("SNAP")).state
    inbox = client.new_inbox()
    pieces = await client.subscribe(inbox)
    opened = await api(js, "STREAM.SNAPSHOT.SNAP", {"deliver_subject": inbox, "chunk_size": 1024})
    assert opened["config"]["name"] == "SNAP" and opened["state"]["messages"] == 100, opened
    archive = []
    while True:
        piece = await pieces.next_msg(timeout=10)
        if piece.reply:
            await client.publish(piece.reply)
        if not piece.data:
            break
        archive.append(piece.data)
    assert await js.delete_stream("SNAP")
    restore = await api(js, "STREAM.RESTORE.SNAP", {"config": opened["config"], "state": opened["state"]})
    for piece in archive:
        answer = await client.request(restore["deliver_subject"], piece, timeout=10)
        assert not answer.data, answer.data
    done = json.loads((await client.request(restore["deliver_subject"], b"", timeout=10)).data)
    assert done["state"]["messages"] == 100, done
    after = (await js.stream_info("SNAP")).state
    assert (after.messages, after.bytes, after.last_seq) == (100, before.bytes, 100), after
    got = await js.get_msg("SNAP", 42)
    assert got.headers["N"] == "41" and got.data == b"41" * 50, got
    assert (await js.consumer_info("SNAP", "c")).num_pending == 100
    broken = await api(js, "STREAM.RESTORE.OTHER", {"config": {**opened["config"], "name": "OTHER", "subjects": ["o"]}})
    await client.request(broken["deliver_subject"], b"not an archive", timeout=10)
    done = json.loads((await client.request(broken["deliver_subject"], b"", timeout=10)).data)
    assert "error" in done and (await api(js, "STREAM.INFO.OTHER"))["error"]["err_code"] == 10059, done
    print("moved")


STEPS = (
    changes, rollup, full, forms, closed, direct, removed, limits, expected, lives, counters, batches, fast, schedules, levels, moved,
)  # fmt: skip


async def main(url: str) -> None:
    client = await nats.connect(url, connect_timeout=10)
    js = client.jetstream(timeout=10)
    for step in STEPS:
        await step(js)
    await client.close()


asyncio.run(main(sys.argv[1]))
