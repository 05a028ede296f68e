//! Defaults are filled in, and options that don't go together are found: stock's texts, which have no position.

use std::path::Path;

use nats_conf::{Report, format_duration};
use subject::Filter;

use super::authorization::{Authorization, Credentials};
use super::listeners::{ClientListener, Listen, Monitoring};
use super::top_level::Draft;
use super::{Config, jetstream};

/// The configuration, or nothing when there is none for a reason that the report gives.
pub(super) fn finish(
    draft: Draft,
    environment: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) -> Option<Config> {
    limits(&draft, report);
    websocket(&draft, report);
    no_auth_users(&draft, report);
    ports(&draft, report);
    overlapping_streams(&draft, report);
    links(&draft, report);
    let jetstream = enabled(&draft, report);
    let store_dir = if jetstream { Some(store_folder(&draft, environment, report)?) } else { None };
    let client = draft.client.or("0.0.0.0", 4222);
    let monitoring = draft.monitoring.map(|address| Monitoring {
        // A port alone is on the clients' host, as in stock.
        listen: address.or(&client.host, 8222),
        base_path: draft.base_path,
    });
    let mut mqtt_limits = draft.mqtt_limits;
    if let Some(most) = draft.mqtt.as_ref().and_then(|mqtt| mqtt.max_ack_pending) {
        mqtt_limits.max_inflight = most;
    }
    Some(Config {
        server_name: draft.server_name,
        server_tags: draft.server_tags,
        client: ClientListener {
            listen: client,
            advertise: draft.client_advertise,
            tls: draft.client_tls,
            allow_non_tls: draft.allow_non_tls,
        },
        monitoring,
        mqtt: draft.mqtt,
        websocket: draft.websocket,
        authorization: draft.authorization,
        limits: draft.limits,
        lame_duck: draft.lame_duck,
        memory: draft.memory,
        mqtt_limits,
        jetstream: store_dir.map(|store_dir| draft.jetstream.finish(store_dir)),
        leafnodes: draft.leafnodes,
        uplink: draft.uplink,
        streams: draft.streams,
        forwards: draft.forwards,
        gaps: draft.gaps,
        log: draft.log,
        pid_file: draft.pid_file,
        ports_file_dir: draft.ports_file_dir,
        config_file: draft.config_file,
        digest: draft.digest,
        from_nothing: draft.from_nothing,
    })
}

fn limits(draft: &Draft, report: &mut Report) {
    let limits = &draft.limits;
    if limits.max_payload > limits.max_pending {
        let (payload, pending) = (limits.max_payload, limits.max_pending);
        report.conflict(format!("max_payload ({payload}) cannot be higher than max_pending ({pending})"));
    }
    if limits.max_payload > draft.memory.connection_memory {
        let (payload, memory) = (limits.max_payload, draft.memory.connection_memory);
        report.conflict(format!("max_payload ({payload}) cannot be higher than limits.connection_memory ({memory})"));
    }
    if limits.max_payload > draft.memory.store_queue {
        let (payload, queue) = (limits.max_payload, draft.memory.store_queue);
        report.conflict(format!("max_payload ({payload}) cannot be higher than limits.store_queue ({queue})"));
    }
    if draft.lame_duck.grace >= draft.lame_duck.duration {
        let (grace, duration) = (format_duration(draft.lame_duck.grace), format_duration(draft.lame_duck.duration));
        report.conflict(format!(
            "lame duck grace period ({grace}) should be strictly lower than lame duck duration ({duration})"
        ));
    }
}

fn websocket(draft: &Draft, report: &mut Report) {
    let Some(websocket) = &draft.websocket else { return };
    if websocket.tls.is_none() && !websocket.no_tls {
        report.conflict("websocket requires TLS configuration");
    }
}

fn no_auth_users(draft: &Draft, report: &mut Report) {
    let shared = &draft.authorization;
    if let Some(name) = &shared.no_auth_user {
        no_auth_user(name, shared, report);
    }
    let mqtt = draft.mqtt.as_ref().map(|mqtt| (&mqtt.no_auth_user, &mqtt.authorization));
    let websocket = draft.websocket.as_ref().map(|websocket| (&websocket.no_auth_user, &websocket.authorization));
    for (name, own) in mqtt.into_iter().chain(websocket) {
        if let Some(name) = name {
            no_auth_user(name, own.as_ref().unwrap_or(shared), report);
        }
    }
}

fn no_auth_user(name: &str, authorization: &Authorization, report: &mut Report) {
    match &authorization.credentials {
        Credentials::Users(users) if users.iter().any(|user| user.name == name) => {}
        Credentials::Users(_) => report.conflict(format!(
            "no_auth_user: {name:?} not present as user or nkey in authorization block or account configuration"
        )),
        Credentials::None | Credentials::Token(_) => {
            report.conflict(format!("no_auth_user: {name:?} present, but users/nkeys are not defined"));
        }
    }
}

/// Two listeners on one port would fail at the start, after the first is open.
fn ports(draft: &Draft, report: &mut Report) {
    let client = draft.client.clone().or("0.0.0.0", 4222);
    let monitoring = draft.monitoring.clone().map(|address| address.or(&client.host, 8222));
    let mut listeners: Vec<(&str, Listen)> = vec![("client", client)];
    listeners.extend(monitoring.map(|listen| ("monitoring", listen)));
    listeners.extend(draft.mqtt.as_ref().map(|mqtt| ("mqtt", mqtt.listen.clone())));
    listeners.extend(draft.websocket.as_ref().map(|websocket| ("websocket", websocket.listen.clone())));
    for (index, (name, listen)) in listeners.iter().enumerate() {
        for (earlier_name, earlier) in &listeners[..index] {
            if listen.port != 0 && listen == earlier {
                report.conflict(format!("{earlier_name} and {name} cannot both listen on {listen}"));
            }
        }
    }
}

fn overlapping_streams(draft: &Draft, report: &mut Report) {
    let filters = |subjects: &[String]| -> Vec<Filter> {
        subjects.iter().filter_map(|subject| Filter::parse(subject).ok()).collect()
    };
    let streams: Vec<_> = draft.streams.iter().map(|stream| (stream, filters(&stream.subjects))).collect();
    for (index, (stream, subjects)) in streams.iter().enumerate() {
        for (earlier, others) in &streams[..index] {
            let overlap = subjects.iter().any(|subject| others.iter().any(|other| other.overlaps(subject)));
            if overlap {
                let text =
                    format!("stream {:?}: subjects overlap with an existing stream, {:?}", stream.name, earlier.name);
                report.error(&stream.position, text);
            }
        }
    }
}

fn links(draft: &Draft, report: &mut Report) {
    if let Some(forward) = draft.forwards.first()
        && draft.leafnodes.remotes.is_empty()
    {
        report.error(&forward.position, "a forward needs a link: expected \"leafnodes { remotes: [ { url: … } ] }\"");
    }
}

/// On when it is asked for, or when something needs it and nobody said no.
fn enabled(draft: &Draft, report: &mut Report) -> bool {
    let needed = [
        ("mqtt", draft.mqtt.is_some()),
        ("streams", !draft.streams.is_empty()),
        ("forward", !draft.forwards.is_empty()),
    ];
    let needing = needed.iter().filter(|(_, there)| *there).map(|(name, _)| *name);
    match draft.jetstream.enabled {
        Some(true) => true,
        None => needing.count() > 0,
        Some(false) => {
            for name in needing {
                report.conflict(format!("{name} requires JetStream to be enabled"));
            }
            false
        }
    }
}

fn store_folder(
    draft: &Draft,
    environment: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) -> Option<std::path::PathBuf> {
    let folder = draft.jetstream.store_dir.clone().or_else(|| jetstream::state_folder(environment));
    match &folder {
        None => report.conflict("no folder for the store: set store_dir, $STATE_DIRECTORY, $XDG_STATE_HOME or $HOME"),
        Some(folder) if Path::new(folder).exists() && !folder.is_dir() => {
            report.conflict(format!("storage directory is not a directory: {}", folder.display()));
        }
        Some(_) => {}
    }
    folder
}
