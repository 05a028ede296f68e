// One role of an MQTT exchange by mqtt.js: edge_mqtt.mjs URL ROLE, the URL mqtt:// or ws://. The roles are those of edge_mqtt.py.

import assert from "node:assert/strict";
import mqtt from "mqtt";

const [url, role] = process.argv.slice(2);
const keeps = role === "subscribe" || role === "collect";
const received = [];
let wake = () => {};
const client = mqtt.connect(url, {
  clientId: keeps ? "js-keeps" : "js",
  clean: !keeps,
  protocolVersion: 4,
  reconnectPeriod: 0,
});
client.on("message", (topic, payload, packet) => {
  received.push(`${topic} ${payload} ${packet.qos}`);
  wake();
});
const [connack] = await Promise.all([new Promise((resolve) => client.once("connect", resolve))]);
assert.equal(connack.sessionPresent, role === "collect");

async function take(count) {
  while (received.length < count) {
    await new Promise((resolve) => (wake = resolve));
  }
  return received.splice(0, count);
}

if (role === "round") {
  const granted = await client.subscribeAsync({ "room/+/t": { qos: 0 }, "level/#": { qos: 1 } });
  assert.deepEqual(granted.map((each) => each.qos), [0, 1]);
  await client.publishAsync("room/1/t", "zero", { qos: 0 });
  await client.publishAsync("level/a/b", "one", { qos: 1 });
  await client.publishAsync("level/large", "x".repeat(200_000), { qos: 1 });
  const all = await take(3);
  assert.ok(all.some((line) => line.length > 200_000));
  console.log(all.filter((line) => line.length < 1000).sort().join("\n"));
} else if (role === "subscribe") {
  await client.subscribeAsync("kept/#", { qos: 1 });
} else if (role === "publish") {
  for (let number = 0; number < 10; number++) {
    await client.publishAsync(`kept/${number % 2}`, `${number}`, { qos: 1 });
  }
} else {
  console.log((await take(10)).map((line) => line.split(" ")[1]).join(" "));
}
await client.endAsync();
