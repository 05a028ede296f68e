//! What a push consumer has beside the requests of the pull kind: whether anybody listens, how far the receiver lets it go, and how fast.
//!
//! A push consumer that has interest is a request that never ends, whose inbox is the deliver subject; everything else is as for pull
//! consumers. **Flow control**: what was sent since the receiver's last answer is limited by a window, which begins small and doubles with each
//! answer up to 32 MiB; a request for an answer goes out when half of it is used, behind the messages it is about.

use crate::config::Push;
use crate::identity::{AgeMillis, ConsumerId, Now, Sequence};

/// Largest window, and the part of it that is open at first: stock's.
const LARGEST_WINDOW: u64 = 32 << 20;
const FIRST_WINDOW: u64 = LARGEST_WINDOW / 16;
/// Characters of the token that makes a request for an answer its own.
const TOKEN: usize = 4;

/// The state of a push consumer's sending. All of it is forgotten when nobody listens.
#[derive(Debug)]
pub(crate) struct Pushing {
    /// `$JS.FC.<stream>.<consumer>.`
    prefix: Box<[u8]>,
    flow: Option<Flow>,
    /// Nanoseconds that a byte takes, times 8 (the limit is in bits), and when the line is free again (nanoseconds of the age clock).
    rate_limit: u64,
    line_free: u128,
    requests: u64,
    seed: u64,
}

#[derive(Debug)]
struct Flow {
    window: u64,
    /// Bytes sent that no answer has covered.
    unanswered: u64,
    /// The request that waits for its answer.
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    /// Its reply subject.
    subject: Box<[u8]>,
    /// Bytes that its answer covers.
    bytes: u64,
    /// The last message sent before it.
    last: Sequence,
}

impl Flow {
    fn new() -> Flow {
        Flow { window: FIRST_WINDOW, unanswered: 0, asked: None }
    }
}

impl Pushing {
    pub(crate) fn new(push: &Push, stream: &str, consumer: &str, id: ConsumerId) -> Pushing {
        Pushing {
            prefix: format!("$JS.FC.{stream}.{consumer}.").into_bytes().into(),
            flow: push.flow_control.then(Flow::new),
            rate_limit: push.rate_limit,
            line_free: 0,
            requests: 0,
            seed: u64::from(id.0),
        }
    }

    /// Sends one message, and no more until it is answered.
    pub(crate) fn begin_with_one(&mut self) {
        if let Some(flow) = &mut self.flow {
            flow.window = 0;
        }
    }

    /// The receiver has to answer before more is sent.
    pub(crate) fn is_stalled(&self) -> bool {
        self.flow.as_ref().is_some_and(|flow| flow.unanswered > flow.window)
    }

    /// When the next message may leave by the rate limit.
    pub(crate) fn free_at(&self, now: Now) -> Option<AgeMillis> {
        let free = (self.line_free / 1_000_000) as u64;
        (self.rate_limit > 0 && free > now.age.0).then_some(AgeMillis(free))
    }

    /// A message of so many bytes was sent. `Some`: ask the receiver for an answer on this subject now, behind it; `ask`: also when the window does not
    /// want it yet.
    pub(crate) fn sent(&mut self, bytes: u64, sequence: Sequence, ask: bool, now: Now) -> Option<Box<[u8]>> {
        if self.rate_limit > 0 {
            // What was not used within the last second is lost.
            let earliest = u128::from(now.age.0.saturating_sub(1000)) * 1_000_000;
            let takes = u128::from(bytes) * 8 * 1_000_000_000 / u128::from(self.rate_limit);
            self.line_free = self.line_free.max(earliest) + takes;
        }
        let flow = self.flow.as_mut()?;
        flow.unanswered += bytes;
        if ask || flow.unanswered > flow.window / 2 { self.ask(sequence) } else { None }
    }

    /// The subject to ask for an answer on, behind message `last`; `None` when one is waited for already.
    pub(crate) fn ask(&mut self, last: Sequence) -> Option<Box<[u8]>> {
        let flow = self.flow.as_mut().filter(|flow| flow.asked.is_none())?;
        self.requests += 1;
        let subject: Box<[u8]> = [&*self.prefix, &token(self.seed, self.requests)].concat().into();
        flow.asked = Some(Asked { subject: subject.clone(), bytes: flow.unanswered, last });
        Some(subject)
    }

    /// An answer came. `Some`: it was the one that is waited for, and what was sent before the request ended with this message.
    pub(crate) fn answered(&mut self, subject: &[u8]) -> Option<Sequence> {
        let flow = self.flow.as_mut()?;
        let asked = flow.asked.take_if(|asked| *asked.subject == *subject)?;
        flow.unanswered = flow.unanswered.saturating_sub(asked.bytes);
        flow.window = (flow.window * 2).clamp(FIRST_WINDOW, LARGEST_WINDOW);
        Some(asked.last)
    }

    /// The subject on which an answer is waited for.
    pub(crate) fn waits_for(&self) -> Option<&[u8]> {
        self.flow.as_ref()?.asked.as_ref().map(|asked| &*asked.subject)
    }

    /// Nobody listens any more: who comes next begins with a fresh window.
    pub(crate) fn forget(&mut self) {
        if let Some(flow) = &mut self.flow {
            *flow = Flow::new();
        }
    }
}

/// Four characters that differ from one request to the next.
fn token(seed: u64, number: u64) -> [u8; TOKEN] {
    const CHARACTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // 62^4 is prime to the factor: all tokens come before one comes again.
    let mut rest = number.wrapping_mul(7_919_001_119).wrapping_add(seed.wrapping_mul(104_729));
    std::array::from_fn(|_| {
        let character = CHARACTERS[(rest % 62) as usize];
        rest /= 62;
        character
    })
}

#[cfg(test)]
mod tests {
    use super::{FIRST_WINDOW, LARGEST_WINDOW, Pushing};
    use crate::config::Push;
    use crate::identity::{AgeMillis, ConsumerId, Now, Sequence, Timestamp};

    fn now(age: u64) -> Now {
        Now { wall: Timestamp(0), age: AgeMillis(age) }
    }

    fn pushing(flow_control: bool, rate_limit: u64) -> Pushing {
        let push = Push { subject: "to".into(), flow_control, rate_limit, ..Push::default() };
        Pushing::new(&push, "S", "C", ConsumerId(1))
    }

    #[test]
    fn half_a_window_asks_a_whole_one_stalls_and_the_answer_doubles_it() {
        let mut pushing = pushing(true, 0);
        assert_eq!(pushing.sent(FIRST_WINDOW / 2, Sequence(1), false, now(0)), None);
        let asked = pushing.sent(1, Sequence(1), false, now(0)).expect("asks");
        assert!(asked.starts_with(b"$JS.FC.S.C.") && asked.len() == "$JS.FC.S.C.".len() + 4);
        assert!(!pushing.is_stalled());
        assert_eq!(pushing.sent(FIRST_WINDOW / 2, Sequence(1), false, now(0)), None, "one request at a time");
        assert!(pushing.is_stalled());
        assert!(pushing.answered(b"$JS.FC.S.C.zzzz").is_none() && pushing.is_stalled());
        assert!(pushing.answered(&asked) == Some(Sequence(1)) && !pushing.is_stalled());
        assert_eq!(pushing.answered(&asked), None, "an answer counts once");
        let second =
            pushing.sent(FIRST_WINDOW, Sequence(1), false, now(0)).expect("asks again, the window has doubled");
        assert_ne!(second, asked);
    }

    #[test]
    fn one_message_goes_first_when_it_is_doubtful() {
        let mut pushing = pushing(true, 0);
        pushing.begin_with_one();
        assert!(!pushing.is_stalled());
        let asked = pushing.sent(1, Sequence(1), false, now(0)).expect("asks behind it");
        assert!(pushing.is_stalled());
        assert!(pushing.answered(&asked).is_some() && !pushing.is_stalled());
        assert_eq!(pushing.sent(FIRST_WINDOW / 2, Sequence(2), false, now(0)), None, "a window as at first");
    }

    #[test]
    fn the_window_has_an_end() {
        let mut pushing = pushing(true, 0);
        for _ in 0..10 {
            let asked = pushing.sent(LARGEST_WINDOW, Sequence(1), false, now(0)).expect("asks");
            assert!(pushing.answered(&asked).is_some());
        }
        let asked = pushing.sent(LARGEST_WINDOW + 1, Sequence(1), false, now(0)).expect("asks");
        assert!(pushing.is_stalled() && pushing.waits_for() == Some(&*asked));
        pushing.forget();
        assert!(!pushing.is_stalled() && pushing.waits_for().is_none());
    }

    #[test]
    fn a_rate_limit_spaces_what_is_sent() {
        let mut pushing = pushing(false, 8_000);
        assert_eq!(pushing.sent(1_000, Sequence(1), false, now(5_000)), None);
        assert_eq!(pushing.free_at(now(5_000)), None, "a second's worth may go at once");
        pushing.sent(1_000, Sequence(1), false, now(5_000));
        assert_eq!(pushing.free_at(now(5_000)), Some(AgeMillis(6_000)));
        assert_eq!(pushing.free_at(now(6_000)), None);
    }
}
