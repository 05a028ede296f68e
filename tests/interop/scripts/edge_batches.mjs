// Atomic batches and fast ingest by nats.js: edge_batches.mjs URL. Prints a line per step that went well.

import assert from "node:assert/strict";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { startFastIngest } from "@nats-io/jetstream/internal";
import { connect } from "@nats-io/transport-node";

const MESSAGES = 500;

async function atomic(client) {
  const manager = await jetstreamManager(client);
  await manager.streams.add({ name: "ATOMIC", subjects: ["atomic.>"], allow_atomic: true });
  const context = jetstream(client);
  const batch = await context.startBatch("atomic.a", "first");
  await batch.add("atomic.b", "second", { ack: true });
  for (let number = 3; number < MESSAGES; number++) batch.add("atomic.c", `${number}`);
  assert.equal((await manager.streams.info("ATOMIC")).state.messages, 0);
  const ack = await batch.commit("atomic.d", "last");
  assert.deepEqual([ack.stream, ack.seq, ack.count, ack.batch], ["ATOMIC", MESSAGES, MESSAGES, batch.id]);
  assert.equal((await manager.streams.getMessage("ATOMIC", { seq: MESSAGES })).string(), "last");
  const large = await context.startBatch("atomic.a", "first");
  for (let number = 2; number < 1002; number++) large.add("atomic.a", "x");
  await assert.rejects(large.commit("atomic.a", "last"));
  assert.equal((await manager.streams.info("ATOMIC")).state.messages, MESSAGES);
  console.log("atomic");
}

async function fast(client) {
  const manager = await jetstreamManager(client);
  await manager.streams.add({ name: "FAST", subjects: ["fast.>"], allow_batched: true });
  const batch = await startFastIngest(client, "fast.a", "1", { ackInterval: 50 });
  for (let number = 2; number < MESSAGES; number++) await batch.add("fast.a", `${number}`);
  const { ackSeq } = await batch.ping();
  assert.ok(ackSeq > MESSAGES - 100, `${ackSeq}`);
  const ack = await batch.last("fast.a", `${MESSAGES}`);
  assert.deepEqual([ack.stream, ack.seq, ack.count], ["FAST", MESSAGES, MESSAGES]);
  const ended = await startFastIngest(client, "fast.b", "1", { ackInterval: 50 });
  await ended.add("fast.b", "2");
  assert.deepEqual([(await ended.end()).seq, (await ended.done()).count], [MESSAGES + 2, 2]);
  assert.equal((await manager.streams.info("FAST")).state.messages, MESSAGES + 2);
  console.log("fast");
}

async function refused(client) {
  const manager = await jetstreamManager(client);
  await manager.streams.add({ name: "PLAIN", subjects: ["plain"] });
  await assert.rejects(jetstream(client).startBatch("plain", "x"), { code: 10174 });
  await assert.rejects(startFastIngest(client, "plain", "x", {}), { code: 10205 });
  console.log("refused");
}

const client = await connect({ servers: process.argv[2] });
for (const step of [atomic, fast, refused]) {
  await step(client);
}
await client.close();
