// Core messages and JetStream by nats.js, by every URL given: edge_nats.mjs URL... Prints a line per step that went well.

import assert from "node:assert/strict";
import { headers, wsconnect } from "@nats-io/nats-core";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { WebSocket } from "ws";

// Node below 22 has no WebSocket of its own.
globalThis.WebSocket ??= WebSocket;

async function core(client) {
  client.subscribe("echo", { queue: "q", callback: (_error, message) => message.respond(message.data) });
  const answer = await client.request("echo", "hello", { timeout: 10_000 });
  assert.equal(answer.string(), "hello");
  await assert.rejects(client.request("nobody", "", { timeout: 10_000 }), /no responders/i);
  const subscription = client.subscribe("head.*", { max: 1 });
  const sent = headers();
  sent.append("Unit", "C");
  client.publish("head.er", "body", { headers: sent });
  for await (const message of subscription) {
    assert.equal(message.string(), "body");
    assert.equal(message.headers.get("Unit"), "C");
  }
  // Larger than one WebSocket frame buffer.
  const large = client.subscribe("large", { max: 1 });
  client.publish("large", new Uint8Array(300_000).fill(7));
  for await (const message of large) {
    assert.equal(message.data.length, 300_000);
    assert.ok(message.data.every((byte) => byte === 7));
  }
  console.log("core");
}

async function stream(client) {
  const manager = await jetstreamManager(client);
  await manager.streams.add({ name: "JS", subjects: ["js.>"] });
  const context = jetstream(client);
  for (let number = 1; number <= 20; number++) {
    const ack = await context.publish("js.a", `${number}`);
    assert.deepEqual([ack.stream, ack.seq], ["JS", number]);
  }
  const again = [await context.publish("js.b", "", { msgID: "1" }), await context.publish("js.b", "", { msgID: "1" })];
  assert.deepEqual(again.map((ack) => [ack.seq, ack.duplicate]), [[21, false], [21, true]]);
  const message = await manager.streams.getMessage("JS", { seq: 7 });
  assert.equal(message.string(), "7");
  console.log("stream");
}

async function consumer(client) {
  const manager = await jetstreamManager(client);
  await manager.consumers.add("JS", { durable_name: "pull", ack_policy: AckPolicy.Explicit, filter_subject: "js.a" });
  const pull = await jetstream(client).consumers.get("JS", "pull");
  const seen = [];
  for await (const message of await pull.consume({ max_messages: 10 })) {
    if (message.seq === 3 && !message.redelivered) {
      message.nak();
      continue;
    }
    assert.ok(await message.ackAck());
    seen.push(message.seq);
    if (seen.length === 20) break;
  }
  assert.deepEqual(seen.sort((a, b) => a - b), Array.from({ length: 20 }, (_, index) => index + 1));
  const info = await manager.consumers.info("JS", "pull");
  assert.deepEqual([info.num_pending, info.num_ack_pending], [0, 0]);
  console.log("consumer");
}

async function remove(client) {
  const manager = await jetstreamManager(client);
  assert.equal((await manager.streams.purge("JS")).purged, 21);
  assert.ok(await manager.consumers.delete("JS", "pull"));
  assert.ok(await manager.streams.delete("JS"));
  await assert.rejects(manager.streams.info("JS"), /stream not found/);
  console.log("removed");
}

for (const url of process.argv.slice(2)) {
  const dial = url.startsWith("ws") ? wsconnect : connect;
  const client = await dial({ servers: url });
  for (const step of [core, stream, consumer, remove]) {
    await step(client);
  }
  await client.close();
}
