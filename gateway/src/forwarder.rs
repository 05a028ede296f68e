//! Hosts the forwards: what `forward` decides is done here with the link, the store and the clock.
//!
//! ```text
//!  Notices ─ link up/down, interest, answers ─┐              ┌─► broker.leaf_send
//!  look(Turn) ─ slices, outcomes, streams ────┼─► forward ───┼─► Command::Read, Record, Append (REJECTED)
//!  timer ─ deadlines, a link that drained ────┘              └─► SharedStatus
//! ```
//!
//! Records of what was lost (`gaps`) are forwarded like anything else, by a forward of their own, before the data: while it is busy the others begin nothing.
//!
//! A new stream, and a store that was opened anew, begin a new incarnation: its row is committed before anything is sent. (The first one of a
//! process is written by whoever opens the store, see `ForwardStart`.) Not here: what is sent when (`forward`), which link is up (`dialler`).

mod hosted;
mod identity;
mod rejected;
mod ticket;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use broker::ConnectionId;
use forward::Hub;
use jetstream::command::{Answer, Command, Event, Outcome, Request, Turn};
use jetstream::config::StreamConfig;
use jetstream::forwarded::gaps::gap_stream;
use jetstream::identity::{Sequence, StreamId};
use jetstream::store::message_size;
use server::status::SharedStatus;
use server::{Clock, CoreHandle};
use subject::Filter;
use tokio::sync::Notify;

use crate::config::Config;
use crate::store_thread::ForwardRows;
pub(crate) use hosted::record_key;
use hosted::{Hosted, Phase};
pub(crate) use identity::edge_identity;
pub use rejected::REJECTED;
use ticket::Asked;

/// `status` is refreshed that often at most, milliseconds.
const SHOW_MS: u64 = 250;
/// While something waits its age is shown anew, milliseconds.
const AGE_MS: u64 = 1_000;
/// A deadline that has passed and can't be met (the link is full) is looked at again after so long, milliseconds.
const AGAIN_MS: u64 = 20;

/// What the forwards need to know of who they are and what the store holds.
#[derive(Clone, Debug)]
pub(crate) struct ForwardStart {
    /// The edge's identity key.
    pub(crate) identity: String,
    /// Streams, incarnations and records of the opened store; replaced before an [`Event::Reopened`] comes.
    pub(crate) rows: Arc<Mutex<ForwardRows>>,
}

/// See the module; cheap to clone.
#[derive(Clone)]
pub struct Forwards(Rc<Host>);

/// What became of `forward adopt`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Adoption {
    /// It goes on.
    Adopted,
    /// No second box was seen.
    Nothing,
    /// The stream is not forwarded.
    NoForward,
    /// The forward can't run; its status says why.
    NotRunning,
}

struct Host {
    core: CoreHandle,
    clock: Clock,
    /// The durable age clock at `at_ms` of the monotonic one.
    age_ms: u64,
    at_ms: u64,
    rows: Arc<Mutex<ForwardRows>>,
    status: SharedStatus,
    /// The local stream of gap records.
    gaps: Option<StreamConfig>,
    state: RefCell<State>,
    /// The timer has to look again.
    changed: Notify,
    shown_ms: Cell<u64>,
    stale: Cell<bool>,
}

struct State {
    /// Those of the configuration; the one of gap records is the last.
    hosted: Vec<Hosted>,
    /// Number of the forward of gap records.
    gaps: Option<usize>,
    /// Links that are up, in that order.
    links: Vec<(ConnectionId, Hub)>,
    rejected: Option<StreamId>,
}

impl std::fmt::Debug for Forwards {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Forwards").finish_non_exhaustive()
    }
}

/// Starts the forwards of the configuration, and makes the stream [`REJECTED`] if there is one. To be called on the core thread, before the
/// first link is dialled, and without an `await` before [`CoreHandle::connect_store`] (what it asks of the store would be lost); hand every
/// turn of the store to [`Forwards::look`], and connect the result with [`crate::notices::Notices::connect`].
///
/// # Errors
/// When the system has no random numbers.
pub(crate) fn spawn_forwards(
    core: &CoreHandle,
    config: &Config,
    start: &ForwardStart,
    status: &SharedStatus,
) -> anyhow::Result<Forwards> {
    let clock = core.with(|core| core.clock);
    let rows = start.rows.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let host = Host {
        core: core.clone(),
        clock,
        age_ms: rows.age.0.0,
        at_ms: rows.age.1,
        rows: Arc::clone(&start.rows),
        status: status.clone(),
        gaps: config.gaps.as_ref().map(|gaps| gap_stream(&gaps.name, gaps.max_bytes)),
        state: RefCell::new(State {
            hosted: Vec::new(),
            gaps: config.gaps.as_ref().and_then(|gaps| gaps.forward.as_ref()).map(|_| config.forwards.len()),
            links: Vec::new(),
            rejected: rows.streams.get(REJECTED).map(|(stream, ..)| *stream),
        }),
        changed: Notify::new(),
        shown_ms: Cell::new(0),
        stale: Cell::new(true),
    };
    let forwards = Forwards(Rc::new(host));
    let now_ms = forwards.now_ms();
    for (number, config) in (0u32..).zip(config.all_forwards()) {
        // New at each start: late answers to an earlier process find nobody.
        let inbox = format!("_INBOX.{:016x}{:08x}", getrandom::u64()?, number);
        let mut hosted = Hosted::new(config.clone(), start.identity.clone(), number, inbox);
        if let Some((stream, state, Some(incarnations))) = rows.streams.get(&config.stream) {
            let key = record_key(&config.stream);
            let record = rows.records.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_slice());
            hosted.start(*stream, state, incarnations.clone(), record, now_ms);
        }
        if let Ok(answers) = Filter::parse(&format!("{}.>", hosted.inbox)) {
            core.with(|core| core.broker.subscribe_internally(answers, number));
        }
        hosted.drain(core, now_ms, None);
        forwards.0.state.borrow_mut().hosted.push(hosted);
    }
    if !config.forwards.is_empty() {
        if !rows.streams.contains_key(REJECTED) {
            forwards.make_rejected();
        }
        forwards.make_gaps(&rows);
        tokio::task::spawn_local(timer(forwards.clone()));
    }
    forwards.show();
    Ok(forwards)
}

impl Forwards {
    /// Looks at a turn of the store before the broker does: takes the slices that forwards asked for out of it, and notes the rest.
    pub fn look(&self, turn: &mut Turn) {
        let mut state = self.0.state.borrow_mut();
        if state.hosted.is_empty() {
            return;
        }
        let now_ms = self.now_ms();
        let mut touched = self.streams_changed(&mut state, turn, now_ms);
        touched |= self.outcomes(&mut state, turn, now_ms);
        let ours = |event: &mut Event| matches!(event, Event::Slice { ticket, .. } if ticket::read(*ticket).is_some());
        for event in turn.events.extract_if(.., ours) {
            let Event::Slice { ticket, messages, next } = event else { continue };
            let Some((Asked::Read, number, epoch, from)) = ticket::read(ticket) else { continue };
            let Some(hosted) = state.of(number, epoch) else { continue };
            if let Some(first) = messages.get(0) {
                hosted.note_age(first.sequence.0, first.age.0);
            }
            if let Some(forward) = hosted.running() {
                forward.handle_slice(now_ms, Sequence(from), messages, next);
            }
            touched = true;
        }
        if touched {
            self.drain_all(&mut state, now_ms);
        }
    }

    /// What became of commands: appends to our streams, and what forwards asked for.
    fn outcomes(&self, state: &mut State, turn: &Turn, now_ms: u64) -> bool {
        let mut touched = false;
        for (batch, outcomes) in &turn.done {
            for (command, outcome) in batch.commands.iter().zip(outcomes) {
                if let Command::Append(append) = command
                    && let Some((Asked::Park, number, epoch, sequence)) = ticket::read(append.ticket)
                {
                    if let Some(hosted) = state.of(number, epoch) {
                        kept(&self.0.core, hosted, sequence, outcome, now_ms);
                    }
                    continue;
                }
                match (command, outcome) {
                    (
                        Command::Append(append),
                        Outcome::Appended { sequence, duplicate: false } | Outcome::Counted { sequence, .. },
                    ) => {
                        let stream = Some(append.stream);
                        if let Some(hosted) = state.hosted.iter_mut().find(|hosted| hosted.stream == stream) {
                            let [subject, headers, payload] =
                                [append.subject, append.headers, append.payload].map(|span| span.len as usize);
                            hosted.appended(now_ms, sequence.0, message_size(subject, headers, payload));
                            touched = true;
                        }
                    }
                    (Command::Record { ticket, .. }, outcome) => {
                        touched |= recorded(state, *ticket, outcome, now_ms);
                        self.tell_begun(state, *ticket, now_ms);
                    }
                    (Command::Request(request), Outcome::Answer(answer)) => self.refused_stream(request, answer),
                    _ => {}
                }
            }
        }
        touched
    }

    /// Streams that came, went, or lost messages.
    fn streams_changed(&self, state: &mut State, turn: &Turn, now_ms: u64) -> bool {
        let core = &self.0.core;
        let reopened = turn.events.iter().any(|event| matches!(event, Event::Reopened { .. }));
        let mut touched = reopened;
        if reopened {
            self.reopened(state, now_ms);
        }
        for event in &turn.events {
            match event {
                Event::StreamUp { stream, name, state: counters, .. } => {
                    if **name == *REJECTED {
                        state.rejected = Some(*stream);
                        for hosted in &mut state.hosted {
                            hosted.keep_waiting(core, *stream);
                        }
                    }
                    for hosted in state.hosted.iter_mut().filter(|hosted| *hosted.config.stream == **name) {
                        touched = true;
                        if hosted.stream != Some(*stream) {
                            hosted.begin(core, *stream, counters);
                        } else {
                            hosted.local.first = counters.first.0;
                            hosted.local.last = hosted.local.last.max(counters.last.0);
                        }
                    }
                }
                Event::StreamDown { stream } => {
                    if state.rejected == Some(*stream) {
                        state.rejected = None;
                    }
                    for hosted in state.hosted.iter_mut().filter(|hosted| hosted.stream == Some(*stream)) {
                        hosted.stream_down();
                        touched = true;
                    }
                }
                Event::Ledger { stream, ledger, last, is_written } => {
                    for hosted in state.hosted.iter_mut().filter(|hosted| hosted.stream == Some(*stream)) {
                        hosted.counted(*ledger, *last, *is_written);
                        touched = true;
                    }
                }
                Event::Stored { stream, last } => {
                    for hosted in state.hosted.iter_mut().filter(|hosted| hosted.stream == Some(*stream)) {
                        hosted.local.last = hosted.local.last.max(last.0);
                        touched = true;
                    }
                }
                Event::Removed { stream, first, last, messages, oldest } => {
                    for hosted in state.hosted.iter_mut().filter(|hosted| hosted.stream == Some(*stream)) {
                        hosted.local.first = oldest.0;
                        if let Some(forward) = hosted.running() {
                            forward.handle_removed(now_ms, *first, *last, *messages);
                        }
                        touched = true;
                    }
                }
                _ => {}
            }
        }
        touched
    }

    /// The store was opened anew; what was asked of it is gone.
    fn reopened(&self, state: &mut State, now_ms: u64) {
        let rows = self.0.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for hosted in &mut state.hosted {
            if let Some((stream, counters, Some(incarnations))) = rows.streams.get(&hosted.config.stream)
                && hosted.stream == Some(*stream)
            {
                hosted.reopened(counters, incarnations.clone(), now_ms);
            }
        }
    }

    /// A link is up, and our interest announced on it.
    pub(crate) fn link_up(&self, id: ConnectionId, hub: Hub) {
        let mut state = self.0.state.borrow_mut();
        if state.rejected.is_none() && !state.hosted.is_empty() {
            self.make_rejected();
        }
        state.links.push((id, hub));
        self.choose_links(&mut state);
    }

    /// A hub announced another size limit or domain: what is under way is asked for, as after a new link.
    pub(crate) fn link_changed(&self, id: ConnectionId, hub: Hub) {
        let mut state = self.0.state.borrow_mut();
        let Some(place) = state.links.iter().position(|(known, _)| *known == id) else { return };
        if state.links[place].1 == hub {
            return;
        }
        state.links.remove(place);
        self.choose_links(&mut state);
        state.links.insert(place, (id, hub));
        self.choose_links(&mut state);
    }

    /// A link is gone, or given up.
    pub(crate) fn link_down(&self, id: ConnectionId) {
        let mut state = self.0.state.borrow_mut();
        if !state.links.iter().any(|(known, _)| *known == id) {
            return;
        }
        state.links.retain(|(known, _)| *known != id);
        self.choose_links(&mut state);
    }

    /// What the hub wants has changed.
    pub(crate) fn interest_changed(&self, id: ConnectionId) {
        let mut state = self.0.state.borrow_mut();
        let now_ms = self.now_ms();
        let mut touched = false;
        for hosted in
            state.hosted.iter_mut().filter(|hosted| hosted.link.as_ref().is_some_and(|(known, _)| *known == id))
        {
            touched = true;
            self.tell_interest(hosted, id, now_ms);
        }
        if touched {
            self.drain_all(&mut state, now_ms);
        }
    }

    /// An answer of the hub, for the forward with this number.
    pub(crate) fn reply(&self, number: u32, subject: &[u8], headers: &[u8], payload: &[u8]) {
        let mut state = self.0.state.borrow_mut();
        let now_ms = self.now_ms();
        let rejected = state.rejected;
        let Some(hosted) = state.hosted.get_mut(number as usize) else { return };
        let Some(token) = subject.strip_prefix(hosted.inbox.as_bytes()).and_then(|rest| rest.strip_prefix(b".")) else {
            return;
        };
        if let Phase::Running(forward) = &mut hosted.phase {
            forward.handle_reply(now_ms, token, headers, payload);
        }
        hosted.drain(&self.0.core, now_ms, rejected);
        if self.gaps_first(&mut state, now_ms) {
            self.drain_all(&mut state, now_ms);
        }
        drop(state);
        self.touched();
    }

    /// `forward adopt`: goes on beside what a second box left.
    pub(crate) fn adopt(&self, stream: &str) -> Adoption {
        let mut state = self.0.state.borrow_mut();
        let now_ms = self.now_ms();
        let Some(hosted) = state.hosted.iter_mut().find(|hosted| hosted.config.stream == stream) else {
            return Adoption::NoForward;
        };
        let Some(forward) = hosted.running() else { return Adoption::NotRunning };
        let adopted = forward.handle_adopt(now_ms);
        self.drain_all(&mut state, now_ms);
        if adopted { Adoption::Adopted } else { Adoption::Nothing }
    }

    /// Each forward takes the first link that is up, or the first to the hub's domain that it names.
    fn choose_links(&self, state: &mut State) {
        let now_ms = self.now_ms();
        let State { hosted, links, .. } = state;
        for hosted in hosted {
            let fits = |hub: &Hub| hosted.config.domain.is_none() || hub.domain == hosted.config.domain;
            let best = links.iter().find(|(_, hub)| fits(hub)).or(links.first()).cloned();
            let best = best.map(|(id, hub)| (id, Hub { domain: hosted.config.domain.clone().or(hub.domain), ..hub }));
            if best.as_ref().map(|(id, _)| *id) == hosted.link.as_ref().map(|(id, _)| *id) {
                continue;
            }
            let had_link = hosted.link.is_some();
            hosted.take_link(best.clone());
            let Some(forward) = hosted.running() else { continue };
            if had_link {
                forward.handle_link_down(now_ms);
            }
            if let Some((id, hub)) = best {
                forward.handle_link_up(now_ms, hub);
                self.tell_interest(hosted, id, now_ms);
            }
        }
        self.drain_all(state, now_ms);
    }

    /// A hub's filter is often narrower or wider than ours: any overlap is interest.
    fn tell_interest(&self, hosted: &mut Hosted, id: ConnectionId, now_ms: u64) {
        let Some(forward) = hosted.running() else { return };
        let filter = forward.filter();
        let wanted = self
            .0
            .core
            .with(|core| core.broker.leaf_wants(id, probe(filter).as_bytes()) || core.broker.leaf_overlaps(id, filter));
        forward.handle_interest(now_ms, wanted);
    }

    /// One of our own streams can't be made.
    fn refused_stream(&self, request: &Request, answer: &Answer) {
        let (Request::StreamCreate { config } | Request::StreamUpdate { config }, Answer::Error(error)) =
            (request, answer)
        else {
            return;
        };
        let name = &*config.name;
        if name == REJECTED || self.0.gaps.as_ref().is_some_and(|gaps| *gaps.name == *name) {
            let reason = &error.description;
            tracing::error!("the local stream {name} can't be made, or not as the configuration says: {reason}");
        }
    }

    /// A stream that came while the link was up: what the hub wants was said before its forward ran.
    fn tell_begun(&self, state: &mut State, recorded: jetstream::command::Ticket, now_ms: u64) {
        if let Some((Asked::Incarnation, number, epoch, _)) = ticket::read(recorded)
            && let Some(hosted) = state.of(number, epoch)
            && let Some((id, _)) = hosted.link
        {
            self.tell_interest(hosted, id, now_ms);
        }
    }

    fn make_rejected(&self) {
        let config = Box::new(rejected::config());
        self.0.core.with(|core| core.broker.request(Request::StreamCreate { config }));
    }

    fn drain_all(&self, state: &mut State, now_ms: u64) {
        for hosted in &mut state.hosted {
            let local = hosted.local;
            if let Some(forward) = hosted.running() {
                forward.handle_local(now_ms, local);
            }
        }
        self.gaps_first(state, now_ms);
        let rejected = state.rejected;
        let (data, gaps) = state.hosted.split_at_mut(state.gaps.unwrap_or(0));
        for hosted in gaps.iter_mut().chain(data) {
            hosted.drain(&self.0.core, now_ms, rejected);
        }
        self.touched();
    }

    /// While gap records can go, nothing else is begun. Has anything changed? Then everything is to be drained.
    fn gaps_first(&self, state: &mut State, now_ms: u64) -> bool {
        let Some(gaps) = state.gaps else { return false };
        let (data, gaps) = state.hosted.split_at_mut(gaps);
        let are_on_the_way = gaps.iter().any(Hosted::is_busy);
        let mut changed = false;
        for hosted in data {
            changed |= hosted.wait_for_gaps(now_ms, are_on_the_way);
        }
        changed
    }

    /// The local stream of gap records is made, or brought to what the configuration says.
    fn make_gaps(&self, rows: &ForwardRows) {
        let Some(config) = self.0.gaps.clone().map(Box::new) else { return };
        let request = if rows.streams.contains_key(&*config.name) {
            Request::StreamUpdate { config }
        } else {
            Request::StreamCreate { config }
        };
        self.0.core.with(|core| core.broker.request(request));
    }

    /// The durable age clock, milliseconds.
    fn now_ms(&self) -> u64 {
        self.0.age_ms + (self.0.clock.now().micros / 1000).saturating_sub(self.0.at_ms)
    }

    fn touched(&self) {
        self.0.stale.set(true);
        self.0.changed.notify_one();
    }

    /// What passed by itself: deadlines, and links that drained.
    fn act(&self) {
        let mut state = self.0.state.borrow_mut();
        let now_ms = self.now_ms();
        let rejected = state.rejected;
        for hosted in &mut state.hosted {
            if hosted.keep_again_at().is_some_and(|at| at <= now_ms) {
                match rejected {
                    Some(rejected) => hosted.keep_waiting(&self.0.core, rejected),
                    None => {
                        hosted.not_kept(now_ms);
                        self.make_rejected();
                    }
                }
            }
            let was_blocked = hosted.blocked;
            let Some(forward) = hosted.running() else { continue };
            let due = forward.poll_timeout().is_some_and(|at| at <= now_ms);
            if due {
                forward.handle_timeout(now_ms);
            }
            if due || was_blocked {
                hosted.drain(&self.0.core, now_ms, rejected);
                self.0.stale.set(true);
            }
        }
        if self.gaps_first(&mut state, now_ms) {
            self.drain_all(&mut state, now_ms);
        }
        let waits = state.hosted.iter().any(|hosted| hosted.local.last > 0);
        drop(state);
        let since = now_ms.saturating_sub(self.0.shown_ms.get());
        if (self.0.stale.get() && since >= SHOW_MS) || (waits && since >= AGE_MS) {
            self.show();
        }
    }

    /// When [`Forwards::act`] is due next, and the link that a forward waits for.
    fn next(&self) -> (Option<u64>, Option<ConnectionId>) {
        let mut state = self.0.state.borrow_mut();
        let now_ms = self.now_ms();
        let mut due: Option<u64> = self.0.stale.get().then(|| self.0.shown_ms.get() + SHOW_MS);
        let mut blocked = None;
        let mut shows_age = false;
        for hosted in &mut state.hosted {
            if hosted.blocked {
                blocked = blocked.or(hosted.link.as_ref().map(|(id, _)| *id));
            }
            let last = hosted.local.last;
            due = [due, hosted.keep_again_at()].into_iter().flatten().min();
            let Some(forward) = hosted.running() else { continue };
            shows_age |= forward.confirmed().0 < last;
            let at = forward.poll_timeout().map(|at| if at <= now_ms { now_ms + AGAIN_MS } else { at });
            due = [due, at].into_iter().flatten().min();
        }
        if shows_age {
            due = [due, Some(self.0.shown_ms.get() + AGE_MS)].into_iter().flatten().min();
        }
        (due.map(|at| at.saturating_sub(now_ms)), blocked)
    }

    /// Fills `status.forwards`.
    fn show(&self) {
        let mut state = self.0.state.borrow_mut();
        let now_ms = self.now_ms();
        let micros = self.0.clock.now().micros;
        let trouble = {
            let status = self.0.status.borrow();
            status.links.iter().filter(|link| !link.up).find_map(|link| link.last_error.clone())
        };
        let mut forwards: Vec<_> =
            state.hosted.iter_mut().map(|hosted| hosted.status(now_ms, micros, trouble.as_deref())).collect();
        let mut gaps = state.gaps.and_then(|_| forwards.pop());
        // A hub that has no place for records is no trouble before there is one.
        if let Some(idle) = gaps.as_mut().filter(|gaps| gaps.backlog_messages == 0) {
            (idle.stopped, idle.reason) = (false, None);
        }
        let mut status = self.0.status.borrow_mut();
        (status.forwards, status.gaps) = (forwards, gaps);
        drop(status);
        self.0.shown_ms.set(now_ms);
        self.0.stale.set(false);
    }
}

impl State {
    fn of(&mut self, number: u32, epoch: u32) -> Option<&mut Hosted> {
        self.hosted.get_mut(number as usize).filter(|hosted| hosted.epoch == epoch)
    }
}

/// A refused message was committed to [`REJECTED`], or it was not.
fn kept(core: &CoreHandle, hosted: &mut Hosted, sequence: u64, outcome: &Outcome, now_ms: u64) {
    match outcome {
        // No room, no stream: what it is about passes.
        Outcome::Refused(error) if error.code >= 404 => {
            tracing::warn!(stream = %hosted.config.stream, "a message refused by the hub waits for {REJECTED}: {}", error.description);
            hosted.not_kept(now_ms);
        }
        Outcome::Refused(error) => {
            let (stream, reason) = (&hosted.config.stream, &error.description);
            tracing::error!(%stream, sequence, "a message refused by the hub can't be kept in {REJECTED} either, it is dropped: {reason}");
            hosted.kept(core, sequence);
        }
        _ => hosted.kept(core, sequence),
    }
}

fn recorded(state: &mut State, ticket: jetstream::command::Ticket, outcome: &Outcome, now_ms: u64) -> bool {
    let Some((asked, number, epoch, value)) = ticket::read(ticket) else { return false };
    let Some(hosted) = state.of(number, epoch) else { return false };
    if let Outcome::Refused(error) = outcome {
        // The store is opened anew after this, and everything asked again.
        tracing::warn!(stream = %hosted.config.stream, "a record of the forward could not be written: {error:?}");
        return false;
    }
    match asked {
        Asked::Incarnation => {
            hosted.begun(now_ms, value);
            return true;
        }
        Asked::Park => hosted.parked(now_ms, value),
        Asked::Persist => {
            let Some(forward) = hosted.running() else { return false };
            forward.handle_persisted(now_ms);
        }
        Asked::Read => {}
    }
    true
}

/// A subject that the filter matches.
fn probe(filter: &Filter) -> String {
    let token = |token| if matches!(token, "*" | ">") { "tributary-probe" } else { token };
    filter.as_str().split('.').map(token).collect::<Vec<_>>().join(".")
}

async fn timer(forwards: Forwards) {
    loop {
        let (pause, blocked) = forwards.next();
        let drained = async {
            match blocked {
                Some(id) => forwards.0.core.drained_below_half(id).await,
                None => std::future::pending().await,
            }
        };
        let sleep = async {
            match pause {
                Some(pause) => tokio::time::sleep(std::time::Duration::from_millis(pause)).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = forwards.0.changed.notified() => {}
            () = drained => {}
            () = sleep => {}
        }
        forwards.act();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_matched_by_its_filter() {
        for text in ["p.>", "edge.*.data", "a.b", ">"] {
            let filter = Filter::parse(text).unwrap();
            assert!(filter.matches(probe(&filter).as_bytes()), "{text}");
        }
    }
}
