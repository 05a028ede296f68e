//! A consumer's configuration: JSON to [`ConsumerConfig`] and back, complete as stock prints it.

use crate::json::Object;
use crate::stream_check::{MAX_DESCRIPTION, MAX_METADATA, MAX_NAME, MAX_SUBJECTS, is_token, metadata_size};
use crate::stream_config::{OF_THE_SERVER, metadata, without_servers_own};
use crate::wire::{Time, is_zero};
use jetstream::api_error::{self, ApiError};
use jetstream::config::{AckPolicy, ConsumerConfig, DeliverPolicy, Priority, PriorityPolicy, Push};
use jetstream::identity::{Sequence, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;
use subject::Filter;

/// How often a consumer that a source acknowledges by flow control tells that it lives, nanoseconds.
const SOURCE_HEARTBEAT: u64 = 1_000_000_000;

/// The word for a deliver policy, before its start is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Deliver {
    All,
    Last,
    New,
    StartSequence,
    StartTime,
    LastPerSubject,
}

/// A consumer as it was asked for.
pub(crate) struct Draft {
    pub(crate) name: String,
    pub(crate) durable_name: String,
    pub(crate) filter_subject: String,
    pub(crate) filter_subjects: Vec<String>,
    config: ConsumerConfig,
    deliver: Deliver,
    start_sequence: u64,
    start_time: Option<Timestamp>,
    ack_wait: i64,
    backoff: Vec<i64>,
    max_expires: i64,
    inactive_threshold: i64,
    replicas: i64,
    push: Push,
    /// Asks to be refused instead of adjusted.
    pedantic: bool,
    /// What was adjusted already.
    adjusted: Option<&'static str>,
}

/// Numbers that should not be below the second one, in stock's order.
const LEAST: [(&str, i64, &str); 9] = [
    ("max_deliver", -1, "max_deliver must be set to -1"),
    ("max_waiting", 0, "max_waiting must not be negative"),
    ("max_ack_pending", -1, "max_ack_pending must be set to -1"),
    ("max_batch", 0, "max_batch must not be negative"),
    ("max_expires", 0, "max_expires must not be negative"),
    ("max_bytes", 0, "max_bytes must not be negative"),
    ("idle_heartbeat", 0, "idle_heartbeat must not be negative"),
    ("inactive_threshold", 0, "inactive_threshold must not be negative"),
    ("priority_timeout", 0, "priority_timeout must not be negative"),
];

/// Reads `config` of a create request: types and fields, no meaning yet.
pub(crate) fn read(mut body: Object) -> Result<Draft, ApiError> {
    let mut config = ConsumerConfig::named("");
    let too_low = |(key, least, _): &&(&str, i64, &str)| body.is_below(key, *least);
    let adjusted = LEAST.iter().find(too_low).map(|(_, _, text)| *text);
    let name = body.text_or_empty("name")?;
    let durable_name = body.text_or_empty("durable_name")?;
    config.description = body.text_or_empty("description")?.into();
    let deliver = body.word(
        "deliver_policy",
        &[
            ("all", Deliver::All),
            ("last", Deliver::Last),
            ("new", Deliver::New),
            ("by_start_sequence", Deliver::StartSequence),
            ("by_start_time", Deliver::StartTime),
            ("last_per_subject", Deliver::LastPerSubject),
        ],
    )?;
    let start_sequence = body.unsigned("opt_start_seq")?;
    let start_time = body.time("opt_start_time")?;
    let ack_policy = body.word(
        "ack_policy",
        &[
            ("none", AckPolicy::None),
            ("all", AckPolicy::All),
            ("explicit", AckPolicy::Explicit),
            ("flow_control", AckPolicy::FlowControl),
        ],
    )?;
    config.ack_policy = ack_policy;
    let ack_wait = body.duration("ack_wait")?;
    let backoff = body.durations("backoff")?;
    config.max_deliver = unlimited(body.count("max_deliver")?);
    config.max_ack_pending = body.count("max_ack_pending")?;
    config.max_waiting = body.count("max_waiting")?;
    let filter_subject = body.text_or_empty("filter_subject")?;
    let filter_subjects = body.texts("filter_subjects")?;
    config.headers_only = body.flag("headers_only")?;
    config.max_request_batch = body.count("max_batch")?.max(0);
    let max_expires = body.duration("max_expires")?.max(0);
    config.max_request_max_bytes = body.count("max_bytes")?.max(0);
    let inactive_threshold = body.duration("inactive_threshold")?;
    config.memory_storage = body.flag("mem_storage")?;
    config.metadata = body.pairs("metadata")?;
    let replicas = body.count("num_replicas")?;
    let push = read_push(&mut body)?;
    config.direct = body.flag("direct")?;
    config.sourcing = body.flag("sourcing")?;
    config.replay_original = body.word("replay_policy", &[("instant", false), ("original", true)])?;
    config.pause_until = pause_until(body.time("pause_until")?);
    config.sample_frequency = body.text_or_empty("sample_freq")?.into();
    config.priority = read_priority(&mut body)?;
    body.finish()?;
    Ok(Draft {
        name,
        durable_name,
        filter_subject,
        filter_subjects,
        config,
        deliver,
        start_sequence,
        start_time,
        ack_wait,
        backoff,
        max_expires,
        inactive_threshold,
        replicas,
        push,
        pedantic: false,
        adjusted,
    })
}

/// What only push consumers have; without a subject it is no push consumer.
fn read_push(body: &mut Object) -> Result<Push, ApiError> {
    Ok(Push {
        subject: body.text_or_empty("deliver_subject")?.into(),
        group: body.text_or_empty("deliver_group")?.into(),
        flow_control: body.flag("flow_control")?,
        heartbeat_ns: u64::try_from(body.duration("idle_heartbeat")?).unwrap_or(0),
        rate_limit: body.unsigned("rate_limit_bps")?,
    })
}

fn read_priority(body: &mut Object) -> Result<Priority, ApiError> {
    let groups = body.texts("priority_groups")?.into_iter().map(Into::into).collect();
    let words = [
        ("none", PriorityPolicy::None),
        ("overflow", PriorityPolicy::Overflow),
        ("pinned_client", PriorityPolicy::PinnedClient),
        ("prioritized", PriorityPolicy::Prioritized),
    ];
    let policy = body.word_or("priority_policy", &words, |value| format!("unknown priority policy: {value}"))?;
    let pinned_ttl_ns = u64::try_from(body.duration("priority_timeout")?).unwrap_or(0);
    Ok(Priority { groups, policy, pinned_ttl_ns })
}

/// 0 and everything below means "no limit".
fn unlimited(value: i64) -> i64 {
    if value > 0 { value } else { -1 }
}

/// Could it be a consumer's name?
fn is_name(name: &str) -> bool {
    is_token(name) && !name.contains(['/', '\\'])
}

impl Draft {
    /// It is to be refused instead of adjusted.
    pub(crate) fn be_pedantic(&mut self) {
        self.pedantic = true;
    }

    /// What is said before the stream is looked for.
    pub(crate) fn check_replicas(&self) -> Result<(), ApiError> {
        if self.replicas > 1 { Err(api_error::STREAM_REPLICAS_NOT_SUPPORTED) } else { Ok(()) }
    }

    /// A work queue has no consumers of that kind.
    pub(crate) fn pulls_unacknowledged(&self) -> bool {
        let adjusted = self.pedantic && self.check_adjusted().is_err();
        !adjusted && self.replicas >= 0 && self.push.subject.is_empty() && self.config.ack_policy == AckPolicy::None
    }

    /// Judges what needs no state, in stock's order, and fills in the defaults. Its name has been settled by the request. With what is said only
    /// after a deliver subject was compared with the stream's comes that subject.
    pub(crate) fn finish(mut self) -> Result<ConsumerConfig, (ApiError, Box<str>)> {
        self.finish_identity().map_err(|error| (error, Box::default()))?;
        let delivers_to = self.push.subject.clone();
        self.finish_delivery().map_err(|error| (error, delivers_to))
    }

    fn finish_identity(&mut self) -> Result<(), ApiError> {
        if self.pedantic {
            self.check_adjusted()?;
        }
        self.check_names()?;
        self.config.durable = !self.durable_name.is_empty();
        self.config.name = std::mem::take(&mut self.name).into();
        if self.replicas < 0 {
            return Err(api_error::REPLICAS_COUNT_CANNOT_BE_NEGATIVE);
        }
        self.config.replicas = u8::from(self.replicas > 0);
        self.finish_acknowledgements()?;
        if self.config.description.len() > MAX_DESCRIPTION {
            return Err(api_error::consumer_description_too_long(MAX_DESCRIPTION));
        }
        if self.push.subject.split('.').any(|token| matches!(token, "*" | ">")) {
            return Err(api_error::CONSUMER_DELIVER_TO_WILDCARDS);
        }
        Ok(())
    }

    fn finish_delivery(mut self) -> Result<ConsumerConfig, ApiError> {
        self.finish_push()?;
        self.finish_requests()?;
        self.config.filters = self.filters()?;
        self.config.lists_filter = self.filter_subjects.len() == 1;
        self.config.deliver_policy = self.deliver_policy()?;
        if self.config.push.as_ref().is_some_and(|push| push.flow_control && push.heartbeat_ns == 0) {
            return Err(api_error::CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS);
        }
        if metadata_size(&self.config.metadata) > MAX_METADATA {
            return Err(api_error::consumer_metadata_length("128KB"));
        }
        // Those are the server's, and told anew in each answer.
        self.config.metadata.retain(|key, _| !OF_THE_SERVER.contains(&key.as_str()));
        Ok(self.config)
    }

    fn check_adjusted(&self) -> Result<(), ApiError> {
        let waits = self.backoff.first().is_none_or(|first| *first == self.ack_wait);
        let backoff = (!waits).then_some("first backoff value has to equal batch AckWait");
        self.adjusted.or(backoff).map_or(Ok(()), |text| Err(api_error::pedantic(text)))
    }

    fn check_names(&self) -> Result<(), ApiError> {
        let invalid = |text: &str| Err(api_error::stream_invalid_config(text));
        if !self.name.is_empty() && !is_name(&self.name) {
            return invalid("consumer name can not contain '.', '*', '>', '\\', '/'");
        }
        if !self.durable_name.is_empty() && !is_name(&self.durable_name) {
            return invalid("consumer durable name can not contain '.', '*', '>', '\\', '/'");
        }
        if self.name.len() > MAX_NAME {
            return Err(api_error::consumer_name_too_long(MAX_NAME));
        }
        Ok(())
    }

    /// Push or pull, and what goes with either.
    fn finish_push(&mut self) -> Result<(), ApiError> {
        let push = std::mem::take(&mut self.push);
        if push.subject.is_empty() {
            let rules = [
                (push.rate_limit > 0, api_error::CONSUMER_PULL_WITH_RATE_LIMIT),
                (push.heartbeat_ns > 0, api_error::CONSUMER_HB_REQUIRES_PUSH),
                (push.flow_control, api_error::CONSUMER_FC_REQUIRES_PUSH),
                (self.config.direct, api_error::CONSUMER_DIRECT_REQUIRES_PUSH),
            ];
            return rules.into_iter().find(|(set, _)| *set).map_or(Ok(()), |(_, error)| Err(error));
        }
        self.check_push(&push)?;
        self.config.push = Some(push);
        Ok(())
    }

    fn check_push(&self, push: &Push) -> Result<(), ApiError> {
        let config = &self.config;
        let acknowledged = config.max_ack_pending <= 0 || config.ack_policy != AckPolicy::None;
        let rules = [
            (Filter::parse(&push.subject).is_err(), api_error::CONSUMER_INVALID_DELIVER_SUBJECT),
            (config.max_waiting > 0, api_error::CONSUMER_PUSH_MAX_WAITING),
            (!acknowledged, api_error::CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED),
            ((1..100_000_000).contains(&push.heartbeat_ns), api_error::CONSUMER_SMALL_HEARTBEAT),
            (config.direct && !self.durable_name.is_empty(), api_error::CONSUMER_DIRECT_REQUIRES_EPHEMERAL),
        ];
        rules.into_iter().find(|(set, _)| *set).map_or(Ok(()), |(_, error)| Err(error))
    }

    /// What a consumer that is acknowledged by flow control must be; the rest of it is set.
    fn finish_flow_control(&mut self) -> Result<(), ApiError> {
        if self.config.ack_policy != AckPolicy::FlowControl {
            return Ok(());
        }
        if !self.pedantic {
            self.push.flow_control = true;
            self.push.heartbeat_ns = SOURCE_HEARTBEAT;
        }
        let other_heartbeat = api_error::stream_invalid_config("flow control ack policy heartbeat needs to be 1s");
        let rules = [
            (self.push.subject.is_empty(), api_error::CONSUMER_ACK_FC_REQUIRES_PUSH),
            (!self.push.flow_control, api_error::CONSUMER_ACK_FC_REQUIRES_FC),
            (self.push.heartbeat_ns != SOURCE_HEARTBEAT, other_heartbeat),
            (self.config.max_ack_pending < 0, api_error::CONSUMER_ACK_FC_REQUIRES_MAX_ACK_PENDING),
            (self.ack_wait != 0 || !self.backoff.is_empty(), api_error::CONSUMER_ACK_FC_REQUIRES_NO_ACK_WAIT),
            (self.config.max_deliver > 0, api_error::CONSUMER_ACK_FC_REQUIRES_NO_MAX_DELIVER),
        ];
        rules.into_iter().find(|(set, _)| *set).map_or(Ok(()), |(_, error)| Err(error))
    }

    fn finish_acknowledgements(&mut self) -> Result<(), ApiError> {
        let defaults = ConsumerConfig::named("");
        if self.backoff.iter().any(|wait| *wait < 0) {
            return Err(api_error::CONSUMER_BACK_OFF_NEGATIVE);
        }
        // The first backoff takes its place.
        if self.ack_wait < 0 && self.backoff.is_empty() {
            return Err(api_error::CONSUMER_ACK_WAIT_NEGATIVE);
        }
        self.finish_flow_control()?;
        let config = &mut self.config;
        if config.max_deliver > 0 && (config.max_deliver as usize) < self.backoff.len() {
            return Err(api_error::CONSUMER_MAX_DELIVER_BACKOFF);
        }
        let waits = matches!(config.ack_policy, AckPolicy::All | AckPolicy::Explicit);
        config.backoff_ns = self.backoff.iter().map(|wait| wait.unsigned_abs()).collect();
        config.ack_wait_ns = match (self.ack_wait.unsigned_abs(), config.backoff_ns.first()) {
            (_, Some(first)) => *first,
            (0, None) if waits => defaults.ack_wait_ns,
            (wait, None) => wait,
        };
        // 0 stays: the stream may have a default of its own.
        config.max_ack_pending = config.max_ack_pending.max(-1);
        Ok(())
    }

    fn finish_requests(&mut self) -> Result<(), ApiError> {
        let config = &mut self.config;
        config.max_waiting = match config.max_waiting {
            _ if config.push.is_some() => 0,
            ..=0 => ConsumerConfig::named("").max_waiting,
            given => given,
        };
        if self.max_expires != 0 && self.max_expires < 1_000_000 {
            return Err(api_error::CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL);
        }
        config.max_request_expires_ns = self.max_expires.unsigned_abs();
        // What an ephemeral consumer gets without one is not known here: the name may be a durable's.
        config.inactive_threshold_ns = u64::try_from(self.inactive_threshold).unwrap_or(0);
        Ok(())
    }

    fn filters(&self) -> Result<Vec<Filter>, ApiError> {
        let parse = |text: &str| Filter::parse(text).map_err(|_| api_error::stream_invalid_config("invalid subject"));
        if !self.filter_subject.is_empty() {
            if !self.filter_subjects.is_empty() {
                return Err(api_error::CONSUMER_DUPLICATE_FILTER_SUBJECTS);
            }
            return Ok(vec![parse(&self.filter_subject)?]);
        }
        if self.filter_subjects.len() > MAX_SUBJECTS {
            let text = format_args!("consumer has too many subject filters, maximum allowed is {MAX_SUBJECTS}");
            return Err(api_error::stream_invalid_config(text));
        }
        let mut filters: Vec<Filter> = Vec::new();
        for text in &self.filter_subjects {
            if text.is_empty() {
                return Err(api_error::CONSUMER_EMPTY_FILTER);
            }
            let filter = parse(text)?;
            if filters.iter().any(|other| other.overlaps(&filter)) {
                return Err(api_error::CONSUMER_OVERLAPPING_SUBJECT_FILTERS);
            }
            filters.push(filter);
        }
        Ok(filters)
    }

    fn deliver_policy(&self) -> Result<DeliverPolicy, ApiError> {
        let wrong = |policy: &str, what: &str| {
            let text = format_args!("consumer delivery policy is deliver {policy}, but optional {what}");
            Err(api_error::consumer_invalid_policy(text))
        };
        let (sequence, time) = (self.start_sequence, self.start_time);
        let without_start = |name: &str, policy| match (sequence, time) {
            (0, None) => Ok(policy),
            (0, Some(_)) => wrong(name, "start time is also set"),
            _ => wrong(name, "start sequence is also set"),
        };
        match self.deliver {
            Deliver::All => without_start("all", DeliverPolicy::All),
            Deliver::Last => without_start("last", DeliverPolicy::Last),
            Deliver::New => without_start("new", DeliverPolicy::New),
            Deliver::LastPerSubject if self.filter_subject.is_empty() && self.filter_subjects.is_empty() => {
                wrong("last per subject", "filter subject is not set")
            }
            Deliver::LastPerSubject => without_start("last per subject", DeliverPolicy::LastPerSubject),
            Deliver::StartSequence => match (sequence, time) {
                (0, _) => wrong("by start sequence", "start sequence is not set"),
                (_, Some(_)) => wrong("by start sequence", "start time is also set"),
                (sequence, None) => Ok(DeliverPolicy::FromSequence(Sequence(sequence))),
            },
            Deliver::StartTime => match (sequence, time) {
                (_, None) => wrong("by start time", "start time is not set"),
                // Stock's text stutters, and it is its text that tools know.
                (1.., Some(_)) => wrong("by start time", "start start sequence is also set"),
                (0, Some(time)) => Ok(DeliverPolicy::FromTime(time)),
            },
        }
    }
}

/// The end of a pause. Years that no time stamp reaches back to are Go's zero time, which is kept and pauses nothing.
pub(crate) fn pause_until(time: Option<Timestamp>) -> Option<Timestamp> {
    time.map(|until| if until.0 == i64::MIN { Timestamp(0) } else { until })
}

/// A configuration as it stands in an answer, in stock's order of keys.
#[derive(Serialize)]
pub(crate) struct WireConsumerConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    durable_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    deliver_policy: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    opt_start_seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    opt_start_time: Option<Time>,
    ack_policy: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    ack_wait: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_deliver: i64,
    #[serde(skip_serializing_if = "<[u64]>::is_empty")]
    backoff: &'a [u64],
    #[serde(skip_serializing_if = "Option::is_none")]
    filter_subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    filter_subjects: Vec<&'a str>,
    replay_policy: &'static str,
    #[serde(skip_serializing_if = "is_zero")]
    rate_limit_bps: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    sample_freq: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    max_waiting: i64,
    #[serde(skip_serializing_if = "is_zero")]
    max_ack_pending: i64,
    #[serde(skip_serializing_if = "is_zero")]
    flow_control: bool,
    #[serde(skip_serializing_if = "is_zero")]
    headers_only: bool,
    #[serde(skip_serializing_if = "is_zero")]
    max_batch: i64,
    #[serde(skip_serializing_if = "is_zero")]
    max_expires: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max_bytes: i64,
    #[serde(skip_serializing_if = "str::is_empty")]
    deliver_subject: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    deliver_group: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    idle_heartbeat: u64,
    #[serde(skip_serializing_if = "is_zero")]
    inactive_threshold: u64,
    num_replicas: u8,
    #[serde(skip_serializing_if = "is_zero")]
    mem_storage: bool,
    #[serde(skip_serializing_if = "is_zero")]
    direct: bool,
    #[serde(skip_serializing_if = "is_zero")]
    sourcing: bool,
    metadata: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pause_until: Option<Time>,
    #[serde(skip_serializing_if = "<[Box<str>]>::is_empty")]
    priority_groups: &'a [Box<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    priority_policy: Option<&'static str>,
    #[serde(skip_serializing_if = "is_zero")]
    priority_timeout: u64,
}

impl<'a> WireConsumerConfig<'a> {
    pub(crate) fn new(config: &'a ConsumerConfig, version: &'a str) -> WireConsumerConfig<'a> {
        let (deliver_policy, opt_start_seq, opt_start_time) = match config.deliver_policy {
            DeliverPolicy::All => ("all", 0, None),
            DeliverPolicy::Last => ("last", 0, None),
            DeliverPolicy::New => ("new", 0, None),
            DeliverPolicy::FromSequence(sequence) => ("by_start_sequence", sequence.0, None),
            DeliverPolicy::FromTime(time) => ("by_start_time", 0, Some(Time(time))),
            DeliverPolicy::LastPerSubject => ("last_per_subject", 0, None),
        };
        let (filter_subject, filter_subjects) = match &config.filters[..] {
            [one] if !config.lists_filter => (Some(one.as_str()), Vec::new()),
            many => (None, many.iter().map(Filter::as_str).collect()),
        };
        let push = config.push.as_ref();
        WireConsumerConfig {
            durable_name: config.durable.then_some(&*config.name),
            name: (!config.is_unnamed).then_some(&*config.name),
            description: &config.description,
            deliver_policy,
            opt_start_seq,
            opt_start_time,
            ack_policy: match config.ack_policy {
                AckPolicy::None => "none",
                AckPolicy::All => "all",
                AckPolicy::Explicit => "explicit",
                AckPolicy::FlowControl => "flow_control",
            },
            ack_wait: config.ack_wait_ns,
            max_deliver: config.max_deliver,
            backoff: &config.backoff_ns,
            filter_subject,
            filter_subjects,
            replay_policy: if config.replay_original { "original" } else { "instant" },
            rate_limit_bps: push.map_or(0, |push| push.rate_limit),
            sample_freq: &config.sample_frequency,
            max_waiting: config.max_waiting,
            max_ack_pending: config.max_ack_pending,
            flow_control: push.is_some_and(|push| push.flow_control),
            headers_only: config.headers_only,
            max_batch: config.max_request_batch,
            max_expires: config.max_request_expires_ns,
            max_bytes: config.max_request_max_bytes,
            deliver_subject: push.map_or("", |push| &push.subject),
            deliver_group: push.map_or("", |push| &push.group),
            idle_heartbeat: push.map_or(0, |push| push.heartbeat_ns),
            inactive_threshold: config.inactive_threshold_ns,
            num_replicas: config.replicas,
            mem_storage: config.memory_storage,
            direct: config.direct,
            sourcing: config.sourcing,
            metadata: metadata(&config.metadata, jetstream::api_level::of_consumer(config), version),
            pause_until: config.pause_until.map(Time),
            priority_groups: &config.priority.groups,
            priority_policy: match config.priority.policy {
                PriorityPolicy::None => None,
                PriorityPolicy::Overflow => Some("overflow"),
                PriorityPolicy::PinnedClient => Some("pinned_client"),
                PriorityPolicy::Prioritized => Some("prioritized"),
            },
            priority_timeout: config.priority.pinned_ttl_ns,
        }
    }
}

impl WireConsumerConfig<'_> {
    /// As it stands in a snapshot: without what a server tells of itself.
    pub(crate) fn without_server_metadata(mut self) -> Self {
        without_servers_own(&mut self.metadata);
        self
    }
}
