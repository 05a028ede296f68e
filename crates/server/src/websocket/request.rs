//! The upgrade request: what its path asks for, who may ask, and what is answered.

use broker::Protocol;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response, create_response};
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};

use super::WebSocketOptions;

/// Status line and text of a refusal.
pub(super) type Refused = (&'static str, &'static str);

/// What the path asks for, and the answer that grants it.
pub(super) fn judge(request: &Request, options: &WebSocketOptions) -> Result<(Protocol, Response), Refused> {
    let Ok(mut response) = create_response(request) else {
        return Err(("400 Bad Request", "this port speaks WebSocket: the request is no upgrade to it"));
    };
    check_origin(request, options)?;
    let protocol = match request.uri().path() {
        "/mqtt" if options.mqtt => {
            // [MQTT-6.0.0-3], [MQTT-6.0.0-4]
            let Some(name) = mqtt_name(request) else {
                return Err(("400 Bad Request", "sub-protocol 'mqtt' was not offered"));
            };
            response.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static(name));
            Protocol::Mqtt
        }
        "/mqtt" => return Err(("404 Not Found", "MQTT is not enabled")),
        "/leafnode" => return Err(("404 Not Found", "leafnode connections are not accepted here")),
        _ => Protocol::Nats,
    };
    for (name, value) in &options.headers {
        let name = HeaderName::try_from(name.as_str());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value.as_str())) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok((protocol, response))
}

fn mqtt_name(request: &Request) -> Option<&'static str> {
    let offered = request.headers().get_all("Sec-WebSocket-Protocol");
    let mut names = offered.iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.find_map(|name| match name.trim() {
        "mqtt" => Some("mqtt"),
        "mqttv3.1" => Some("mqttv3.1"),
        _ => None,
    })
}

/// Browsers send `Origin`, programs don't and are let in, as nats-server does.
fn check_origin(request: &Request, options: &WebSocketOptions) -> Result<(), Refused> {
    const NOT_ALLOWED: Refused = ("403 Forbidden", "origin not allowed");
    if !options.same_origin && options.allowed_origins.is_empty() {
        return Ok(());
    }
    let Some(origin) = request.headers().get("Origin") else { return Ok(()) };
    let scheme_of_ours = if options.tls.is_some() { "https" } else { "http" };
    let origin = origin.to_str().ok().and_then(Place::parse).ok_or(NOT_ALLOWED)?;
    if options.same_origin {
        let host = request.headers().get("Host").and_then(|host| host.to_str().ok());
        let ours = host.and_then(|host| Place::new(scheme_of_ours, host)).ok_or(NOT_ALLOWED)?;
        if origin.host != ours.host || origin.port != ours.port {
            return Err(NOT_ALLOWED);
        }
    }
    let allowed = &options.allowed_origins;
    if !allowed.is_empty() && !allowed.iter().filter_map(|text| Place::parse(text)).any(|place| place == origin) {
        return Err(NOT_ALLOWED);
    }
    Ok(())
}

/// An origin: `https://example.com:8443`.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    scheme: String,
    host: String,
    port: u16,
}

impl Place {
    fn parse(text: &str) -> Option<Place> {
        let (scheme, authority) = text.split_once("://")?;
        Place::new(scheme, authority.trim_end_matches('/'))
    }

    fn new(scheme: &str, authority: &str) -> Option<Place> {
        let scheme = scheme.to_ascii_lowercase();
        let usual = if scheme == "https" { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()?),
            _ => (authority, usual),
        };
        Some(Place { scheme, host: host.to_ascii_lowercase(), port })
    }
}
