//! What an origin is asked: a consumer as stock asks for one, or one that is there already to begin again.

use crate::api_error::{self, ApiError};
use crate::config::{AckPolicy, ConsumerConfig, DeliverPolicy, Push, Source};
use crate::consumer::sources::letters;
use crate::identity::Sequence;
use crate::origin::puller::{SECOND, SILENCE};
use crate::origin::{OriginFacts, filters};

/// A request for a consumer.
#[derive(Debug)]
pub struct Ask {
    /// Where it goes: `<api>.CONSUMER.CREATE.…` or `….RESET.…`.
    pub subject: String,
    /// Where the answer is to go.
    pub reply: String,
    /// `Nats-Required-Api-Level`.
    pub level: Option<u8>,
    /// `Nats-Stream-Identity`; the header is there with an empty value when it is not known.
    pub identity: Option<Box<str>>,
    /// What is asked for.
    pub asked: Asked,
}

/// What is asked for.
#[derive(Debug)]
pub enum Asked {
    /// A consumer of our own, of the stream of this name.
    Create(Box<str>, Box<ConsumerConfig>),
    /// That one which is there already begins again behind what it has confirmed. The request has no body.
    Reset,
}

/// What the answer to a request says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Created {
    /// The consumer's name, as it stands in ack subjects.
    pub name: Box<str>,
    /// Where it delivers to.
    pub deliver_subject: Box<str>,
    /// The sequence before its first message.
    pub delivered: Sequence,
    /// Answers to flow control are its acknowledgements.
    pub is_confirmed_by_flow: bool,
    /// What tells the stream from one made again under its name; empty: not said.
    pub identity: Box<str>,
}

/// How the request is made, from the newest way to the oldest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Plain,
    Sourcing,
    Identity,
}

/// Makes the requests of one puller.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) source: Source,
    is_mirror: bool,
    /// Ours, in metadata of the consumer.
    metadata: Vec<(&'static str, Box<str>)>,
    /// What the consumer is called.
    name: Box<str>,
    random: u64,
}

impl Requests {
    pub(super) fn new(
        facts: &OriginFacts,
        stream: &str,
        is_mirror: bool,
        (account, domain): (&str, Option<&str>),
        seed: u64,
    ) -> Requests {
        let keys: [&'static str; 3] = match is_mirror {
            true => ["_nats.mirror.stream", "_nats.mirror.acc", "_nats.mirror.domain"],
            false => ["_nats.src.stream", "_nats.src.acc", "_nats.src.domain"],
        };
        let values = [Some(stream), Some(account), domain];
        Requests {
            source: facts.source.clone(),
            is_mirror,
            metadata: keys.into_iter().zip(values).filter_map(|(key, value)| Some((key, value?.into()))).collect(),
            name: facts.consumer.clone(),
            random: seed | 1,
        }
    }

    /// A request for what comes behind the last message that is stored.
    pub(super) fn ask(&mut self, level: Level, identity: &str, stored: Sequence) -> Ask {
        let number = match level {
            Level::Identity => Some(5),
            Level::Sourcing => Some(4),
            Level::Plain => None,
        };
        let identity = (level == Level::Identity).then(|| identity.into());
        let reply = format!("$JSC.R.{}", self.token());
        let name = &self.source.name;
        let (subject, asked) = match &self.source.consumer {
            Some(consumer) => (format!("CONSUMER.RESET.{name}.{}", consumer.name), Asked::Reset),
            None => {
                let config = self.consumer(level, stored);
                let name = &self.source.name;
                let subject = match &config.filters[..] {
                    [one] => format!("CONSUMER.CREATE.{name}.{}.{one}", config.name),
                    _ => format!("CONSUMER.CREATE.{name}"),
                };
                (subject, Asked::Create(name.clone(), Box::new(config)))
            }
        };
        Ask { subject: self.api(&subject), reply, level: number, identity, asked }
    }

    /// Where the request goes that ends the consumer; `None`: that is its owner's.
    pub(super) fn farewell(&self) -> Option<String> {
        let is_ours = self.source.consumer.is_none();
        is_ours.then(|| self.api(&format!("CONSUMER.DELETE.{}.{}", self.source.name, self.name)))
    }

    /// A subject of the origin's API.
    fn api(&self, operation: &str) -> String {
        let prefix = self.source.external.as_ref().map_or("", |external| external.api.trim_end_matches('.'));
        let prefix = if prefix.is_empty() { "$JS.API" } else { prefix };
        format!("{prefix}.{operation}")
    }

    fn consumer(&mut self, level: Level, stored: Sequence) -> ConsumerConfig {
        let (kind, token, suffix) = (if self.is_mirror { 'M' } else { 'S' }, self.token(), self.token());
        let prefix = self.source.external.as_ref().map_or("", |external| external.deliver.trim_end_matches('.'));
        let prefix = if prefix.is_empty() { "$JS" } else { prefix };
        let subject = format!("{prefix}.{kind}.{token}");
        let is_sourcing = level > Level::Plain;
        // The other side does not know to tell two of one name apart.
        let name = if is_sourcing { self.name.to_string() } else { format!("{}_{suffix}", self.name) };
        ConsumerConfig {
            durable: false,
            deliver_policy: self.start(stored),
            ack_policy: AckPolicy::None,
            ack_wait_ns: 22 * 3_600_000_000_000,
            max_deliver: 1,
            max_ack_pending: 0,
            max_waiting: 0,
            filters: filters(&self.source),
            inactive_threshold_ns: SILENCE * 1000,
            metadata: self.metadata.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect(),
            push: Some(Push {
                subject: subject.into(),
                flow_control: true,
                heartbeat_ns: SECOND * 1000,
                ..Push::default()
            }),
            direct: true,
            sourcing: is_sourcing,
            ..ConsumerConfig::named(&name)
        }
    }

    /// The configured beginning counts until something came.
    fn start(&self, stored: Sequence) -> DeliverPolicy {
        match (stored, self.source.start_sequence, self.source.start_time) {
            (Sequence(0), 0, None) => DeliverPolicy::All,
            (Sequence(0), 0, Some(time)) => DeliverPolicy::FromTime(time),
            (Sequence(0), start, _) => DeliverPolicy::FromSequence(Sequence(start)),
            (stored, ..) => DeliverPolicy::FromSequence(stored.next()),
        }
    }

    pub(super) fn failure(&self, text: &str) -> ApiError {
        match self.is_mirror {
            true => api_error::mirror_consumer_setup_failed(text),
            false => api_error::source_consumer_setup_failed(text),
        }
    }

    /// Eight letters.
    fn token(&mut self) -> Box<str> {
        let high = u128::from(self.random());
        letters(high << 64 | u128::from(self.random()))
    }

    /// xorshift64*: names and pauses only have to differ.
    pub(super) fn random(&mut self) -> u64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
