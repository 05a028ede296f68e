//! How far a stream has come with each of its origins: judged when a message is taken, written with it.

use std::collections::BTreeMap;

use crate::command::{Append, Event, Outcome};
use crate::config::StreamConfig;
use crate::consumer::sources::letters;
use crate::identity::{Now, Sequence, StreamId, Timestamp};
use crate::jetstream::{Context, JetStream};
use crate::origin::{Begin, Index, OriginFacts, OriginId, Origins, Take, has_origins, identity_of};
use crate::record::{Reader, put, put_text};
use crate::store::{Store, StoreError, record_space};
use crate::stream::message_id::IdKey;
use crate::stream::{Incoming, Stream};

const VERSION: u8 = 1;
/// Longest identity that is kept, bytes. Stock's has 8.
const LONGEST_IDENTITY: usize = 128;

/// Where a message comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    pub(crate) origin: OriginId,
    /// Its sequence there.
    pub(crate) sequence: Sequence,
    /// That of the one before it.
    pub(crate) previous: Sequence,
    /// When it was stored there.
    pub(crate) time: Timestamp,
}

/// Positions in a stream's origins.
#[derive(Debug, Default)]
pub(crate) struct Places {
    of: BTreeMap<OriginId, Place>,
    /// How those that are sources are told apart.
    indices: Vec<(OriginId, Index)>,
    /// It is in the list of streams whose positions are to be written.
    is_listed: bool,
}

#[derive(Debug, Default)]
struct Place {
    last: Sequence,
    identity: Box<str>,
    is_unsaved: bool,
}

impl Places {
    /// The last message taken of an origin; `None`: it is no origin of the stream.
    pub(crate) fn last(&self, origin: OriginId) -> Option<Sequence> {
        self.of.get(&origin).map(|place| place.last)
    }

    pub(crate) fn advance(&mut self, taken: &Taken) {
        // A mirror's position is what it holds.
        if let Some(place) = self.of.get_mut(&taken.origin).filter(|_| taken.origin != OriginId::MIRROR) {
            place.last = taken.sequence;
            place.is_unsaved = true;
        }
    }

    /// A message that was stored elsewhere says how far the stream had come.
    pub(crate) fn note(&mut self, source_header: &[u8]) {
        let Ok(value) = std::str::from_utf8(source_header) else { return };
        let found = self.indices.iter().find_map(|(origin, index)| Some((origin, index.read(value)?)));
        let Some((origin, (last, identity))) = found else { return };
        if let Some(place) = self.of.get_mut(origin).filter(|_| identity.len() <= LONGEST_IDENTITY) {
            *place = Place { last: Sequence(last), identity: identity.into(), is_unsaved: true };
        }
    }

    fn save(&mut self, store: &mut dyn Store, stream: StreamId) -> Result<(), StoreError> {
        self.is_listed = false;
        for (origin, place) in self.of.iter_mut().filter(|(_, place)| place.is_unsaved) {
            place.is_unsaved = false;
            let mut record = vec![VERSION];
            put(&mut record, place.last.0);
            put_text(&mut record, &place.identity);
            store.put_record(&key(stream, *origin), &record)?;
        }
        Ok(())
    }
}

fn key(stream: StreamId, origin: OriginId) -> [u8; 13] {
    let mut key = [record_space::ORIGIN; 13];
    key[1..5].copy_from_slice(&stream.0.to_be_bytes());
    key[5..].copy_from_slice(&origin.0.to_be_bytes());
    key
}

fn decode(record: &[u8]) -> Result<Place, StoreError> {
    let mut from = Reader::new(record, VERSION, "position in an origin")?;
    Ok(Place { last: Sequence(from.number()?), identity: from.text()?.into(), is_unsaved: false })
}

fn ids(config: &StreamConfig, key: IdKey) -> impl Iterator<Item = OriginId> {
    let mirror = config.mirror.iter().map(|_| OriginId::MIRROR);
    mirror.chain(config.sources.iter().map(move |source| OriginId((key.hash(&identity_of(source)) as u64).max(1))))
}

impl Stream {
    /// Reads the positions of the origins that the configuration has; what is known already stays.
    pub(crate) fn load_places(&mut self, store: &mut dyn Store, hash: IdKey) -> Result<(), StoreError> {
        let mut known = std::mem::take(&mut self.places.of);
        for origin in ids(&self.config, hash) {
            let place = match known.remove(&origin) {
                Some(place) => place,
                None if self.id.is_volatile() => Place::default(),
                None => {
                    store.record(&key(self.id, origin))?.map(|record| decode(&record)).transpose()?.unwrap_or_default()
                }
            };
            self.places.of.insert(origin, place);
        }
        let sources = ids(&self.config, hash).skip(usize::from(self.config.mirror.is_some())).zip(&self.config.sources);
        self.places.indices = sources.map(|(origin, source)| (origin, Index::of(source))).collect();
        // A source that comes back goes on where it was.
        for (origin, place) in known.into_iter().filter(|(_, place)| place.is_unsaved && !self.id.is_volatile()) {
            let mut one = Places { of: BTreeMap::from([(origin, place)]), ..Places::default() };
            one.save(store, self.id)?;
        }
        Ok(())
    }

    /// The announcement of its origins; `None`: it has none.
    pub(crate) fn origins(&self, store: &dyn Store, hash: IdKey) -> Option<Origins> {
        has_origins(&self.config).then(|| self.all_origins(store, hash))
    }

    /// The same, also when there are none.
    pub(crate) fn all_origins(&self, store: &dyn Store, hash: IdKey) -> Origins {
        let is_mirror = self.config.mirror.is_some();
        let sources = self.config.mirror.as_deref().into_iter().chain(&self.config.sources);
        let origins = ids(&self.config, hash).zip(sources).map(|(id, source)| {
            let place = self.places.of.get(&id);
            let mut name = self.config.name.as_bytes().to_vec();
            name.push(0);
            name.extend_from_slice(&identity_of(source));
            let kind = if is_mirror { "JS_MIRROR_" } else { "JS_SRC_" };
            OriginFacts {
                id,
                source: source.clone(),
                // A mirror's position is what it holds.
                position: if is_mirror {
                    store.state(self.id).last
                } else {
                    place.map_or(Sequence(0), |place| place.last)
                },
                identity: place.map_or_else(Box::default, |place| place.identity.clone()),
                consumer: format!("{kind}{}", letters(hash.hash(&name))).into(),
            }
        });
        Origins {
            name: self.config.name.clone(),
            is_mirror,
            mirror_direct: is_mirror && self.config.mirror_direct,
            origins: origins.collect(),
        }
    }
}

impl JetStream {
    /// Stores a message of an origin.
    pub(crate) fn take(&mut self, turn: &mut Context<'_>, take: &Take) -> Result<Outcome, StoreError> {
        let batch = turn.batch;
        let arena = &batch.arena;
        let taken = Taken { origin: take.origin, sequence: take.sequence, previous: take.previous, time: take.time };
        let message = Incoming {
            subject: take.subject.of(arena),
            headers: take.headers.of(arena),
            payload: take.payload.of(arena),
            taken: Some(taken),
        };
        let append = Append { stream: take.stream, ..Append::default() };
        let outcome = self.append_message(turn, &append, &message)?;
        if matches!(outcome, Outcome::Appended { .. } | Outcome::Counted { .. }) {
            self.place_changed(turn, take.stream, take.previous, take.sequence);
        } else if !matches!(turn.events.last(), Some(Event::Origins { stream, .. }) if *stream == take.stream)
            && let Some(stream) = self.streams.get(&take.stream)
        {
            // Whoever asked is told where the stream stands, in case it went on by itself: a purge may raise its last sequence.
            let origins = stream.all_origins(turn.store, self.key);
            turn.events.push(Event::origins(take.stream, origins));
        }
        Ok(outcome)
    }

    /// The position of a stream in an origin has changed, with what was stored or without.
    fn place_changed(&mut self, turn: &mut Context<'_>, id: StreamId, from: Sequence, to: Sequence) {
        self.lazy_since.get_or_insert(turn.now.age);
        let Some(stream) = self.streams.get_mut(&id) else { return };
        if !stream.places.is_listed && !id.is_volatile() {
            stream.places.is_listed = true;
            self.unsaved_places.push(id);
        }
        if let Some(book) = &mut stream.book {
            if stream.config.mirror.is_some() && to.0 > from.0 + 1 {
                book.skipped(from, Sequence(to.0 - 1));
            }
            turn.events.push(Event::Stored { stream: id, last: turn.store.state(id).last });
            self.list_book(id);
        }
    }

    /// A stream was restored: its origins are announced, and where it stands with them is written.
    pub(crate) fn origins_restored(&mut self, turn: &mut Context<'_>, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(origins) = stream.origins(turn.store, self.key) else { return };
        turn.events.push(Event::origins(id, origins));
        if !id.is_volatile() {
            stream.places.is_listed = true;
            self.unsaved_places.push(id);
        }
    }

    /// An origin has begun to deliver: where it is, and what it is.
    pub(crate) fn begin(&mut self, turn: &mut Context<'_>, begin: &Begin) -> Result<Outcome, StoreError> {
        let batch = turn.batch;
        let identity = String::from_utf8_lossy(begin.identity.of(&batch.arena));
        let Some(stream) = self.streams.get_mut(&begin.stream) else { return Ok(Outcome::Done) };
        let Some(place) = stream.places.of.get_mut(&begin.origin) else { return Ok(Outcome::Done) };
        if identity.len() <= LONGEST_IDENTITY {
            place.identity = identity.into();
        }
        if begin.is_anew {
            place.last = Sequence(0);
        }
        place.is_unsaved = begin.origin != OriginId::MIRROR;
        let (id, state) = (begin.stream, turn.store.state(begin.stream));
        let before = state.last;
        if stream.config.mirror.is_some() && begin.skip_to > before {
            // What comes is older than now.
            turn.store.skip_to(id, begin.skip_to, Now { wall: state.last_time, age: turn.now.age })?;
            // Nothing is between these two, and nothing will be.
            self.place_changed(turn, id, before, begin.skip_to.next());
            self.touch(id);
        } else {
            self.place_changed(turn, id, before, before);
        }
        Ok(Outcome::Done)
    }

    /// Writes the positions that changed into the transaction that is about to be committed.
    pub(crate) fn save_places(&mut self, store: &mut dyn Store) -> Result<(), StoreError> {
        for id in std::mem::take(&mut self.unsaved_places) {
            if let Some(stream) = self.streams.get_mut(&id) {
                stream.places.save(store, id)?;
            }
        }
        Ok(())
    }

    /// A stream is gone, and its positions with it.
    pub(crate) fn forget_places(&mut self, store: &mut dyn Store, id: StreamId) -> Result<(), StoreError> {
        let prefix = &key(id, OriginId::default())[..5];
        let mut keys: Vec<Vec<u8>> = Vec::new();
        store.scan_records(prefix, prefix, &mut |key, _| {
            keys.push(key.to_vec());
            true
        })?;
        keys.iter().try_for_each(|key| store.delete_record(key))
    }
}

#[cfg(test)]
mod tests {
    use super::{OriginId, ids};
    use crate::config::{Source, StreamConfig};
    use crate::identity::{Sequence, StreamId, Timestamp};
    use crate::store::memory::MemoryStore;
    use crate::stream::Stream;
    use crate::stream::message_id::IdKey;

    #[test]
    fn a_restored_message_says_how_far_its_stream_had_come() {
        let source =
            |name: &str, filter: &str| Source { name: name.into(), filter: filter.into(), ..Source::default() };
        let sources = vec![source("A", ""), source("A", "a.>"), source("B", "")];
        let config = StreamConfig { sources, ..StreamConfig::named("S") };
        let (key, mut store) = (IdKey(1, 2), MemoryStore::default());
        let mut stream = Stream::new(StreamId::FIRST, config, Timestamp(0));
        stream.load_places(&mut store, key).expect("reads");
        for header in ["A 3 > > a.b one", "A 7 a.> > a.b", "A 5 > > a.c two", "C 9 > > a.c", "B x > > a", "\u{fffd}"] {
            stream.places.note(header.as_bytes());
        }
        let origins: Vec<OriginId> = ids(&stream.config, key).collect();
        let last = |nth: usize| stream.places.last(origins[nth]);
        assert_eq!([last(0), last(1), last(2)], [5, 7, 0].map(|last| Some(Sequence(last))));
        assert_eq!(&*stream.all_origins(&store, key).origins[0].identity, "two");
    }
}
