//! Questions to the hub's JetStream API: asked, answered, refused, not answered. What they mean is in `asking.rs`.

use subject::Filter;

use crate::answer::{self, NoAnswer};
use crate::asking::Step;
use crate::refusal::{Remedy, remedy};
use crate::session::{Action, Forward, Session};
use crate::way::{Way, choose};

/// Unanswered questions after which the hub's API is taken for denied.
const MAX_SILENT_QUESTIONS: u32 = 3;

impl Forward {
    pub(crate) fn ask(&mut self, step: Step) {
        let token = format!("a{}", self.next_id());
        let (subject, payload) = self.question(&step);
        let reply = format!("{}.{token}", self.config.inbox);
        self.actions.push_back(Action::Request { subject, reply, payload });
        self.session = Session::Asking { step, token, deadline: self.now_ms + self.config.timings.answer_ms };
    }

    pub(crate) fn question_answered(&mut self, payload: &[u8]) {
        let Session::Asking { step, .. } = std::mem::replace(&mut self.session, Session::Ready) else { return };
        self.silent_questions = 0;
        let next = match step {
            Step::Info | Step::Create => match answer::stream(payload) {
                Ok(found) => {
                    self.hub_stream = found;
                    self.compare_with_create(payload);
                    if let Some(problem) = self.stream_problem() {
                        return self.stop(problem);
                    }
                    Some(self.after_info())
                }
                Err(NoAnswer::Failure(failure)) if step == Step::Info && failure.err_code == 10059 => {
                    if self.config.create.is_none() {
                        return self.stop(format!("the hub has no stream {}", self.config.to));
                    }
                    Some(Step::Create)
                }
                // Another edge was first.
                Err(NoAnswer::Failure(failure)) if step == Step::Create && failure.err_code == 10058 => {
                    Some(Step::Info)
                }
                Err(problem) => return self.question_refused(problem),
            },
            step => match answer::message(payload) {
                Err(problem) => return self.question_refused(problem),
                Ok(message) => match step {
                    Step::Confirmed => {
                        let local = self.record.pairs.back().map_or(0, |pair| pair.local);
                        let is_there = message.is_none_or(|message| self.is_message(&message, local));
                        let before = self.record.pairs.len().saturating_sub(1);
                        Some(if is_there { Step::Last } else { self.lost_tail_before(before) })
                    }
                    Step::Rewind { pair } => {
                        let local = self.record.pairs.get(pair).map_or(0, |pair| pair.local);
                        let is_there = message.is_none_or(|message| self.is_message(&message, local));
                        Some(if is_there { self.rewind_to(pair) } else { self.lost_tail_before(pair) })
                    }
                    Step::Last => self.after_last(message.as_ref()),
                    scan => self.after_scan(&scan, message.as_ref()),
                },
            },
        };
        match next {
            Some(step) => self.ask(step),
            None if self.record.second_box.is_some() => self.ask_again(),
            None => self.all_known(),
        }
    }

    fn all_known(&mut self) {
        self.way = choose(self.version(), self.hub_stream.allow_batched, self.hub_stream.allow_atomic);
        self.backlog.seek(self.record.confirmed + 1);
        self.session = Session::Ready;
    }

    /// What makes sending pointless, said exactly.
    fn stream_problem(&mut self) -> Option<String> {
        let hub = &self.hub_stream;
        if hub.sealed {
            return Some(format!("the hub's stream {} is sealed", self.config.to));
        }
        let subjects: Vec<Filter> = hub.subjects.iter().filter_map(|text| Filter::parse(text).ok()).collect();
        if !subjects.iter().any(|subject| subject.overlaps(&self.filter)) {
            return Some(format!(
                "the hub's stream {} does not capture {}: its subjects are {}",
                self.config.to,
                self.filter,
                hub.subjects.join(", ")
            ));
        }
        if !subjects.iter().any(|subject| subject.covers(&self.filter)) {
            let text = format!("the hub's stream {} captures only a part of {}", self.config.to, self.filter);
            self.remark(text);
        }
        None
    }

    /// An existing stream is never changed: what `create` asks for and it lacks is said, exactly.
    fn compare_with_create(&mut self, payload: &[u8]) {
        let Some(create) = &self.config.create else { return };
        let lacking = create.lacking(self.version(), &answer::stream_config(payload));
        if !lacking.is_empty() {
            let (stream, lacking) = (&self.config.to, lacking.join("; "));
            self.remark(format!("the hub's stream {stream} is not what `create` says, and is not changed: {lacking}"));
        }
    }

    fn question_refused(&mut self, problem: NoAnswer) {
        match problem {
            NoAnswer::Unreadable => self.pause("an answer of the hub's JetStream API is not understood".into()),
            NoAnswer::Failure(failure) => {
                let text = format!("{} ({})", failure.description, failure.err_code);
                match remedy(failure.code, failure.err_code) {
                    Remedy::Retry | Remedy::AskAgain => self.pause(text),
                    _ => self.stop(text),
                }
            }
        }
    }

    pub(crate) fn question_unanswered(&mut self) {
        self.silent_questions += 1;
        if self.silent_questions >= MAX_SILENT_QUESTIONS && self.wanted {
            // Even the bare API is denied. Ids and the duplicate window are all that is left.
            self.blind = true;
            self.way = Way::Single;
            self.backlog.seek(self.record.confirmed + 1);
            self.session = Session::Ready;
        } else {
            self.pause("the hub's JetStream API does not answer".into());
        }
    }
}
