//! The core with JetStream on a store in memory, for measuring and trying the seam without a disk: `… --example jetstream -- --port N`.

use broker::{Broker, JetStreamSettings, Protocol, ServerIdentity, Settings};
use committer::Committer;
use jetstream::command::Turn;
use jetstream::identity::{AgeMillis, Now, Timestamp};
use jetstream::store::memory::MemoryStore;
use jetstream::{JetStream, Limits};
use server::{Clock, CoreHandle, Shutdown, StoreMailbox, accept_plain, bind, listen, run, store_queue};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let port = arguments.iter().position(|word| word == "--port").and_then(|at| arguments.get(at + 1));
    let port: u16 = port.map_or(Ok(4222), |text| text.parse())?;
    run(serve(port))?
}

async fn serve(port: u16) -> anyhow::Result<()> {
    let listener = bind(([127, 0, 0, 1], port).into())?;
    let address = listener.local_addr()?;
    let server = ServerIdentity {
        id: "EXAMPLE".into(),
        name: "jetstream".into(),
        version: "2.15.1".into(),
        host: "127.0.0.1".into(),
        port: address.port(),
        software: "example".into(),
    };
    let settings = Settings { server, jetstream: Some(JetStreamSettings::default()), ..Settings::default() };
    let clock = Clock::start();
    let core = CoreHandle::new(Broker::new(settings, getrandom::u64().unwrap_or(1)), clock);
    let (handle, mailbox) = store_queue();
    let thread = std::thread::spawn(move || store_thread(&mailbox, &clock));
    core.connect_store(handle.clone(), |_, _| {});
    let shutdown = Shutdown::new();
    println!("listening on {address}");
    tokio::task::spawn_local(listen(listener, shutdown.accepting(), accept_plain(core.clone(), Protocol::Nats)));
    tokio::signal::ctrl_c().await?;
    shutdown.stop();
    shutdown.close_connections(&core).await;
    handle.close();
    thread.join().map_err(|_| anyhow::anyhow!("the store thread panicked"))?
}

fn store_thread(mailbox: &StoreMailbox, clock: &Clock) -> anyhow::Result<()> {
    let now = || {
        let now = clock.now();
        Now { wall: Timestamp(now.wall_ns), age: AgeMillis(now.micros / 1000) }
    };
    let mut store = MemoryStore::default();
    let (mut jetstream, events) = JetStream::load(&mut store, now(), Limits::default())?;
    mailbox.release(Turn { events, ..Turn::default() });
    let mut committer = Committer::default();
    let mut inbox = Vec::new();
    let mut wake_at: Option<AgeMillis> = None;
    loop {
        let patience = wake_at.map(|at| std::time::Duration::from_millis(at.0.saturating_sub(now().age.0)));
        if inbox.is_empty() && !mailbox.wait(patience, &mut inbox) {
            return Ok(());
        }
        let mut turn = Turn::default();
        committer
            .turn(now(), &mut inbox, &mut turn, &mut jetstream, &mut store, &mut |store| store.commit().map(|()| 0))?;
        wake_at = turn.wake_at;
        mailbox.release(turn);
    }
}
