// Subscribes, publishes and prints what comes back, by every URL given: peer_nats.mjs URL...

import { wsconnect } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";
import { WebSocket } from "ws";

// Node below 22 has no WebSocket of its own.
globalThis.WebSocket ??= WebSocket;

for (const url of process.argv.slice(2)) {
  const dial = url.startsWith("ws") ? wsconnect : connect;
  const client = await dial({ servers: url });
  const subscription = client.subscribe("greet", { max: 1 });
  client.publish("greet", "hello");
  for await (const message of subscription) {
    console.log(message.string());
  }
  await client.close();
}
