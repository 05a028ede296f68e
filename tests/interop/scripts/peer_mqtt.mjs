// Subscribes, publishes at QoS 1 and prints what comes back: peer_mqtt.mjs PORT

import mqtt from "mqtt";

const client = await mqtt.connectAsync(`mqtt://127.0.0.1:${process.argv[2]}`);
const received = new Promise((resolve) => client.once("message", (_topic, payload) => resolve(payload)));
await client.subscribeAsync("greet", { qos: 1 });
await client.publishAsync("greet", "hello", { qos: 1 });
console.log((await received).toString());
await client.endAsync();
