// Priority groups and resets by nats.js: edge_groups.mjs URL. Prints a line per step that went well.

import assert from "node:assert/strict";
import { nanos } from "@nats-io/nats-core";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

async function until(condition) {
  for (let round = 0; round < 400; round++) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  assert.fail(`not in time: ${condition}`);
}

async function publish(context, subject, count) {
  for (let number = 0; number < count; number++) await context.publish(subject, `${number}`);
}

async function pinned(manager, context) {
  const config = { durable_name: "pinned", ack_policy: AckPolicy.Explicit, filter_subject: "g.p" };
  const groups = { priority_policy: "pinned_client", priority_groups: ["all"], priority_timeout: nanos(60_000) };
  await manager.consumers.add("G", { ...config, ...groups });
  const counts = [0, 0];
  const clients = [];
  for (const which of [0, 1]) {
    const consumer = await context.consumers.get("G", "pinned");
    const callback = (message) => { counts[which]++; message.ack(); };
    clients.push(await consumer.consume({ group: "all", max_messages: 10, callback }));
    await publish(context, "g.p", 5);
    await until(() => counts[0] === 5 * (which + 1));
  }
  assert.deepEqual(counts, [10, 0]);
  const before = (await manager.consumers.info("G", "pinned")).priority_groups[0];
  assert.equal(before.group, "all");
  assert.ok(before.pinned_client_id);
  await manager.consumers.unpin("G", "pinned", "all");
  await publish(context, "g.p", 5);
  await until(() => counts[1] === 5);
  assert.equal(counts[0], 10);
  const after = (await manager.consumers.info("G", "pinned")).priority_groups[0];
  assert.notEqual(after.pinned_client_id, before.pinned_client_id);
  for (const client of clients) client.stop();
  console.log("pinned");
}

async function overflow(manager, context) {
  const config = { durable_name: "overflow", ack_policy: AckPolicy.Explicit, filter_subject: "g.o" };
  await manager.consumers.add("G", { ...config, priority_policy: "overflow", priority_groups: ["g"] });
  await publish(context, "g.o", 3);
  const consumer = await context.consumers.get("G", "overflow");
  const fetched = async (options) => {
    let count = 0;
    for await (const message of await consumer.fetch({ max_messages: 10, expires: 1000, ...options })) {
      message.ack();
      count++;
    }
    return count;
  };
  assert.equal(await fetched({ group: "g", min_pending: 4 }), 0);
  assert.equal(await fetched({ group: "g", min_pending: 3 }), 1);
  assert.equal(await fetched({ group: "g" }), 2);
  console.log("overflow");
}

async function reset(manager, context) {
  const answer = await manager.consumers.reset("G", "overflow", 1);
  assert.equal(answer.reset_seq, 1);
  assert.equal(answer.num_pending, 3);
  console.log("reset");
}

const client = await connect({ servers: process.argv[2] });
const manager = await jetstreamManager(client);
const context = jetstream(client);
await manager.streams.add({ name: "G", subjects: ["g.>"] });
for (const step of [pinned, overflow, reset]) await step(manager, context);
await client.close();
