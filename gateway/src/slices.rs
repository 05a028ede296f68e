//! Stretches of a stream for our own commands, read by the store thread like those of a forward.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use broker::SHELL_TICKET;
use jetstream::command::{Command, Event, Ticket, Turn};
use jetstream::identity::{Sequence, StreamId};
use jetstream::store::MessageBuffer;
use server::CoreHandle;
use tokio::sync::oneshot;

/// Second half of the tickets: the shell's, and of no forward.
const KIND: u64 = SHELL_TICKET | 0xff << 48;
/// Bytes of a slice, about.
const SLICE_BYTES: u32 = 256 * 1024;
/// Commands that may wait for a slice at a time.
const MOST_WAITING: usize = 8;
/// A store that does not answer for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(10);

/// Messages, and where the next slice begins.
pub(crate) type Slice = (Box<MessageBuffer>, Sequence);

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slices(Rc<RefCell<State>>);

#[derive(Debug, Default)]
struct State {
    streams: BTreeMap<Box<str>, StreamId>,
    waiting: BTreeMap<u64, oneshot::Sender<Slice>>,
    next: u64,
}

impl Slices {
    /// Notes streams, and takes the slices that were asked for here out of a turn.
    pub(crate) fn look(&self, turn: &mut Turn) {
        let mut state = self.0.borrow_mut();
        for event in &turn.events {
            match event {
                Event::StreamUp { stream, name, .. } => {
                    state.streams.insert(name.clone(), *stream);
                }
                Event::StreamDown { stream } => state.streams.retain(|_, known| known != stream),
                _ => {}
            }
        }
        let ours = |event: &mut Event| matches!(event, Event::Slice { ticket, .. } if ticket.1 == KIND);
        for event in turn.events.extract_if(.., ours) {
            let Event::Slice { ticket, messages, next } = event else { continue };
            if let Some(asker) = state.waiting.remove(&ticket.0) {
                // Who lost patience does not need it.
                let _ = asker.send((messages, next));
            }
        }
    }

    /// Messages of a stream from a sequence on. `Err`: a sentence.
    pub(crate) async fn read(&self, core: &CoreHandle, stream: &str, from: Sequence) -> Result<Slice, String> {
        let (asker, answer) = oneshot::channel();
        {
            let mut state = self.0.borrow_mut();
            let Some(stream) = state.streams.get(stream).copied() else {
                return Err(format!("there is no stream {stream:?}"));
            };
            state.waiting.retain(|_, asker| !asker.is_closed());
            if state.waiting.len() >= MOST_WAITING {
                return Err("too many commands read the store at the same time".to_owned());
            }
            state.next += 1;
            let ticket = Ticket(state.next, KIND);
            state.waiting.insert(ticket.0, asker);
            drop(state);
            core.with(|core| {
                core.broker.command(|_| Command::Read { ticket, stream, from, max_bytes: SLICE_BYTES });
            });
        }
        let slice = tokio::time::timeout(PATIENCE, answer).await;
        slice.ok().and_then(Result::ok).ok_or_else(|| "the store does not answer".to_owned())
    }
}
