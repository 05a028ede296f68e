//! Who may connect: nobody asked, a token, or users with plain or bcrypt passwords.
//!
//! Plain secrets are compared in a time that depends on their lengths only. A bcrypt comparison takes some hundred milliseconds on a small
//! box, so it is not made here: the verdict is [`Verdict::Pending`], and the shell's helper thread answers. What a user may do is in
//! [`crate::permissions`]; accounts will hang on [`User`] too.

use std::sync::Arc;

use crate::broker::{Protocol, Transport};
use crate::permissions::Permissions;

/// The configured rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authorization {
    /// Everybody may.
    #[default]
    None,
    /// `authorization { token: … }`.
    Token(Secret),
    /// `authorization { users: [ … ] }`, or one `user`/`password`.
    Users {
        /// In the order of the file.
        users: Vec<User>,
        /// Index of the user that clients without credentials become (`no_auth_user`).
        no_auth_user: Option<usize>,
    },
}

/// A password or token as it is configured.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// As typed.
    Plain(Box<str>),
    /// A bcrypt hash, `$2a$…`.
    Bcrypt(Box<str>),
}

impl std::fmt::Debug for Secret {
    // Never in a log.
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("[REDACTED]")
    }
}

impl Secret {
    /// Recognises bcrypt hashes by their prefix, as nats-server does.
    #[must_use]
    pub fn new(text: &str) -> Secret {
        let bcrypt = ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| text.starts_with(prefix));
        if bcrypt { Secret::Bcrypt(text.into()) } else { Secret::Plain(text.into()) }
    }
}

/// One configured user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Name; may be empty.
    pub name: Box<str>,
    /// Password; may be empty.
    pub secret: Secret,
    /// What it may do; `None`: everything.
    pub permissions: Option<Arc<Permissions>>,
    /// `allowed_connection_types`: the ways it may come; empty: all.
    pub ways: Vec<Way>,
}

/// By which way a client comes.
pub type Way = (Protocol, Transport);

impl User {
    /// A user who may do everything.
    #[must_use]
    pub fn new(name: &str, secret: Secret) -> User {
        User { name: name.into(), secret, permissions: None, ways: Vec::new() }
    }
}

/// What a client presented.
#[derive(Clone, Copy, Debug, Default)]
pub struct Credentials<'a> {
    /// `user`.
    pub user: Option<&'a str>,
    /// `pass`.
    pub password: Option<&'a str>,
    /// `auth_token`.
    pub token: Option<&'a str>,
}

/// What comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Welcome, as this user (index into the configured ones).
    Accepted(Option<usize>),
    /// `Authorization Violation`.
    Refused,
    /// Compare this on the helper thread; who it will be if it is right.
    Pending {
        /// The user.
        user: Option<usize>,
        /// The configured hash.
        hash: Box<str>,
        /// The password sent.
        password: Box<[u8]>,
    },
}

impl Authorization {
    /// Must clients present something (INFO's `auth_required`)?
    #[must_use]
    pub fn is_required(&self) -> bool {
        match self {
            Authorization::None => false,
            Authorization::Token(_) => true,
            Authorization::Users { no_auth_user, .. } => no_auth_user.is_none(),
        }
    }

    /// Is there anything configured (`/varz` says `auth_required` even where a `no_auth_user` lets everybody in)?
    #[must_use]
    pub fn is_configured(&self) -> bool {
        !matches!(self, Authorization::None)
    }

    /// The user of that index.
    #[must_use]
    pub fn user_name(&self, index: usize) -> Option<&str> {
        match self {
            Authorization::Users { users, .. } => users.get(index).map(|user| &*user.name),
            _ => None,
        }
    }

    /// Judges credentials of a client that comes by this way.
    #[must_use]
    pub fn judge(&self, given: &Credentials<'_>, way: Way) -> Verdict {
        let verdict = self.judge_credentials(given);
        let (Verdict::Accepted(index) | Verdict::Pending { user: index, .. }) = &verdict else { return verdict };
        let user = match self {
            Authorization::Users { users, .. } => index.and_then(|index| users.get(index)),
            _ => None,
        };
        match user {
            Some(user) if !user.ways.is_empty() && !user.ways.contains(&way) => Verdict::Refused,
            _ => verdict,
        }
    }

    fn judge_credentials(&self, given: &Credentials<'_>) -> Verdict {
        match self {
            Authorization::None => Verdict::Accepted(None),
            Authorization::Token(secret) => compare(secret, given.token.or(given.password), None),
            Authorization::Users { users, no_auth_user } => {
                if given.user.is_none()
                    && given.token.is_none()
                    && let Some(index) = no_auth_user
                {
                    return Verdict::Accepted(Some(*index));
                }
                let Some(name) = given.user else { return Verdict::Refused };
                let Some(index) = users.iter().position(|user| *user.name == *name) else { return Verdict::Refused };
                compare(&users[index].secret, given.password.or(Some("")), Some(index))
            }
        }
    }
}

fn compare(secret: &Secret, given: Option<&str>, user: Option<usize>) -> Verdict {
    let Some(given) = given else { return Verdict::Refused };
    match secret {
        Secret::Plain(wanted) if equal_in_constant_time(wanted.as_bytes(), given.as_bytes()) => Verdict::Accepted(user),
        Secret::Plain(_) => Verdict::Refused,
        Secret::Bcrypt(hash) => Verdict::Pending { user, hash: hash.clone(), password: given.as_bytes().into() },
    }
}

/// Looks at every byte whatever the first difference is.
fn equal_in_constant_time(left: &[u8], right: &[u8]) -> bool {
    let mut difference = u8::from(left.len() != right.len());
    for index in 0..left.len().max(right.len()) {
        let one = left.get(index).copied().unwrap_or(0);
        let two = right.get(index).copied().unwrap_or(0);
        difference |= std::hint::black_box(one ^ two);
    }
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Authorization {
        let user = |name: &str, secret: &str| User::new(name, Secret::new(secret));
        Authorization::Users {
            users: vec![user("a", "secret"), user("", ""), user("b", "$2a$11$hash")],
            no_auth_user: None,
        }
    }

    fn judge(rule: &Authorization, user: Option<&str>, password: Option<&str>) -> Verdict {
        rule.judge(&Credentials { user, password, token: None }, TCP)
    }

    const TCP: Way = (Protocol::Nats, Transport::Tcp);

    #[test]
    fn a_user_comes_only_by_its_ways() {
        let ways = vec![TCP, (Protocol::Mqtt, Transport::WebSocket)];
        let user = User { ways: ways.clone(), ..User::new("a", Secret::new("b")) };
        let rule = Authorization::Users { users: vec![user], no_auth_user: Some(0) };
        for way in ways {
            assert_eq!(rule.judge(&Credentials::default(), way), Verdict::Accepted(Some(0)));
        }
        assert_eq!(rule.judge(&Credentials::default(), (Protocol::Mqtt, Transport::Tcp)), Verdict::Refused);
    }

    #[test]
    fn users_are_told_apart() {
        assert_eq!(judge(&users(), Some("a"), Some("secret")), Verdict::Accepted(Some(0)));
        assert_eq!(judge(&users(), Some("a"), Some("secreT")), Verdict::Refused);
        assert_eq!(judge(&users(), Some("a"), Some("secret2")), Verdict::Refused);
        assert_eq!(judge(&users(), Some("a"), None), Verdict::Refused);
        assert_eq!(judge(&users(), Some(""), Some("")), Verdict::Accepted(Some(1)));
        assert_eq!(judge(&users(), None, None), Verdict::Refused);
        assert!(matches!(judge(&users(), Some("b"), Some("x")), Verdict::Pending { user: Some(2), .. }));
    }

    #[test]
    fn a_client_without_credentials_becomes_the_no_auth_user() {
        let Authorization::Users { users, .. } = users() else { unreachable!() };
        let rule = Authorization::Users { users, no_auth_user: Some(0) };
        assert!(!rule.is_required());
        assert_eq!(judge(&rule, None, None), Verdict::Accepted(Some(0)));
        assert_eq!(judge(&rule, Some("a"), Some("x")), Verdict::Refused);
    }

    #[test]
    fn a_token_may_come_as_token() {
        let rule = Authorization::Token(Secret::new("t0"));
        assert_eq!(
            rule.judge(&Credentials { token: Some("t0"), ..Credentials::default() }, TCP),
            Verdict::Accepted(None)
        );
        assert_eq!(rule.judge(&Credentials { token: Some("t1"), ..Credentials::default() }, TCP), Verdict::Refused);
        assert_eq!(rule.judge(&Credentials::default(), TCP), Verdict::Refused);
        assert_eq!(format!("{rule:?}"), "Token([REDACTED])");
    }
}
