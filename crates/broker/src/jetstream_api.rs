//! `$JS.API.>`: requests to commands, answers to replies.

use subject::Filter;

use crate::account::{GLOBAL, Service, Target};
use crate::broker::Broker;
use crate::capture::Asked;
use crate::identity::Now;
use crate::outbox::Outbox;
use crate::routing::{Message, Origin};

impl Broker {
    /// The rows through which requests come: `$JS.API.>`, and `$JS.<domain>.API.>` mapped to it.
    pub(crate) fn open_jetstream(&mut self) {
        let Some(settings) = &self.settings.jetstream else { return };
        let domain = settings.domain.as_deref().and_then(|domain| Filter::parse(&format!("$JS.{domain}.API.>")).ok());
        let Ok(api) = Filter::parse("$JS.API.>") else { return };
        if let Some(domain) = domain {
            self.accounts[GLOBAL as usize].map_prefix(&domain, &api);
        }
        self.change_row(GLOBAL, &api, Target::Service(Service::JetStreamApi), true);
    }

    /// A request came on `subject` (mapped already: it begins with `$JS.API.`).
    pub(crate) fn jetstream_request(
        &mut self,
        _now: Now,
        _origin: Origin,
        _subject: &[u8],
        _message: &Message<'_>,
        _out: &mut Outbox,
    ) {
    }

    /// The store answered a request.
    pub(crate) fn jetstream_answer(
        &mut self,
        _now: Now,
        _request: &jetstream::command::Request,
        _asked: &Asked,
        _answer: &jetstream::command::Answer,
        _out: &mut Outbox,
    ) {
    }
}
