//! Fast batches: each message is judged and stored as it comes; the sender is told now and then how far it was stored, how often it will be told, and
//! what is missing.

use crate::api_error::{self, ApiError};
use crate::api_level;
use crate::batching::place::{Operation, Place};
use crate::batching::{BatchAnswer, Batches, LONGEST_ID, MOST_FAST, MOST_FAST_OF_STREAM};
use crate::command::{Append, Outcome};
use crate::identity::{AgeMillis, Sequence, StreamId};
use crate::jetstream::{Context, JetStream};
use crate::store::StoreError;
use crate::stream::mapping::draw_of;
use crate::stream::publish_header::{PublishHeaders, without_header};
use crate::stream::{Incoming, SoFar, Unfit};

/// Messages between two acknowledgements, all fast batches of a stream together.
const SHARED_FLOW: u16 = 500;

/// A batch whose messages are stored as they come.
#[derive(Debug)]
pub(super) struct Fast {
    /// Its number of the last message that came.
    last: u64,
    /// Its number of the last message that was dealt with: not above `last`, and below only behind one that was refused.
    done: u64,
    /// Its number of the message that was told last.
    told: u64,
    /// Where its last message is in the stream; 0: none was stored.
    stored: Sequence,
    /// Messages between two acknowledgements now.
    every: u16,
    /// The sender does not want fewer acknowledgements than that.
    most: u16,
    /// Messages may be missing.
    gap_ok: bool,
    /// It is given up when nothing is heard of it until then.
    pub(super) deadline: AgeMillis,
}

impl Fast {
    /// `others`: how many of the stream are open beside it. The sender of the only one gets what it asks for, others begin slowly.
    fn begin(place: &Place<'_>, others: usize) -> Fast {
        let every = if others == 0 { place.flow.min(SHARED_FLOW) } else { 1 };
        let (most, gap_ok) = (place.flow, place.gap_ok);
        Fast { last: 0, done: 0, told: 0, stored: Sequence(0), every, most, gap_ok, deadline: AgeMillis(0) }
    }

    fn flow(&self) -> BatchAnswer {
        BatchAnswer::Flow { sequence: self.told, every: self.every }
    }

    /// The acknowledgement that is due, if one is. Of several only the last is sent, and the pace is brought nearer to the stream's.
    fn due(&mut self, others: usize) -> Option<BatchAnswer> {
        let every = u64::from(self.every);
        let steps = self.done.saturating_sub(self.told) / every;
        if steps == 0 {
            return None;
        }
        self.told += steps * every;
        let share = (SHARED_FLOW as usize / (others + 1)).max(1) as u16;
        let wanted = share.min(self.most);
        if self.every < wanted {
            self.every = self.every.saturating_mul(2).min(wanted);
        } else if self.every > wanted {
            self.every = (self.every / 2).max(wanted);
        }
        Some(self.flow())
    }

    /// The batch is over.
    fn committed(&self, id: &[u8]) -> BatchAnswer {
        let batch = String::from_utf8_lossy(id).into();
        BatchAnswer::Committed { sequence: self.stored, duplicate: false, batch, count: self.last }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    stored: bool,
    /// The batch is over.
    over: bool,
}

const OVER: Taken = Taken { stored: false, over: true };

impl Batches {
    fn take_fast(
        &mut self,
        stream: StreamId,
        place: &Place<'_>,
        now: AgeMillis,
    ) -> Result<(Box<[u8]>, Fast), ApiError> {
        if let Some((id, batch)) = self.fast.take(stream, place.id)
            && batch.deadline > now
        {
            return Ok((id, batch));
        }
        // Who asks where it stands begins nothing.
        if place.sequence != 1 || place.operation == Operation::Ping {
            return Err(api_error::BATCH_PUBLISH_UNKNOWN_BATCH_ID);
        }
        let others = self.fast.of(stream);
        if !self.has_place(others, self.fast.count, (MOST_FAST_OF_STREAM, MOST_FAST)) {
            return Err(api_error::BATCH_PUBLISH_TOO_MANY_INFLIGHT);
        }
        Ok((place.id.into(), Fast::begin(place, others)))
    }
}

impl JetStream {
    /// A message whose reply subject is a fast batch's.
    pub(super) fn fast_message(
        &mut self,
        turn: &mut Context<'_>,
        append: &Append,
        reply: &[u8],
    ) -> Result<Outcome, StoreError> {
        let published = turn.message(append);
        let place = match self.fast_place(append.stream, &published, reply) {
            Ok(place) => place,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let (id, mut batch) = match self.batches.take_fast(append.stream, &place, turn.now.age) {
            Ok(taken) => taken,
            Err(refusal) => return Ok(Outcome::Refused(refusal)),
        };
        let headers = PublishHeaders::scan(published.headers);
        let without;
        let message = match headers.required_level {
            None => published,
            Some(level) if api_level::is_too_high(level) => {
                return Ok(Outcome::Refused(api_error::REQUIRED_API_LEVEL));
            }
            Some(_) => {
                without = without_header(published.headers, b"Nats-Required-Api-Level");
                Incoming { headers: &without, ..published }
            }
        };
        let mut answers = Vec::new();
        let taken = match place.operation {
            Operation::Ping => self.ping(append.stream, &place, &mut batch, &mut answers),
            _ => self.fast_step(turn, append, &message, &place, &mut batch, &mut answers)?,
        };
        if !taken.over {
            batch.deadline = self.batches.deadline(turn.now.age);
            self.batches.fast.put(append.stream, id, batch);
            self.schedule_batches(turn.now.age);
        }
        Ok(Outcome::Batch { stored: taken.stored, answers })
    }

    fn fast_place<'a>(&self, stream: StreamId, message: &Incoming<'_>, reply: &'a [u8]) -> Result<Place<'a>, ApiError> {
        let stream = self.streams.get(&stream).ok_or(api_error::STREAM_NOT_FOUND)?;
        let refusal = stream.refuses_batched(message, stream.config.allow_batched, api_error::BATCH_PUBLISH_DISABLED);
        refusal.map_or(Ok(()), Err)?;
        let place = Place::parse(reply).ok_or(api_error::BATCH_PUBLISH_INVALID_PATTERN)?;
        if place.id.len() > LONGEST_ID { Err(api_error::BATCH_PUBLISH_INVALID_BATCH_ID) } else { Ok(place) }
    }

    /// The sender heard nothing for a while, and says what it sent last.
    fn ping(&self, stream: StreamId, place: &Place<'_>, batch: &mut Fast, answers: &mut Vec<BatchAnswer>) -> Taken {
        if place.sequence > batch.last {
            answers.push(BatchAnswer::Gap { expected: batch.last + 1, current: place.sequence + 1 });
            if !batch.gap_ok {
                answers.push(batch.committed(place.id));
                return OVER;
            }
            batch.last = place.sequence;
            batch.done = batch.last;
            if let Some(flow) = batch.due(self.batches.fast.of(stream)) {
                answers.push(flow);
                return Taken::default();
            }
        }
        answers.push(batch.flow());
        Taken::default()
    }

    /// A message that is to be stored, or the end.
    fn fast_step(
        &mut self,
        turn: &mut Context<'_>,
        append: &Append,
        message: &Incoming<'_>,
        place: &Place<'_>,
        batch: &mut Fast,
        answers: &mut Vec<BatchAnswer>,
    ) -> Result<Taken, StoreError> {
        if place.sequence != batch.last + 1 {
            answers.push(BatchAnswer::Gap { expected: batch.last + 1, current: place.sequence });
            if place.sequence <= batch.last || !batch.gap_ok {
                answers.push(batch.committed(place.id));
                return Ok(OVER);
            }
        }
        if place.operation == Operation::End {
            batch.last = place.sequence - 1;
            answers.push(batch.committed(place.id));
            return Ok(OVER);
        }
        batch.last = place.sequence;
        let is_commit = place.operation == Operation::Commit;
        let may_answer = self.streams.get(&append.stream).is_some_and(|stream| !stream.config.no_ack);
        if place.sequence == 1 && !is_commit && may_answer {
            answers.push(batch.flow());
        }
        match self.judge_and_put(turn, append, message)? {
            Ok(sequence) => {
                batch.stored = sequence;
                batch.done = batch.last;
                if is_commit {
                    answers.push(batch.committed(place.id));
                } else {
                    answers.extend(batch.due(self.batches.fast.of(append.stream)));
                }
                Ok(Taken { stored: true, over: is_commit })
            }
            Err(unfit) => Ok(self.fast_unfit(append.stream, place, batch, unfit, answers)),
        }
    }

    /// A message that is not stored: the batch ends with it, unless it is a duplicate or messages may be missing.
    fn fast_unfit(
        &self,
        stream: StreamId,
        place: &Place<'_>,
        batch: &mut Fast,
        unfit: Unfit,
        answers: &mut Vec<BatchAnswer>,
    ) -> Taken {
        let is_commit = place.operation == Operation::Commit;
        if let Unfit::Late(error) = unfit {
            // As nats-server answers it: like a message without a batch.
            answers.push(BatchAnswer::Refused(error));
            return if is_commit { OVER } else { Taken::default() };
        }
        if let Unfit::Duplicate(_) = unfit {
            batch.done = place.sequence;
            answers.extend(batch.due(self.batches.fast.of(stream)));
            if !is_commit {
                return Taken::default();
            }
        }
        // Right at the start it is answered as without a batch.
        if !place.gap_ok && batch.last == 1 {
            answers.push(match unfit {
                Unfit::Duplicate(sequence) => {
                    let batch = String::from_utf8_lossy(place.id).into();
                    BatchAnswer::Committed { sequence, duplicate: true, batch, count: place.sequence }
                }
                Unfit::Refused(error) | Unfit::Late(error) => BatchAnswer::Refused(error),
            });
            return OVER;
        }
        if let Unfit::Refused(error) = unfit {
            answers.push(BatchAnswer::Failed { sequence: place.sequence, error });
            if place.gap_ok && !is_commit {
                return Taken::default();
            }
            batch.last -= 1;
        }
        answers.push(batch.committed(place.id));
        OVER
    }

    fn judge_and_put(
        &mut self,
        turn: &mut Context<'_>,
        append: &Append,
        published: &Incoming<'_>,
    ) -> Result<Result<Sequence, Unfit>, StoreError> {
        let (id, key) = (append.stream, self.key);
        let mut subject = std::mem::take(&mut self.subject);
        subject.clear();
        let judged = match self.rename(id, published.subject, draw_of(turn, append), &mut subject) {
            Err(refusal) => Err(Unfit::Refused(refusal)),
            Ok(is_renamed) => {
                let subject = if is_renamed { &subject[..] } else { published.subject };
                let message = Incoming { subject, ..*published };
                self.release_for(turn, id, (1, message.size(id)))?;
                let is_over = self.is_over_limit(turn, id, &message)?;
                match self.streams.get_mut(&id).filter(|_| !is_over) {
                    None => Err(Unfit::Refused(api_error::INSUFFICIENT_RESOURCES)),
                    Some(stream) => {
                        let headers = PublishHeaders::scan(message.headers);
                        match stream.check_batched(turn.store, turn.now, &message, &headers, &SoFar::default(), key)? {
                            Ok(fit) => match stream.refused_message_id(turn.store, &headers)? {
                                None => Ok(fit),
                                Some(refusal) => Err(Unfit::Late(refusal)),
                            },
                            unfit => unfit,
                        }
                    }
                }
            }
        };
        self.subject = subject;
        let fit = match judged {
            Ok(fit) => fit,
            Err(unfit) => return Ok(Err(unfit)),
        };
        Ok(match self.put_batched(turn, append, published, &fit)? {
            Outcome::Appended { sequence, .. } => Ok(sequence),
            // A full store ends the batch: what follows may be smaller and fit, and would hide the hole.
            Outcome::Refused(error) => Err(Unfit::Refused(error)),
            _ => Err(Unfit::Refused(api_error::STREAM_NOT_FOUND)),
        })
    }
}
