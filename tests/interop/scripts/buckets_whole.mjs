// Key-value and object buckets in every operation of nats.js: buckets_whole.mjs URL. Prints a line per step that went well; a stock server says the same.

import assert from "node:assert/strict";
import { headers } from "@nats-io/nats-core";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { Kvm, KvWatchInclude } from "@nats-io/kv";
import { Objm } from "@nats-io/obj";
import { connect } from "@nats-io/transport-node";

async function until(condition) {
  for (let round = 0; round < 400; round++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail(`not in time: ${condition}`);
}

async function take(entries, count) {
  const taken = [];
  if (count === 0) return taken;
  for await (const entry of entries) {
    taken.push(entry);
    if (taken.length === count) break;
  }
  return taken;
}

const shown = (entries) => entries.map((entry) => [entry.key, entry.string(), entry.operation]);

async function values({ kvm }) {
  const options = { history: 3, maxValueSize: 200, max_bytes: 100_000, compression: true, description: "some", metadata: { a: "b" } };
  const kv = await kvm.create("B", options);
  assert.deepEqual([await kv.put("a.1", "1"), await kv.create("a.2", "2")], [1, 2]);
  await assert.rejects(kv.create("a.2", "x"), /wrong last sequence/);
  await assert.rejects(kv.put("a.1", "x".repeat(201)), /message size exceeds/);
  await assert.rejects(kv.put("a.1", "x", { previousSeq: 7 }), /wrong last sequence/);
  assert.equal(await kv.update("a.1", "3", 1), 3);
  await assert.rejects(kv.update("a.1", "x", 1), /wrong last sequence/);
  assert.deepEqual([(await kv.get("a.1", { revision: 1 })).string(), await kv.get("a.1", { revision: 2 })], ["1", null]);
  await kv.delete("a.2");
  assert.equal((await kv.get("a.2")).operation, "DEL");
  assert.equal(await kv.create("a.2", "again"), 5);
  await assert.rejects(kv.delete("a.2", { previousSeq: 1 }), /wrong last sequence/);
  await kv.purge("a.1");
  assert.deepEqual(shown(await take(await kv.history({ key: "a.1" }), 1)), [["a.1", "", "PURGE"]]);
  const keys = [];
  for await (const key of await kv.keys("a.*")) keys.push(key);
  assert.deepEqual(keys, ["a.2"]);
  await kv.purgeDeletes(0);
  assert.equal(await kv.get("a.1"), null);
  const status = await kv.status();
  assert.deepEqual([status.history, status.compression, status.metadata.a, status.maxValueSize], [3, true, "b", 200]);
  assert.ok(await kv.destroy());
  await assert.rejects(kv.status(), /stream not found/);
  console.log("values");
}

async function watched({ kvm }) {
  const kv = await kvm.create("W", { history: 5, storage: "memory" });
  for (const [key, value] of [["a", "1"], ["b", "2"], ["a", "3"]]) await kv.put(key, value);
  await kv.delete("b");
  const everything = await kv.watch({ include: KvWatchInclude.AllHistory });
  const last = await kv.watch();
  const present = await kv.watch({ ignoreDeletes: true });
  const updates = await kv.watch({ include: KvWatchInclude.UpdatesOnly });
  const later = await kv.watch({ resumeFromRevision: 3 });
  const heads = await kv.watch({ key: "a", headers_only: true });
  await kv.put("b", "4");
  await kv.purge("a");
  const end = [["b", "4", "PUT"], ["a", "", "PURGE"]];
  const deleted = ["b", "", "DEL"];
  // The history of a purged key may be gone before the watcher saw it.
  const [b] = shown(await take(present, 2)).slice(-1);
  assert.deepEqual(b, end[0]);
  assert.deepEqual(shown(await take(updates, 2)), end);
  for (const watcher of [everything, last, later]) {
    const seen = [];
    for await (const entry of watcher) {
      seen.push([entry.key, entry.string(), entry.operation]);
      if (entry.operation === "PURGE") break;
    }
    assert.deepEqual(seen.slice(-3), [deleted, ...end]);
  }
  for await (const entry of heads) {
    assert.equal(entry.string(), "");
    if (entry.operation === "PURGE") break;
  }
  console.log("watched");
}

async function lives({ kvm, manager }) {
  const kv = await kvm.create("L", { markerTTL: 1000, history: 2 });
  await kv.create("short", "x", "1s");
  await kv.put("long", "y");
  await kv.put("purged", "z");
  await kv.purge("purged", { ttl: "1s" });
  const seen = await take(await kv.watch(), 4);
  assert.deepEqual(seen.slice(0, 3).map((entry) => entry.key), ["short", "long", "purged"]);
  assert.deepEqual([seen[3].key, seen[3].string()], ["short", ""]);
  const marker = await manager.direct.getMessage("KV_L", { last_by_subj: "$KV.L.short" });
  assert.equal(marker.header.get("Nats-Marker-Reason"), "MaxAge");
  assert.equal((await kv.status()).markerTTL, 1000);
  console.log("lives");
}

async function told({ client, kvm }) {
  const heard = client.subscribe("heard.>", { max: 1 });
  const kv = await kvm.create("R", { republish: { src: ">", dest: "heard.>" }, max_bytes: 300 });
  await kv.put("k", "v");
  for await (const message of heard) assert.deepEqual([message.subject, message.string()], ["heard.$KV.R.k", "v"]);
  await assert.rejects(kv.put("large", "x".repeat(300)), /maximum bytes exceeded/);
  console.log("told");
}

async function copies({ kvm, manager }) {
  const one = await kvm.create("ONE");
  await one.put("k.ONE", "ONE");
  await (await kvm.create("TWO")).put("k.TWO", "TWO");
  await kvm.create("MIRROR", { mirror: { name: "ONE" } });
  // The library looks for the values under the mirror's own name.
  const held = async (key) => (await manager.streams.getMessage("KV_MIRROR", { last_by_subj: `$KV.ONE.${key}` }))?.string();
  await until(async () => (await held("k.ONE")) === "ONE");
  await one.put("k.NEW", "mirrored");
  await until(async () => (await held("k.NEW")) === "mirrored");
  const sum = await kvm.create("SUM", { sources: [{ name: "ONE" }, { name: "TWO" }] });
  await until(async () => (await sum.get("k.ONE")) && (await sum.get("k.TWO")));
  assert.equal((await sum.get("k.TWO")).string(), "TWO");
  const names = [];
  for await (const status of kvm.list()) names.push(status.bucket);
  assert.deepEqual(names.sort(), ["L", "MIRROR", "ONE", "R", "SUM", "TWO", "W"]);
  console.log("copies");
}

const blob = async (bucket, name) => new TextDecoder().decode(await bucket.getBlob(name));

async function objects({ objm }) {
  const bucket = await objm.create("O", { description: "objects", metadata: { a: "b" }, compression: true });
  const large = new Uint8Array(600_000).map((_, at) => at % 251);
  const sent = headers();
  sent.set("A", "b");
  const info = await bucket.putBlob({ name: "large", description: "much", headers: sent, options: { max_chunk_size: 5000 } }, large);
  assert.deepEqual([info.size, info.chunks, info.description], [600_000, 120, "much"]);
  assert.deepEqual(await bucket.getBlob("large"), large);
  const parts = (async function* () {
    for (let part = 0; part < 5; part++) yield new TextEncoder().encode(`part ${part};`);
  })();
  await bucket.put({ name: "parts" }, ReadableStream.from(parts));
  assert.equal(await blob(bucket, "parts"), "part 0;part 1;part 2;part 3;part 4;");
  await bucket.putBlob({ name: "empty" }, new Uint8Array(0));
  assert.equal(await blob(bucket, "empty"), "");
  assert.equal(await bucket.info("none"), null);
  assert.equal(await bucket.get("none"), null);
  const watcher = await bucket.watch({ includeHistory: true });
  assert.deepEqual((await take(watcher, 3)).map((each) => each.name), ["large", "parts", "empty"]);
  await bucket.update("parts", { name: "renamed", description: "better", metadata: { c: "d" } });
  assert.deepEqual([(await bucket.info("renamed")).description, await bucket.info("parts")], ["better", null]);
  assert.equal(await blob(bucket, "renamed"), "part 0;part 1;part 2;part 3;part 4;");
  await bucket.putBlob({ name: "empty" }, new TextEncoder().encode("full"), { previousRevision: (await bucket.info("empty")).revision });
  await assert.rejects(bucket.putBlob({ name: "empty" }, new Uint8Array(1), { previousRevision: 1 }), /wrong last sequence/);
  assert.equal(await blob(bucket, "empty"), "full");
  await bucket.delete("large");
  assert.equal((await bucket.info("large")).deleted, true);
  assert.deepEqual((await bucket.list()).filter((each) => !each.deleted).map((each) => each.name).sort(), ["empty", "renamed"]);
  const status = await bucket.status();
  assert.deepEqual([status.description, status.compression, status.metadata.a, status.sealed], ["objects", true, "b", false]);
  assert.ok(status.size < 10_000, `${status.size} bytes are left`);
  console.log("objects");
}

async function links({ objm }) {
  const bucket = await objm.open("O");
  const other = await objm.create("P", { storage: "memory" });
  await other.putBlob({ name: "far" }, new TextEncoder().encode("from afar"));
  await bucket.link("near", await bucket.info("empty"));
  await bucket.link("far", await other.info("far"));
  assert.deepEqual([await blob(bucket, "near"), await blob(bucket, "far")], ["full", "from afar"]);
  const linked = await bucket.linkStore("store", other);
  assert.deepEqual(linked.options.link, { bucket: "P" });
  await assert.rejects(bucket.link("again", await bucket.info("near")), /link/);
  const sealed = await bucket.seal();
  assert.equal(sealed.sealed, true);
  await assert.rejects(bucket.putBlob({ name: "more" }, new Uint8Array(1)), /sealed/);
  const names = [];
  for await (const status of objm.list()) names.push(status.bucket);
  assert.deepEqual(names.sort(), ["O", "P"]);
  for (const each of [bucket, other]) assert.ok(await each.destroy());
  await assert.rejects(bucket.status(), /not found/);
  console.log("links");
}

const client = await connect({ servers: process.argv[2] });
const it = { client, manager: await jetstreamManager(client), kvm: new Kvm(jetstream(client)), objm: new Objm(jetstream(client)) };
for (const step of [values, watched, lives, told, copies, objects, links]) await step(it);
await client.close();
