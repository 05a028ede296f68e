//! INFO and CONNECT: what the server says of itself, and what a client asks for.

use serde_json::{Map, Value};

use crate::authorization::Credentials;
use crate::broker::NewConnection;
use crate::settings::Settings;

/// CONNECT as far as it is used; unknown fields and nulls are fine.
#[derive(Clone, Debug)]
pub(crate) struct ConnectOptions {
    pub(crate) verbose: bool,
    pub(crate) pedantic: bool,
    pub(crate) echo: bool,
    pub(crate) headers: bool,
    pub(crate) no_responders: bool,
    pub(crate) protocol: u8,
    pub(crate) name: Box<str>,
    pub(crate) lang: Box<str>,
    pub(crate) version: Box<str>,
    user: Option<Box<str>>,
    password: Option<Box<str>>,
    token: Option<Box<str>>,
}

impl ConnectOptions {
    /// `None`: no JSON object, or a field of another type.
    pub(crate) fn parse(json: &[u8]) -> Option<ConnectOptions> {
        let Value::Object(fields) = serde_json::from_slice(json).ok()? else { return None };
        Some(ConnectOptions {
            verbose: flag(&fields, "verbose", true)?,
            pedantic: flag(&fields, "pedantic", true)?,
            echo: flag(&fields, "echo", true)?,
            headers: flag(&fields, "headers", false)?,
            no_responders: flag(&fields, "no_responders", false)?,
            protocol: match fields.get("protocol") {
                None | Some(Value::Null) => 0,
                Some(value) => u8::try_from(value.as_i64()?).unwrap_or(u8::MAX),
            },
            name: text(&fields, "name")?.unwrap_or_default(),
            lang: text(&fields, "lang")?.unwrap_or_default(),
            version: text(&fields, "version")?.unwrap_or_default(),
            user: text(&fields, "user")?,
            password: text(&fields, "pass")?,
            token: text(&fields, "auth_token")?,
        })
    }

    pub(crate) fn credentials(&self) -> Credentials<'_> {
        Credentials { user: self.user.as_deref(), password: self.password.as_deref(), token: self.token.as_deref() }
    }
}

fn flag(fields: &Map<String, Value>, name: &str, default: bool) -> Option<bool> {
    match fields.get(name) {
        None | Some(Value::Null) => Some(default),
        Some(value) => value.as_bool(),
    }
}

fn text(fields: &Map<String, Value>, name: &str) -> Option<Option<Box<str>>> {
    match fields.get(name) {
        None | Some(Value::Null) => Some(None),
        Some(value) => value.as_str().map(|text| Some(text.into())),
    }
}

/// The first INFO of a connection, with its line end. drop-in §7
pub(crate) fn info(settings: &Settings, number: u64, new: &NewConnection) -> Vec<u8> {
    let mut fields = common(settings, number);
    fields.insert("client_ip".into(), new.peer.ip().to_string().into());
    for (name, value) in [
        ("auth_required", settings.authorization.is_required()),
        ("tls_required", new.tls.required),
        ("tls_verify", new.tls.verify),
        ("tls_available", new.tls.available),
    ] {
        if value {
            fields.insert(name.into(), true.into());
        }
    }
    line(fields)
}

/// The INFO that follows the first PONG.
pub(crate) fn second_info(settings: &Settings, number: u64, account: &str) -> Vec<u8> {
    let mut fields = common(settings, number);
    fields.insert("connect_info".into(), true.into());
    fields.insert("remote_account".into(), account.into());
    line(fields)
}

/// The API level that clients switch features on.
const API_LEVEL: u32 = 1;

fn common(settings: &Settings, number: u64) -> Map<String, Value> {
    let server = &settings.server;
    let mut fields = Map::new();
    let mut set = |name: &str, value: Value| fields.insert(name.into(), value);
    set("server_id", (&*server.id).into());
    set("server_name", (&*server.name).into());
    set("version", (&*server.version).into());
    set("tributary", (&*server.software).into());
    set("proto", 1.into());
    set("host", (&*server.host).into());
    set("port", server.port.into());
    set("headers", true.into());
    set("max_payload", settings.max_payload.into());
    set("client_id", number.into());
    set("api_lvl", API_LEVEL.into());
    if let Some(jetstream) = &settings.jetstream {
        set("jetstream", true.into());
        if let Some(domain) = &jetstream.domain {
            set("domain", (&**domain).into());
        }
    }
    fields
}

fn line(fields: Map<String, Value>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    nats_proto::encode::info(Value::Object(fields).to_string().as_bytes(), &mut bytes);
    bytes
}
