//! INFO and CONNECT as this server uses them.

use nats_proto::handshake::{ConnectOptions, Handshake, ServerInfo};

use crate::authorization::Credentials;
use crate::broker::NewConnection;
use crate::connection::Connection;
use crate::settings::Settings;

/// The credentials of a CONNECT.
pub(crate) fn credentials(options: &ConnectOptions) -> Credentials<'_> {
    Credentials {
        user: options.user.as_deref(),
        password: options.pass.as_ref().map(|password| &*password.0),
        token: Some(&*options.auth_token.0).filter(|token| !token.is_empty()),
    }
}

/// The first INFO of a connection, with its line end.
pub(crate) fn info(settings: &Settings, number: u64, new: &NewConnection) -> Vec<u8> {
    let fields = ServerInfo {
        client_ip: new.peer.ip().to_string(),
        auth_required: settings.authorization.is_required(),
        tls_required: new.tls.required,
        tls_verify: new.tls.verify,
        tls_available: new.tls.available,
        ..general(settings, number)
    };
    line(settings, &fields)
}

/// The INFO that follows the first PONG. Clients forget the first one for it, so it says everything again.
pub(crate) fn second_info(settings: &Settings, connection: &Connection, account: &str) -> Vec<u8> {
    let remote_account = account.into();
    line(settings, &ServerInfo { connect_info: true, remote_account, ..again(settings, connection) })
}

/// The INFO of a server that is about to leave.
pub(crate) fn lame_duck_info(settings: &Settings, connection: &Connection) -> Vec<u8> {
    line(settings, &ServerInfo { ldm: true, ..again(settings, connection) })
}

fn again(settings: &Settings, connection: &Connection) -> ServerInfo {
    ServerInfo {
        client_ip: connection.peer.ip().to_string(),
        auth_required: settings.authorization.is_required(),
        ..general(settings, connection.number)
    }
}

fn general(settings: &Settings, number: u64) -> ServerInfo {
    let server = &settings.server;
    ServerInfo {
        server_id: server.id.to_string(),
        server_name: server.name.to_string(),
        version: server.version.to_string(),
        proto: 1,
        host: server.host.to_string(),
        port: server.port,
        headers: true,
        max_payload: settings.max_payload as u64,
        client_id: number,
        api_lvl: u64::from(::jetstream_api::API_LEVEL),
        jetstream: settings.jetstream.is_some(),
        domain: settings
            .jetstream
            .as_ref()
            .and_then(|jetstream| jetstream.domain.as_deref())
            .unwrap_or_default()
            .into(),
        ..ServerInfo::default()
    }
}

/// INFO with the key of our own at its end.
fn line(settings: &Settings, info: &ServerInfo) -> Vec<u8> {
    let mut json = info.to_json();
    if !settings.server.software.is_empty() && json.pop() == Some(b'}') {
        let software = serde_json::Value::from(&*settings.server.software).to_string();
        json.extend_from_slice(b",\"tributary\":");
        json.extend_from_slice(software.as_bytes());
        json.push(b'}');
    }
    let mut bytes = Vec::with_capacity(json.len() + 8);
    nats_proto::encode::info(&json, &mut bytes);
    bytes
}
