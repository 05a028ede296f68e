"""Subscribes, publishes at QoS 1 and prints what comes back: peer_mqtt.py PORT."""

import queue
import sys

import paho.mqtt.client as mqtt

received = queue.Queue()
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho")
client.on_subscribe = lambda *_: client.publish("greet", "hello", qos=1)
client.on_message = lambda _client, _data, message: received.put(message.payload.decode())
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_start()
client.subscribe("greet", qos=1)
print(received.get(timeout=10))
client.disconnect()
client.loop_stop()
