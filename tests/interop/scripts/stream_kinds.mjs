// What a stream can be told to do, by nats.js: stream_kinds.mjs URL. Prints a line per step that went well; a stock server says the same.

import assert from "node:assert/strict";
import { headers, nanos } from "@nats-io/nats-core";
import { jetstream, jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";

async function until(condition) {
  for (let round = 0; round < 400; round++) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail(`not in time: ${condition}`);
}

const refused = (call, code) => assert.rejects(call, (error) => (error.code ?? error.api_error?.err_code) === code || assert.fail(`${error}`));

async function drained(messages) {
  const all = [];
  for await (const message of messages) all.push(message);
  return all;
}

const state = async ({ manager }, name) => {
  const { messages, first_seq, last_seq } = (await manager.streams.info(name)).state;
  return [messages, first_seq, last_seq];
};

async function retention(it) {
  const { manager, context } = it;
  await manager.streams.add({ name: "WQ", subjects: ["wq.>"], retention: "workqueue", storage: "memory" });
  await refused(manager.streams.update("WQ", { retention: "limits" }), 10052);
  await refused(manager.consumers.add("WQ", { durable_name: "n", ack_policy: "none" }), 10084);
  await manager.consumers.add("WQ", { durable_name: "a", ack_policy: "explicit", filter_subject: "wq.a" });
  await refused(manager.consumers.add("WQ", { durable_name: "b", ack_policy: "explicit", filter_subject: "wq.*" }), 10100);
  for (const subject of ["wq.a", "wq.b", "wq.a"]) await context.publish(subject, "x");
  const consumer = await context.consumers.get("WQ", "a");
  for await (const message of await consumer.fetch({ max_messages: 2, expires: 1000 })) assert.ok(await message.ackAck());
  assert.deepEqual(await state(it, "WQ"), [1, 2, 3]);
  await manager.streams.add({ name: "INT", subjects: ["int"], retention: "interest" });
  await context.publish("int", "nobody");
  assert.deepEqual(await state(it, "INT"), [0, 2, 1]);
  await manager.consumers.add("INT", { durable_name: "a", ack_policy: "explicit" });
  await context.publish("int", "somebody");
  assert.deepEqual(await state(it, "INT"), [1, 2, 2]);
  await manager.streams.update("INT", { retention: "limits" });
  await manager.consumers.delete("INT", "a");
  assert.deepEqual(await state(it, "INT"), [1, 2, 2]);
  console.log("retention");
}

async function limits(it) {
  const { manager, context } = it;
  const subject = { max_msgs_per_subject: 1, discard: "new", discard_new_per_subject: true };
  await manager.streams.add({ name: "ONCE", subjects: ["once.>"], ...subject });
  await context.publish("once.a", "x");
  await refused(context.publish("once.a", "y"), 10077);
  await context.publish("once.b", "x");
  await manager.streams.add({ name: "BYTES", subjects: ["bytes"], max_bytes: 200, max_msg_size: 100 });
  for (let number = 0; number < 10; number++) await context.publish("bytes", "x".repeat(50));
  const { messages, bytes } = (await manager.streams.info("BYTES")).state;
  assert.ok(bytes <= 200 && messages === 2, `${bytes} ${messages}`);
  await refused(context.publish("bytes", "x".repeat(101)), 10054);
  const one = await manager.streams.add({ name: "FEW", subjects: ["few"], max_consumers: 1, first_seq: 50 });
  assert.deepEqual([one.state.first_seq, one.state.last_seq], [50, 49]);
  await manager.consumers.add("FEW", { durable_name: "a" });
  await refused(manager.consumers.add("FEW", { durable_name: "b" }), 10026);
  const allowed = { inactive_threshold: nanos(60_000), max_ack_pending: 3 };
  await manager.streams.add({ name: "CLIM", subjects: ["clim"], consumer_limits: allowed });
  await refused(manager.consumers.add("CLIM", { durable_name: "a", ack_policy: "explicit", max_ack_pending: 4 }), 10121);
  console.log("limits");
}

async function rollup(it) {
  const { manager, context } = it;
  await manager.streams.add({ name: "ROLL", subjects: ["roll.>"], allow_rollup_hdrs: true, deny_delete: true, deny_purge: false });
  for (let number = 0; number < 6; number++) await context.publish(`roll.${number % 2}`, `${number}`);
  const all = headers();
  all.set("Nats-Rollup", "sub");
  await context.publish("roll.1", "sum", { headers: all });
  assert.deepEqual(await state(it, "ROLL"), [4, 1, 7]);
  await refused(manager.streams.deleteMessage("ROLL", 1), 10057);
  await refused(manager.streams.update("ROLL", { deny_delete: false }), 10052);
  await manager.streams.update("ROLL", { sealed: true });
  await refused(context.publish("roll.1", "x"), 10109);
  console.log("rollup");
}

async function paths({ client, manager, context }) {
  const transform = { subject_transform: { src: "in.*", dest: "kept.{{wildcard(1)}}" } };
  await manager.streams.add({ name: "PATH", subjects: ["in.*"], republish: { src: "kept.*", dest: "out.$1" }, metadata: { a: "b" }, ...transform });
  const heard = client.subscribe("out.*", { max: 2 });
  await client.flush();
  for (const each of ["x", "y"]) await context.publish(`in.${each}`, each);
  const got = await drained(heard);
  assert.deepEqual(got.map((m) => [m.subject, m.string(), m.headers.get("Nats-Sequence")]), [["out.x", "x", "1"], ["out.y", "y", "2"]]);
  const info = await manager.streams.info("PATH", { subjects_filter: ">" });
  assert.deepEqual(info.state.subjects, { "kept.x": 1, "kept.y": 1 });
  assert.equal(info.config.metadata.a, "b");
  await manager.streams.add({ name: "MIR", mirror: { name: "PATH", filter_subject: "kept.y" } });
  await manager.streams.add({ name: "SRC", sources: [{ name: "PATH", subject_transforms: [{ src: "kept.>", dest: "sourced.>" }] }] });
  await until(async () => (await manager.streams.info("MIR")).state.messages === 1);
  await until(async () => (await manager.streams.info("SRC")).state.messages === 2);
  assert.equal((await manager.streams.getMessage("MIR", { seq: 2 })).string(), "y");
  assert.equal((await manager.streams.getMessage("SRC", { last_by_subj: "sourced.x" })).string(), "x");
  await refused(manager.streams.update("MIR", { mirror: { name: "SRC" } }), 10055);
  console.log("paths");
}

async function direct({ manager, context }) {
  await manager.streams.add({ name: "DIR", subjects: ["dir.>"], allow_direct: true });
  for (let number = 0; number < 10; number++) await context.publish(`dir.${number % 3}`, `${number}`);
  const { direct } = manager;
  assert.equal((await direct.getMessage("DIR", { seq: 4 })).string(), "3");
  assert.equal((await direct.getMessage("DIR", { last_by_subj: "dir.1" })).seq, 8);
  assert.equal((await direct.getMessage("DIR", { seq: 5, next_by_subj: "dir.0" })).seq, 7);
  assert.equal(await direct.getMessage("DIR", { seq: 99 }), null);
  const at = (await manager.streams.getMessage("DIR", { seq: 6 })).timestamp;
  assert.equal((await direct.getMessage("DIR", { start_time: at })).seq, 6);
  const seqs = async (messages) => (await drained(await messages)).map((message) => message.seq);
  assert.deepEqual(await seqs(direct.getBatch("DIR", { seq: 3, batch: 4 })), [3, 4, 5, 6]);
  assert.deepEqual(await seqs(direct.getBatch("DIR", { seq: 1, batch: 9, next_by_subj: "dir.2" })), [3, 6, 9]);
  assert.deepEqual(await seqs(direct.getBatch("DIR", { start_time: at, batch: 2 })), [6, 7]);
  assert.deepEqual(await seqs(direct.getLastMessagesFor("DIR", { multi_last: ["dir.>"] })), [8, 9, 10]);
  assert.deepEqual(await seqs(direct.getLastMessagesFor("DIR", { multi_last: ["dir.0", "dir.1"], up_to_seq: 6 })), [4, 5]);
  assert.deepEqual(await seqs(direct.getLastMessagesFor("DIR", { multi_last: ["dir.>"], up_to_time: at })), [3, 4, 5]);
  console.log("direct");
}

async function removed(it) {
  const { manager, context } = it;
  await manager.streams.add({ name: "REM", subjects: ["rem.>"] });
  for (let number = 0; number < 12; number++) await context.publish(`rem.${number % 3}`, `${number}`);
  assert.ok(await manager.streams.deleteMessage("REM", 2));
  assert.ok(await manager.streams.deleteMessage("REM", 3, false));
  assert.equal(await manager.streams.getMessage("REM", { seq: 2 }), null);
  assert.deepEqual((await manager.streams.info("REM", { deleted_details: true })).state.deleted, [2, 3]);
  assert.equal((await manager.streams.purge("REM", { filter: "rem.2", keep: 1 })).purged, 2);
  assert.equal((await manager.streams.purge("REM", { filter: "rem.0", seq: 7 })).purged, 2);
  const info = await manager.streams.info("REM", { subjects_filter: "rem.*", deleted_details: true });
  assert.deepEqual(info.state.subjects, { "rem.0": 2, "rem.1": 3, "rem.2": 1 });
  assert.equal((await manager.streams.purge("REM", { seq: 11 })).purged, 4);
  assert.deepEqual(await state(it, "REM"), [2, 11, 12]);
  assert.equal(await manager.streams.find("rem.7"), "REM");
  const names = (await drained(manager.streams.names("rem.>"))).flat();
  assert.deepEqual(names, ["REM"]);
  const listed = (await drained(manager.streams.list("rem.1"))).flat();
  assert.deepEqual(listed.map((each) => each.config.name), ["REM"]);
  console.log("removed");
}

async function expected({ manager, context }) {
  await manager.streams.add({ name: "EXP", subjects: ["exp.>"] });
  await context.publish("exp.a", "x", { msgID: "1", expect: { lastSequence: 0, streamName: "EXP" } });
  await refused(context.publish("exp.a", "x", { expect: { streamName: "OTHER" } }), 10060);
  await refused(context.publish("exp.a", "x", { expect: { lastMsgID: "9" } }), 10070);
  await refused(context.publish("exp.a", "x", { expect: { lastSequence: 9 } }), 10071);
  await refused(context.publish("exp.a", "x", { expect: { lastSubjectSequence: 9 } }), 10071);
  const over = { lastSubjectSequence: 1, lastSubjectSequenceSubject: "exp.a" };
  assert.equal((await context.publish("exp.b", "x", { expect: over })).seq, 2);
  console.log("expected");
}

async function lives({ manager, context }) {
  await manager.streams.add({ name: "TTL", subjects: ["ttl.>"], allow_msg_ttl: true, subject_delete_marker_ttl: nanos(1000) });
  await context.publish("ttl.a", "short", { ttl: "1s" });
  await context.publish("ttl.b", "long", { ttl: "never" });
  await refused(context.publish("ttl.b", "long", { ttl: "1ms" }), 10165);
  await until(async () => (await manager.streams.info("TTL")).state.last_seq === 3);
  const marker = await manager.streams.getMessage("TTL", { last_by_subj: "ttl.a" });
  assert.deepEqual([marker.header.get("Nats-Marker-Reason"), marker.header.get("Nats-TTL")], ["MaxAge", "1s"]);
  console.log("lives");
}

async function counters({ manager, context }) {
  await manager.streams.add({ name: "CNT", subjects: ["cnt.>"], allow_msg_counter: true, allow_direct: true });
  const add = (subject, step) => {
    const sent = headers();
    sent.set("Nats-Incr", step);
    return context.publish(subject, "", { headers: sent });
  };
  const values = [];
  for (const step of ["+7", "-10", "+0"]) values.push((await add("cnt.a", step)).val);
  assert.deepEqual(values, ["7", "-3", "-3"]);
  assert.deepEqual((await manager.direct.getMessage("CNT", { last_by_subj: "cnt.a" })).json(), { val: "-3" });
  await refused(add("cnt.a", "x"), 10171);
  await refused(context.publish("cnt.a", ""), 10169);
  console.log("counters");
}

async function schedules(it) {
  const { manager, context } = it;
  await manager.streams.add({ name: "SCH", subjects: ["sch.>"], allow_msg_schedules: true, allow_msg_ttl: true });
  await context.publish("sch.plan", "now", { schedule: { specification: new Date(), target: "sch.target", ttl: "1m" } });
  await until(async () => (await state(it, "SCH"))[2] >= 2);
  const got = await manager.streams.getMessage("SCH", { last_by_subj: "sch.target" });
  assert.deepEqual([got.string(), got.header.get("Nats-Scheduler"), got.header.get("Nats-TTL")], ["now", "sch.plan", "1m"]);
  await context.publish("sch.often", "tick", { schedule: { specification: { every: "1s" }, target: "sch.ticks" } });
  await until(async () => (await manager.streams.getMessage("SCH", { last_by_subj: "sch.ticks" }))?.string() === "tick");
  await refused(context.publish("sch.x", "", { schedule: { specification: "@every x", target: "sch.y" } }), 10189);
  console.log("schedules");
}

async function account({ manager }) {
  const info = await manager.getAccountInfo();
  assert.ok(info.api.level >= 2 && info.storage > 0, JSON.stringify(info));
  assert.equal(info.streams, (await drained(manager.streams.list())).flat().length);
  console.log("account");
}

const client = await connect({ servers: process.argv[2] });
const it = { client, manager: await jetstreamManager(client), context: jetstream(client) };
for (const step of [retention, limits, rollup, paths, direct, removed, expected, lives, counters, schedules, account]) await step(it);
await client.close();
