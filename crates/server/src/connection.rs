//! A connection's task: readiness → bytes → broker, and what its socket takes of its output.
//!
//! One poll: (1) flush if the output was blocked, (2) one read into the thread's scratch behind the bytes of an unfinished frame, handle all
//! frames, (3) a short read forgets readiness and registers, a full one wakes the task so that others have their turn. A frame larger than
//! the scratch is read into a buffer of its own, which grows with what arrived and never on the peer's word.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};

use broker::{CloseReason, ConnectionId, Frame, Now};

use crate::core_loop::{Core, CoreHandle};
use crate::socket::Input;
use crate::transport::Transport;

/// Pieces given to one `writev`.
const MAX_PIECES: usize = 16;
/// Reads that empty the socket before it is closed, so that the peer gets our last words instead of a reset.
const LAST_READS: usize = 16;

/// The steady state of a connection: two words.
pub(crate) fn task(core: CoreHandle, id: ConnectionId) -> impl Future<Output = ()> {
    poll_fn(move |context| core.with(|core| core.poll_connection(id, context)))
}

/// What became of a read.
enum Step {
    /// Handled; nothing more is there.
    Emptied,
    /// Handled; more may be there.
    More,
    /// The connection ends.
    Ended(CloseReason),
}

impl Core {
    fn poll_connection(&mut self, id: ConnectionId, context: &mut Context<'_>) -> Poll<()> {
        let now = self.clock.now();
        let Some(socket) = self.socket(id) else { return Poll::Ready(()) };
        if socket.waker.as_ref().is_none_or(|waker| !waker.will_wake(context.waker())) {
            socket.waker = Some(context.waker().clone());
        }
        if let Some(reason) = socket.closing {
            return self.finish(now, id, reason);
        }
        if socket.blocked {
            socket.blocked = false;
            self.write(now, id);
        }
        let Some(socket) = self.socket(id) else { return Poll::Ready(()) };
        if let Some(reason) = socket.closing {
            return self.finish(now, id, reason);
        }
        if socket.paused {
            return Poll::Pending;
        }
        match self.read(now, id, context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Step::Ended(reason)) => self.finish(now, id, reason),
            Poll::Ready(step) => self.after_input(now, id, &step, context),
        }
    }

    fn after_input(&mut self, now: Now, id: ConnectionId, step: &Step, context: &mut Context<'_>) -> Poll<()> {
        self.perform_effects();
        self.pause_for_congestion(now, id);
        let Some(socket) = self.socket(id) else { return Poll::Ready(()) };
        if let Some(reason) = socket.closing {
            return self.finish(now, id, reason);
        }
        if socket.paused {
            return Poll::Pending;
        }
        let registered = match (step, &mut socket.transport) {
            (Step::Emptied, Transport::Tcp(stream)) => stream.poll_read_ready(context).is_pending(),
            _ => false,
        };
        if !registered {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }

    /// One read, and everything that is complete by it.
    fn read(&mut self, now: Now, id: ConnectionId, context: &mut Context<'_>) -> Poll<Step> {
        let Some(socket) = self.socket(id) else { return Poll::Ready(Step::Ended(CloseReason::ClientClosed)) };
        let input = socket.input.take();
        match input {
            None => self.read_scratch(now, id, 0, context),
            // It was paused with complete frames waiting.
            Some(input) if input.need <= input.bytes.len() => {
                self.out.release(input.reserved);
                self.handle_waiting(now, id, input.bytes);
                Poll::Ready(Step::More)
            }
            Some(input) if input.need <= self.scratch.len() => {
                let held = input.bytes.len();
                self.scratch[..held].copy_from_slice(&input.bytes);
                let step = self.read_scratch(now, id, held, context);
                match (&step, self.socket(id)) {
                    (Poll::Pending, Some(socket)) => socket.input = Some(input),
                    _ => self.out.release(input.reserved),
                }
                step
            }
            Some(input) => self.read_large(now, id, input, context),
        }
    }

    /// Reads behind `held` bytes that lie in the scratch already.
    fn read_scratch(&mut self, now: Now, id: ConnectionId, held: usize, context: &mut Context<'_>) -> Poll<Step> {
        let Core { sockets, scratch, .. } = self;
        let Some(socket) = sockets[id.slot()].as_mut() else { return Poll::Pending };
        let room = scratch.len() - held;
        let read = match std::task::ready!(socket.transport.poll_read(context, &mut scratch[held..])) {
            Ok(0) => return Poll::Ready(Step::Ended(CloseReason::ClientClosed)),
            Ok(read) => read,
            Err(_) => return Poll::Ready(Step::Ended(CloseReason::ReadError)),
        };
        let step = if read < room { Step::Emptied } else { Step::More };
        if read < room {
            socket.transport.read_was_short();
        }
        let bytes = std::mem::take(&mut self.scratch);
        self.handle(now, id, &bytes[..held + read]);
        self.scratch = bytes;
        Poll::Ready(step)
    }

    /// Reads more of a frame that is larger than the scratch.
    fn read_large(
        &mut self,
        now: Now,
        id: ConnectionId,
        mut input: Box<Input>,
        context: &mut Context<'_>,
    ) -> Poll<Step> {
        let missing = input.need - input.bytes.len();
        if input.bytes.len() == input.bytes.capacity() {
            // Twice what has arrived: memory follows bytes, not claims.
            let more = missing.min(input.bytes.len().max(self.scratch.len()));
            if !self.out.reserve(more) {
                self.out.release(input.reserved);
                return Poll::Ready(Step::Ended(CloseReason::OutOfMemory));
            }
            input.reserved += more;
            input.bytes.reserve_exact(more);
        }
        let Core { sockets, scratch, .. } = self;
        let Some(socket) = sockets[id.slot()].as_mut() else { return Poll::Pending };
        let room = missing.min(input.bytes.capacity() - input.bytes.len());
        let read = match socket.transport.poll_read_append(context, &mut input.bytes, room, scratch) {
            Poll::Ready(Ok(0)) => Err(CloseReason::ClientClosed),
            Poll::Ready(Ok(read)) => Ok(read),
            Poll::Ready(Err(_)) => Err(CloseReason::ReadError),
            Poll::Pending => {
                socket.input = Some(input);
                return Poll::Pending;
            }
        };
        let step = match read {
            Ok(read) if read < room => {
                socket.transport.read_was_short();
                Step::Emptied
            }
            Ok(_) => Step::More,
            Err(reason) => {
                self.out.release(input.reserved);
                return Poll::Ready(Step::Ended(reason));
            }
        };
        if input.bytes.len() < input.need {
            socket.input = Some(input);
            self.broker.received_part(now, id);
            return Poll::Ready(step);
        }
        self.out.release(input.reserved);
        self.handle_waiting(now, id, input.bytes);
        Poll::Ready(step)
    }

    /// Handles bytes that lie in a buffer of their own.
    fn handle_waiting(&mut self, now: Now, id: ConnectionId, bytes: Vec<u8>) {
        if bytes.len() <= self.scratch.len() {
            return self.handle(now, id, &bytes);
        }
        let frame = Frame::new(bytes);
        let received = self.broker.received_frame(now, id, &frame, &mut self.out);
        self.flush_eagerly(now);
        let used = received.used;
        if used == 0 && received.pause {
            // Nobody holds a part of a frame that was not handled.
            if let Some(bytes) = Frame::into_bytes(frame) {
                self.keep_owned(id, bytes);
            }
            return self.pause(id);
        }
        self.handle(now, id, &frame.bytes()[used..]);
        if received.pause {
            self.pause(id);
        }
    }

    /// Gives bytes to the broker until it has taken all, or something is missing.
    fn handle(&mut self, now: Now, id: ConnectionId, bytes: &[u8]) {
        let mut used = 0;
        while used < bytes.len() {
            let received = self.broker.received(now, id, &bytes[used..], &mut self.out);
            used += received.used;
            self.flush_eagerly(now);
            if received.pause {
                self.keep(id, &bytes[used..], 0);
                return self.pause(id);
            }
            if received.need > 0 {
                return self.keep(id, &bytes[used..], received.need);
            }
            if received.used == 0 {
                // Neither progress nor a wish: whatever it waits for comes with the next byte. Asking again at once would never end.
                return self.keep(id, &bytes[used..], bytes.len() - used + 1);
            }
        }
    }

    fn pause(&mut self, id: ConnectionId) {
        if let Some(socket) = self.socket(id) {
            socket.paused = true;
        }
        // What the broker said while it paused may have been that it is over.
        self.perform_effects();
    }

    fn keep(&mut self, id: ConnectionId, bytes: &[u8], need: usize) {
        if bytes.is_empty() {
            return;
        }
        let reserved = bytes.len();
        if !self.out.reserve(reserved) {
            return self.broker.close(id, CloseReason::OutOfMemory, &mut self.out);
        }
        if let Some(socket) = self.socket(id) {
            socket.input = Some(Box::new(Input { bytes: bytes.to_vec(), need, reserved }));
        }
    }

    fn keep_owned(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        let reserved = bytes.capacity();
        if !self.out.reserve(reserved) {
            return self.broker.close(id, CloseReason::OutOfMemory, &mut self.out);
        }
        if let Some(socket) = self.socket(id) {
            socket.input = Some(Box::new(Input { bytes, need: 0, reserved }));
        }
    }

    /// Writes what is pending until the socket takes no more.
    pub(crate) fn write(&mut self, now: Now, id: ConnectionId) {
        let Core { sockets, out, .. } = self;
        let Some(socket) =
            sockets.get_mut(id.slot()).and_then(Option::as_mut).filter(|socket| socket.id == id && !socket.blocked)
        else {
            return;
        };
        let waker = socket.waker.clone();
        let mut context = Context::from_waker(waker.as_ref().unwrap_or(Waker::noop()));
        while out.pending_bytes(id) > 0 {
            match write_once(&mut socket.transport, &mut context, out, id) {
                Poll::Ready(Ok(count)) if count > 0 => out.sent(id, count),
                Poll::Ready(_) => {
                    socket.closing.get_or_insert(CloseReason::WriteError);
                    socket.wake();
                    break;
                }
                Poll::Pending => {
                    out.blocked(id, now.micros);
                    socket.blocked = true;
                    // Without a task yet: its first poll will find it blocked.
                    break;
                }
            }
        }
        let _ = socket.transport.poll_flush(&mut context);
        if out.pending_bytes(id) <= broker::CONGESTED / 2 {
            self.wake_congested(id);
        }
    }

    /// The last write, then the end.
    fn finish(&mut self, now: Now, id: ConnectionId, reason: CloseReason) -> Poll<()> {
        if let Some(socket) = self.socket(id) {
            socket.blocked = false;
        }
        self.write(now, id);
        if let Some(socket) = self.socket(id) {
            socket.transport.end(reason);
        }
        if let Some(socket) = self.socket(id)
            && let Transport::Tcp(stream) = &socket.transport
        {
            let _ = socket2::SockRef::from(stream).shutdown(std::net::Shutdown::Write);
            let mut rest = [0; 4096];
            for _ in 0..LAST_READS {
                if !stream.try_read(&mut rest).is_ok_and(|read| read > 0) {
                    break;
                }
            }
        }
        self.remove(now, id, reason);
        Poll::Ready(())
    }
}

fn write_once(
    transport: &mut Transport,
    context: &mut Context<'_>,
    out: &broker::Outbox,
    id: ConnectionId,
) -> Poll<io::Result<usize>> {
    let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
    let mut count = 0;
    for (place, piece) in pieces.iter_mut().zip(out.pending(id)) {
        *place = IoSlice::new(piece);
        count += 1;
    }
    transport.poll_write(context, &pieces[..count])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_costs_little() {
        fn future<F: Future>(_: impl FnOnce(CoreHandle, ConnectionId) -> F) -> usize {
            size_of::<F>()
        }
        // With tokio's header it has to fit 256 bytes.
        assert!(future(task) <= 48, "the task has {} bytes", future(task));
        let socket = size_of::<Option<crate::socket::Socket>>();
        assert!(socket <= 96, "a socket has {socket} bytes");
    }
}
