//! The checked configuration as the broker's settings.

use std::sync::Arc;

use broker::{
    Authorization, JetStreamSettings, LeafSettings, MqttSettings, Permissions, Protocol, Responses, Rule, Secret,
    ServerIdentity, Settings, Subscribable, Transport, User, Way,
};
use jetstream::{AccountLimits, BatchLimits, Limits, RequestLimits};
use subject::Filter;

use crate::config::{self, Config, ConnectionType, Credentials};
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
        answer_lost_requests: config.uplink.answer_lost_requests,
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
                users: users.iter().map(user).collect(),
            }
        }
    }
}

fn user(user: &config::User) -> User {
    User {
        permissions: user.permissions.as_ref().map(|it| Arc::new(permissions(it))),
        ways: user.connection_types.iter().flatten().map(way).collect(),
        ..User::new(&user.name, secret(&user.password))
    }
}

fn permissions(read: &config::Permissions) -> Permissions {
    // Checked when they were read.
    let filter = |text: &String| Filter::parse(text).ok();
    let subscribable = |text: &String| {
        let (subject, queue) =
            text.split_once(' ').map_or((text.as_str(), None), |(subject, queue)| (subject, Some(queue)));
        let queue = queue.map(|queue| Filter::parse(queue.trim())).transpose().ok()?;
        Some(Subscribable { subject: Filter::parse(subject).ok()?, queue })
    };
    Permissions {
        publish: rule(&read.publish, filter),
        subscribe: rule(&read.subscribe, subscribable),
        responses: read
            .allow_responses
            .as_ref()
            .map(|responses| Responses { max_messages: responses.max_messages, expires: responses.expires }),
    }
}

fn rule<T>(read: &config::SubjectPermission, parse: impl Fn(&String) -> Option<T>) -> Rule<T> {
    let list = |texts: &[String]| texts.iter().filter_map(&parse).collect();
    Rule { allow: read.allow.as_deref().map(list), deny: list(&read.deny) }
}

fn way(kind: &ConnectionType) -> Way {
    match kind {
        ConnectionType::Standard => (Protocol::Nats, Transport::Tcp),
        ConnectionType::WebSocket => (Protocol::Nats, Transport::WebSocket),
        ConnectionType::LeafNode => (Protocol::Leaf, Transport::Tcp),
        ConnectionType::LeafNodeWebSocket => (Protocol::Leaf, Transport::WebSocket),
        ConnectionType::Mqtt => (Protocol::Mqtt, Transport::Tcp),
        ConnectionType::MqttWebSocket => (Protocol::Mqtt, Transport::WebSocket),
        ConnectionType::InProcess => (Protocol::Nats, Transport::Internal),
    }
}

fn secret(password: &config::Password) -> Secret {
    match password {
        config::Password::Plain(text) => Secret::Plain(text.reveal().into()),
        config::Password::Bcrypt(hash) => Secret::Bcrypt(hash.reveal().into()),
    }
}

/// The store's limits, without a seed.
pub(crate) fn store_limits(config: &Config, jetstream: &config::JetStream) -> Limits {
    Limits {
        max_streams: u32::try_from(config.memory.max_streams).unwrap_or(u32::MAX),
        max_file_store: jetstream.max_file,
        max_memory_store: Some(jetstream.max_memory),
        max_queued_messages: config.mqtt_limits.max_queued_messages,
        max_queued_bytes: config.mqtt_limits.max_queued_bytes,
        account: account_limits(&jetstream.account),
        requests: request_limits(&jetstream.limits),
        ..Limits::default()
    }
}

/// What the account may have.
fn account_limits(limits: &config::AccountLimits) -> AccountLimits {
    AccountLimits {
        max_memory: limits.max_memory,
        max_storage: limits.max_store,
        max_streams: limits.max_streams,
        max_consumers: limits.max_consumers,
        max_ack_pending: limits.max_ack_pending,
        max_memory_stream: limits.max_memory_stream,
        max_storage_stream: limits.max_disk_stream,
        max_bytes_required: limits.max_bytes_required,
    }
}

/// What single requests may ask for.
pub(crate) fn request_limits(limits: &config::JetStreamLimits) -> RequestLimits {
    let nanoseconds = |duration: std::time::Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    RequestLimits {
        max_ack_pending: limits.max_ack_pending,
        max_request_batch: limits.max_request_batch,
        duplicate_window_ns: limits.duplicate_window.map(nanoseconds),
        batches: BatchLimits {
            of_stream: limits.batches.of_stream,
            total: limits.batches.total,
            messages: limits.batches.messages,
            timeout_ms: limits.batches.timeout.map(|timeout| nanoseconds(timeout).div_ceil(1_000_000)),
        },
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
