//! Services by the framework of the client.

use std::time::Duration;

use anyhow::{Context, Error, Result, ensure};
use async_nats::service::{self, ServiceExt};
use futures_util::StreamExt;

use super::on_both;

/// Everybody who answers within a quarter of a second.
async fn answers(client: &async_nats::Client, subject: &str) -> Result<Vec<serde_json::Value>> {
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    client.publish_with_reply(subject.to_owned(), inbox, "".into()).await?;
    let mut all = Vec::new();
    while let Ok(Some(answer)) = tokio::time::timeout(Duration::from_millis(250), answers.next()).await {
        if !answer.payload.is_empty() {
            all.push(serde_json::from_slice(&answer.payload)?);
        }
    }
    Ok(all)
}

#[tokio::test]
async fn services_in_every_operation() -> Result<()> {
    on_both(async |context| {
        let client = context.client();
        let mut services = Vec::new();
        for instance in ["a", "b"] {
            let service = client
                .service_builder()
                .description("adds")
                .start("adder", "1.2.3")
                .await
                .map_err(Error::from_boxed)?;
            let group = service.group("v2");
            let endpoint = service.endpoint("add").await.map_err(Error::from_boxed)?;
            let other = group
                .endpoint_builder()
                .name("length")
                .queue_group("others")
                .add("len.*")
                .await
                .map_err(Error::from_boxed)?;
            let mut requests = futures_util::stream::select(endpoint, other);
            let answering = tokio::spawn(async move {
                while let Some(request) = requests.next().await {
                    let answer = match request.message.payload.len() {
                        0 => Err(service::error::Error { code: 400, status: "nothing to add".into() }),
                        length => Ok(format!("{instance}{length}").into()),
                    };
                    if request.respond(answer).await.is_err() {
                        break;
                    }
                }
            });
            services.push((service, answering));
        }
        client.flush().await?;
        let mut instances = std::collections::BTreeSet::new();
        for _ in 0..40 {
            let answer = client.request("add", "xyz".into()).await?;
            ensure!(answer.payload.ends_with(b"3"), "{:?}", answer.payload);
            instances.insert(answer.payload[0]);
        }
        assert_eq!(instances.len(), 2);
        ensure!(client.request("v2.len.any", "four".into()).await?.payload.ends_with(b"4"), "a group's endpoint");
        let failed = client.request("add", "".into()).await?.headers.context("no headers")?;
        assert_eq!(failed.get("Nats-Service-Error-Code").map(ToString::to_string).as_deref(), Some("400"));
        for subject in ["$SRV.PING", "$SRV.PING.adder", "$SRV.INFO.adder", "$SRV.STATS.adder"] {
            assert_eq!(answers(&client, subject).await?.len(), 2, "{subject}");
        }
        assert_eq!(answers(&client, "$SRV.PING.nobody").await?.len(), 0);
        let stats = answers(&client, "$SRV.STATS.adder").await?;
        let requests: u64 = stats
            .iter()
            .flat_map(|each| each["endpoints"].as_array().into_iter().flatten())
            .filter_map(|endpoint| endpoint["num_requests"].as_u64())
            .sum();
        assert_eq!(requests, 42);
        for (at, (service, answering)) in services.into_iter().enumerate() {
            service.stop().await.map_err(Error::from_boxed)?;
            answering.abort();
            client.flush().await?;
            assert_eq!(answers(&client, "$SRV.PING.adder").await?.len(), 1 - at);
        }
        let nobody = client.request("add", "x".into()).await;
        ensure!(nobody.is_err(), "a stopped service answers: {nobody:?}");
        Ok(())
    })
    .await
}
