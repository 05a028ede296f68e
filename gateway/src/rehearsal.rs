//! What is declared, tried on an empty store in memory: `-t` says what a start would refuse. It does not see what a real store holds, which may be in the
//! way of a declaration as well.

use committer::Committer;
use jetstream::JetStream;
use jetstream::clock::AgeClock;
use jetstream::command::{Answer, Batch, Command, Outcome, Request, Turn};
use jetstream::identity::{Now, Timestamp};
use jetstream::store::Store;
use jetstream::store::memory::MemoryStore;

use crate::config::Config;
use crate::declared::{self, Declaration};
use crate::settings::store_limits;

/// Any moment will do.
const MOMENT: Timestamp = Timestamp(1_750_000_000_000_000_000);

/// What a start would refuse, a line each.
///
/// # Errors
/// When the store in memory fails, which it does not.
pub fn problems(config: &Config) -> anyhow::Result<Vec<String>> {
    let mut problems = Vec::new();
    let Some(jetstream) = &config.jetstream else { return Ok(problems) };
    let mut store = MemoryStore::default();
    let now = AgeClock::open(&mut store, MOMENT, 0)?.now(MOMENT, 0);
    let (mut jetstream, _) = JetStream::load(&mut store, now, store_limits(config, jetstream))?;
    let mut ask = |request| answer(&mut jetstream, &mut store, now, request);
    let mut declared = declared::of(&config.streams);
    for (_, declaration) in &mut declared {
        // A stream is sealed that is there already; here there is none.
        if let Declaration::Stream(config) = declaration {
            config.sealed = false;
        }
    }
    declared::bring_about(&declared, &mut ask, &mut |what, why| {
        problems.push(format!("{what}: {why}"));
    })?;
    Ok(problems)
}

fn answer(jetstream: &mut JetStream, store: &mut MemoryStore, now: Now, request: Request) -> anyhow::Result<Answer> {
    let batch = Batch { commands: vec![Command::Request(Box::new(request))], ..Batch::default() };
    let mut turn = Turn::default();
    let mut commit = |store: &mut dyn Store, _: &mut JetStream| store.commit().map(|()| 0);
    Committer::default().turn(now, &mut vec![batch], &mut turn, jetstream, store, &mut commit)?;
    match turn.done.into_iter().flat_map(|(_, outcomes)| outcomes).next() {
        Some(Outcome::Answer(answer)) => Ok(*answer),
        other => anyhow::bail!("the store answered {other:?} to a request"),
    }
}
