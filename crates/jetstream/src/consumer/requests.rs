//! The API's requests about consumers: create, update, info, lists, delete.

use crate::advisory::{Action, Advisory};
use crate::api_error;
use crate::command::{Answer, ConsumerAction, Event};
use crate::config::{AckPolicy, ConsumerConfig, DeliverPolicy, Retention};
use crate::consumer::config_check;
use crate::consumer::delivery::send_status;
use crate::consumer::{self, Consumer};
use crate::identity::{ConsumerId, HIGHEST_SEQUENCE, Now, Sequence, Timestamp};
use crate::jetstream::{Context, JetStream};
use crate::store::{Store, StoreError};
use crate::stored_config;
use crate::stream::requests::{Answered, INFOS_PER_PAGE, NAMES_PER_PAGE};
use crate::stream::retention_check;
use crate::stream::{Stream, limit};

impl JetStream {
    pub(crate) fn create_consumer(
        &mut self,
        turn: &mut Context<'_>,
        stream: &str,
        config: &ConsumerConfig,
        action: ConsumerAction,
    ) -> Answered {
        let mut config = config.clone();
        let Some(stream) = self.stream_named(stream) else {
            return Ok(Err(api_error::STREAM_NOT_FOUND));
        };
        retention_check::adapt_source(&mut config, stream.config.retention);
        let known = stream.consumers.get(&config.name).copied();
        let known_config = known.and_then(|id| self.consumers.get(&id)).map(|known| &known.config);
        retention_check::keep_start(&mut config, known_config);
        // Who updates a durable consumer by its name alone does not make it one that goes away when nobody uses it.
        let was_durable = known_config.map(|known| known.durable);
        config.durable |= was_durable == Some(true);
        if let Some(known) = known_config {
            // Only the request for a pause changes it.
            config.pause_until = known.pause_until;
        }
        let limits = &stream.config.consumer_limits;
        config_check::complete(&mut config, was_durable, limits, self.most_ack_pending());
        self.limit_consumer(&mut config);
        if config.push.as_ref().is_some_and(|push| stream.captures(&push.subject)) {
            return Ok(Err(api_error::CONSUMER_DELIVER_CYCLE));
        }
        let checked = retention_check::check(&config, stream.config.retention)
            .and_then(|()| config_check::check(&config))
            .and_then(|()| self.check_consumer_limits(&config))
            .and_then(|()| config_check::check_limits(&config, limits));
        if let Err(error) = checked {
            return Ok(Err(error));
        }
        if let Some(id) = known {
            return self.update_consumer(turn, id, config, action);
        }
        if action == ConsumerAction::Update {
            return Ok(Err(api_error::CONSUMER_DOES_NOT_EXIST));
        }
        let most = self.limits.account.max_consumers.unwrap_or(u64::MAX).min(limit(stream.config.max_consumers));
        let is_full = !config.is_source() && self.has_consumers(stream, most);
        if is_full || self.consumers.len() >= self.limits.max_consumers as usize {
            return Ok(Err(api_error::MAXIMUM_CONSUMERS_LIMIT));
        }
        if let Err(error) = self.may_join(stream, &config) {
            return Ok(Err(error));
        }
        let stream = stream.id;
        let id = self.new_consumer_id(turn.store)?;
        if config.name.is_empty() {
            config.name = self.short_name(id);
            config.is_unnamed = true;
        }
        let Some(stream) = self.streams.get_mut(&stream) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let mut consumer = Consumer::new(id, stream, config, turn.now.wall, turn.now);
        consumer.start(turn.store, stream)?;
        attach(stream, &consumer, self.key.0);
        consumer.recount_now(turn.store, stream, turn.now)?;
        consumer.save_config(turn.store)?;
        turn.events.push(consumer_up(&consumer));
        consumer.tell_action(Action::Create, turn.events);
        let answer = Answer::Consumer(Box::new(consumer.describe(stream, turn.now)));
        let (stream, is_stored) = (stream.id, consumer.is_stored());
        self.consumers.insert(id, consumer);
        if !is_stored {
            self.expect_restart(turn.store, stream)?;
        }
        self.list_dirty(id, turn.now);
        self.schedule(id);
        Ok(Ok(answer))
    }

    fn update_consumer(
        &mut self,
        turn: &mut Context<'_>,
        id: ConsumerId,
        config: ConsumerConfig,
        action: ConsumerAction,
    ) -> Answered {
        let Some(consumer) = self.consumers.get(&id) else { return Ok(Err(api_error::CONSUMER_NOT_FOUND)) };
        let Some(stream) = self.streams.get(&consumer.stream) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let same = config_check::same(&consumer.config, &config);
        if action == ConsumerAction::Create && !same {
            return Ok(Err(api_error::CONSUMER_ALREADY_EXISTS));
        }
        if let Err(error) = self.may_change(stream, id, &config) {
            return Ok(Err(error));
        }
        self.pass_unmatched(turn.store, id);
        let Some(consumer) = self.consumers.get_mut(&id) else { return Ok(Err(api_error::CONSUMER_NOT_FOUND)) };
        let Some(stream) = self.streams.get_mut(&consumer.stream) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let mut other_filters = false;
        if !same {
            if let Err(error) = config_check::check_update(&consumer.config, &config) {
                return Ok(Err(error));
            }
            let subject = |config: &ConsumerConfig| config.push.as_ref().map(|push| push.subject.clone());
            let moved = subject(&consumer.config) != subject(&config);
            if moved && consumer.delivering.is_bound() {
                return Ok(Err(api_error::CONSUMER_NAME_EXIST));
            }
            other_filters = consumer.config.filters != config.filters;
            consumer.config = config;
            consumer.configured(turn.now);
            if moved {
                turn.events.push(consumer_up(consumer));
            }
            // The tally is what "left" is counted by: it begins anew only together with that count.
            if other_filters {
                consumer.filters_since = consumer.next;
                stream.audience.forget_tally(id);
                attach(stream, consumer, self.key.0);
                if let Some((_, end)) = consumer.selection {
                    consumer.select_last_per_subject(turn.store, end);
                }
                consumer.recount_soon();
            }
            consumer.save_config(turn.store)?;
        }
        if consumer.config.sourcing && consumer.retention != Retention::Limits {
            consumer.begin_anew();
        }
        consumer.recount_now(turn.store, stream, turn.now)?;
        let answer = Answer::Consumer(Box::new(consumer.describe(stream, turn.now)));
        let (stream, floor) = (stream.id, consumer.ack_floor().1);
        if other_filters {
            self.interest_lost(turn, stream, floor)?;
        }
        self.list_dirty(id, turn.now);
        self.serve_soon(id);
        self.schedule(id);
        Ok(Ok(answer))
    }

    pub(crate) fn consumer_info(&mut self, turn: &mut Context<'_>, stream: &str, name: &str) -> Answered {
        let Some(stream) = self.stream_named(stream) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let (id, stream) = (stream.consumers.get(name).copied(), stream.id);
        self.settle(turn, stream)?;
        let consumer = id.and_then(|id| self.consumers.get_mut(&id));
        let (Some(consumer), Some(stream)) = (consumer, self.streams.get_mut(&stream)) else {
            return Ok(Err(api_error::CONSUMER_NOT_FOUND));
        };
        consumer.recount_now(turn.store, stream, turn.now)?;
        Ok(Ok(Answer::Consumer(Box::new(consumer.describe(stream, turn.now)))))
    }

    pub(crate) fn consumer_names_page(&self, stream: &str, offset: u64) -> Answered {
        let Some(stream) = self.stream_named(stream) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let page = stream.listed().skip(offset as usize).take(NAMES_PER_PAGE);
        let names = page.map(|(name, _)| name.into()).collect();
        Ok(Ok(Answer::ConsumerNames { names, total: stream.listed_count(), offset }))
    }

    pub(crate) fn consumer_list_page(&mut self, turn: &mut Context<'_>, stream: &str, offset: u64) -> Answered {
        let Some(stream) = self.stream_names.get(stream).and_then(|id| self.streams.get_mut(id)) else {
            return Ok(Err(api_error::STREAM_NOT_FOUND));
        };
        let mut consumers = Vec::new();
        let page = stream.listed().skip(offset as usize).take(INFOS_PER_PAGE).map(|(_, id)| id);
        for id in page.collect::<Vec<_>>() {
            if let Some(consumer) = self.consumers.get_mut(&id) {
                consumer.recount_now(turn.store, stream, turn.now)?;
                consumers.push(consumer.describe(stream, turn.now));
            }
        }
        Ok(Ok(Answer::ConsumerList { consumers, total: stream.listed_count(), offset }))
    }

    pub(crate) fn delete_consumer(&mut self, turn: &mut Context<'_>, stream: &str, name: &str) -> Answered {
        let Some(stream) = self.stream_named(stream) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let id = stream.consumers.get(name).copied().or_else(|| self.source_called(stream, name));
        let Some(id) = id else { return Ok(Err(api_error::CONSUMER_NOT_FOUND)) };
        self.remove_consumer(turn, id)?;
        Ok(Ok(Answer::Deleted))
    }

    pub(crate) fn pause_consumer(
        &mut self,
        turn: &mut Context<'_>,
        stream: &str,
        name: &str,
        until: Option<Timestamp>,
    ) -> Answered {
        let Some(stream) = self.stream_named(stream) else { return Ok(Err(api_error::STREAM_NOT_FOUND)) };
        let Some(id) = stream.consumers.get(name).copied() else { return Ok(Err(api_error::CONSUMER_NOT_FOUND)) };
        let Some(consumer) = self.consumers.get_mut(&id) else { return Ok(Err(api_error::CONSUMER_NOT_FOUND)) };
        let changed = consumer.config.pause_until != until;
        consumer.config.pause_until = until;
        consumer.configured(turn.now);
        if changed {
            consumer.tell_pause(turn.now, turn.events);
        }
        consumer.save_config(turn.store)?;
        let remaining_ns = until.map_or(0, |until| until.0.saturating_sub(turn.now.wall.0).max(0).unsigned_abs());
        self.serve_soon(id);
        self.schedule(id);
        Ok(Ok(Answer::Paused { until, remaining_ns }))
    }

    /// Forgets a consumer, and tells those who wait for it.
    pub(crate) fn remove_consumer(&mut self, turn: &mut Context<'_>, id: ConsumerId) -> Result<(), StoreError> {
        let Some(consumer) = self.consumers.remove(&id) else { return Ok(()) };
        if let Some(stream) = self.streams.get_mut(&consumer.stream) {
            stream.consumers.remove(&consumer.config.name);
            stream.hubs.remove(&id);
            stream.audience.remove(id);
        }
        // Who is pushed to sees it by the heartbeats that stop.
        for waiting in consumer.delivering.waiting.iter().filter(|waiting| !waiting.is_push) {
            send_status(turn.deliveries, &waiting.inbox, "NATS/1.0 409 Consumer Deleted\r\n\r\n");
        }
        consumer.tell_action(Action::Delete, turn.events);
        turn.events.push(Event::ConsumerDown { consumer: id });
        self.lazy_since.get_or_insert(turn.now.age);
        self.interest_lost(turn, consumer.stream, consumer.ack_floor().1)?;
        delete_records(turn.store, id)
    }

    /// Reads the consumers; those whose stream is gone are removed.
    pub(crate) fn load_consumers(
        &mut self,
        store: &mut dyn Store,
        now: Now,
        events: &mut Vec<Event>,
    ) -> Result<(), StoreError> {
        let mut found = Vec::new();
        store.scan_records(&consumer::CONFIGS, &consumer::CONFIGS, &mut |key, record| {
            found.extend(consumer::config_key(key).map(|id| (id, record.to_vec())));
            true
        })?;
        let mut known = Vec::with_capacity(found.len());
        for (id, record) in found {
            // After damage the numbers that were given may be unknown.
            self.next_consumer = self.next_consumer.max(id.0.saturating_add(1));
            let (config, stream, created) = match stored_config::decode_consumer(&record) {
                Ok(described) => described,
                // A consumer that nobody can describe is made again by whoever needs it.
                Err(StoreError::Damaged(_)) => {
                    delete_records(store, id)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let Some(stream) = self.streams.get_mut(&stream) else {
                delete_records(store, id)?;
                continue;
            };
            let consumer = Consumer::new(id, stream, config, created, now);
            attach(stream, &consumer, self.key.0);
            events.push(consumer_up(&consumer));
            self.consumers.insert(id, consumer);
            known.push(id);
        }
        consumer::load_all(store, &mut self.consumers, &known)?;
        for id in known {
            if let Some(consumer) = self.consumers.get_mut(&id) {
                consumer.filters_since = consumer.next;
            }
            self.schedule(id);
        }
        Ok(())
    }
}

impl Consumer {
    /// It was made or deleted.
    fn tell_action(&self, action: Action, events: &mut Vec<Event>) {
        events.push(Event::Advisory(Advisory::Consumer { consumer: self.id, action }));
    }

    /// Its pause was changed.
    pub(crate) fn tell_pause(&self, now: Now, events: &mut Vec<Event>) {
        let until = self.config.pause_until;
        let is_paused = until.is_some_and(|until| until > now.wall);
        events.push(Event::Advisory(Advisory::Paused { consumer: self.id, until, is_paused }));
    }

    /// Where a new consumer begins.
    fn start(&mut self, store: &mut dyn Store, stream: &Stream) -> Result<(), StoreError> {
        let state = store.state(stream.id);
        let wanted = match self.config.deliver_policy {
            DeliverPolicy::All | DeliverPolicy::LastPerSubject => state.first,
            DeliverPolicy::Last => self.last_matching(store, state.last)?,
            DeliverPolicy::New => state.last.next(),
            DeliverPolicy::FromSequence(sequence) => sequence.min(HIGHEST_SEQUENCE),
            DeliverPolicy::FromTime(time) => store.first_at(stream.id, time)?,
        };
        let ahead = matches!(self.config.deliver_policy, DeliverPolicy::FromSequence(_));
        let latest = if ahead { Sequence(u64::MAX) } else { state.last.next() };
        self.next = stream.owed.behind(wanted.min(latest).max(state.first).max(Sequence(1)));
        // With one message a subject, the last of each subject is simply everything.
        let selects = self.config.deliver_policy == DeliverPolicy::LastPerSubject;
        if selects && stream.config.max_messages_per_subject != 1 {
            self.select_last_per_subject(store, state.last);
            let first = self.selection.as_ref().and_then(|(sequences, _)| sequences.front().copied());
            self.next = first.unwrap_or(state.last).max(self.next);
        }
        self.stand_before(self.next);
        Ok(())
    }

    fn last_matching(&self, store: &mut dyn Store, last: Sequence) -> Result<Sequence, StoreError> {
        if self.config.filters.is_empty() {
            return Ok(last);
        }
        let mut newest = None;
        for filter in &self.config.filters {
            newest = newest.max(store.last_matching(self.stream, filter, last)?);
        }
        // Where nothing matches, everything is still to come.
        Ok(newest.unwrap_or_default())
    }
}

/// Makes a stream know its consumer, and count what matches it.
fn attach(stream: &mut Stream, consumer: &Consumer, seed: u64) {
    stream.consumers.insert(consumer.config.name.clone(), consumer.id);
    if consumer.config.direct {
        stream.hubs.insert(consumer.id);
    }
    if consumer.config.filters.is_empty() {
        stream.audience.add_unfiltered(consumer.id);
    } else {
        stream.audience.add_tally(consumer.id, consumer.config.filters.clone());
    }
    if stream.audience.wants_crowd(stream.consumers.len()) {
        stream.audience.make_crowd(stream.consumers.values().copied(), seed);
    }
    stream.audience.place(consumer.id, Sequence(0));
}

fn consumer_up(consumer: &Consumer) -> Event {
    Event::ConsumerUp {
        consumer: consumer.id,
        stream: consumer.stream_name.clone(),
        name: consumer.config.name.clone(),
        deliver_subject: consumer.config.push.as_ref().map(|push| push.subject.clone()),
        deliver_group: consumer.config.push.as_ref().map(|push| push.group.clone()).unwrap_or_default(),
        is_source: consumer.config.is_source(),
        is_acknowledged: consumer.config.ack_policy != AckPolicy::None,
    }
}

fn delete_records(store: &mut dyn Store, id: ConsumerId) -> Result<(), StoreError> {
    let mut keys = Vec::new();
    for prefix in consumer::prefixes(id) {
        store.scan_records(&prefix, &prefix, &mut |key, _| {
            keys.push(key.to_vec());
            true
        })?;
    }
    keys.iter().try_for_each(|key| store.delete_record(key))
}
