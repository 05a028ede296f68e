//! Finding messages by subject and by time, with the summaries: no message row is read to learn that it doesn't match.

use jetstream::identity::{AgeMillis, Now, Timestamp};
use jetstream::store::StoreError;

use crate::block::Block;
use crate::database::{Database, out_of_order};
use crate::ring::Ring;
use crate::row::Row;
use crate::stream::{Matcher, Stream};

/// Oldest messages looked at in one go, and the bytes of their rows.
const FRONT: usize = 64;
const FRONT_BYTES: usize = 64 << 10;

/// Messages that match, oldest first, with their subjects, and the first sequence not looked at.
pub(crate) struct Found {
    pub(crate) messages: Vec<(u64, u32)>,
    pub(crate) next: u64,
}

/// Looks from a sequence on, until `max` messages are found or `blocks` summaries are read.
pub(crate) fn collect(
    db: &mut Database,
    stream: &mut Stream,
    from: u64,
    matcher: &Matcher,
    max: usize,
    blocks: usize,
) -> Result<Found, StoreError> {
    let mut at = from.max(stream.state.first.0);
    let mut messages = Vec::new();
    for _ in 0..blocks {
        if at > stream.closed_through {
            break;
        }
        let Some(block) = db.block_from(stream.id, at)? else {
            at = stream.closed_through + 1;
            break;
        };
        let start = messages.len();
        matching(stream, &block, at, block.last, matcher, &mut messages);
        messages[start..].sort_unstable();
        if messages.len() >= max {
            messages.truncate(max);
            let next = messages.last().map_or(at, |(sequence, _)| sequence + 1);
            return Ok(Found { messages, next });
        }
        at = block.last + 1;
    }
    if at <= stream.closed_through {
        return Ok(Found { messages, next: at });
    }
    let room = max - messages.len();
    let open = stream.open.live(at).filter(|entry| stream.wants(matcher, entry.subject)).take(room);
    messages.extend(open.map(|entry| (entry.sequence, entry.subject)));
    let next = match messages.last() {
        Some((last, _)) if messages.len() == max => last + 1,
        _ => stream.state.last.0 + 1,
    };
    Ok(Found { messages, next: next.max(from) })
}

/// A block's messages between two sequences that match and are still there; in no particular order.
fn matching(stream: &mut Stream, block: &Block, from: u64, to: u64, matcher: &Matcher, out: &mut Vec<(u64, u32)>) {
    let start = out.len();
    let mut take = |id: u32, offsets: &[u32]| {
        let sequences = offsets
            .iter()
            .map(|offset| block.first + u64::from(*offset))
            .filter(|sequence| (from..=to).contains(sequence));
        out.extend(sequences.map(|sequence| (sequence, id)));
    };
    match matcher {
        Matcher::Ids(ids) => ids.iter().for_each(|id| take(*id, block.offsets_of(*id))),
        _ => block.subjects().filter(|(id, _)| stream.wants(matcher, *id)).for_each(|(id, offsets)| take(id, offsets)),
    }
    let mut kept = start;
    for index in start..out.len() {
        if !stream.is_removed(out[index].0) {
            out[kept] = out[index];
            kept += 1;
        }
    }
    out.truncate(kept);
}

/// The first message from a sequence on that matches.
pub(crate) fn next(
    db: &mut Database,
    stream: &mut Stream,
    from: u64,
    matcher: &Matcher,
) -> Result<Option<(u64, u32)>, StoreError> {
    // Where the first and the newest of a few subjects lie is known; of many, it would cost more than it saves.
    let (mut at, mut end) = (from, stream.state.last.0);
    if let Matcher::Ids(ids) = matcher {
        at = ids.iter().map(|id| stream.subjects.hint(*id)).min().unwrap_or(0).max(from);
        end = end.min(newest_of(stream, matcher));
    }
    while at <= end {
        let found = collect(db, stream, at, matcher, 1, 64)?;
        if let Some(first) = found.messages.first() {
            return Ok(Some(*first));
        }
        at = found.next;
    }
    Ok(None)
}

/// Sequence of the newest message that matches, 0: there is none. More than there is when that can't be told at no cost.
fn newest_of(stream: &Stream, matcher: &Matcher) -> u64 {
    let newest = |id: u32| stream.subjects.get(id).1;
    match matcher {
        Matcher::All => u64::MAX,
        Matcher::Ids(ids) => ids.iter().copied().map(newest).max().unwrap_or(0),
        Matcher::Cached(_) => {
            stream.subjects.ids().filter(|id| stream.wants(matcher, *id)).map(newest).max().unwrap_or(0)
        }
    }
}

/// The newest message at or below a sequence that matches.
pub(crate) fn last(
    db: &mut Database,
    stream: &mut Stream,
    matcher: &Matcher,
    up_to: u64,
) -> Result<Option<u64>, StoreError> {
    match newest_of(stream, matcher) {
        0 => return Ok(None),
        newest if newest <= up_to => return Ok(Some(newest)),
        _ => {}
    }
    let open = stream.open.live(0).rev().find(|entry| entry.sequence <= up_to && stream.wants(matcher, entry.subject));
    if let Some(entry) = open {
        return Ok(Some(entry.sequence));
    }
    let mut at = up_to.min(stream.closed_through);
    let mut found = Vec::new();
    while at >= stream.state.first.0 && at > 0 {
        let Some(block) = db.block_up_to(stream.id, at)? else { return Ok(None) };
        matching(stream, &block, 0, at, matcher, &mut found);
        if let Some((newest, _)) = found.iter().max() {
            return Ok(Some(*newest));
        }
        at = block.first.saturating_sub(1);
    }
    Ok(None)
}

/// How many messages from a sequence on match.
pub(crate) fn count(db: &mut Database, stream: &mut Stream, from: u64, matcher: &Matcher) -> Result<u64, StoreError> {
    let (first, last) = (stream.state.first.0, stream.state.last.0);
    let total: u64 = match matcher {
        Matcher::All => stream.state.messages,
        Matcher::Ids(ids) => ids.iter().map(|id| stream.subjects.get(*id).0).sum(),
        Matcher::Cached(_) => {
            stream.subjects.ids().filter(|id| stream.wants(matcher, *id)).map(|id| stream.subjects.get(id).0).sum()
        }
    };
    if from <= first || total == 0 {
        return Ok(total);
    }
    if from > last {
        return Ok(0);
    }
    if *matcher == Matcher::All && stream.state.messages == last - first + 1 {
        return Ok(last - from + 1);
    }
    if last - from <= from - first {
        return count_between(db, stream, from, last, matcher);
    }
    Ok(total.saturating_sub(count_between(db, stream, first, from - 1, matcher)?))
}

fn count_between(
    db: &mut Database,
    stream: &mut Stream,
    from: u64,
    to: u64,
    matcher: &Matcher,
) -> Result<u64, StoreError> {
    let open = stream.open.live(from).take_while(|entry| entry.sequence <= to);
    let mut count = open.filter(|entry| stream.wants(matcher, entry.subject)).count() as u64;
    let mut at = from.max(stream.state.first.0);
    let to = to.min(stream.closed_through);
    let mut found = Vec::new();
    while at <= to {
        // Only a part of the block may be meant: message by message.
        let Some(block) = db.block_from(stream.id, at)? else { break };
        found.clear();
        matching(stream, &block, at, to, matcher, &mut found);
        count += found.len() as u64;
        at = block.last + 1;
        // The blocks that are meant as a whole. Where something was removed it may not be known whether they say so already.
        let end = if stream.is_uncertain { stream.before_removed(at).min(to) } else { to };
        if let Some((last, whole)) = count_whole(db, stream, at, end, matcher)? {
            count += whole;
            at = last + 1;
        }
    }
    Ok(count)
}

/// Messages that match in all blocks that begin behind a sequence's predecessor's block and end at or before `to`; and where the last one ends.
fn count_whole(
    db: &Database,
    stream: &mut Stream,
    at: u64,
    to: u64,
    matcher: &Matcher,
) -> Result<Option<(u64, u64)>, StoreError> {
    let up_to = match matcher {
        Matcher::Ids(ids) => ids.last().copied().unwrap_or(0),
        _ => u32::MAX,
    };
    let Some((last, named)) = db.count_in_blocks(stream.id, (at, to), up_to, &|id| stream.wants(matcher, id))? else {
        return Ok(None);
    };
    // They still name what was removed and is not corrected.
    stream.sort_removed();
    let gone = stream.removed_between(at, last).iter().filter(|(_, id)| stream.wants(matcher, *id));
    Ok(Some((last, named.saturating_sub(gone.count() as u64))))
}

/// The first message at or after a sequence, with its clocks. Damaged rows count as there, with clocks of zero.
pub(crate) fn at_or_after(
    db: &Database,
    ring: &Ring,
    stream: &Stream,
    from: u64,
) -> Result<Option<(u64, Now)>, StoreError> {
    let tail_start = stream.tail_start();
    let mut found = None;
    if from < tail_start {
        in_table(db, stream, from, |sequence, blob| {
            found = Some((sequence, clocks(sequence, blob)));
            false
        })?;
        if found.is_some_and(|(sequence, _)| sequence < tail_start) {
            return Ok(found);
        }
    }
    let start = stream.tail.partition_point(|entry| entry.sequence < from);
    let entry = stream.tail.range(start..).find(|entry| entry.length > 0);
    Ok(entry.map(|entry| (entry.sequence, clocks(entry.sequence, ring.row(entry)))))
}

/// Walks over the rows of messages that are there and in their table, from a sequence on, until `each` answers false.
fn in_table(
    db: &Database,
    stream: &Stream,
    from: u64,
    mut each: impl FnMut(u64, &[u8]) -> bool,
) -> Result<(), StoreError> {
    let sql = format!("SELECT seq, data FROM m{} WHERE seq >= ? ORDER BY seq", stream.id);
    let mut least = from;
    db.query(&sql, [from as i64], |row| {
        let sequence = row.get::<_, i64>(0)? as u64;
        if sequence < least {
            return Err(out_of_order());
        }
        least = sequence + 1;
        Ok(stream.doomed.contains(&sequence) || each(sequence, row.get_ref(1)?.as_blob()?))
    })
}

/// Looks at the oldest messages again: the first one, and some behind it that will be the first when it goes.
pub(crate) fn look_at_front(db: &Database, stream: &mut Stream) -> Result<(), StoreError> {
    let mut front = std::mem::take(&mut stream.front);
    front.clear();
    let mut bytes = 0;
    in_table(db, stream, stream.state.first.0, |sequence, blob| {
        front.push_back((sequence, clocks(sequence, blob)));
        bytes += blob.len();
        front.len() < FRONT && bytes < FRONT_BYTES
    })?;
    stream.front = front;
    Ok(())
}

fn clocks(sequence: u64, blob: &[u8]) -> Now {
    Row::decode(sequence, blob)
        .map_or(Now { wall: Timestamp(0), age: AgeMillis(0) }, |row| Now { wall: row.time, age: row.age })
}

/// Sequence of the first message stored at or after a time: times never go back within a stream, so halving finds it.
pub(crate) fn first_at(db: &Database, ring: &Ring, stream: &Stream, time: Timestamp) -> Result<u64, StoreError> {
    let (mut low, mut high) = (stream.state.first.0, stream.state.last.0 + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        match at_or_after(db, ring, stream, middle)? {
            Some((sequence, now)) if sequence < high => {
                if now.wall >= time {
                    high = middle;
                } else {
                    low = sequence + 1;
                }
            }
            _ => high = middle,
        }
    }
    Ok(at_or_after(db, ring, stream, low)?.map_or(stream.state.last.0 + 1, |(sequence, _)| sequence))
}
