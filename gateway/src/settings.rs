//! The checked configuration as the broker's settings.

use broker::{Authorization, JetStreamSettings, LeafSettings, MqttSettings, Secret, ServerIdentity, Settings, User};

use crate::config::{self, Config, Credentials};
use crate::version;

/// Most clients when the configuration sets no limit.
const MAX_CONNECTIONS: usize = 65_536;

/// What is decided at the start and is in no file.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// `N…`, new at each start, as stock's.
    pub(crate) server_id: String,
    /// Random, see [`LeafSettings::loop_token`].
    pub(crate) loop_token: String,
}

/// The broker's settings. `port` is the real one of the client listener.
pub(crate) fn settings(config: &Config, identity: &Identity, port: u16) -> Settings {
    let defaults = Settings::default();
    let limits = &config.limits;
    Settings {
        server: ServerIdentity {
            id: identity.server_id.as_str().into(),
            name: config.server_name.as_deref().unwrap_or(&identity.server_id).into(),
            version: version::COMPATIBLE.into(),
            host: config.client.listen.host.as_str().into(),
            port,
            software: format!("{} v{}", version::NAME, version::OWN).into(),
        },
        authorization: authorization(&config.authorization, None),
        max_payload: size(limits.max_payload),
        max_control_line: limits.max_control_line as usize,
        max_connections: limits.max_connections.map_or(MAX_CONNECTIONS, size),
        max_subscriptions: limits.max_subscriptions.map_or(0, size),
        ping_interval: limits.ping_interval,
        ping_max: limits.ping_max,
        auth_timeout: config.authorization.timeout(),
        write_deadline: limits.write_deadline,
        max_pending: size(limits.max_pending),
        memory_budget: size(config.memory.connection_memory),
        store_queue: size(config.memory.store_queue),
        store_patience: defaults.store_patience,
        jetstream: config
            .jetstream
            .as_ref()
            .map(|jetstream| JetStreamSettings { domain: jetstream.domain.as_deref().map(Into::into) }),
        mqtt: mqtt(config, &defaults.mqtt),
        leafnodes: leafnodes(config, identity),
    }
}

fn mqtt(config: &Config, defaults: &MqttSettings) -> MqttSettings {
    let limits = &config.mqtt_limits;
    let own = config.mqtt.as_ref().and_then(|mqtt| {
        let no_auth_user = mqtt.no_auth_user.as_deref();
        let rule = mqtt.authorization.as_ref().or(no_auth_user.map(|_| &config.authorization))?;
        Some(authorization(rule, no_auth_user))
    });
    MqttSettings {
        authorization: own,
        connect_timeout: limits.connect_timeout,
        max_inflight: config.mqtt.as_ref().and_then(|mqtt| mqtt.max_ack_pending).unwrap_or(limits.max_inflight),
        max_sessions: size(limits.max_sessions),
        max_queued: size(limits.max_queued_messages),
        ..defaults.clone()
    }
}

fn leafnodes(config: &Config, identity: &Identity) -> Option<LeafSettings> {
    if config.leafnodes.remotes.is_empty() {
        return None;
    }
    let kept_back = config.forwards.iter().filter(|forward| !forward.live);
    Some(LeafSettings {
        loop_token: identity.loop_token.as_str().into(),
        forwarded: kept_back.map(|forward| forward.stream.as_str().into()).collect(),
    })
}

fn authorization(rule: &config::Authorization, no_auth_user: Option<&str>) -> Authorization {
    match &rule.credentials {
        Credentials::None => Authorization::None,
        Credentials::Token(token) => Authorization::Token(secret(token)),
        Credentials::Users(users) => {
            let nobody = no_auth_user.or(rule.no_auth_user.as_deref());
            Authorization::Users {
                no_auth_user: nobody.and_then(|name| users.iter().position(|user| user.name == name)),
                users: users
                    .iter()
                    .map(|user| User { name: user.name.as_str().into(), secret: secret(&user.password) })
                    .collect(),
            }
        }
    }
}

fn secret(password: &config::Password) -> Secret {
    match password {
        config::Password::Plain(text) => Secret::Plain(text.reveal().into()),
        config::Password::Bcrypt(hash) => Secret::Bcrypt(hash.reveal().into()),
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
