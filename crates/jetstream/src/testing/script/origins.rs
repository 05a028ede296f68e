//! What the golden scripts say of streams that take from others.

use std::fmt::Write as _;

use goldenscript::ArgumentConsumer;

use super::{Result, Runner, START_WALL};
use crate::command::{Batch, Command, Span};
use crate::identity::{Sequence, StreamId, Timestamp};
use crate::origin::{Begin, OriginId, Take};

impl Runner {
    /// `take STREAM ORIGIN PREVIOUS SEQUENCE SUBJECT`: a message of its nth origin.
    pub(super) fn take(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let mut batch = Batch::default();
        let (stream, origin) = self.origin(args)?;
        let previous = Sequence(args.next_pos().ok_or("previous?")?.parse()?);
        let sequence = Sequence(args.next_pos().ok_or("sequence?")?.parse()?);
        let subject = batch.add(args.next_pos().ok_or("subject?")?.as_bytes());
        let payload = args.next_pos().map(str::to_owned);
        let time = args.take_key("time").map(str::parse::<i64>).transpose()?.unwrap_or(0);
        let time = Timestamp((START_WALL + time) * 1_000_000);
        let body = args.take_key("body").map(str::to_owned);
        let payload = batch.add(payload.or(body).as_deref().unwrap_or("body").as_bytes());
        let mut headers = String::new();
        while let Some((key, value)) = args.next_key() {
            write!(headers, "{key}: {value}\r\n")?;
        }
        let headers = if headers.is_empty() {
            Span::default()
        } else {
            batch.add(format!("NATS/1.0\r\n{headers}\r\n").as_bytes())
        };
        let ticket = crate::command::Ticket::default();
        let take = Take { stream, origin, ticket, sequence, previous, time, subject, headers, payload };
        batch.commands.push(Command::Take(Box::new(take)));
        self.turn(&batch)
    }

    /// `begin STREAM ORIGIN IDENTITY`: its nth origin begins to deliver.
    pub(super) fn begin(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<String> {
        let mut batch = Batch::default();
        let (stream, origin) = self.origin(args)?;
        let identity = batch.add(args.next_pos().unwrap_or_default().as_bytes());
        let is_anew = args.take_key("anew").is_some();
        let skip_to = Sequence(args.take_key("skip").map(str::parse).transpose()?.unwrap_or(0));
        batch.commands.push(Command::Begin(Box::new(Begin { stream, origin, identity, is_anew, skip_to })));
        self.turn(&batch)
    }

    fn origin(&mut self, args: &mut ArgumentConsumer<'_>) -> Result<(StreamId, OriginId)> {
        let name = args.next_pos().ok_or("stream?")?.to_owned();
        let nth: usize = args.next_pos().ok_or("which origin?")?.parse()?;
        let stream = self.streams.iter().find(|(_, (known, _))| *known == name).map(|(id, _)| *id);
        let origin = self.origins.get(&name).and_then(|ids| ids.get(nth)).copied();
        Ok((stream.ok_or("no such stream")?, origin.unwrap_or_default()))
    }
}
