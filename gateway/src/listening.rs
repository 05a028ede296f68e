//! The listeners: bound before anything is announced, served until the stop.

use std::net::{SocketAddr, ToSocketAddrs};

use anyhow::{Context, anyhow};
use broker::Protocol;
use server::status::{Listener, Listeners};
use server::tls::{HandshakeFirst, IdentityFiles, ListenerTls, ServerTls};
use server::{
    CoreHandle, Handshakes, Monitor, Shutdown, WebSocketOptions, accept_http, accept_plain, accept_tls,
    accept_websocket, bind, listen,
};
use tokio::net::TcpListener;

use crate::config::{self, Config, Listen, Tls};

/// A bound socket with the rules of its listener.
struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    host: String,
    tls: Option<ServerTls>,
}

/// All listeners of the configuration, bound and not yet served.
pub(crate) struct Sockets {
    client: Bound,
    mqtt: Option<Bound>,
    websocket: Option<Bound>,
    http: Option<Bound>,
}

impl Sockets {
    /// Binds them; the texts of failures are stock's.
    pub(crate) fn bind(config: &Config) -> anyhow::Result<Sockets> {
        let websocket = config.websocket.as_ref();
        let http = config.monitoring.as_ref();
        let http = http.map(|http| {
            bind_one(&http.listen, None)
                .map_err(|error| anyhow!("Can't start monitoring: can't listen to the monitor port: {error:#}"))
        });
        let websocket = websocket.map(|websocket| {
            let tls = load_tls(websocket.tls.as_ref(), false)?;
            bind_one(&websocket.listen, tls)
                .map_err(|error| anyhow!("Unable to listen for websocket connections: {error:#}"))
        });
        let mqtt = config.mqtt.as_ref().map(|mqtt| {
            let tls = load_tls(mqtt.tls.as_ref(), false)?;
            bind_one(&mqtt.listen, tls).map_err(|error| anyhow!("Unable to listen for MQTT connections: {error:#}"))
        });
        let tls = load_tls(config.client.tls.as_ref(), config.client.allow_non_tls)?;
        let listen = &config.client.listen;
        let client = bind_one(listen, tls)
            .map_err(|error| anyhow!("Error listening on port: {}:{}, \"{error:#}\"", listen.host, listen.port))?;
        Ok(Sockets { client, mqtt: mqtt.transpose()?, websocket: websocket.transpose()?, http: http.transpose()? })
    }

    /// The real port of the client listener.
    pub(crate) fn client_port(&self) -> u16 {
        self.client.address.port()
    }

    /// As `/varz` and the status show them.
    pub(crate) fn describe(&self) -> Listeners {
        let listener = |bound: &Bound, verify: bool| Listener {
            host: bound.host.clone(),
            port: bound.address.port(),
            tls: bound.tls.is_some(),
            tls_verify: verify,
        };
        let optional = |bound: &Option<Bound>| bound.as_ref().map(|bound| listener(bound, false));
        Listeners {
            client: Some(listener(&self.client, false)),
            mqtt: optional(&self.mqtt),
            websocket: optional(&self.websocket),
            http: optional(&self.http),
        }
    }

    /// For the ports file.
    pub(crate) fn urls(&self) -> Vec<(&'static str, Vec<String>)> {
        let url = |scheme: &str, bound: &Bound| vec![format!("{scheme}://{}", shown(bound))];
        let optional = |plain: &str, secure: &str, bound: &Option<Bound>| {
            bound.as_ref().map_or_else(Vec::new, |bound| url(if bound.tls.is_some() { secure } else { plain }, bound))
        };
        vec![
            ("nats", url(if self.client.tls.is_some() { "tls" } else { "nats" }, &self.client)),
            ("monitoring", optional("http", "https", &self.http)),
            ("websocket", optional("ws", "wss", &self.websocket)),
            ("mqtt", optional("mqtt", "mqtts", &self.mqtt)),
        ]
    }

    /// Starts accepting. The lines are waited for by tools, in this order.
    pub(crate) fn serve(self, config: &Config, core: &CoreHandle, monitor: &Monitor, shutdown: &Shutdown) {
        let handshakes = Handshakes::default();
        if let Some(http) = self.http {
            tracing::info!("Starting http monitor on {}", shown(&http));
            // Monitoring answers until the very end: a lame duck is watched.
            tokio::task::spawn_local(listen(http.listener, shutdown.stopping(), accept_http(monitor.clone())));
        }
        if let (Some(bound), Some(websocket)) = (self.websocket, &config.websocket) {
            let scheme = if bound.tls.is_some() { "wss" } else { "ws" };
            tracing::info!("Listening for websocket clients on {scheme}://{}", shown(&bound));
            let options = websocket_options(websocket, bound.tls, config.mqtt.is_some());
            let accept = accept_websocket(core.clone(), options, handshakes.clone());
            tokio::task::spawn_local(listen(bound.listener, shutdown.accepting(), accept));
        }
        if let Some(mqtt) = self.mqtt {
            let scheme = if mqtt.tls.is_some() { "mqtts" } else { "mqtt" };
            tracing::info!("Listening for MQTT clients on {scheme}://{}", shown(&mqtt));
            accept(mqtt, Protocol::Mqtt, core, &handshakes, shutdown);
        }
        tracing::info!("Listening for client connections on {}", shown(&self.client));
        accept(self.client, Protocol::Nats, core, &handshakes, shutdown);
    }
}

fn accept(bound: Bound, protocol: Protocol, core: &CoreHandle, handshakes: &Handshakes, shutdown: &Shutdown) {
    let stop = shutdown.accepting();
    match bound.tls {
        Some(tls) => {
            let accept = accept_tls(core.clone(), protocol, tls, handshakes.clone());
            tokio::task::spawn_local(listen(bound.listener, stop, accept));
        }
        None => {
            tokio::task::spawn_local(listen(bound.listener, stop, accept_plain(core.clone(), protocol)));
        }
    }
}

fn websocket_options(websocket: &config::WebSocket, tls: Option<ServerTls>, mqtt: bool) -> WebSocketOptions {
    WebSocketOptions {
        tls,
        handshake_timeout: websocket.handshake_timeout,
        same_origin: websocket.same_origin,
        allowed_origins: websocket.allowed_origins.clone(),
        headers: websocket.headers.clone(),
        mqtt,
    }
}

/// `host:port` as configured, with the real port; IPv6 in brackets.
fn shown(bound: &Bound) -> String {
    let port = bound.address.port();
    if bound.host.contains(':') && !bound.host.starts_with('[') {
        format!("[{}]:{port}", bound.host)
    } else {
        format!("{}:{port}", bound.host)
    }
}

fn bind_one(on: &Listen, tls: Option<ServerTls>) -> anyhow::Result<Bound> {
    let host = on.host.trim_start_matches('[').trim_end_matches(']');
    let addresses = (host, on.port).to_socket_addrs().with_context(|| format!("host {host:?}"))?;
    let mut last = anyhow!("host {host:?} has no address");
    for address in addresses {
        match bind(address) {
            Ok(listener) => {
                let address = listener.local_addr()?;
                return Ok(Bound { listener, address, host: on.host.clone(), tls });
            }
            Err(error) => last = anyhow!("listen tcp {address}: bind: {}", reason(&error)),
        }
    }
    Err(last)
}

/// The system's words as Go's tools print them: without the number.
fn reason(error: &std::io::Error) -> String {
    if error.kind() == std::io::ErrorKind::AddrInUse {
        return "address already in use".to_owned();
    }
    error.to_string()
}

fn load_tls(tls: Option<&Tls>, optional: bool) -> anyhow::Result<Option<ServerTls>> {
    let Some(tls) = tls else { return Ok(None) };
    let listener = ListenerTls {
        identity: IdentityFiles { cert_file: tls.cert_file.clone(), key_file: tls.key_file.clone() },
        ca_file: tls.ca_file.clone(),
        verify: tls.verify,
        only_13: tls.only_13,
        timeout: tls.timeout,
        first: match tls.handshake_first {
            config::HandshakeFirst::Never => HandshakeFirst::Never,
            config::HandshakeFirst::Always => HandshakeFirst::Always,
            config::HandshakeFirst::Auto(wait) => HandshakeFirst::Auto(wait),
        },
        optional,
    };
    Ok(Some(ServerTls::load(&listener)?))
}
