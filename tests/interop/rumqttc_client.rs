//! rumqttc against the gateway: QoS 0 and 1 both ways, redelivery of what was not acknowledged, a session over `kill -9`.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use harness::{Gateway, Server};
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, Publish, QoS};

/// For one answer; a busy machine needs a part of it.
const LIMIT: Duration = Duration::from_secs(20);

fn options(gateway: &Server, client_id: &str) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, "127.0.0.1", gateway.port("mqtt"));
    options.set_keep_alive(Duration::from_secs(30));
    options.set_clean_session(false);
    options
}

/// Drives the connection until a packet that `wanted` takes arrives.
async fn wait_for<T>(events: &mut EventLoop, wanted: impl Fn(Packet) -> Option<T>) -> Result<T> {
    let search = async {
        loop {
            if let Event::Incoming(packet) = events.poll().await?
                && let Some(found) = wanted(packet)
            {
                return Ok(found);
            }
        }
    };
    tokio::time::timeout(LIMIT, search).await.context("no such packet in time")?
}

fn publish(packet: Packet) -> Option<Publish> {
    if let Packet::Publish(publish) = packet { Some(publish) } else { None }
}

/// Whether the session was present.
async fn connack(events: &mut EventLoop) -> Result<bool> {
    wait_for(events, |packet| if let Packet::ConnAck(ack) = packet { Some(ack.session_present) } else { None }).await
}

async fn suback(events: &mut EventLoop) -> Result<()> {
    wait_for(events, |packet| matches!(packet, Packet::SubAck(_)).then_some(())).await
}

#[tokio::test]
async fn qos_0_and_1_both_ways() -> Result<()> {
    let gateway = Gateway::start(Gateway::PLAIN)?;
    let (client, mut events) = AsyncClient::new(options(&gateway, "one"), 16);
    client.subscribe("a/+/c", QoS::AtLeastOnce).await?;
    assert!(!connack(&mut events).await?);
    suback(&mut events).await?;
    for (qos, payload) in [(QoS::AtMostOnce, "zero"), (QoS::AtLeastOnce, "one")] {
        client.publish("a/b/c", qos, false, payload).await?;
        let message = wait_for(&mut events, publish).await?;
        assert_eq!((message.topic.as_str(), &message.payload[..], message.qos), ("a/b/c", payload.as_bytes(), qos));
    }
    Ok(())
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_after_a_kill() -> Result<()> {
    const MESSAGES: usize = 15;
    let mut gateway = Gateway::start(Gateway::PLAIN)?;
    let mut careful = options(&gateway, "keeps");
    careful.set_manual_acks(true);
    let (subscriber, mut incoming) = AsyncClient::new(careful.clone(), 16);
    subscriber.subscribe("kept/#", QoS::AtLeastOnce).await?;
    assert!(!connack(&mut incoming).await?);
    suback(&mut incoming).await?;
    let (publisher, mut outgoing) = AsyncClient::new(options(&gateway, "gives"), 64);
    for number in 0..MESSAGES {
        publisher.publish("kept/x", QoS::AtLeastOnce, false, number.to_string()).await?;
    }
    for _ in 0..MESSAGES {
        wait_for(&mut outgoing, |packet| matches!(packet, Packet::PubAck(_)).then_some(())).await?;
    }
    for number in 0..5 {
        assert_eq!(wait_for(&mut incoming, publish).await?.payload, number.to_string());
    }
    // Nothing was acknowledged: all of it comes again.
    drop((subscriber, incoming));
    gateway.kill9()?;
    gateway.restart()?;
    let (subscriber, mut incoming) = AsyncClient::new(careful, 16);
    if !connack(&mut incoming).await? {
        bail!("the session was forgotten\n{}", gateway.log_tail());
    }
    for number in 0..MESSAGES {
        let message = wait_for(&mut incoming, publish).await?;
        assert_eq!(message.payload, number.to_string());
        subscriber.ack(&message).await?;
    }
    Ok(())
}
