//! Comparing passwords with bcrypt hashes, away from the core thread.
//!
//! One comparison takes tens to hundreds of milliseconds. They run on the runtime's blocking threads (two, see `core_loop`), at most
//! [`MAX_WAITING`] at a time: beyond that the answer is "no" at once. Successes are remembered under a keyed hash, so that a fleet that
//! reconnects does not pay again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use broker::ConnectionId;

use crate::core_loop::CoreHandle;

/// Comparisons that may wait: at 100 ms each some seconds on a small box.
const MAX_WAITING: usize = 64;
/// Remembered successes.
const MAX_REMEMBERED: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Passwords {
    waiting: Cell<usize>,
    /// Two independently keyed hashes of password and bcrypt hash, oldest first.
    right: RefCell<VecDeque<(u64, u64)>>,
    keys: (RandomState, RandomState),
}

impl Passwords {
    /// Compares, and tells the broker later.
    pub(crate) fn check(
        self: &std::rc::Rc<Self>,
        core: &CoreHandle,
        id: ConnectionId,
        password: Box<[u8]>,
        hash: Box<str>,
    ) {
        let key = (self.keys.0.hash_one((&password, &hash)), self.keys.1.hash_one((&password, &hash)));
        let known = self.right.borrow().contains(&key);
        if known || self.waiting.get() >= MAX_WAITING {
            return tell(core, id, known);
        }
        self.waiting.set(self.waiting.get() + 1);
        let (passwords, core) = (std::rc::Rc::clone(self), core.clone());
        tokio::task::spawn_local(async move {
            let compared = tokio::task::spawn_blocking(move || bcrypt::verify(&password, &hash).unwrap_or(false));
            let correct = compared.await.unwrap_or(false);
            passwords.waiting.set(passwords.waiting.get() - 1);
            if correct {
                passwords.remember(key);
            }
            tell(&core, id, correct);
        });
    }

    fn remember(&self, key: (u64, u64)) {
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
