// Services by the official framework, @nats-io/services: services.mjs URL. Prints a line per step that went well; a stock server says the same.

import assert from "node:assert/strict";
import { connect } from "@nats-io/transport-node";
import { ServiceError, Svcm } from "@nats-io/services";

async function collected(answers) {
  const all = [];
  for await (const answer of await answers) all.push(answer);
  return all;
}

async function start(instance) {
  const client = await connect({ servers: process.argv[2] });
  const service = await new Svcm(client).add({ name: "adder", version: "1.2.3", description: "adds", metadata: { instance } });
  const add = (_error, message) => {
    const numbers = message.json();
    if (numbers.length === 0) message.respondError(400, "nothing to add");
    else message.respond(JSON.stringify({ sum: numbers.reduce((one, other) => one + other, 0), instance }));
  };
  service.addEndpoint("add", { handler: add, metadata: { kind: "sum" } });
  const group = service.addGroup("v2", "others");
  group.addEndpoint("sum", { subject: "sum.*", handler: add });
  group.addGroup("deep").addEndpoint("add", { handler: add, queue: "own" });
  await client.flush();
  return { client, service };
}

const client = await connect({ servers: process.argv[2] });
const started = [await start("a"), await start("b")];
const services = started.map((each) => each.service);
const ids = services.map((service) => service.info().id).sort();
const discovery = new Svcm(client).client({ strategy: "stall", maxWait: 2000 });

const instances = new Set();
for (let number = 0; number < 60; number++) {
  const { sum, instance } = (await client.request("add", `[1,${number}]`, { timeout: 10_000 })).json();
  assert.equal(sum, number + 1);
  instances.add(instance);
}
assert.equal(instances.size, 2);
for (const subject of ["v2.sum.any", "v2.deep.add"]) {
  assert.equal((await client.request(subject, "[2,3]", { timeout: 10_000 })).json().sum, 5);
}
console.log("requests");

const failed = await client.request("add", "[]", { timeout: 10_000 });
const error = ServiceError.toServiceError(failed);
assert.deepEqual([error.code, error.message], [400, "nothing to add"]);
console.log("errors");

assert.deepEqual((await collected(discovery.ping())).map((each) => each.id).sort(), ids);
assert.deepEqual((await collected(discovery.ping("adder"))).map((each) => each.id).sort(), ids);
const [info] = await collected(discovery.info("adder", ids[0]));
assert.deepEqual(
  info.endpoints.map((each) => [each.name, each.subject, each.queue_group]),
  [["add", "add", "q"], ["sum", "v2.sum.*", "others"], ["add", "v2.deep.add", "own"]],
);
console.log("discovery");

const stats = await collected(discovery.stats("adder"));
const added = stats.map((each) => each.endpoints.find((endpoint) => endpoint.subject === "add"));
assert.equal(added[0].num_requests + added[1].num_requests, 61);
services[0].reset();
const [fresh] = await collected(discovery.stats("adder", services[0].info().id));
assert.ok(fresh.endpoints.every((endpoint) => endpoint.num_requests === 0));
console.log("counted");

await services[1].stop();
assert.deepEqual((await collected(discovery.ping("adder"))).map((each) => each.id), [services[0].info().id]);
for (let number = 0; number < 5; number++) {
  assert.equal((await client.request("add", "[1]", { timeout: 10_000 })).json().instance, "a");
}
await services[0].stop();
await assert.rejects(client.request("add", "[1]", { timeout: 10_000 }), /no responders/i);
console.log("stopped");

for (const each of started) await each.client.close();
await client.close();
