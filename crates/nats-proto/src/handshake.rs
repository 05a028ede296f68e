//! The JSON of the handshakes: INFO and CONNECT, of clients and of leaf links.
//!
//! Reading is tolerant, as the other side has been in use for years: unknown keys, `null` for any key and repeated keys (the last counts) are
//! fine; a value of the wrong type is not. Writing leaves out what is empty, in the order of stock. The size is bounded by the control line.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The JSON of INFO or CONNECT is broken, or a value has the wrong type. The peer is refused.
#[derive(Debug, thiserror::Error)]
#[error("invalid JSON in the handshake: {0}")]
pub struct HandshakeError(#[from] serde_json::Error);

/// A password, token or JWT: not shown in logs.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(if self.0.is_empty() { "Secret(empty)" } else { "Secret(…)" })
    }
}

impl Secret {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// INFO for clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // the keys are the protocol's own
pub struct ServerInfo {
    pub server_id: String,
    pub server_name: String,
    /// The nats-server version we are compatible with; tools gate features on it.
    pub version: String,
    pub proto: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    pub go: String,
    /// As configured.
    pub host: String,
    pub port: u16,
    pub headers: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub tls_available: bool,
    /// Bytes, header block included.
    pub max_payload: u64,
    #[serde(skip_serializing_if = "is_false")]
    pub jetstream: bool,
    #[serde(skip_serializing_if = "is_zero")]
    pub client_id: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    /// To be signed, as these very characters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ws_connect_urls: Vec<String>,
    /// Lame duck: go elsewhere.
    #[serde(skip_serializing_if = "is_false")]
    pub ldm: bool,
    /// This INFO follows the first PONG.
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
    #[serde(skip_serializing_if = "is_false")]
    pub acc_is_sys: bool,
    /// JetStream API level; clients gate features on it.
    #[serde(skip_serializing_if = "is_zero")]
    pub api_lvl: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub xkey: String,
}

/// CONNECT of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // the keys are the protocol's own
pub struct ConnectOptions {
    /// Answer every operation with `+OK`.
    pub verbose: bool,
    /// Check subjects of publishes.
    pub pedantic: bool,
    /// Deliver the connection's own publishes to it.
    pub echo: bool,
    pub tls_required: bool,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub auth_token: Secret,
    /// An empty string is a user, too; `None` is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<Secret>,
    pub name: String,
    pub lang: String,
    pub version: String,
    /// 0 or 1: does the client understand INFO at any time?
    pub protocol: i64,
    pub headers: bool,
    pub no_responders: bool,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub sig: Secret,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub jwt: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nkey: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
}

impl Default for ConnectOptions {
    fn default() -> ConnectOptions {
        ConnectOptions {
            // In nats-server all three default to true.
            verbose: true,
            pedantic: true,
            echo: true,
            tls_required: false,
            auth_token: Secret::default(),
            user: None,
            pass: None,
            name: String::new(),
            lang: String::new(),
            version: String::new(),
            protocol: 0,
            headers: false,
            no_responders: false,
            sig: Secret::default(),
            jwt: Secret::default(),
            nkey: String::new(),
            account: String::new(),
        }
    }
}

/// Subjects that may pass in one direction of a leaf link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubjectPermission {
    /// Only these, when not empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Not these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// INFO on a leaf link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // the keys are the protocol's own
pub struct LeafInfo {
    pub server_id: String,
    pub server_name: String,
    pub version: String,
    /// 1, or 3 and more when message tracing is understood.
    pub proto: i32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    pub go: String,
    pub host: String,
    pub port: u16,
    pub headers: bool,
    /// Always true on leaf listeners; means nothing.
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub tls_available: bool,
    /// Bytes, header block included. More cuts the link.
    pub max_payload: u64,
    #[serde(skip_serializing_if = "is_false")]
    pub jetstream: bool,
    /// `host:port`, for logs.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub ip: String,
    /// Id of the link at the hub; 0 or missing: this is no leaf port.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_id: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    /// To be signed, as these very characters.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// JetStream domain of the hub.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Offered or chosen mode; `None`: not supported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,
    /// This INFO completes the handshake.
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    /// The hub's account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
    #[serde(skip_serializing_if = "is_false")]
    pub acc_is_sys: bool,
    /// JetStream API level of the hub.
    #[serde(skip_serializing_if = "is_zero")]
    pub api_lvl: u64,
    /// What the leaf may receive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub import: Option<SubjectPermission>,
    /// What the leaf may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub export: Option<SubjectPermission>,
    /// Promise that an INFO with `connect_info` follows CONNECT.
    #[serde(skip_serializing_if = "is_false")]
    pub info_on_connect: bool,
    /// `host:port` of every node; that the key is there tells a leaf port, an empty list is fine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leafnode_urls: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ws_connect_urls: Vec<String>,
    /// The hub is about to stop.
    #[serde(skip_serializing_if = "is_false")]
    pub ldm: bool,
}

/// CONNECT on a leaf link.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)] // the keys are the protocol's own
pub struct LeafConnect {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nkey: String,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub jwt: Secret,
    /// Over the nonce's characters; base64 of the URL alphabet, unpadded.
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub sig: Secret,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pass: Option<Secret>,
    #[serde(skip_serializing_if = "Secret::is_empty")]
    pub auth_token: Secret,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_id: String,
    /// JetStream domain of the leaf.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Server name; part of the duplicate test.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The dialling side takes the hub's role.
    #[serde(skip_serializing_if = "is_false")]
    pub is_hub: bool,
    /// A stand-alone stock server sends its server name here.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    #[serde(skip_serializing_if = "is_false")]
    pub headers: bool,
    #[serde(skip_serializing_if = "is_false")]
    pub jetstream: bool,
    /// What the hub must not send down.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny_pub: Vec<String>,
    /// Keep this leaf apart from other leafs.
    #[serde(skip_serializing_if = "is_false")]
    pub isolate: bool,
    /// Mode of the leaf's own writer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub compress_mode: String,
    /// The leaf's account.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
    #[serde(skip_serializing_if = "is_zero")]
    pub protocol: u64,
    /// Must not be there: marks a gateway.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub gateway: String,
    /// Must not be there: marks a client.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lang: String,
    /// Must not be there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// Must not be there.
    #[serde(skip_serializing_if = "is_false")]
    pub account_new: bool,
}

/// The four handshake messages.
pub trait Handshake: Serialize + DeserializeOwned {
    /// Reads the JSON of INFO or CONNECT.
    ///
    /// # Errors
    /// When it is no JSON object, or a value has the wrong type.
    fn from_json(json: &[u8]) -> Result<Self, HandshakeError> {
        let mut object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(json)?;
        object.retain(|_, value| !value.is_null());
        for nested in object.values_mut().filter_map(serde_json::Value::as_object_mut) {
            nested.retain(|_, value| !value.is_null());
        }
        Ok(serde_json::from_value(object.into())?)
    }

    /// Its JSON, without line end.
    #[must_use]
    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("keys are strings and no value fails")
    }
}

impl Handshake for ServerInfo {}
impl Handshake for ConnectOptions {}
impl Handshake for LeafInfo {}
impl Handshake for LeafConnect {}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_false(value: &bool) -> bool {
    !*value
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature
fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(json: &str) -> ConnectOptions {
        ConnectOptions::from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn a_client_may_leave_out_everything() {
        let options = client("{}");
        assert!(options.verbose && options.pedantic && options.echo && !options.headers);
        assert_eq!(options, ConnectOptions::default());
    }

    #[test]
    fn null_and_unknown_and_repeated_keys_are_fine() {
        let options =
            client(r#"{"verbose":null,"echo":false,"user":"","pass":null,"zoo":{"a":[1]},"name":"a","name":"b"}"#);
        assert!(options.verbose && !options.echo);
        assert_eq!((options.user.as_deref(), options.pass, &*options.name), (Some(""), None, "b"));
    }

    #[test]
    fn wrong_types_are_not() {
        for json in ["", "[]", "{", r#"{"verbose":"yes"}"#, r#"{"protocol":1.5}"#, r#"{"user":1}"#] {
            assert!(ConnectOptions::from_json(json.as_bytes()).is_err(), "{json}");
        }
        assert!(ConnectOptions::from_json("[".repeat(4000).as_bytes()).is_err());
    }

    #[test]
    fn secrets_stay_out_of_logs() {
        let options = client(r#"{"pass":"hunter2","jwt":"eyJ","auth_token":"tok","sig":"sgn"}"#);
        let shown = format!("{options:?}");
        for secret in ["hunter2", "eyJ", "tok\"", "sgn"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }

    /// Real lines of stock 2.15.1 come out as they went in.
    #[test]
    fn stock_lines_survive_the_round_trip() {
        let info = r#"{"server_id":"NAUI","server_name":"hub1","version":"2.15.1","proto":3,"git_commit":"b2fd3ef","go":"go1.27.2","host":"127.0.0.1","port":17422,"headers":true,"auth_required":true,"max_payload":1048576,"ip":"127.0.0.1:17422","client_id":5,"nonce":"O2Q9DefejPTnX1Y","compression":"off","api_lvl":5,"info_on_connect":true,"leafnode_urls":["127.0.0.1:17422"]}"#;
        let connect = r#"{"version":"2.15.1","server_id":"NDLK","name":"edge1","cluster":"edge1","headers":true,"compress_mode":"off","remote_account":"$G","protocol":3}"#;
        let text = |json: Vec<u8>| String::from_utf8(json).unwrap();
        assert_eq!(text(LeafInfo::from_json(info.as_bytes()).unwrap().to_json()), info);
        assert_eq!(text(LeafConnect::from_json(connect.as_bytes()).unwrap().to_json()), connect);
    }

    #[test]
    fn an_empty_list_of_leaf_urls_is_not_none() {
        let info = LeafInfo::from_json(br#"{"leafnode_urls":[],"import":{"allow":["a.\u003e"],"deny":null}}"#).unwrap();
        assert_eq!(info.leafnode_urls, Some(vec![]));
        assert_eq!(info.import.unwrap().allow, ["a.>"]);
        assert_eq!(LeafInfo::from_json(b"{}").unwrap().leafnode_urls, None);
    }
}
