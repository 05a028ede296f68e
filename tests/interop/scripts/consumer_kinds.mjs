// What a consumer can be told to do, by nats.js: consumer_kinds.mjs URL. Prints a line per step that went well; a stock server says the same.

import assert from "node:assert/strict";
import { nanos } from "@nats-io/nats-core";
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

async function until(condition) {
  for (let round = 0; round < 400; round++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail(`not in time: ${condition}`);
}

const refused = (call, code) => assert.rejects(call, (error) => error.code === code || assert.fail(`${error.code} ${error}`));

async function filled({ manager, context }, name, count) {
  await manager.streams.add({ name, subjects: [`${name.toLowerCase()}.>`] });
  for (let number = 0; number < count; number++) await context.publish(`${name.toLowerCase()}.${number % 3}`, `${number}`);
}

async function fetched(consumer, count, options = {}) {
  const messages = [];
  for await (const message of await consumer.fetch({ max_messages: count, expires: 1000, ...options })) messages.push(message);
  return messages;
}

async function taken({ manager, context }, stream, count, config) {
  const info = await manager.consumers.add(stream, { ack_policy: AckPolicy.None, ...config });
  return (await fetched(await context.consumers.get(stream, info.name), count)).map((message) => message.seq);
}

async function starts(it) {
  await filled(it, "ST", 10);
  assert.deepEqual(await taken(it, "ST", 1, { deliver_policy: DeliverPolicy.Last }), [10]);
  assert.deepEqual(await taken(it, "ST", 2, { deliver_policy: DeliverPolicy.StartSequence, opt_start_seq: 9 }), [9, 10]);
  assert.deepEqual(await taken(it, "ST", 3, { deliver_policy: DeliverPolicy.LastPerSubject, filter_subject: "st.>" }), [8, 9, 10]);
  assert.deepEqual(await taken(it, "ST", 6, { filter_subjects: ["st.1", "st.2"] }), [2, 3, 5, 6, 8, 9]);
  const time = (await it.manager.streams.getMessage("ST", { seq: 4 })).timestamp;
  assert.deepEqual(await taken(it, "ST", 7, { deliver_policy: DeliverPolicy.StartTime, opt_start_time: time }), [4, 5, 6, 7, 8, 9, 10]);
  await refused(it.manager.consumers.add("ST", { filter_subjects: ["st.1", "st.1"] }), 10138);
  console.log("starts");
}

async function acknowledged(it) {
  const { manager, context } = it;
  await filled(it, "ACK", 5);
  const info = { durable_name: "c", ack_policy: AckPolicy.Explicit, ack_wait: nanos(30_000), max_ack_pending: 4, max_deliver: 2 };
  await manager.consumers.add("ACK", info);
  const consumer = await context.consumers.get("ACK", "c");
  const [first, second, third, fourth] = await fetched(consumer, 4);
  assert.ok(await first.ackAck());
  second.nak();
  third.term("not wanted");
  fourth.working();
  const again = [];
  while (again.length < 2) again.push(...(await fetched(consumer, 2 - again.length)));
  again.sort((one, other) => one.seq - other.seq);
  assert.deepEqual(again.map((message) => [message.seq, message.info.deliveryCount]), [[2, 2], [5, 1]]);
  for (const message of [...again, fourth]) assert.ok(await message.ackAck());
  const end = await manager.consumers.info("ACK", "c");
  assert.deepEqual([end.ack_floor.stream_seq, end.num_ack_pending, end.num_pending], [5, 0, 0]);
  await manager.consumers.add("ACK", { durable_name: "slow", ack_policy: AckPolicy.Explicit, backoff: [nanos(100), nanos(200)], max_deliver: 3 });
  const slow = await context.consumers.get("ACK", "slow");
  const [one] = await fetched(slow, 1);
  let deliveries = [];
  while (deliveries.length < 2) {
    for (const message of await fetched(slow, 1)) {
      if (message.seq === one.seq) deliveries.push(message.info.deliveryCount);
      else message.ack();
    }
  }
  assert.deepEqual(deliveries, [2, 3]);
  console.log("acknowledged");
}

async function requests(it) {
  const { manager, context } = it;
  await filled(it, "REQ", 3);
  const limits = { max_batch: 2, max_expires: nanos(5000), max_bytes: 1000, max_waiting: 2 };
  await manager.consumers.add("REQ", { durable_name: "c", ack_policy: AckPolicy.None, ...limits });
  const consumer = await context.consumers.get("REQ", "c");
  const told = async (options) => {
    const messages = await consumer.fetch(options);
    const statuses = (async () => {
      for await (const status of messages.status()) if (status.type === "exceeded_limits") return status.description;
    })();
    const problem = (async () => {
      for await (const _ of messages);
    })().catch((error) => error.message);
    return Promise.race([statuses, problem.then((message) => message ?? statuses)]);
  };
  assert.match(await told({ max_messages: 3, expires: 1000 }), /maxrequestbatch/i);
  assert.match(await told({ max_messages: 1, expires: 6000 }), /maxrequestexpires/i);
  assert.equal((await fetched(consumer, 2)).length, 2);
  assert.equal((await consumer.next({ expires: 1000 })).seq, 3);
  assert.equal(await consumer.next({ expires: 1000 }), null);
  console.log("requests");
}

async function forms(it) {
  const { manager, context } = it;
  await filled(it, "FO", 3);
  const heads = { headers_only: true, mem_storage: true, metadata: { a: "b" }, name: "heads", ack_policy: AckPolicy.None };
  const info = await manager.consumers.add("FO", heads);
  assert.deepEqual([info.config.headers_only, info.config.metadata.a], [true, "b"]);
  const messages = await fetched(await context.consumers.get("FO", "heads"), 3);
  assert.deepEqual(messages.map((message) => [message.string(), message.headers.get("Nats-Msg-Size")]), Array(3).fill(["", "1"]));
  await manager.consumers.add("FO", { name: "idle", ack_policy: AckPolicy.None, inactive_threshold: nanos(300) });
  await until(async () => {
    const names = [];
    for await (const each of manager.consumers.list("FO")) names.push(each.name);
    return !names.includes("idle");
  });
  console.log("forms");
}

async function paused(it) {
  const { manager, context } = it;
  await filled(it, "PA", 2);
  await manager.consumers.add("PA", { durable_name: "c", ack_policy: AckPolicy.None });
  const later = new Date(Date.now() + 3_600_000);
  assert.ok((await manager.consumers.pause("PA", "c", later)).paused);
  const consumer = await context.consumers.get("PA", "c");
  assert.equal(await consumer.next({ expires: 1000 }), null);
  assert.ok((await manager.consumers.info("PA", "c")).paused);
  assert.equal((await manager.consumers.resume("PA", "c")).paused, false);
  assert.equal((await consumer.next({ expires: 1000 })).seq, 1);
  console.log("paused");
}

async function updated(it) {
  const { manager } = it;
  await filled(it, "UP", 4);
  const config = { durable_name: "c", ack_policy: AckPolicy.Explicit };
  await manager.consumers.add("UP", config);
  const changed = await manager.consumers.update("UP", "c", { max_deliver: 7, filter_subjects: ["up.0"], description: "changed" });
  assert.deepEqual([changed.config.max_deliver, changed.num_pending, changed.config.description], [7, 2, "changed"]);
  await refused(manager.consumers.add("UP", { ...config, ack_policy: AckPolicy.None }), 10148);
  await refused(manager.consumers.update("UP", "none", { max_deliver: 7 }), 10014);
  await refused(manager.consumers.info("UP", "none"), 10014);
  console.log("updated");
}

async function pushed(it) {
  const { client, manager, context } = it;
  await filled(it, "PU", 30);
  const config = { durable_name: "p", deliver_subject: "to.pu", deliver_group: "q", ack_policy: AckPolicy.Explicit, sample_freq: "100%" };
  await manager.consumers.add("PU", config);
  const samples = client.subscribe("$JS.EVENT.METRIC.CONSUMER.ACK.PU.p", { max: 1 });
  const seen = new Set();
  const members = [];
  for (let member = 0; member < 2; member++) {
    const consumer = await context.consumers.getBoundPushConsumer({ deliver_subject: "to.pu", deliver_group: "q" });
    members.push(await consumer.consume({ callback: (message) => { seen.add(message.seq); message.ack(); } }));
  }
  await until(() => seen.size === 30);
  await until(async () => (await manager.consumers.info("PU", "p")).ack_floor.stream_seq === 30);
  for await (const sample of samples) assert.equal(sample.json().consumer, "p");
  for (const member of members) await member.close();
  const ordered = await context.consumers.get("PU", { filter_subjects: ["pu.0", "pu.2"], deliver_policy: DeliverPolicy.All });
  const numbers = [];
  for await (const message of await ordered.consume()) {
    numbers.push(message.seq);
    if (numbers.length === 20) break;
  }
  assert.deepEqual(numbers, [...Array(30).keys()].map((at) => at + 1).filter((at) => at % 3 !== 2));
  console.log("pushed");
}

async function prioritized(it) {
  const { manager, context } = it;
  await manager.streams.add({ name: "PR", subjects: ["pr"] });
  await manager.consumers.add("PR", { durable_name: "c", ack_policy: AckPolicy.Explicit, priority_policy: "prioritized", priority_groups: ["g"] });
  const consumer = await context.consumers.get("PR", "c");
  const counts = [0, 0];
  const takers = [];
  for (const priority of [0, 5]) {
    const at = takers.length;
    const callback = (message) => { counts[at]++; message.ack(); };
    takers.push(await consumer.consume({ group: "g", priority, max_messages: 20, callback }));
  }
  await until(async () => (await manager.consumers.info("PR", "c")).num_waiting === 2);
  for (let number = 0; number < 10; number++) await context.publish("pr", `${number}`);
  await until(() => counts[0] + counts[1] === 10);
  assert.deepEqual(counts, [10, 0]);
  for (const taker of takers) await taker.close();
  console.log("prioritized");
}

async function told(it) {
  const { client, manager } = it;
  const kinds = [];
  client.subscribe("$JS.EVENT.ADVISORY.>", { callback: (_error, message) => {
    const event = message.json();
    if ((event.stream ?? "AD") === "AD") kinds.push(event.type.split(".").at(-1));
  } });
  await filled(it, "AD", 1);
  await manager.consumers.add("AD", { durable_name: "c", ack_policy: AckPolicy.Explicit });
  await manager.consumers.delete("AD", "c");
  await manager.streams.delete("AD");
  await until(() => kinds.filter((kind) => kind === "stream_action").length === 2 && kinds.filter((kind) => kind === "consumer_action").length === 2);
  assert.ok(kinds.includes("api_audit"));
  console.log("told");
}

const client = await connect({ servers: process.argv[2] });
const it = { client, manager: await jetstreamManager(client), context: jetstream(client) };
for (const step of [starts, acknowledged, requests, forms, paused, updated, pushed, prioritized, told]) await step(it);
await client.close();
