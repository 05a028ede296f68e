//! How far a forward is, as the golden scripts write it.

use std::collections::BTreeMap;
use std::error::Error;

use goldenscript::ArgumentConsumer;
use subject::Filter;

use crate::command::{Command, Forwarded};
use crate::identity::{Sequence, StreamId};

/// What its owner tells the store.
pub(crate) fn forwarded(
    streams: &BTreeMap<StreamId, (String, Vec<Filter>)>,
    args: &mut ArgumentConsumer<'_>,
) -> Result<Command, Box<dyn Error>> {
    let name = args.next_pos().ok_or("stream?")?.to_owned();
    let stream = streams.iter().find(|(_, (known, _))| *known == name).map(|(id, _)| *id);
    let mut sequence = |key| args.take_key(key).map(str::parse).transpose().map(|it| Sequence(it.unwrap_or(0)));
    let (releasable, confirmed) = (sequence("releasable")?, sequence("confirmed")?);
    let largest = args.take_key("largest").map(str::parse).transpose()?;
    let rejected = args.take_key("rejected").map(str::parse).transpose()?.map(|it| (Sequence(it), 100));
    let is_linked = args.take_key("linked").is_some();
    let stream = stream.ok_or("no such stream")?;
    Ok(Command::Forwarded(Forwarded { stream, releasable, confirmed, rejected, is_linked, largest }))
}
