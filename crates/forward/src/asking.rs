//! Where to go on: what the hub has of us. Why it is asked, and how: the crate's documentation.
//!
//! ```text
//!  Info ─ 404, create ─► Create ─► Info
//!   │ created differs: S = 0
//!   │ last_seq < S ───────────────────► Rewind(newest pair not above last_seq) ─ not ours: the one before ┐
//!   ▼ S > 0                                  ▲        │ ours or gone            ▲───────────────────────┘
//!  Confirmed: message at S ─ not ours ───────┘        ▼
//!   └─ ours or gone ───────────────────────────────► Last: newest under the filter
//!                                                     │ ours: all up to it is stored; or nothing in doubt
//!                                                     ├──────────────────────────────────────────────► done
//!                                                     └ foreign ► Scan from S + 1 up to it ──────────► done
//! ```

use jetstream::identity::Sequence;

use crate::answer::HubMessage;
use crate::identity::{Identity, IncarnationId};
use crate::session::Forward;

/// Most of our own messages looked at in a scan, and of everything.
const MAX_SCAN: (u32, u32) = (4_096, 20_000);

/// The question that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// `STREAM.INFO`.
    Info,
    /// `STREAM.CREATE`.
    Create,
    /// The message at S: is it ours?
    Confirmed,
    /// The message of an older pair: is it ours, or gone?
    Rewind {
        /// Index of the pair.
        pair: usize,
    },
    /// The newest message under the filter.
    Last,
    /// Message by message from `from` to `up_to`.
    Scan {
        /// Where the next answer begins.
        from: u64,
        /// The newest message under the filter.
        up_to: u64,
        /// Our own ones seen so far, and all.
        seen: (u32, u32),
        /// The highest of ours: local and hub sequence.
        best: Option<(u64, u64)>,
    },
}

/// What a message at the hub says about us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Everything up to this local sequence was stored.
    Stored(u64),
    /// More of a known incarnation than our rows have: our disk was rolled back. What we have of it was stored up to here.
    RolledBack(u64),
    /// An unknown incarnation before anything of the present one: a restored image.
    Restored,
    /// An unknown incarnation after something of the present one: another box.
    SecondBox(IncarnationId),
    /// Not ours.
    Foreign,
}

impl Forward {
    /// Steps 2 and 6 for one message.
    pub(crate) fn judge(&self, message: &HubMessage) -> Verdict {
        let Some(identity) = self.own_identity(message) else { return Verdict::Foreign };
        let id = identity.incarnation;
        match self.incarnations.end_of(id, Sequence(self.local.last)) {
            Some(end) if identity.sequence <= end => Verdict::Stored(identity.sequence.0),
            Some(end) => Verdict::RolledBack(end.0),
            None if self.record.adopted.contains(&id) => Verdict::Foreign,
            None => match self.present_first_hub {
                Some(first) if message.sequence > first => Verdict::SecondBox(id),
                _ => Verdict::Restored,
            },
        }
    }

    /// The identity, if it names this edge and this instance of the stream.
    fn own_identity<'a>(&self, message: &'a HubMessage) -> Option<Identity<'a>> {
        Identity::find(&message.headers)
            .filter(|identity| identity.edge == self.config.edge && identity.instance == self.config.instance)
    }

    /// Is the message at the hub the one that `local` names here?
    pub(crate) fn is_message(&self, message: &HubMessage, local: u64) -> bool {
        self.own_identity(message).is_some_and(|identity| {
            identity.sequence.0 == local && identity.incarnation == self.incarnations.of(Sequence(local))
        })
    }

    /// Subject and body of the question of a step.
    pub(crate) fn question(&self, step: &Step) -> (String, Vec<u8>) {
        let stream = &self.config.to;
        let filter = self.filter.as_str();
        let get = |body: String| (self.api(&format!("STREAM.MSG.GET.{stream}")), body.into_bytes());
        let quoted = || serde_json::Value::from(filter);
        match step {
            Step::Info => (self.api(&format!("STREAM.INFO.{stream}")), Vec::new()),
            Step::Create => (self.api(&format!("STREAM.CREATE.{stream}")), self.create_body()),
            Step::Confirmed => get(format!(r#"{{"seq":{}}}"#, self.record.hub_sequence())),
            Step::Rewind { pair } => {
                get(format!(r#"{{"seq":{}}}"#, self.record.pairs.get(*pair).map_or(0, |pair| pair.hub)))
            }
            Step::Last => get(format!(r#"{{"last_by_subj":{}}}"#, quoted())),
            Step::Scan { from, .. } => get(format!(r#"{{"seq":{from},"next_by_subj":{}}}"#, quoted())),
        }
    }

    fn api(&self, operation: &str) -> String {
        match self.hub.as_ref().and_then(|hub| hub.domain.as_deref()) {
            Some(domain) => format!("$JS.{domain}.API.{operation}"),
            // A hub without a domain: stock answers the bare API on a leaf link.
            None => format!("$JS.API.{operation}"),
        }
    }

    /// The body of `STREAM.CREATE`; empty without [`crate::Config::create`].
    pub(crate) fn create_body(&self) -> Vec<u8> {
        let create = self.config.create.as_ref();
        create.map(|create| create.body(&self.config.to, self.version()).to_string().into_bytes()).unwrap_or_default()
    }

    /// Step 1: what `STREAM.INFO` says. Gives the next question.
    pub(crate) fn after_info(&mut self) -> Step {
        let hub = &self.hub_stream;
        let hub_sequence = self.record.hub_sequence();
        if !self.record.created.is_empty() && self.record.created != hub.created {
            self.remark(format!(
                "the hub's stream {} was re-created: only what is unconfirmed is sent",
                self.config.to
            ));
            self.restart_positions();
            return Step::Last;
        }
        if self.record.created.is_empty() {
            self.record.created.clone_from(&self.hub_stream.created);
            self.dirty = true;
        }
        if hub_sequence == 0 {
            return Step::Last;
        }
        if self.hub_stream.last < hub_sequence {
            self.lost_tail_before(self.record.pairs.len())
        } else {
            Step::Confirmed
        }
    }

    /// The hub stream is another one: nothing of what we know of its sequences holds.
    fn restart_positions(&mut self) {
        let confirmed = self.record.confirmed;
        self.record.created.clone_from(&self.hub_stream.created);
        self.record.pairs.clear();
        self.record.pairs.push_back(crate::record::Pair { local: confirmed, hub: 0, age_ms: self.now_ms });
        self.present_first_hub = None;
        self.dirty = true;
    }

    /// The hub lost its tail: the newest pair before index `end` that may still hold.
    pub(crate) fn lost_tail_before(&mut self, end: usize) -> Step {
        self.lost_tail = true;
        let last = self.hub_stream.last;
        let found = (0..end).rev().find(|at| self.record.pairs.get(*at).is_some_and(|pair| pair.hub <= last));
        match found {
            Some(pair) if self.record.pairs.get(pair).is_some_and(|pair| pair.hub > 0) => Step::Rewind { pair },
            // Nothing left that could be asked for: the oldest pair is as far as data was held.
            _ => self.rewind_to(0),
        }
    }

    /// Goes back to a pair. What was sent behind it is in doubt again.
    pub(crate) fn rewind_to(&mut self, pair: usize) -> Step {
        let pair_found = self.record.pairs.get(pair).copied().unwrap_or_default();
        self.remark(format!(
            "the hub lost the tail of {}: sending again from {} (confirmed was {})",
            self.config.to,
            pair_found.local + 1,
            self.record.confirmed
        ));
        self.doubt_to = self.doubt_to.max(self.record.confirmed);
        self.record.pairs.truncate(pair + 1);
        if self.hub_stream.last < pair_found.hub
            && let Some(oldest) = self.record.pairs.back_mut()
        {
            oldest.hub = 0;
        }
        self.record.confirmed = pair_found.local;
        self.dirty = true;
        Step::Last
    }

    /// Step 2 for the newest message under the filter. `None`: all is known.
    pub(crate) fn after_last(&mut self, message: Option<&HubMessage>) -> Option<Step> {
        let Some(message) = message else {
            self.last_under_filter = 0;
            if self.record.confirmed < self.doubt_to && self.hub_stream.first > self.record.hub_sequence() + 1 {
                self.purged = true;
            }
            return None;
        };
        self.last_under_filter = message.sequence;
        match self.judge(message) {
            // Of a restored image's unconfirmed messages, the hub has those that it had before the incarnations we don't know:
            // look from S on, as past a foreign writer.
            verdict @ (Verdict::Foreign | Verdict::Restored) => {
                if verdict == Verdict::Foreign {
                    self.foreign_seen = true;
                } else {
                    let text =
                        "this store is a restored image: the hub has what came after it; going on with what is new";
                    self.remark(text.into());
                }
                let from = self.record.hub_sequence() + 1;
                let in_doubt = self.record.confirmed < self.doubt_to;
                let is_unseen = from <= message.sequence;
                (in_doubt && is_unseen).then_some(Step::Scan {
                    from,
                    up_to: message.sequence,
                    seen: (0, 0),
                    best: None,
                })
            }
            verdict => {
                self.accept_verdict(verdict, message.sequence);
                None
            }
        }
    }

    /// Step 2, scanning. `None`: all is known.
    pub(crate) fn after_scan(&mut self, step: &Step, message: Option<&HubMessage>) -> Option<Step> {
        let Step::Scan { from, up_to, mut seen, mut best } = *step else { return None };
        let mut following = None;
        if let Some(message) = message.filter(|message| message.sequence >= from) {
            seen.1 += 1;
            match self.judge(message) {
                Verdict::Foreign | Verdict::Restored => {}
                Verdict::Stored(local) => {
                    seen.0 += 1;
                    best = best.max(Some((local, message.sequence)));
                }
                other => {
                    self.accept_verdict(other, message.sequence);
                    seen.0 = MAX_SCAN.0;
                }
            }
            let is_enough = seen.0 >= MAX_SCAN.0 || seen.1 >= MAX_SCAN.1 || message.sequence >= up_to;
            following = (!is_enough).then_some(message.sequence + 1);
        }
        if let Some(from) = following {
            return Some(Step::Scan { from, up_to, seen, best });
        }
        // The highest identity confirms all before it: older ones may be gone by per-subject limits, and sending them
        // again would put an old value over a new one.
        if let Some((local, hub)) = best {
            self.accept_verdict(Verdict::Stored(local), hub);
        }
        None
    }

    fn accept_verdict(&mut self, verdict: Verdict, hub: u64) {
        match verdict {
            Verdict::Stored(local) => self.found_stored(local, hub),
            // The hub's message is not the one that `local` names, so there is no pair.
            Verdict::RolledBack(local) => {
                self.remark(
                    "our disk was rolled back: the hub has more of an older incarnation; going on with what is new"
                        .into(),
                );
                self.confirm(local, None);
            }
            Verdict::SecondBox(id) => {
                self.record.second_box = Some(id);
                self.dirty = true;
            }
            Verdict::Foreign | Verdict::Restored => {}
        }
    }

    /// A message at the hub proves that everything up to `local` is there. With the tail lost and no fence it proves nothing: newer
    /// messages may have been stored behind the hole.
    fn found_stored(&mut self, local: u64, hub: u64) {
        let is_proof = self.version().knows_fence() || !self.lost_tail;
        if is_proof && local > self.record.confirmed {
            self.confirm(local, Some(hub));
        }
    }
}
