//! What a request's headers demand beyond its body.

use crate::request::{Parsed, parse};
use jetstream::command::Request;
use jetstream::{api_error, api_level};

/// The answer to a pull or a direct get that demands too much.
const TOO_HIGH: &str = "412 Required Api Level";

/// The values of headers, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct Demands<'a> {
    /// `Nats-Required-Api-Level`: the least that is to be spoken.
    pub level: Option<&'a [u8]>,
    /// `Nats-Stream-Identity`: which instance of the stream a source knows.
    pub identity: Option<&'a [u8]>,
}

impl Demands<'_> {
    fn are_too_high(&self) -> bool {
        self.level.is_some_and(|level| !level.is_empty() && api_level::is_too_high(level))
    }
}

/// [`parse`], for a request with headers. Consumers of sources and mirrors are asked for as [`Request::SourceCreate`].
#[must_use]
pub fn parse_demanding(subject: &[u8], payload: &[u8], demands: Demands<'_>) -> Parsed {
    let parsed = parse(subject, payload);
    if demands.are_too_high() {
        return refused(parsed);
    }
    match parsed {
        Parsed::Request(kind, Request::Pedantic(request)) => {
            match demanding(Parsed::Request(kind, *request), demands) {
                Parsed::Request(kind, request) => Parsed::Request(kind, Request::Pedantic(Box::new(request))),
                other => other,
            }
        }
        parsed => demanding(parsed, demands),
    }
}

fn demanding(parsed: Parsed, demands: Demands<'_>) -> Parsed {
    match parsed {
        Parsed::Request(kind, Request::ConsumerCreate { stream, config, action })
            if config.direct || config.sourcing =>
        {
            let identity = demands.identity.filter(|identity| !identity.is_empty());
            let identity = identity.map(|identity| String::from_utf8_lossy(identity).into());
            Parsed::Request(kind, Request::SourceCreate { stream, config, action, identity })
        }
        Parsed::Request(kind, Request::ConsumerReset { stream, name, sequence, .. }) => {
            let with_identity = demands.identity.is_some();
            Parsed::Request(kind, Request::ConsumerReset { stream, name, sequence, with_identity })
        }
        parsed => parsed,
    }
}

fn refused(parsed: Parsed) -> Parsed {
    let line = TOO_HIGH.to_owned();
    match parsed {
        Parsed::Request(kind, _) | Parsed::Refused(kind, _) => Parsed::Refused(kind, api_error::REQUIRED_API_LEVEL),
        Parsed::Snapshot { .. } => Parsed::Refused(crate::request::Kind::StreamSnapshot, api_error::REQUIRED_API_LEVEL),
        Parsed::Pull(pull) => Parsed::Status { line, stream: pull.stream, consumer: Some(pull.consumer) },
        Parsed::DirectGet { stream, .. } => Parsed::Status { line, stream, consumer: None },
        Parsed::Status { stream, consumer, .. } => Parsed::Status { line, stream, consumer },
        Parsed::Unknown => Parsed::Unknown,
    }
}
