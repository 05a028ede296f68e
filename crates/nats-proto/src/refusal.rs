//! Why a peer is refused: the exact `-ERR` texts of NATS, and whether the connection ends with them.

/// The bytes are wrong. All of these close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// No such verb, or one that this peer must not send.
    #[error("unknown protocol operation")]
    UnknownOperation,
    /// Too few or too many arguments, or one that is no number.
    #[error("bad arguments")]
    Arguments,
    /// The control line is longer than its limit.
    #[error("control line too long")]
    ControlLineTooLong,
    /// The announced payload is larger than its limit.
    #[error("payload of {size} bytes, {limit} are allowed")]
    PayloadTooLarge {
        /// What was announced, bytes.
        size: u64,
        /// What is allowed, bytes.
        limit: usize,
    },
    /// HPUB, but headers are turned off.
    #[error("headers are not supported")]
    HeadersNotSupported,
    /// The header block would be longer than the whole message.
    #[error("header length beyond the message")]
    HeaderLength,
    /// No line end where the payload should end.
    #[error("payload is not followed by a line end")]
    PayloadEnd,
}

impl ProtocolError {
    /// What the peer is told. Stock says nothing for bad arguments; a text costs nothing and saves somebody an evening.
    #[must_use]
    pub fn refusal(self) -> Refusal<'static> {
        match self {
            ProtocolError::ControlLineTooLong => Refusal::MaximumControlLine,
            ProtocolError::PayloadTooLarge { .. } => Refusal::MaximumPayload,
            _ => Refusal::UnknownOperation,
        }
    }
}

/// Everything a client or leaf can be refused with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the variants are the texts below
pub enum Refusal<'a> {
    UnknownOperation,
    MaximumPayload,
    MaximumControlLine,
    AuthorizationViolation,
    AuthenticationTimeout,
    UserExpired,
    AccountExpired,
    StaleConnection,
    MaximumConnections,
    MaximumAccountConnections,
    InvalidClientProtocol,
    NoRespondersNeedHeaders,
    SlowConsumer,
    ServerShutdown,
    AttemptedLeafPort,
    PublishDenied { subject: &'a [u8] },
    ReplyDenied { reply: &'a [u8] },
    SubscribeDenied { subject: &'a [u8], queue: Option<&'a [u8]> },
    SubscriptionRevoked { subject: &'a [u8], queue: Option<&'a [u8]>, sid: &'a [u8] },
    InvalidSubject,
    InvalidPublishSubject,
    InvalidSubscription,
    MaximumSubscriptions,
}

impl Refusal<'_> {
    /// Does the connection end with it?
    #[must_use]
    pub fn closes(&self) -> bool {
        !matches!(
            self,
            Refusal::PublishDenied { .. }
                | Refusal::ReplyDenied { .. }
                | Refusal::SubscribeDenied { .. }
                | Refusal::SubscriptionRevoked { .. }
                | Refusal::InvalidSubject
                | Refusal::InvalidPublishSubject
                | Refusal::InvalidSubscription
                | Refusal::MaximumSubscriptions
        )
    }

    /// Appends `-ERR '…'` with its line end.
    pub fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(b"-ERR '");
        self.text(into);
        into.extend_from_slice(b"'\r\n");
    }

    /// Appends the text alone, for logs and close reasons.
    pub fn text(&self, into: &mut Vec<u8>) {
        // nats-server's words: clients and leafs look for them.
        let fixed: &str = match self {
            Refusal::UnknownOperation => "Unknown Protocol Operation",
            Refusal::MaximumPayload => "Maximum Payload Violation",
            Refusal::MaximumControlLine => "maximum control line exceeded",
            Refusal::AuthorizationViolation => "Authorization Violation",
            Refusal::AuthenticationTimeout => "Authentication Timeout",
            Refusal::UserExpired => "User Authentication Expired",
            Refusal::AccountExpired => "Account Authentication Expired",
            Refusal::StaleConnection => "Stale Connection",
            Refusal::MaximumConnections => "maximum connections exceeded",
            Refusal::MaximumAccountConnections => "maximum account active connections exceeded",
            Refusal::InvalidClientProtocol => "invalid client protocol",
            Refusal::NoRespondersNeedHeaders => "no responders requires headers support",
            Refusal::SlowConsumer => "Slow Consumer",
            Refusal::ServerShutdown => "Server Shutdown",
            Refusal::AttemptedLeafPort => "attempted to connect to leaf node port",
            Refusal::InvalidSubject => "Invalid Subject",
            Refusal::InvalidPublishSubject => "Invalid Publish Subject",
            Refusal::InvalidSubscription => "Invalid Subscription",
            Refusal::MaximumSubscriptions => "maximum subscriptions exceeded",
            Refusal::PublishDenied { subject } => {
                return quoted(into, "Permissions Violation for Publish to ", subject);
            }
            Refusal::ReplyDenied { reply } => {
                return quoted(into, "Permissions Violation for Publish with Reply of ", reply);
            }
            Refusal::SubscribeDenied { subject, queue } => return subscription(into, subject, *queue),
            Refusal::SubscriptionRevoked { subject, queue, sid } => {
                subscription(into, subject, *queue);
                quoted(into, " (sid ", sid);
                return into.push(b')');
            }
        };
        into.extend_from_slice(fixed.as_bytes());
    }
}

fn subscription(into: &mut Vec<u8>, subject: &[u8], queue: Option<&[u8]>) {
    quoted(into, "Permissions Violation for Subscription to ", subject);
    if let Some(queue) = queue {
        quoted(into, " using queue ", queue);
    }
}

fn quoted(into: &mut Vec<u8>, text: &str, value: &[u8]) {
    into.extend_from_slice(text.as_bytes());
    into.push(b'"');
    into.extend_from_slice(value);
    into.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(refusal: Refusal<'_>, closes: bool, expected: &str) {
        let mut into = Vec::new();
        refusal.encode(&mut into);
        assert_eq!(String::from_utf8(into).unwrap(), format!("-ERR '{expected}'\r\n"));
        assert_eq!(refusal.closes(), closes, "{expected}");
    }

    #[test]
    fn texts_are_those_of_nats() {
        check(ProtocolError::Arguments.refusal(), true, "Unknown Protocol Operation");
        check(ProtocolError::PayloadTooLarge { size: 2, limit: 1 }.refusal(), true, "Maximum Payload Violation");
        check(ProtocolError::ControlLineTooLong.refusal(), true, "maximum control line exceeded");
        check(Refusal::PublishDenied { subject: b"x" }, false, r#"Permissions Violation for Publish to "x""#);
        check(Refusal::ReplyDenied { reply: b"r" }, false, r#"Permissions Violation for Publish with Reply of "r""#);
        let queue = Some(b"q".as_slice());
        let denied = Refusal::SubscribeDenied { subject: b"x", queue };
        check(denied, false, r#"Permissions Violation for Subscription to "x" using queue "q""#);
        let revoked = Refusal::SubscriptionRevoked { subject: b"foo", queue: None, sid: b"1" };
        check(revoked, false, r#"Permissions Violation for Subscription to "foo" (sid "1")"#);
        let revoked = Refusal::SubscriptionRevoked { subject: b"foo", queue, sid: b"1" };
        check(revoked, false, r#"Permissions Violation for Subscription to "foo" using queue "q" (sid "1")"#);
    }
}
