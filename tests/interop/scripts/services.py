"""Services by the official framework, nats.micro: micro.py URL. Prints a line per step that went well; a stock server says the same."""

import asyncio
import json
import sys

import nats
from nats.micro import ServiceConfig, add_service
from nats.micro.request import ServiceError


async def all_answers(client, subject) -> list:
    """Everybody who answers; none comes after the first pause."""
    inbox = client.new_inbox()
    answers = await client.subscribe(inbox)
    await client.publish(subject, b"", reply=inbox)
    got = []
    while True:
        try:
            message = await answers.next_msg(timeout=5 if not got else 0.2)
        except nats.errors.TimeoutError:
            return got
        if message.headers and message.headers.get("Status") == "503":
            return got
        got.append(json.loads(message.data))


async def start(url, instance):
    client = await nats.connect(url)
    config = ServiceConfig(name="adder", version="1.2.3", description="adds", metadata={"instance": instance})
    service = await add_service(client, config)

    async def add(request):
        numbers = json.loads(request.data)
        if not numbers:
            raise ServiceError("400", "nothing to add")
        await request.respond(str(sum(numbers)).encode(), headers={"Instance": instance})

    async def fail(_request):
        raise RuntimeError("by design")

    await service.add_endpoint(name="add", handler=add, metadata={"kind": "sum"})
    group = service.add_group(name="v2", queue_group="others")
    await group.add_endpoint(name="sum", subject="sum.*", handler=add)
    await group.add_endpoint(name="fail", handler=fail)
    await client.flush()
    return client, service


async def requests(client) -> None:
    instances = set()
    for number in range(60):
        answer = await client.request("add", json.dumps([1, number]).encode(), timeout=10)
        assert int(answer.data) == number + 1, answer
        instances.add(answer.headers["Instance"])
    assert instances == {"a", "b"}, instances
    answer = await client.request("v2.sum.any", b"[2, 3]", timeout=10)
    assert answer.data == b"5", answer
    print("requests")


async def errors(client) -> None:
    answer = await client.request("add", b"[]", timeout=10)
    assert answer.headers["Nats-Service-Error-Code"] == "400", answer.headers
    assert answer.headers["Nats-Service-Error"] == "nothing to add", answer.headers
    answer = await client.request("v2.fail", b"", timeout=10)
    assert answer.headers["Nats-Service-Error-Code"] == "500", answer.headers
    print("errors")


async def discovery(client, services) -> None:
    ids = sorted(service.id for service in services)
    for subject in ("$SRV.PING", "$SRV.PING.adder"):
        pings = await all_answers(client, subject)
        assert sorted(ping["id"] for ping in pings) == ids, pings
    assert await all_answers(client, "$SRV.PING.nobody") == []
    (info,) = await all_answers(client, f"$SRV.INFO.adder.{ids[0]}")
    assert (info["version"], info["description"]) == ("1.2.3", "adds"), info
    found = {(each["name"], each["subject"], each["queue_group"]) for each in info["endpoints"]}
    assert found == {("add", "add", "q"), ("sum", "v2.sum.*", "others"), ("fail", "v2.fail", "others")}, info
    print("discovery")


async def counted(client) -> None:
    stats = await all_answers(client, "$SRV.STATS.adder")
    added = [each for stat in stats for each in stat["endpoints"] if each["name"] == "add"]
    assert sum(each["num_requests"] for each in added) == 61 and sum(each["num_errors"] for each in added) == 1, added
    failed = [each for stat in stats for each in stat["endpoints"] if each["name"] == "fail"]
    assert sum(each["num_errors"] for each in failed) == 1, failed
    print("counted")


async def stopped(client, services) -> None:
    await services[1].stop()
    (ping,) = await all_answers(client, "$SRV.PING")
    assert ping["id"] == services[0].id, ping
    for number in range(10):
        answer = await client.request("add", b"[1]", timeout=10)
        assert answer.headers["Instance"] == "a", answer.headers
    await services[0].stop()
    try:
        await client.request("add", b"[1]", timeout=10)
        raise AssertionError("a stopped service answers")
    except nats.errors.NoRespondersError:
        pass
    assert await all_answers(client, "$SRV.PING") == []
    print("stopped")


async def main(url: str) -> None:
    client = await nats.connect(url)
    started = [await start(url, instance) for instance in ("a", "b")]
    services = [service for _, service in started]
    await requests(client)
    await errors(client)
    await discovery(client, services)
    await counted(client)
    await stopped(client, services)
    for each, _ in started:
        await each.close()
    await client.close()


asyncio.run(main(sys.argv[1]))
