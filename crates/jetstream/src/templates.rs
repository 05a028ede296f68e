//! Stream templates, the old API of nats-server 2.2 to 2.10: a stream for each subject, made by the first publish on it.
//!
//! The broker knows a template by an id of its own, with which publishes come that no stream captures yet. The stream is named after its subject
//! (`a.b` → `a_b`) and captures that alone; from then on publishes go to it directly. Deleting a template deletes its streams.
//!
//! A template is a record, `vt<name>`, whatever its streams are stored in; which streams are its own is in their configurations.

use crate::api_error::{self, ApiError};
use crate::command::{Answer, Append, Event, Outcome};
use crate::config::StreamConfig;
use crate::identity::{StreamId, Timestamp};
use crate::jetstream::{Context, JetStream};
use crate::record::{Reader, put};
use crate::store::{Store, StoreError, record_space};
use crate::stored_config;
use crate::stream::config_check;
use crate::stream::requests::{Answered, NAMES_PER_PAGE};
use subject::Filter;

const TEMPLATES: [u8; 2] = [record_space::SINGLE, b't'];
const VERSION: u8 = 1;
const LONGEST_NAME: usize = 255;
/// Each is a few rows of the broker's.
const MOST_TEMPLATES: usize = 256;
/// What a template's configuration is called, as in nats-server.
pub const NO_NAME: &str = "_";

/// A template as requests show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateInfo {
    /// Its name.
    pub name: Box<str>,
    /// What its streams are like; the name is [`NO_NAME`].
    pub config: StreamConfig,
    /// Most streams.
    pub max_streams: u32,
    /// Those that are there, by name.
    pub streams: Vec<Box<str>>,
}

/// A template.
#[derive(Debug)]
pub(crate) struct Template {
    id: StreamId,
    config: StreamConfig,
    max_streams: u32,
}

/// The name of the stream that a template makes for a subject.
#[must_use]
pub fn stream_name(subject: &[u8]) -> String {
    String::from_utf8_lossy(subject).replace('.', "_")
}

fn key(name: &str) -> Vec<u8> {
    [&TEMPLATES[..], name.as_bytes()].concat()
}

impl JetStream {
    pub(crate) fn create_template(
        &mut self,
        turn: &mut Context<'_>,
        name: &str,
        config: &StreamConfig,
        max_streams: u32,
    ) -> Answered {
        if let Err(error) = self.check_template(name, config) {
            return Ok(Err(error));
        }
        let config = StreamConfig { template: name.into(), ..config.clone() };
        let mut record = vec![VERSION];
        put(&mut record, u64::from(max_streams));
        record.extend_from_slice(&stored_config::encode_stream(&config, Timestamp(0)));
        turn.store.put_record(&key(name), &record)?;
        turn.events.push(self.add_template(name, config, max_streams));
        Ok(self.template_info(name))
    }

    fn check_template(&self, name: &str, config: &StreamConfig) -> Result<(), ApiError> {
        let refused = |text: String| Err(api_error::stream_template_create(text));
        if name.len() > LONGEST_NAME {
            return refused(format!("template name is too long, maximum allowed is {LONGEST_NAME}"));
        }
        config_check::check(config)?;
        if self.templates.contains_key(name) {
            return refused(format!("template with name {name:?} already exists"));
        }
        if self.templates.len() >= MOST_TEMPLATES {
            return refused(format!("maximum number of templates reached: {MOST_TEMPLATES}"));
        }
        Ok(())
    }

    fn add_template(&mut self, name: &str, config: StreamConfig, max_streams: u32) -> Event {
        let id = StreamId(StreamId::TEMPLATE | self.next_template);
        self.next_template += 1;
        let subjects = config.subjects.iter().map(|subject| subject.as_str().into()).collect();
        self.templates.insert(name.into(), Template { id, config, max_streams });
        Event::TemplateUp { id, subjects }
    }

    pub(crate) fn template_names_page(&self, offset: u64) -> Answer {
        let total = self.templates.len() as u64;
        let names = self.templates.keys().skip(offset as usize).take(NAMES_PER_PAGE).cloned().collect();
        Answer::StreamNames { names, total, offset }
    }

    pub(crate) fn template_info(&self, name: &str) -> Result<Answer, ApiError> {
        let Some(template) = self.templates.get(name) else { return Err(api_error::STREAM_TEMPLATE_NOT_FOUND) };
        let streams = self.streams_of(name).map(|(name, _)| name.into()).collect();
        let config = StreamConfig { template: "".into(), ..template.config.clone() };
        let info = TemplateInfo { name: name.into(), config, max_streams: template.max_streams, streams };
        Ok(Answer::Template(Box::new(info)))
    }

    fn streams_of<'a>(&'a self, template: &'a str) -> impl Iterator<Item = (&'a str, StreamId)> + 'a {
        let all = self.stream_names.iter().map(|(name, id)| (&**name, *id));
        all.filter(move |(_, id)| self.streams.get(id).is_some_and(|stream| *stream.config.template == *template))
    }

    pub(crate) fn delete_template(&mut self, turn: &mut Context<'_>, name: &str) -> Answered {
        let Some(template) = self.templates.remove(name) else {
            return Ok(Err(api_error::STREAM_TEMPLATE_NOT_FOUND));
        };
        turn.store.delete_record(&key(name))?;
        turn.events.push(Event::TemplateDown { id: template.id });
        let streams: Vec<Box<str>> = self.streams_of(name).map(|(name, _)| name.into()).collect();
        for stream in streams {
            self.delete_stream(turn, &stream)?.ok();
        }
        Ok(Ok(Answer::Deleted))
    }

    /// May a request update this stream? One that a template made stays as it was made.
    pub(crate) fn may_update(&self, name: &str) -> Result<(), ApiError> {
        let owned = self.stream_named(name).is_some_and(|stream| !stream.config.template.is_empty());
        let text = "stream configuration update not allowed on template owned stream";
        if owned { Err(api_error::stream_invalid_config(text)) } else { Ok(()) }
    }

    /// A publish on a template's subject that no stream captured when it was routed.
    pub(crate) fn append_by_template(
        &mut self,
        turn: &mut Context<'_>,
        append: &Append,
    ) -> Result<Outcome, StoreError> {
        let subject = append.subject.of(&turn.batch.arena);
        match self.stream_of_template(turn, append.stream, subject)? {
            Ok(stream) => self.append(turn, &Append { stream, ..*append }),
            Err(error) => Ok(Outcome::Refused(error)),
        }
    }

    fn stream_of_template(
        &mut self,
        turn: &mut Context<'_>,
        id: StreamId,
        subject: &[u8],
    ) -> Result<Result<StreamId, ApiError>, StoreError> {
        let Some((owner, template)) = self.templates.iter().find(|(_, template)| template.id == id) else {
            return Ok(Err(api_error::STREAM_NOT_FOUND));
        };
        let name = stream_name(subject);
        if let Some(stream) = self.stream_named(&name) {
            let is_own = stream.config.template == *owner;
            return Ok(if is_own { Ok(stream.id) } else { Err(api_error::STREAM_NAME_EXIST) });
        }
        if self.streams_of(owner).count() >= template.max_streams as usize {
            return Ok(Err(api_error::MAXIMUM_STREAMS_LIMIT));
        }
        let Ok(literal) = Filter::from_bytes(subject) else { return Ok(Err(api_error::BAD_REQUEST)) };
        let config = StreamConfig { name: name.into(), subjects: vec![literal], ..template.config.clone() };
        self.sync = true;
        Ok(self.create_stream(turn, &config)?.map(|answer| match answer {
            Answer::Stream(info) => info.id,
            _ => StreamId::NONE,
        }))
    }

    /// Reads the templates.
    pub(crate) fn load_templates(&mut self, store: &mut dyn Store, events: &mut Vec<Event>) -> Result<(), StoreError> {
        let mut found = Vec::new();
        store.scan_records(&TEMPLATES, &TEMPLATES, &mut |key, record| {
            // One that can't be read is made again by whoever needs it.
            let name = key.get(TEMPLATES.len()..).and_then(|name| std::str::from_utf8(name).ok());
            found.extend(name.zip(decode(record).ok()).map(|(name, (config, most))| (name.to_owned(), config, most)));
            true
        })?;
        for (name, config, max_streams) in found {
            let event = self.add_template(&name, config, max_streams);
            events.push(event);
        }
        Ok(())
    }
}

fn decode(record: &[u8]) -> Result<(StreamConfig, u32), StoreError> {
    let mut from = Reader::new(record, VERSION, "stream template")?;
    let max_streams = from.number_u32()?;
    let (config, _) = stored_config::decode_stream(from.rest())?;
    Ok((config, max_streams))
}
