//! Edge gateway: NATS, MQTT and WebSocket clients, a local JetStream, store and forward.

fn main() {}
