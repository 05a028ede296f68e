//! A server with nothing but the core protocol, for measuring the hot path: `cargo run --release -p server --example core_only -- --port N`.

use broker::{Broker, Protocol, ServerIdentity, Settings};
use server::{Clock, CoreHandle, Shutdown, accept_plain, bind, listen, run};

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
        name: "core".into(),
        version: "2.15.1".into(),
        host: "127.0.0.1".into(),
        port: address.port(),
        software: "example".into(),
    };
    let seed = getrandom::u64().unwrap_or(1);
    let core = CoreHandle::new(Broker::new(Settings { server, ..Settings::default() }, seed), Clock::start());
    let shutdown = Shutdown::new();
    println!("listening on {address}");
    tokio::task::spawn_local(listen(listener, shutdown.accepting(), accept_plain(core.clone(), Protocol::Nats)));
    tokio::signal::ctrl_c().await?;
    shutdown.stop();
    shutdown.close_connections(&core).await;
    Ok(())
}
