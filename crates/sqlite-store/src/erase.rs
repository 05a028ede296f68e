//! Removing: one message, from the front by limits, or by subject. Whatever is removed is taken out of the counters by its own row, which says its
//! subject and size; what a damaged row can't say comes from the summaries.

use std::ops::Range;

use jetstream::identity::{AgeMillis, Now, Sequence, Timestamp};
use jetstream::store::{Evicted, FrontLimits, StoreError, StreamState};
use smallvec::{SmallVec, smallvec};

use crate::database::{Database, out_of_order};
use crate::removal::Removed;
use crate::ring::Ring;
use crate::row::Row;
use crate::store::SqliteStore;
use crate::stream::{Matcher, Stream};
use crate::{history, schema, search};

/// Summaries read in one step of a removal from all subjects.
const TRIMMED_BLOCKS: usize = 16;

/// Sequences and sizes.
type Oldest = SmallVec<[(u64, u64); 2]>;

/// Rows that go together at most: they are asked for one by one whether a message is still there.
const DOOMED: usize = 1024;

/// Summaries looked through at once by a purge.
const COLLECTED_BLOCKS: usize = 16;
/// Most effort of one step: of as many messages that lie side by side; some milliseconds.
const MOST_EFFORT: u64 = 1024;
/// Messages so near to each other are likely to share a page.
const NEAR: u64 = 16;
/// The effort of one that lies apart.
const APART: u64 = 32;
/// Messages of one subject that a purge takes from the lists of its oldest, if there are any.
const LISTED: u64 = MOST_EFFORT / APART;
/// Looking through the summaries of so many messages is as much as removing one.
const PASSED: u64 = 256;

/// What must be known of a message to remove it.
struct Victim {
    sequence: u64,
    subject: u32,
    size: u64,
    age: AgeMillis,
    chunks: Range<u64>,
}

impl SqliteStore {
    pub(crate) fn remove_one(&mut self, id: u32, sequence: u64, erase: bool) -> Result<bool, StoreError> {
        self.touch(id)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(false) };
        let Some(victim) = find_victim(&mut self.db, &self.ring, stream, sequence)? else { return Ok(false) };
        if erase {
            self.db.set_erase(schema::WHOLE_ERASE)?;
            self.forgetting.erased();
        }
        let done = remove_victim(&mut self.db, &mut self.ring, stream, &victim, erase);
        if erase {
            self.db.set_erase(schema::FAST_ERASE)?;
        }
        done?;
        self.slices.forget(id, sequence);
        refresh_first(&self.db, &self.ring, stream)?;
        Ok(true)
    }

    /// Removes what is there of a run of sequences: one statement for all rows.
    pub(crate) fn remove_between(&mut self, id: u32, first: u64, last: u64) -> Result<(), StoreError> {
        if first == last {
            return self.remove_one(id, first, false).map(drop);
        }
        self.touch(id)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        let mut victims = Vec::new();
        for sequence in first.max(stream.state.first.0)..=last.min(stream.state.last.0) {
            victims.extend(find_victim(&mut self.db, &self.ring, stream, sequence)?);
        }
        self.db.run(&format!("DELETE FROM m{id} WHERE seq >= ? AND seq <= ?"), (first as i64, last as i64))?;
        for victim in &victims {
            if let Some(index) = stream.tail_index(victim.sequence) {
                stream.tail[index].length = 0;
            }
            self.db.delete_chunks(&victim.chunks, false)?;
            let newest = newest_after(&mut self.db, stream, victim)?;
            take_out(stream, victim, newest, &mut Evicted::default());
            self.slices.forget(id, victim.sequence);
        }
        refresh_first(&self.db, &self.ring, stream)
    }

    pub(crate) fn evict_front(&mut self, id: u32, limits: &FrontLimits) -> Result<Evicted, StoreError> {
        let mut evicted = Evicted::default();
        let Some(stream) = self.streams.get(&id) else { return Ok(evicted) };
        if stream.state.messages == 0 || !violates(limits, &stream.state, stream.state.first.0, stream.first_age) {
            return Ok(evicted);
        }
        self.touch(id)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(evicted) };
        let victims = front_victims(&mut self.db, &self.ring, stream, limits)?;
        for victim in &victims {
            self.db.delete_chunks(&victim.chunks, false)?;
            take_out(stream, victim, None, &mut evicted);
        }
        if evicted.messages > 0 {
            let bounds = (evicted.first.0 as i64, evicted.last.0 as i64);
            self.db.run(&format!("DELETE FROM m{id} WHERE seq >= ? AND seq <= ?"), bounds)?;
            let start = stream.tail.partition_point(|entry| entry.sequence < evicted.first.0);
            let end = stream.tail.partition_point(|entry| entry.sequence <= evicted.last.0);
            stream.tail.range_mut(start..end).for_each(|entry| entry.length = 0);
            refresh_first(&self.db, &self.ring, stream)?;
        }
        Ok(evicted)
    }

    pub(crate) fn purge_matching(
        &mut self,
        id: u32,
        filters: &[subject::Filter],
        below: Option<Sequence>,
        keep: u64,
        limit: u64,
    ) -> Result<(Evicted, bool), StoreError> {
        let mut evicted = Evicted::default();
        let Some(stream) = self.streams.get_mut(&id) else { return Ok((evicted, false)) };
        let matcher = stream.matcher(filters);
        let selected = search::count(&mut self.db, stream, 0, &matcher)?;
        let due = selected.saturating_sub(keep);
        let below = below.map_or(u64::MAX, |below| below.0);
        if due == 0 || limit == 0 || below <= stream.state.first.0 {
            return Ok((evicted, false));
        }
        if matcher == Matcher::All {
            // Everything is selected: what goes is simply the front.
            let front = FrontLimits {
                max_messages: u64::MAX,
                max_bytes: u64::MAX,
                stored_before: None,
                below: Sequence(below),
                limit: due.min(limit),
            };
            let evicted = self.evict_front(id, &front)?;
            return Ok((evicted, due > evicted.messages && evicted.messages == front.limit));
        }
        if let Matcher::Ids(ids) = &matcher
            && let [only] = ids[..]
            && below >= stream.subjects.get(only).1
        {
            // All of a subject, or all but the newest, which rolls them up: where a few lie may be known without the summaries.
            let due = if below > stream.subjects.get(only).1 { due } else { due.min(selected - 1) };
            let now = due.min(limit);
            if now == 0 {
                return Ok((evicted, false));
            }
            if now <= LISTED
                && let Some(oldest) = self.oldest_of(id, only, now as usize)?
            {
                self.remove_listed(id, only, oldest, &mut evicted)?;
                // Where nothing is found of what is listed, the summaries are gone through to their end.
                if evicted.messages > 0 {
                    return Ok((evicted, due > evicted.messages));
                }
            }
        }
        let Some(stream) = self.streams.get_mut(&id) else { return Ok((evicted, false)) };
        let known = stream.purged.as_ref().filter(|(purged, _)| **purged == *filters);
        let from = known.map_or(0, |(_, from)| *from);
        let mut effort = Effort::default();
        let next = self.purge_selected(id, &matcher, (from, below), due.min(limit), &mut effort, &mut evicted)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok((evicted, false)) };
        // Of one subject it is known without that.
        if !matches!(&matcher, Matcher::Ids(ids) if ids.len() == 1) {
            stream.purged = Some((filters.into(), next));
        }
        let more = due > evicted.messages && next < below && next <= stream.state.last.0;
        Ok((evicted, more))
    }

    /// Removes the oldest messages of one subject: where they are known, without a look at the summaries.
    pub(crate) fn trim(&mut self, id: u32, subject: &[u8], keep: u64, limit: u64) -> Result<Evicted, StoreError> {
        let mut evicted = Evicted::default();
        let Some(stream) = self.streams.get(&id) else { return Ok(evicted) };
        let Some(subject) = stream.subjects.find(subject) else { return Ok(evicted) };
        let due = stream.subjects.get(subject).0.saturating_sub(keep).min(limit);
        if due == 0 {
            return Ok(evicted);
        }
        let Some(victims) = self.oldest_of(id, subject, due as usize)? else {
            let only = Matcher::Ids(vec![subject]);
            self.purge_selected(id, &only, (0, u64::MAX), due, &mut Effort::unbounded(), &mut evicted)?;
            return Ok(evicted);
        };
        self.remove_listed(id, subject, victims, &mut evicted)?;
        Ok(evicted)
    }

    /// Removes the oldest messages of a subject, as they are listed.
    fn remove_listed(
        &mut self,
        id: u32,
        subject: u32,
        oldest: Oldest,
        evicted: &mut Evicted,
    ) -> Result<(), StoreError> {
        self.touch(id)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        for (sequence, size) in oldest {
            let known = Victim { sequence, subject, size, age: AgeMillis(0), chunks: 0..0 };
            let victim = match size {
                0 => find_victim(&mut self.db, &self.ring, stream, sequence)?,
                _ => Some(known),
            };
            let Some(victim) = victim else {
                // A row that can't be found: next time the summaries are asked.
                stream.history.forget();
                stream.subjects.raise_hint(subject, sequence + 1);
                continue;
            };
            debug_assert_eq!(victim.subject, subject);
            remove_row(&mut self.db, &mut self.ring, stream, &victim, false)?;
            take_out(stream, &victim, None, evicted);
            self.slices.forget(id, sequence);
        }
        refresh_first(&self.db, &self.ring, stream)
    }

    /// Removes what subjects hold beyond `keep`, in the order of the stream: the first message met of a subject is its oldest, so none is looked for.
    pub(crate) fn trim_each(
        &mut self,
        id: u32,
        from: Sequence,
        keep: u64,
        limit: u64,
    ) -> Result<(Evicted, Option<Sequence>), StoreError> {
        let mut evicted = Evicted::default();
        if !self.streams.contains_key(&id) {
            return Ok((evicted, None));
        }
        self.touch(id)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok((evicted, None)) };
        let looked = usize::try_from(limit.saturating_mul(4)).unwrap_or(usize::MAX);
        let found = search::collect(&mut self.db, stream, from.0, &Matcher::All, looked, TRIMMED_BLOCKS)?;
        let mut next = found.next;
        let mut effort = Effort::default();
        for (sequence, subject) in found.messages {
            if stream.subjects.get(subject).0 <= keep {
                continue;
            }
            if effort.is_spent() {
                next = sequence;
                break;
            }
            effort.remove(sequence);
            let Some(victim) = find_victim(&mut self.db, &self.ring, stream, sequence)? else { continue };
            remove_row(&mut self.db, &mut self.ring, stream, &victim, false)?;
            // Something newer is kept of the subject, unless nothing is to be kept at all.
            take_out(stream, &victim, None, &mut evicted);
            self.slices.forget(id, sequence);
            if evicted.messages == limit {
                next = sequence + 1;
                break;
            }
        }
        if evicted.messages > 0 {
            refresh_first(&self.db, &self.ring, stream)?;
        }
        Ok((evicted, (next <= stream.state.last.0).then_some(Sequence(next))))
    }

    /// The oldest `count` messages of a subject with their sizes (0: only the row tells); `None` when only the summaries tell.
    fn oldest_of(&mut self, id: u32, subject: u32, count: usize) -> Result<Option<Oldest>, StoreError> {
        let Some(stream) = self.streams.get(&id) else { return Ok(None) };
        if stream.history.len() == 0 {
            if let Some(oldest) = stream.subjects.oldest(subject).filter(|_| count == 1) {
                return Ok(Some(smallvec![oldest]));
            }
            let elsewhere = self.streams.values().map(|stream| stream.history.len()).sum();
            if let Some(stream) = self.streams.get_mut(&id) {
                history::build(&mut self.db, stream, elsewhere)?;
            }
        }
        let listed = self.streams.get(&id).and_then(|stream| stream.history.oldest(subject, count));
        Ok(listed.filter(|listed| listed.len() == count))
    }

    /// Removes the oldest `due` messages that match, none of which lies below `bounds.0`, as far as the effort allows and not from `bounds.1` on; answers the
    /// sequence below which none is left.
    fn purge_selected(
        &mut self,
        id: u32,
        matcher: &Matcher,
        bounds: (u64, u64),
        due: u64,
        effort: &mut Effort,
        evicted: &mut Evicted,
    ) -> Result<u64, StoreError> {
        self.touch(id)?;
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(0) };
        let mut at = match matcher {
            Matcher::Ids(ids) => ids.iter().map(|id| stream.subjects.hint(*id)).min().unwrap_or(0).max(bounds.0),
            _ => bounds.0,
        };
        let mut left = due as usize;
        let end = bounds.1.min(stream.state.last.0.saturating_add(1));
        while left > 0 && at < end && !effort.is_spent() {
            let found = search::collect(&mut self.db, stream, at, matcher, left, COLLECTED_BLOCKS)?;
            effort.pass(at.max(stream.state.first.0), found.next);
            at = found.next;
            for (sequence, subject) in &found.messages {
                if effort.is_spent() || *sequence >= end {
                    at = *sequence;
                    break;
                }
                left -= 1;
                let Some(victim) = find_victim(&mut self.db, &self.ring, stream, *sequence)? else { continue };
                debug_assert_eq!(victim.subject, *subject);
                remove_row(&mut self.db, &mut self.ring, stream, &victim, false)?;
                take_out(stream, &victim, None, evicted);
                self.slices.forget(id, *sequence);
                effort.remove(*sequence);
            }
        }
        if let Matcher::Ids(ids) = matcher
            && let [only] = ids[..]
        {
            stream.subjects.raise_hint(only, at);
        }
        refresh_first(&self.db, &self.ring, stream)?;
        Ok(at)
    }
}

/// What one step of a removal has cost. A message beside the one before costs little: they share their page. One that lies apart has a page of its own read,
/// logged and written back.
#[derive(Debug, Default)]
struct Effort {
    spent: u64,
    before: u64,
    is_unbounded: bool,
}

impl Effort {
    /// As much as it takes.
    fn unbounded() -> Effort {
        Effort { is_unbounded: true, ..Effort::default() }
    }

    fn is_spent(&self) -> bool {
        self.spent >= MOST_EFFORT && !self.is_unbounded
    }

    /// A message is removed.
    fn remove(&mut self, sequence: u64) {
        self.spent += if sequence - self.before.min(sequence) <= NEAR { 1 } else { APART };
        self.before = sequence;
    }

    /// Summaries were looked through.
    fn pass(&mut self, from: u64, to: u64) {
        self.spent += to.saturating_sub(from) / PASSED;
    }
}

/// Does the oldest message have to go?
fn violates(limits: &FrontLimits, state: &StreamState, first: u64, age: AgeMillis) -> bool {
    state.messages > limits.max_messages
        || state.bytes > limits.max_bytes
        || first < limits.below.0
        || limits.stored_before.is_some_and(|before| age < before)
}

/// The messages at the front that have to go, oldest first.
fn front_victims(
    db: &mut Database,
    ring: &Ring,
    stream: &mut Stream,
    limits: &FrontLimits,
) -> Result<Vec<Victim>, StoreError> {
    let mut victims = Vec::new();
    let mut state = stream.state;
    let mut damaged = Vec::new();
    // Answers whether to look further.
    let mut consider = |sequence: u64, blob: &[u8], stream: &Stream| {
        let victim = describe(stream, sequence, blob);
        let age = victim.as_ref().map_or(AgeMillis(0), |victim| victim.age);
        if state.messages == 0 || victims.len() as u64 >= limits.limit || !violates(limits, &state, sequence, age) {
            return false;
        }
        let victim = victim.unwrap_or_else(|| {
            damaged.push(victims.len());
            Victim { sequence, subject: u32::MAX, size: 0, age, chunks: 0..0 }
        });
        state.messages -= 1;
        state.bytes = state.bytes.saturating_sub(victim.size);
        victims.push(victim);
        true
    };
    let tail_start = stream.tail_start();
    let mut more = true;
    if stream.state.first.0 < tail_start {
        delete_doomed(db, stream)?;
        let sql = format!("SELECT seq, data FROM m{} WHERE seq >= ? AND seq < ? ORDER BY seq", stream.id);
        let mut least = stream.state.first.0;
        db.query(&sql, (stream.state.first.0 as i64, tail_start as i64), |row| {
            let sequence = row.get::<_, i64>(0)? as u64;
            if sequence < least {
                return Err(out_of_order());
            }
            least = sequence + 1;
            more = consider(sequence, row.get_ref(1)?.as_blob()?, stream);
            Ok(more)
        })?;
    }
    if more {
        for entry in stream.tail.iter().filter(|entry| entry.length > 0) {
            if !consider(entry.sequence, ring.row(entry), stream) {
                break;
            }
        }
    }
    for index in damaged {
        let sequence = victims[index].sequence;
        victims[index].subject = subject_by_summary(db, stream, sequence)?;
    }
    Ok(victims)
}

fn describe(stream: &Stream, sequence: u64, blob: &[u8]) -> Option<Victim> {
    let row = Row::decode(sequence, blob).filter(|row| row.stream == stream.id)?;
    let subject = stream.subjects.find(row.subject)?;
    Some(Victim { sequence, subject, size: row.size(), age: row.age, chunks: row.payload.chunks() })
}

fn subject_by_summary(db: &mut Database, stream: &mut Stream, sequence: u64) -> Result<u32, StoreError> {
    db.health.damaged.set(db.health.damaged.get() + 1);
    let found = search::collect(db, stream, sequence, &Matcher::All, 1, 2)?;
    Ok(found.messages.first().filter(|(found, _)| *found == sequence).map_or(u32::MAX, |(_, subject)| *subject))
}

fn find_victim(
    db: &mut Database,
    ring: &Ring,
    stream: &mut Stream,
    sequence: u64,
) -> Result<Option<Victim>, StoreError> {
    if sequence < stream.state.first.0 {
        return Ok(None);
    }
    if let Some(index) = stream.tail_index(sequence) {
        let entry = stream.tail[index];
        return Ok(if entry.length == 0 { None } else { describe(stream, sequence, ring.row(&entry)) });
    }
    if stream.doomed.contains(&sequence) {
        return Ok(None);
    }
    let mut found = None;
    db.query(&format!("SELECT data FROM m{} WHERE seq = ?", stream.id), [sequence as i64], |row| {
        found = Some(describe(stream, sequence, row.get_ref(0)?.as_blob()?));
        Ok(false)
    })?;
    match found {
        None => Ok(None),
        Some(Some(victim)) => Ok(Some(victim)),
        Some(None) => {
            let subject = subject_by_summary(db, stream, sequence)?;
            Ok(Some(Victim { sequence, subject, size: 0, age: AgeMillis(0), chunks: 0..0 }))
        }
    }
}

fn remove_victim(
    db: &mut Database,
    ring: &mut Ring,
    stream: &mut Stream,
    victim: &Victim,
    erase: bool,
) -> Result<(), StoreError> {
    remove_row(db, ring, stream, victim, erase)?;
    let newest = newest_after(db, stream, victim)?;
    take_out(stream, victim, newest, &mut Evicted::default());
    Ok(())
}

/// The newest message of a subject that loses this one, if that changes and others are left.
fn newest_after(db: &mut Database, stream: &mut Stream, victim: &Victim) -> Result<Option<u64>, StoreError> {
    let (messages, newest) = stream.subjects.get(victim.subject);
    if messages <= 1 || newest != victim.sequence {
        return Ok(None);
    }
    let matcher = Matcher::Ids(vec![victim.subject]);
    stream.subjects.hide_newest(victim.subject);
    search::last(db, stream, &matcher, victim.sequence - 1)
}

/// Deletes a message's row, wherever it is.
fn remove_row(
    db: &mut Database,
    ring: &mut Ring,
    stream: &mut Stream,
    victim: &Victim,
    erase: bool,
) -> Result<(), StoreError> {
    let mut inserted = true;
    if victim.sequence >= stream.tail_start()
        && let Some(index) = stream.tail_index(victim.sequence)
    {
        inserted = index < stream.tail.len() - stream.pending;
        if erase {
            ring.erase(&stream.tail[index]);
        }
        stream.tail[index].length = 0;
    }
    if inserted && erase {
        let sql = format!("UPDATE m{} SET data = zeroblob(length(data)) WHERE seq = ?", stream.id);
        db.run(&sql, [victim.sequence as i64])?;
        db.run(&format!("DELETE FROM m{} WHERE seq = ?", stream.id), [victim.sequence as i64])?;
    } else if inserted {
        stream.doomed.push(victim.sequence);
        if stream.doomed.len() >= DOOMED {
            delete_doomed(db, stream)?;
        }
    }
    db.delete_chunks(&victim.chunks, erase)
}

/// Deletes the rows of removed messages: neighbours in one statement, and in the order in which they lie.
pub(crate) fn delete_doomed(db: &Database, stream: &mut Stream) -> Result<(), StoreError> {
    if stream.doomed.is_empty() {
        return Ok(());
    }
    stream.doomed.sort_unstable();
    let sql = format!("DELETE FROM m{} WHERE seq >= ? AND seq <= ?", stream.id);
    let mut statement = db.prepare(&sql)?;
    for run in stream.doomed.chunk_by(|one, next| one + 1 == *next) {
        let bounds = (run[0] as i64, run[run.len() - 1] as i64);
        statement.execute(bounds).map_err(|error| db.health.failed(&error))?;
    }
    stream.doomed.clear();
    Ok(())
}

fn take_out(stream: &mut Stream, victim: &Victim, newest: Option<u64>, evicted: &mut Evicted) {
    stream.discount(Removed { sequence: victim.sequence, subject: victim.subject, size: victim.size, newest });
    if evicted.messages == 0 {
        evicted.first = Sequence(victim.sequence);
    }
    evicted.messages += 1;
    evicted.bytes += victim.size;
    evicted.last = Sequence(victim.sequence);
}

/// Finds the oldest message after a removal that may have taken it.
pub(crate) fn refresh_first(db: &Database, ring: &Ring, stream: &mut Stream) -> Result<(), StoreError> {
    if !stream.first_gone && stream.state.messages > 0 {
        return Ok(());
    }
    stream.first_gone = false;
    if stream.front.is_empty() && stream.state.first.0 < stream.tail_start() {
        search::look_at_front(db, stream)?;
    }
    let first = match stream.front.front() {
        Some(first) => Some(*first),
        None => search::at_or_after(db, ring, stream, stream.state.first.0)?,
    };
    set_first(stream, first);
    Ok(())
}

/// This message is the oldest; or there is none.
pub(crate) fn set_first(stream: &mut Stream, first: Option<(u64, Now)>) {
    match first {
        Some((first, now)) if stream.state.messages > 0 => {
            if first != stream.state.first.0 {
                stream.state.first = Sequence(first);
                stream.state.first_time = now.wall;
                stream.first_age = now.age;
            }
        }
        _ => {
            stream.state.first = stream.state.last.next();
            stream.state.first_time = Timestamp(0);
            stream.first_age = AgeMillis(0);
            stream.state.messages = 0;
            stream.state.bytes = 0;
        }
    }
}
