//! Who may connect: nobody is asked, one token, one user, or a list of users. bcrypt hashes are recognised.

use std::collections::BTreeSet;
use std::time::Duration;

use nats_conf::{Block, Field, Kind, Report};
use subject::Filter;

use super::secret::Password;
use super::tls;

/// Who may connect to a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    /// What a client must show.
    pub credentials: Credentials,
    /// `timeout` for CONNECT. Default: 2 s, or one more than TLS has.
    pub timeout: Option<Duration>,
    /// `no_auth_user`: who a client without credentials is. Default: nobody. Checked to be one of the users.
    pub no_auth_user: Option<String>,
}

impl Authorization {
    /// Nobody is asked.
    pub const OPEN: Self = Self { credentials: Credentials::None, timeout: None, no_auth_user: None };

    /// The deadline for CONNECT.
    pub fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(tls::TIMEOUT)
    }
}

impl Default for Authorization {
    fn default() -> Self {
        Self::OPEN
    }
}

/// What a client must show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    None,
    /// `token` (plain or a bcrypt hash).
    Token(Password),
    /// `user` and `password`, or the entries of `users`; never empty.
    Users(Vec<User>),
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its password.
    pub password: Password,
    /// What it may do; everything when absent.
    pub permissions: Option<Permissions>,
    /// `allowed_connection_types`. Default: all.
    pub connection_types: Option<Vec<ConnectionType>>,
}

/// What a user may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Subjects it may publish to.
    pub publish: SubjectPermission,
    /// Filters it may subscribe to, each with an optional queue behind a blank.
    pub subscribe: SubjectPermission,
    /// `allow_responses`: it may answer requests it got. Default: no.
    pub allow_responses: Option<ResponsePermission>,
}

/// Allowed and denied subjects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectPermission {
    /// Only these, when present.
    pub allow: Option<Vec<String>>,
    /// Never these.
    pub deny: Vec<String>,
}

/// How long and how often a request may be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponsePermission {
    /// Messages for one reply subject. Default: 1; none when unlimited (negative).
    pub max_messages: Option<u64>,
    /// Default: 2 minutes.
    pub expires: Duration,
}

/// By which way a client comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionType {
    /// NATS over TCP.
    Standard,
    /// NATS over WebSocket.
    WebSocket,
    /// A leaf link.
    LeafNode,
    /// A leaf link over WebSocket.
    LeafNodeWebSocket,
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over WebSocket.
    MqttWebSocket,
    /// Inside the process.
    InProcess,
}

const CONNECTION_TYPES: [(&str, ConnectionType); 7] = [
    ("standard", ConnectionType::Standard),
    ("websocket", ConnectionType::WebSocket),
    ("leafnode", ConnectionType::LeafNode),
    ("leafnode_ws", ConnectionType::LeafNodeWebSocket),
    ("mqtt", ConnectionType::Mqtt),
    ("mqtt_ws", ConnectionType::MqttWebSocket),
    ("in_process", ConnectionType::InProcess),
];

/// The block of NATS clients: one user, a token, or `users`.
pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Authorization {
    let Some(mut block) = field.block(report) else { return Authorization::OPEN };
    let users = block.field(&["users"]).and_then(|users| read_users(&users, report));
    let defaults = block
        .field(&["default_permission", "default_permissions", "permissions"])
        .and_then(|permissions| read_permissions(&permissions, report));
    block.refuse(&["auth_callout", "auth_hook", "proxy_required"], report);
    let mut authorization = read_simple(&mut block, field, report);
    if let Some(mut users) = users {
        match authorization.credentials {
            Credentials::None => {}
            Credentials::Token(_) => report.error(field.position, "Can not have a token and a users array"),
            Credentials::Users(_) => report.error(field.position, "Can not have a single user/pass and a users array"),
        }
        for user in users.iter_mut().filter(|user| user.permissions.is_none()) {
            user.permissions.clone_from(&defaults);
        }
        authorization.credentials = if users.is_empty() { Credentials::None } else { Credentials::Users(users) };
    }
    block.finish(report);
    authorization
}

/// The block of one listener (`mqtt`, `websocket`): one user or a token.
pub(super) fn read_listener(field: &Field<'_>, report: &mut Report) -> Authorization {
    let Some(mut block) = field.block(report) else { return Authorization::OPEN };
    let authorization = read_simple(&mut block, field, report);
    block.finish(report);
    authorization
}

fn read_simple(block: &mut Block<'_>, field: &Field<'_>, report: &mut Report) -> Authorization {
    let mut read = |names: &[&str]| block.field(names).map(|field| field.text(report));
    // What is there and wrong has been reported, and is not missing besides.
    let user = read(&["user", "username"]).map(Option::unwrap_or_default);
    let password = read(&["pass", "password"]).map(Option::unwrap_or_default);
    let token = read(&["token"]).map(Option::unwrap_or_default);
    let timeout = block.field(&["timeout"]).and_then(|field| field.seconds(report));
    let credentials = match (user, password, token) {
        (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
            report.error(field.position, "Cannot have a user/pass and token");
            Credentials::None
        }
        (Some(name), Some(password), None) => Credentials::Users(vec![User::plain(name, &password)]),
        (Some(_), None, None) => {
            report.error(field.position, "a user needs a password: expected field \"password\"");
            Credentials::None
        }
        (None, Some(_), None) => {
            report.error(field.position, "a password needs a user: expected field \"user\"");
            Credentials::None
        }
        (None, None, Some(token)) => Credentials::Token(Password::new(&token)),
        (None, None, None) => Credentials::None,
    };
    Authorization { credentials, timeout, no_auth_user: None }
}

impl User {
    /// A user who may do everything.
    pub(super) fn plain(name: String, password: &str) -> Self {
        Self { name, password: Password::new(password), permissions: None, connection_types: None }
    }
}

fn read_users(field: &Field<'_>, report: &mut Report) -> Option<Vec<User>> {
    let mut users = Vec::new();
    let mut names = BTreeSet::new();
    for element in field.list(report)? {
        let Some(user) = read_user(&element, report) else { continue };
        if !names.insert(user.name.clone()) {
            report.error(element.position, format!("Duplicate user {:?} detected", user.name));
        }
        users.push(user);
    }
    Some(users)
}

fn read_user(field: &Field<'_>, report: &mut Report) -> Option<User> {
    let mut block = field.block(report)?;
    let name = block.field(&["user", "username"]).and_then(|field| field.text(report));
    let password = block.field(&["pass", "password"]).and_then(|field| field.text(report));
    let permissions = block
        .field(&["permission", "permissions", "authorization"])
        .and_then(|permissions| read_permissions(&permissions, report));
    let connection_types = block
        .field(&["allowed_connection_types", "connection_types", "clients"])
        .map(|types| types.elements().iter().filter_map(|one| one.choice(&CONNECTION_TYPES, report)).collect());
    let nkey = block.field(&["nkey"]).is_some();
    block.refuse(&["nkey", "proxy_required"], report);
    block.finish(report);
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        if !nkey {
            report.error(field.position, "User entry requires a user");
        }
        return None;
    };
    // Stock takes a user without password for one with an empty password; so do we.
    let password = Password::new(&password.unwrap_or_default());
    Some(User { name, password, permissions, connection_types })
}

fn read_permissions(field: &Field<'_>, report: &mut Report) -> Option<Permissions> {
    let mut block = field.block(report)?;
    let publish = block.field(&["pub", "publish", "import"]).map(|field| read_subjects(&field, Side::Publish, report));
    let subscribe =
        block.field(&["sub", "subscribe", "export"]).map(|field| read_subjects(&field, Side::Subscribe, report));
    let allow_responses =
        block.field(&["publish_allow_responses", "allow_responses"]).and_then(|field| read_responses(&field, report));
    block.finish(report);
    Some(Permissions {
        publish: publish.unwrap_or_default(),
        subscribe: subscribe.unwrap_or_default(),
        allow_responses,
    })
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Publish,
    Subscribe,
}

/// A subject, a list of them, or `{allow, deny}`.
fn read_subjects(field: &Field<'_>, side: Side, report: &mut Report) -> SubjectPermission {
    if !matches!(field.value.kind, Kind::Map(_)) {
        return SubjectPermission { allow: allowed(field, side, report), deny: Vec::new() };
    }
    let Some(mut block) = field.block(report) else { return SubjectPermission::default() };
    let allow = block.field(&["allow"]).and_then(|field| allowed(&field, side, report));
    let deny = block.field(&["deny"]).and_then(|field| subjects(&field, side, report)).unwrap_or_default();
    block.finish(report);
    SubjectPermission { allow, deny }
}

/// As [`subjects`], with a word on an empty list: who writes one means that nothing is allowed, and that is what it does here.
fn allowed(field: &Field<'_>, side: Side, report: &mut Report) -> Option<Vec<String>> {
    let texts = subjects(field, side, report)?;
    if texts.is_empty() {
        report.notice(field.position, "an empty list allows nothing (nats-server takes it for no list at all)");
    }
    Some(texts)
}

fn subjects(field: &Field<'_>, side: Side, report: &mut Report) -> Option<Vec<String>> {
    let texts = field.strings(report)?;
    for text in &texts {
        let (subject, queue) =
            text.split_once(' ').map_or((text.as_str(), None), |(subject, queue)| (subject, Some(queue)));
        let queue_fits = queue.is_none_or(|queue| side == Side::Subscribe && Filter::parse(queue.trim()).is_ok());
        if Filter::parse(subject).is_err() || !queue_fits {
            report.error(field.position, format!("subject {text:?} is not a valid subject"));
        }
    }
    Some(texts)
}

fn read_responses(field: &Field<'_>, report: &mut Report) -> Option<ResponsePermission> {
    let default = ResponsePermission { max_messages: Some(1), expires: Duration::from_secs(120) };
    match field.value.kind {
        Kind::Boolean(allowed) => return allowed.then_some(default),
        Kind::Map(_) => {}
        _ => {
            report.error(field.position, "error parsing response permissions, expected a boolean or a map");
            return None;
        }
    }
    let mut block = field.block(report)?;
    let max = block.field(&["max", "max_msgs", "max_messages", "max_responses"]);
    let max = max.and_then(|field| field.integer::<i64>(i64::MIN..=i64::MAX, report)).unwrap_or(0);
    let expires = block.field(&["expires", "expiration", "ttl"]).and_then(|field| field.duration(report));
    block.finish(report);
    let max_messages = match max {
        0 => default.max_messages,
        max => u64::try_from(max).ok(),
    };
    Some(ResponsePermission {
        max_messages,
        expires: expires.filter(|expires| !expires.is_zero()).unwrap_or(default.expires),
    })
}

/// What flags ask for: a token, or a user and its password.
pub(super) fn from_flags(user: Option<&str>, password: Option<&str>, token: Option<&str>) -> Option<Credentials> {
    match (user, password, token) {
        (Some(user), password, _) => {
            Some(Credentials::Users(vec![User::plain(user.to_owned(), password.unwrap_or_default())]))
        }
        (None, _, Some(token)) => Some(Credentials::Token(Password::new(token))),
        (None, Some(_), None) | (None, None, None) => None,
    }
}
