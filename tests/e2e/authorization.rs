//! User and password, plain and as a bcrypt hash, on NATS and MQTT.

use anyhow::{Result, ensure};
use harness::{Gateway, RawMqtt, RawNats, Server, mqtt_raw};

/// `secret` in bcrypt, of the lowest cost.
const USERS: &str = r#"
authorization {
  users: [
    { user: plain, password: open }
    { user: hashed, password: "HASH" }
  ]
}
"#;

fn login(gateway: &Server, user: &str, password: &str) -> Result<Option<String>> {
    let mut client = RawNats::dial(gateway.address("nats"))?;
    let info = client.info()?;
    ensure!(info["auth_required"] == true, "{info}");
    client.send(format!(
        "CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"{password}\",\"protocol\":1}}\r\nPING\r\n"
    ))?;
    let line = client.line()?;
    Ok(if line == "PONG" { None } else { Some(line) })
}

/// The return code of CONNACK.
fn mqtt_login(gateway: &Server, user: &str, password: &str) -> Result<u8> {
    let text = |text: &str| [&[0, u8::try_from(text.len()).unwrap_or(0)], text.as_bytes()].concat();
    let body = [b"\x00\x04MQTT\x04\xc2\x00\x3c".to_vec(), text("device"), text(user), text(password)].concat();
    let mut client = RawMqtt::dial(gateway.address("mqtt"))?;
    client.send(&mqtt_raw::frame(0x10, &body))?;
    let answer = client.packet()?;
    ensure!(answer.first == 0x20 && answer.body.len() == 2, "{answer:?}");
    Ok(answer.body[1])
}

#[test]
fn users_with_plain_and_hashed_passwords() -> Result<()> {
    let hash = bcrypt::hash("secret", 4)?;
    let gateway = Gateway::start(&format!("{}{}", Gateway::PLAIN, USERS.replace("HASH", &hash)))?;
    for (user, password) in [("plain", "open"), ("hashed", "secret")] {
        assert_eq!(login(&gateway, user, password)?, None, "{user}");
        assert_eq!(mqtt_login(&gateway, user, password)?, 0, "{user}");
    }
    for (user, password) in [("plain", "secret"), ("hashed", "open"), ("hashed", &hash), ("nobody", "open"), ("", "")] {
        assert_eq!(login(&gateway, user, password)?.as_deref(), Some("-ERR 'Authorization Violation'"), "{user}");
        // [MQTT-3.1.0] not authorized.
        assert_eq!(mqtt_login(&gateway, user, password)?, 5, "{user}");
    }
    // Another verb before CONNECT.
    let mut hasty = RawNats::dial(gateway.address("nats"))?;
    hasty.info()?;
    hasty.send("SUB > 1\r\n")?;
    ensure!(hasty.expect_close()?.contains("-ERR 'Authorization Violation'"));
    Ok(())
}

/// What a CONNECT with these fields is answered; `None`: welcome.
fn connect(gateway: &Server, fields: &str) -> Result<Option<String>> {
    let mut client = RawNats::dial(gateway.address("nats"))?;
    ensure!(client.info()?["auth_required"] == true);
    client.send(format!("CONNECT {{\"verbose\":false,{fields}}}\r\nPING\r\n"))?;
    let line = client.line()?;
    Ok(if line == "PONG" { None } else { Some(line) })
}

const VIOLATION: Option<&str> = Some("-ERR 'Authorization Violation'");

#[test]
fn one_token_plain_and_hashed() -> Result<()> {
    let hash = bcrypt::hash("secret", 4)?;
    for token in ["secret", &hash] {
        let gateway = Gateway::start(&format!("{}authorization {{ token: \"{token}\" }}\n", Gateway::PLAIN))?;
        assert_eq!(connect(&gateway, r#""auth_token":"secret""#)?, None);
        assert_eq!(connect(&gateway, r#""auth_token":"other""#)?.as_deref(), VIOLATION);
        assert_eq!(connect(&gateway, r#""user":"secret""#)?.as_deref(), VIOLATION);
        // An MQTT client has no field for it: it comes as the password.
        assert_eq!(mqtt_login(&gateway, "anybody", "secret")?, 0);
        assert_eq!(mqtt_login(&gateway, "anybody", "other")?, 5);
    }
    Ok(())
}

#[test]
fn one_user_without_a_list() -> Result<()> {
    let gateway = Gateway::start(&format!("{}authorization {{ user: ann, password: secret }}\n", Gateway::PLAIN))?;
    assert_eq!(connect(&gateway, r#""user":"ann","pass":"secret""#)?, None);
    assert_eq!(connect(&gateway, r#""user":"ann""#)?.as_deref(), VIOLATION);
    assert_eq!(connect(&gateway, r#""user":"bob","pass":"secret""#)?.as_deref(), VIOLATION);
    assert_eq!(mqtt_login(&gateway, "ann", "secret")?, 0);
    assert_eq!(mqtt_login(&gateway, "ann", "other")?, 5);
    Ok(())
}
