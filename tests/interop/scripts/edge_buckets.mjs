// Push and ordered consumers and key-value buckets by nats.js: edge_buckets.mjs URL. Prints a line per step that went well.

import assert from "node:assert/strict";
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm, KvWatchInclude } from "@nats-io/kv";
import { connect } from "@nats-io/transport-node";

const MESSAGES = 500;

async function take(messages, count) {
  const taken = [];
  for await (const message of messages) {
    taken.push(message);
    if (taken.length === count) break;
  }
  return taken;
}

async function push(client) {
  const manager = await jetstreamManager(client);
  await manager.streams.add({ name: "PUSH", subjects: ["push.>"] });
  const context = jetstream(client);
  for (let number = 0; number < MESSAGES; number++) {
    await context.publish("push.a", `${number}`);
  }
  await manager.consumers.add("PUSH", {
    durable_name: "kept",
    deliver_subject: "to.kept",
    ack_policy: AckPolicy.Explicit,
    flow_control: true,
    idle_heartbeat: 500_000_000,
  });
  const consumer = await context.consumers.getPushConsumer("PUSH", "kept");
  const messages = await consumer.consume();
  for (const [number, message] of (await take(messages, MESSAGES)).entries()) {
    assert.equal(message.string(), `${number}`);
    message.ack();
  }
  await client.flush();
  const info = await manager.consumers.info("PUSH", "kept");
  assert.deepEqual([info.num_ack_pending, info.ack_floor.stream_seq], [0, MESSAGES]);
  console.log("push");
}

async function ordered(client) {
  const context = jetstream(client);
  const pulled = await context.consumers.get("PUSH", { filter_subjects: "push.a" });
  const pushed = await context.consumers.getPushConsumer("PUSH", { deliver_policy: DeliverPolicy.All });
  for (const consumer of [pulled, pushed]) {
    const messages = await take(await consumer.consume(), MESSAGES);
    assert.deepEqual(messages.map((message) => Number(message.string())), [...Array(MESSAGES).keys()]);
  }
  console.log("ordered");
}

async function values(client) {
  const buckets = new Kvm(client);
  const bucket = await buckets.create("B", { history: 5, ttl: 3_600_000, max_bytes: 1 << 20 });
  assert.equal(await bucket.put("a", "1"), 1);
  assert.equal(await bucket.create("b", "2"), 2);
  await assert.rejects(bucket.create("b", "x"), /wrong last sequence/);
  await assert.rejects(bucket.update("a", "x", 7), /wrong last sequence/);
  assert.equal(await bucket.update("a", "3", 1), 3);
  assert.deepEqual([(await bucket.get("a")).string(), (await bucket.get("a", { revision: 1 })).string()], ["3", "1"]);
  assert.equal(await bucket.get("nothing"), null);
  await bucket.delete("b");
  const history = [];
  for await (const entry of await bucket.history({ key: "b" })) history.push([entry.revision, entry.operation]);
  assert.deepEqual(history, [[2, "PUT"], [4, "DEL"]]);
  const keys = [];
  for await (const key of await bucket.keys()) keys.push(key);
  assert.deepEqual(keys, ["a"]);
  const status = await bucket.status();
  assert.deepEqual([status.values, status.history, status.ttl], [4, 5, 3_600_000]);
  console.log("values");
}

async function watch(client) {
  const buckets = new Kvm(client);
  const bucket = await buckets.open("B");
  const fresh = await bucket.watch({ include: KvWatchInclude.UpdatesOnly });
  const all = await bucket.watch({ ignoreDeletes: true });
  for (let number = 0; number < 100; number++) await bucket.put(`c.${number % 2}`, `${number}`);
  const updates = await take(fresh, 100);
  assert.deepEqual(updates.map((entry) => Number(entry.string())), [...Array(100).keys()]);
  const seen = await take(all, 101);
  assert.deepEqual([seen[0].key, seen[100].string()], ["a", "99"]);
  await bucket.purge("c.1");
  assert.equal((await bucket.get("c.1")).operation, "PURGE");
  const names = [];
  for await (const status of buckets.list()) names.push(status.bucket);
  assert.deepEqual(names, ["B"]);
  assert.ok(await bucket.destroy());
  console.log("watch");
}

const client = await connect({ servers: process.argv[2] });
for (const step of [push, ordered, values, watch]) {
  await step(client);
}
await client.close();
