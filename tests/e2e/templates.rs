//! Stream templates, the API of nats-server 2.2: a stream for each subject, made by the first publish.

use anyhow::{Result, ensure};
use harness::{Gateway, RawNats};
use serde_json::Value;

fn call(client: &mut RawNats, subject: &str, body: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&client.request(subject, body.as_bytes())?.payload)?)
}

#[test]
fn publishes_make_streams_and_the_template_takes_them_along() -> Result<()> {
    let mut gateway = Gateway::start(Gateway::PLAIN)?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    let body = r#"{"name":"T","config":{"subjects":["t.>"],"max_msgs":100},"max_streams":3}"#;
    let answer = call(&mut client, "$JS.API.STREAM.TEMPLATE.CREATE.T", body)?;
    assert_eq!(answer["type"], "io.nats.jetstream.api.v1.stream_template_create_response");
    assert_eq!((&answer["config"]["max_streams"], &answer["config"]["config"]["name"]), (&3.into(), &"_".into()));
    assert_eq!(answer["streams"], Value::Array(Vec::new()));

    // Several at once, before anybody knows of the stream.
    client.send("SUB acks 1\r\nPUB t.a.b acks 3\r\none\r\nPUB t.a.b acks 3\r\ntwo\r\nPUB t.c acks 3\r\none\r\n")?;
    let mut acks = Vec::new();
    for _ in 0..3 {
        acks.push(String::from_utf8(client.message()?.payload)?);
    }
    assert_eq!(
        acks,
        [
            r#"{"stream":"t_a_b","domain":"edge","seq":1}"#,
            r#"{"stream":"t_a_b","domain":"edge","seq":2}"#,
            r#"{"stream":"t_c","domain":"edge","seq":1}"#
        ]
    );
    assert_eq!(call(&mut client, "t.a.b", "three")?["seq"], 3);
    let info = call(&mut client, "$JS.API.STREAM.INFO.t_a_b", "")?;
    assert_eq!(info["config"]["subjects"], serde_json::json!(["t.a.b"]));
    assert_eq!((&info["config"]["template_owner"], &info["config"]["max_msgs"]), (&"T".into(), &100.into()));
    assert_eq!(call(&mut client, "t.d", "x")?["stream"], "t_d");
    assert_eq!(call(&mut client, "t.e", "x")?["error"]["err_code"], 10027);

    gateway.kill9()?;
    gateway.restart()?;
    let (mut client, _) = RawNats::connect(gateway.address("nats"))?;
    let names = call(&mut client, "$JS.API.STREAM.TEMPLATE.NAMES", "")?;
    assert_eq!((&names["streams"], &names["total"]), (&serde_json::json!(["T"]), &1.into()));
    assert_eq!(call(&mut client, "t.a.b", "four")?["seq"], 4);
    let info = call(&mut client, "$JS.API.STREAM.TEMPLATE.INFO.T", "")?;
    assert_eq!(info["streams"], serde_json::json!(["t_a_b", "t_c", "t_d"]));
    assert_eq!(call(&mut client, "$JS.API.STREAM.TEMPLATE.DELETE.T", "")?["success"], true);
    assert_eq!(call(&mut client, "$JS.API.STREAM.NAMES", "")?["streams"], Value::Null);
    let nobody = client.request("t.a.b", b"five")?;
    ensure!(nobody.line.starts_with("HMSG"), "{nobody:?}");
    Ok(())
}
