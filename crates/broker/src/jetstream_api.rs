//! `$JS.API.>`: requests to commands, answers to replies.

use subject::Filter;

use crate::account::{GLOBAL, Service, Target};
use crate::broker::Broker;
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
            self.map_domain(&domain, &api);
        }
        self.change_row(GLOBAL, &api, Target::Service(Service::JetStreamApi), true);
    }

    /// leafnode §17.1: the API, and the data subjects of buckets, which are reached below it. One wildcard is announced for all of them.
    fn map_domain(&mut self, domain: &Filter, api: &Filter) {
        let account = &mut self.accounts[GLOBAL as usize];
        account.map_prefix(domain, api);
        let prefix = domain.as_str().trim_end_matches('>');
        for data in ["$KV.>", "$OBJ.>"] {
            if let (Ok(from), Ok(to)) = (Filter::parse(&format!("{prefix}{data}")), Filter::parse(data)) {
                account.map_prefix(&from, &to);
            }
        }
        self.leaf_row_changed(domain, &Target::Mapping(0), true);
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
        _answer: &jetstream::command::Answer,
        _out: &mut Outbox,
    ) {
    }
}
