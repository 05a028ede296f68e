//! Where a hub is: the URLs of a remote, and the bare `host:port` of discovered ones.

use std::fmt;

/// Longest URL accepted, bytes; also of discovered addresses, which come from a peer.
pub const MAX_ADDRESS_LENGTH: usize = 1024;

/// Port of a URL that names none, whatever the scheme, as in nats-server.
const DEFAULT_PORT: u16 = 7422;

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    /// `nats-leaf://` and `nats://`: TCP, TLS when the hub asks for it.
    Plain,
    /// `tls://`: TCP, TLS whether or not the hub asks for it.
    Tls,
    /// `ws://`.
    WebSocket,
    /// `wss://`.
    WebSocketTls,
}

impl Scheme {
    /// Is it one of the WebSocket schemes? Their TLS belongs to the dialling, not to the handshake.
    #[must_use]
    pub fn is_websocket(self) -> bool {
        matches!(self, Scheme::WebSocket | Scheme::WebSocketTls)
    }
}

/// Why a URL is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Longer than [`MAX_ADDRESS_LENGTH`].
    #[error("URL longer than {MAX_ADDRESS_LENGTH} bytes")]
    TooLong,
    /// Unknown scheme.
    #[error("unknown scheme {0:?}: use nats-leaf, nats, tls, ws or wss")]
    Scheme(String),
    /// No host.
    #[error("no host in the URL")]
    NoHost,
    /// The port is no number between 1 and 65535.
    #[error("bad port {0:?}")]
    Port(String),
    /// Blank or control character, or a broken `%xx`.
    #[error("bad character in the URL")]
    Character,
}

/// A hub's address, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// How to speak to it.
    pub scheme: Scheme,
    /// Host name or IP address, an IPv6 address without its brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Path of a WebSocket URL, with its `/`; empty otherwise.
    pub path: String,
    /// User part of the URL, decoded.
    pub user: Option<String>,
    /// Password part of the URL, decoded.
    pub password: Option<String>,
}

impl Address {
    /// Parses `[scheme://][user[:password]@]host[:port][/path]`; without a scheme it is TCP.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse(text: &str) -> Result<Address, AddressError> {
        if text.len() > MAX_ADDRESS_LENGTH {
            return Err(AddressError::TooLong);
        }
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(AddressError::Character);
        }
        let (scheme, rest) = match text.split_once("://") {
            Some((name, rest)) => (scheme(name)?, rest),
            None => (Scheme::Plain, text),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (user_info, host_port) = match authority.rsplit_once('@') {
            Some((user_info, host_port)) => (Some(user_info), host_port),
            None => (None, authority),
        };
        let (user, password) = match user_info.map(|info| info.split_once(':').unwrap_or((info, ""))) {
            None => (None, None),
            Some((user, "")) => (Some(percent_decoded(user)?), None),
            Some((user, password)) => (Some(percent_decoded(user)?), Some(percent_decoded(password)?)),
        };
        let (host, port) = host_and_port(host_port)?;
        let path = if scheme.is_websocket() && path != "/" { path.to_owned() } else { String::new() };
        Ok(Address { scheme, host, port, path, user, password })
    }

    /// `host:port`, an IPv6 address in its brackets.
    #[must_use]
    pub fn authority(&self) -> String {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        format!("{open}{}{close}:{}", self.host, self.port)
    }

    /// Same host and port?
    #[must_use]
    pub fn is_same_place(&self, other: &Address) -> bool {
        self.host.eq_ignore_ascii_case(&other.host) && self.port == other.port
    }
}

impl fmt::Display for Address {
    /// Without user and password, for logs and `status`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            Scheme::Plain => "nats-leaf",
            Scheme::Tls => "tls",
            Scheme::WebSocket => "ws",
            Scheme::WebSocketTls => "wss",
        };
        write!(out, "{scheme}://{}{}", self.authority(), self.path)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

fn scheme(name: &str) -> Result<Scheme, AddressError> {
    match name.to_ascii_lowercase().as_str() {
        "nats-leaf" | "nats" | "leaf" => Ok(Scheme::Plain),
        "tls" => Ok(Scheme::Tls),
        "ws" => Ok(Scheme::WebSocket),
        "wss" => Ok(Scheme::WebSocketTls),
        _ => Err(AddressError::Scheme(name.chars().take(32).collect())),
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), AddressError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, after) = rest.split_once(']').ok_or(AddressError::NoHost)?;
        let port = if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or(AddressError::NoHost)?) };
        (host, port)
    } else {
        match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    if host.is_empty() {
        return Err(AddressError::NoHost);
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(AddressError::Port(digits.chars().take(16).collect())),
        },
    };
    Ok((host.to_owned(), port))
}

fn percent_decoded(text: &str) -> Result<String, AddressError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        match (digit(), digit()) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => return Err(AddressError::Character),
        }
    }
    String::from_utf8(out).map_err(|_| AddressError::Character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_as_users_write_them() {
        let parsed = Address::parse("tls://us%40er:pa%3Ass@hub.example.com").unwrap();
        assert_eq!((parsed.scheme, parsed.port, parsed.host.as_str()), (Scheme::Tls, 7422, "hub.example.com"));
        assert_eq!((parsed.user.as_deref(), parsed.password.as_deref()), (Some("us@er"), Some("pa:ss")));
        let parsed = Address::parse("wss://[2001:db8::1]:443/leaf").unwrap();
        assert_eq!((parsed.host.as_str(), parsed.port, parsed.path.as_str()), ("2001:db8::1", 443, "/leaf"));
        assert_eq!(parsed.to_string(), "wss://[2001:db8::1]:443/leaf");
        // As in nats-server: 7422 also for ws://
        assert_eq!(Address::parse("ws://h").unwrap().port, 7422);
        assert_eq!(Address::parse("10.0.0.7:7500").unwrap().to_string(), "nats-leaf://10.0.0.7:7500");
        assert_eq!(Address::parse("nats://token@h").unwrap().user.as_deref(), Some("token"));
    }

    #[test]
    fn refused_urls() {
        assert_eq!(Address::parse("http://h"), Err(AddressError::Scheme("http".into())));
        assert_eq!(Address::parse("nats://"), Err(AddressError::NoHost));
        assert_eq!(Address::parse("nats://h:0"), Err(AddressError::Port("0".into())));
        assert_eq!(Address::parse("nats://h:99999"), Err(AddressError::Port("99999".into())));
        assert_eq!(Address::parse("nats://h x"), Err(AddressError::Character));
        assert_eq!(Address::parse("nats://a%zz@h"), Err(AddressError::Character));
        assert_eq!(Address::parse(&"h".repeat(2000)), Err(AddressError::TooLong));
        assert_eq!(Address::parse("nats://[::1"), Err(AddressError::NoHost));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,60}") {
            if let Ok(address) = Address::parse(&text) {
                proptest::prop_assert!(Address::parse(&address.to_string()).is_ok());
            }
        }
    }
}
