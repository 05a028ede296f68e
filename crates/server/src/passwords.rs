//! Comparing passwords with bcrypt hashes, away from the core thread.
//!
//! One comparison takes tens to hundreds of milliseconds. They run on the runtime's blocking threads (two, see `core_loop`), and at most
//! [`MAX_WAITING`] wait for their turn. Who comes then is told nothing, and is closed when its time to authenticate is over: a client that hears
//! "no" for good credentials gives up for ever, one that was too late comes again. Successes are remembered under a keyed hash, so that a
//! fleet with the same credentials, or one that reconnects, pays once.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use broker::ConnectionId;

use crate::core_loop::CoreHandle;

/// Comparisons under way, one for each blocking thread.
const AT_A_TIME: usize = 2;
/// Comparisons that may wait, some 200 bytes each.
const MAX_WAITING: usize = 1024;
/// Bytes of a password that bcrypt looks at.
const SIGNIFICANT: usize = 72;
/// Remembered successes.
const MAX_REMEMBERED: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Passwords {
    running: Cell<usize>,
    waiting: RefCell<VecDeque<Comparison>>,
    /// Two independently keyed hashes of password and bcrypt hash, oldest first.
    right: RefCell<VecDeque<Key>>,
    keys: (RandomState, RandomState),
}

type Key = (u64, u64);

#[derive(Debug)]
struct Comparison {
    id: ConnectionId,
    password: Box<[u8]>,
    hash: Box<str>,
    key: Key,
}

impl Passwords {
    /// Compares, and tells the broker later.
    pub(crate) fn check(
        self: &std::rc::Rc<Self>,
        core: &CoreHandle,
        id: ConnectionId,
        password: &[u8],
        hash: Box<str>,
    ) {
        let password: Box<[u8]> = password[..password.len().min(SIGNIFICANT)].into();
        let key = (self.keys.0.hash_one((&password, &hash)), self.keys.1.hash_one((&password, &hash)));
        if self.is_right(key) {
            return tell(core, id, true);
        }
        if self.waiting.borrow().len() < MAX_WAITING {
            self.waiting.borrow_mut().push_back(Comparison { id, password, hash, key });
            self.go_on(core);
        }
    }

    /// Begins the next comparisons, if there is room for them.
    fn go_on(self: &std::rc::Rc<Self>, core: &CoreHandle) {
        while self.running.get() < AT_A_TIME
            && let Some(Comparison { id, password, hash, key }) = self.next(core)
        {
            self.running.set(self.running.get() + 1);
            let (passwords, core) = (std::rc::Rc::clone(self), core.clone());
            tokio::task::spawn_local(async move {
                let compared = tokio::task::spawn_blocking(move || bcrypt::verify(&password, &hash).unwrap_or(false));
                let correct = compared.await.unwrap_or(false);
                passwords.running.set(passwords.running.get() - 1);
                if correct {
                    passwords.remember(key);
                }
                tell(&core, id, correct);
                passwords.go_on(&core);
            });
        }
    }

    /// The next one whose client still waits and whose answer is not known by now.
    fn next(&self, core: &CoreHandle) -> Option<Comparison> {
        loop {
            let next = self.waiting.borrow_mut().pop_front()?;
            if self.is_right(next.key) {
                tell(core, next.id, true);
            } else if core.with(|core| core.socket(next.id).is_some()) {
                return Some(next);
            }
        }
    }

    fn is_right(&self, key: Key) -> bool {
        self.right.borrow().contains(&key)
    }

    fn remember(&self, key: Key) {
        let mut right = self.right.borrow_mut();
        if right.len() >= MAX_REMEMBERED {
            right.pop_front();
        }
        right.push_back(key);
    }
}

fn tell(core: &CoreHandle, id: ConnectionId, correct: bool) {
    core.with(|core| {
        let now = core.clock.now();
        core.broker.authenticated(now, id, correct, &mut core.out);
    });
}
