//! Purges of more than a few messages: one step a turn, with everybody else's commands and commits in between, answered when the last step is done.
//!
//! A purge of everything is not here: the store does that at once. What was stored after the request is never taken. A crash in between leaves a part of it
//! done and the request unanswered, so whoever asked asks again.

use subject::Filter;

use crate::api_error;
use crate::command::{Answer, Event};
use crate::forwarded::ledger::Cause;
use crate::identity::{Sequence, StreamId};
use crate::jetstream::{Context, JetStream};
use crate::store::{Store, StoreError};
use crate::stream::requests::Answered;
use crate::stream::{Among, Removal};

/// Messages removed in a turn: some milliseconds.
const STEP: u64 = 1024;
/// A turn that has removed so many does not go on with the next purge. They may lie apart from each other, which costs as much as a step of neighbours.
const TURN: u64 = 128;
/// What a step counts at least: it may have looked far for little.
const LEAST: u64 = TURN / 8;
/// Purges at work at the same time; more are refused.
const AT_WORK: usize = 256;

/// A purge at work.
#[derive(Debug)]
pub(crate) struct Purging {
    /// What its answer will be known by.
    number: u64,
    stream: StreamId,
    filter: Filter,
    /// What lies from here on stays.
    below: Sequence,
    /// Messages that are to go yet, at most.
    left: u64,
    /// Messages that went.
    count: u64,
}

impl Purging {
    pub(crate) fn new(stream: StreamId, filter: Filter, below: Sequence, most: u64) -> Purging {
        Purging { number: 0, stream, filter, below, left: most, count: 0 }
    }

    /// Removes the oldest that are meant; `true` when that was all.
    fn step(&mut self, store: &mut dyn Store, removed: &mut Vec<Removal>) -> Result<bool, StoreError> {
        let limit = self.left.min(STEP);
        let (evicted, more) = store.purge(self.stream, &self.filter, Some(self.below), 0, limit)?;
        self.left -= evicted.messages.min(self.left);
        self.count += evicted.messages;
        if evicted.messages > 0 {
            let among = match self.filter.as_str() {
                ">" => Among::All,
                subject if self.filter.is_literal() => Among::Subject(subject.as_bytes().into()),
                _ => Among::Some,
            };
            removed.push(Removal { evicted, among, cause: Cause::Purge });
        }
        Ok(!more || self.left == 0)
    }
}

impl JetStream {
    /// Does the first step of a purge; what remains is for the turns to come, and so is all of it behind others.
    pub(crate) fn begin_purge(&mut self, turn: &mut Context<'_>, mut purging: Purging) -> Answered {
        if self.purges.len() >= AT_WORK {
            return Ok(Err(api_error::STREAM_TOO_MANY_REQUESTS));
        }
        if self.purges.is_empty() && self.purged < TURN {
            let done = purging.step(turn.store, &mut self.removed)?;
            self.purged += purging.count.max(LEAST);
            self.account_removed(turn, purging.stream)?;
            self.settle(turn, purging.stream)?;
            if done {
                return Ok(Ok(Answer::Purged { count: purging.count }));
            }
        }
        self.purge_number += 1;
        purging.number = self.purge_number;
        self.purges.push_back(purging);
        Ok(Ok(Answer::Later { number: self.purge_number }))
    }

    /// Goes on with the purges at work: a step of the oldest one, or several that have little to do.
    pub(crate) fn continue_purge(&mut self, turn: &mut Context<'_>) -> Result<(), StoreError> {
        while self.purged < TURN
            && let Some(mut purging) = self.purges.pop_front()
        {
            // The step is durable with this turn, so that no transaction grows long.
            self.sync = true;
            let before = purging.count;
            let answer = if self.streams.contains_key(&purging.stream) {
                let done = purging.step(turn.store, &mut self.removed)?;
                self.account_removed(turn, purging.stream)?;
                self.touch(purging.stream);
                done.then_some(Answer::Purged { count: purging.count })
            } else {
                Some(Answer::Error(api_error::STREAM_NOT_FOUND))
            };
            self.purged += (purging.count - before).max(LEAST);
            match answer {
                Some(answer) => turn.events.push(Event::Answered { number: purging.number, answer: Box::new(answer) }),
                None => {
                    self.purges.push_front(purging);
                    break;
                }
            }
        }
        self.purged = 0;
        self.again |= !self.purges.is_empty();
        Ok(())
    }
}
