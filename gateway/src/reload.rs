//! HUP: the configuration is read again, and taken over all or not at all, as nats-server does.

use crate::config::Config;

/// What changed, in stock's words, or why nothing is taken over.
///
/// # Errors
/// The first change that needs a restart.
pub(crate) fn compare(old: &Config, new: &Config) -> Result<Vec<String>, String> {
    let refuse = |name: &str| Err(format!("config reload not supported for {name}"));
    if old.server_name != new.server_name {
        let name = |config: &Config| config.server_name.clone().unwrap_or_default();
        return Err(format!("config reload not supported for ServerName: old={}, new={}", name(old), name(new)));
    }
    if old.client.listen.host != new.client.listen.host {
        let (old, new) = (&old.client.listen.host, &new.client.listen.host);
        return Err(format!("config reload not supported for Host: old={old}, new={new}"));
    }
    if old.client.listen.port != new.client.listen.port {
        let (old, new) = (old.client.listen.port, new.client.listen.port);
        return Err(format!("config reload not supported for Port: old={old}, new={new}"));
    }
    let fixed = [
        (old.client != new.client, "TLS"),
        (old.monitoring != new.monitoring, "HTTP"),
        (old.mqtt != new.mqtt, "MQTT"),
        (old.websocket != new.websocket, "Websocket"),
        (old.jetstream != new.jetstream, "jetstream"),
        (old.leafnodes != new.leafnodes, "LeafNode"),
        (old.uplink != new.uplink, "uplink"),
        (old.streams != new.streams, "streams"),
        (old.forwards != new.forwards, "forward"),
        (old.gaps != new.gaps, "gaps"),
        (old.memory != new.memory, "limits"),
        (old.log != new.log, "logging"),
        (old.pid_file != new.pid_file, "PidFile"),
        (old.ports_file_dir != new.ports_file_dir, "PortsFileDir"),
        (old.limits.max_pending != new.limits.max_pending, "MaxPending"),
        (old.limits.write_deadline != new.limits.write_deadline, "WriteDeadline"),
    ];
    if let Some((_, name)) = fixed.iter().find(|(changed, _)| *changed) {
        return refuse(name);
    }
    Ok(changes(old, new))
}

fn changes(old: &Config, new: &Config) -> Vec<String> {
    let (before, after) = (&old.limits, &new.limits);
    let mut lines = Vec::new();
    if before.max_payload != after.max_payload {
        lines.push(format!("max_payload = {}", after.max_payload));
    }
    if before.max_connections != after.max_connections {
        lines.push(format!("max_connections = {}", shown(after.max_connections)));
    }
    if before.max_subscriptions != after.max_subscriptions {
        lines.push(format!("max_subscriptions = {}", shown(after.max_subscriptions)));
    }
    if before.max_control_line != after.max_control_line {
        lines.push(format!("max_control_line = {}", after.max_control_line));
    }
    if before.ping_interval != after.ping_interval {
        lines.push(format!("ping_interval = {}", nats_conf::format_duration(after.ping_interval)));
    }
    if before.ping_max != after.ping_max {
        lines.push(format!("ping_max = {}", after.ping_max));
    }
    if old.authorization != new.authorization {
        lines.push("authorization".to_owned());
    }
    if old.mqtt_limits != new.mqtt_limits {
        lines.push("mqtt_limits".to_owned());
    }
    if old.lame_duck != new.lame_duck {
        lines.push("lame_duck_duration, lame_duck_grace_period".to_owned());
    }
    if old.server_tags != new.server_tags {
        lines.push("tags".to_owned());
    }
    lines
}

fn shown(limit: Option<u64>) -> String {
    limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string())
}
