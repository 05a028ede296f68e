//! Asking the store thread for its counters, for monitoring.
//!
//! One question is on its way at a time; who asks meanwhile shares the answer. It travels in a batch of its own, past the broker.

use std::rc::Rc;
use std::time::Duration;

use jetstream::command::{Answer, Batch, Command, Outcome, Request, Statistics, Turn};
use tokio::sync::oneshot;

use crate::core_loop::{Core, CoreHandle};

/// A store that takes longer is in trouble; monitoring goes on without it.
const PATIENCE: Duration = Duration::from_secs(3);
/// Askers that share an answer at most: as many as there are monitoring connections, and some.
const MAX_WAITING: usize = 64;

/// Who waits for the answer.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Vec<oneshot::Sender<Rc<Statistics>>>);

impl CoreHandle {
    /// The store's counters. `None`: there is no store, or it does not answer in time.
    pub async fn statistics(&self) -> Option<Rc<Statistics>> {
        let answer = self.with(Core::ask_for_statistics)?;
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
    }
}

impl Core {
    fn ask_for_statistics(&mut self) -> Option<oneshot::Receiver<Rc<Statistics>>> {
        let store = self.store.as_ref()?;
        let waiting = &mut self.statistics.0;
        // Those that lost their patience.
        waiting.retain(|asker| !asker.is_closed());
        if waiting.len() >= MAX_WAITING {
            return None;
        }
        let (asker, answer) = oneshot::channel();
        if waiting.is_empty() {
            let commands = vec![Command::Request(Box::new(Request::Statistics))];
            store.submit(Batch { commands, ..Batch::default() });
        }
        waiting.push(asker);
        Some(answer)
    }

    /// Takes our batch out of a turn, before the broker sees it.
    pub(crate) fn take_statistics(&mut self, turn: &mut Turn) {
        turn.done.retain_mut(|(batch, outcomes)| {
            let [Command::Request(request)] = &batch.commands[..] else { return true };
            if !matches!(**request, Request::Statistics) {
                return true;
            }
            if let Some(Outcome::Answer(answer)) = outcomes.pop()
                && let Answer::Statistics(statistics) = *answer
            {
                let statistics = Rc::new(*statistics);
                for asker in std::mem::take(&mut self.statistics.0) {
                    // Who left does not need it.
                    let _ = asker.send(Rc::clone(&statistics));
                }
            }
            false
        });
    }
}
