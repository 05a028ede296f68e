"""One role of an MQTT exchange by paho-mqtt: edge_mqtt.py PORT ROLE.

round      subscribes, publishes with QoS 0 and 1, prints what comes back
subscribe  makes a persistent session with a QoS 1 subscription and leaves
publish    publishes ten messages with QoS 1
collect    resumes the persistent session and prints what it held
"""

import queue
import sys

import paho.mqtt.client as mqtt

port, role = int(sys.argv[1]), sys.argv[2]
received = queue.Queue()
subscribed = queue.Queue()
session = queue.Queue()
keeps = role in ("subscribe", "collect")
client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="paho-keeps" if keeps else "paho", clean_session=not keeps)
client.on_connect = lambda _client, _data, flags, reason, _properties: session.put((flags.session_present, str(reason)))
client.on_subscribe = lambda _client, _data, _mid, reasons, _properties: subscribed.put([code.value for code in reasons])
client.on_message = lambda _client, _data, message: received.put((message.topic, message.payload.decode(), message.qos))
client.connect("127.0.0.1", port)
client.loop_start()
present, reason = session.get(timeout=10)
assert reason == "Success", reason
assert present == (role == "collect"), present

if role == "round":
    client.subscribe([("room/+/t", 0), ("level/#", 1)])
    assert subscribed.get(timeout=10) == [0, 1]
    client.publish("room/1/t", "zero", qos=0)
    client.publish("level/a/b", "one", qos=1).wait_for_publish(timeout=10)
    client.publish("elsewhere", "nobody", qos=1).wait_for_publish(timeout=10)
    for topic, payload, qos in sorted(received.get(timeout=10) for _ in range(2)):
        print(topic, payload, qos)
elif role == "subscribe":
    client.subscribe("kept/#", qos=1)
    assert subscribed.get(timeout=10) == [1]
elif role == "publish":
    for number in range(10):
        client.publish(f"kept/{number % 2}", str(number), qos=1).wait_for_publish(timeout=10)
else:
    print(" ".join(received.get(timeout=10)[1] for _ in range(10)))
client.disconnect()
client.loop_stop()
