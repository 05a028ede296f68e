//! A raw MQTT 3.1.1 connection, and a publisher with an optional subscriber on it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};

use crate::jetstream;
use crate::outcome::{Meter, Outcome};
use crate::ring::{Acknowledged, Limit, Ring};
use crate::side::Side;

/// Give up when a broker says nothing for so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// What the readers look for in between.
const GLANCE: Duration = Duration::from_millis(200);
const TOPIC: &str = "bench/topic";
/// What a sensor says, about.
const PAYLOAD: usize = 128;
/// Messages and seconds at scale 1.
const MESSAGES: f64 = 2_000_000.0;
const SECONDS: f64 = 4.0;
/// Unacknowledged publishes at QoS 1, as many as the brokers' own windows.
const IN_FLIGHT: u64 = 100;
/// At QoS 0 a publisher runs at most so many messages ahead of the subscriber.
const AHEAD: u64 = 4_000;
/// At QoS 1 so many acknowledged ones: fewer than a session's queue holds (1,000 with ours).
const AHEAD_ACKNOWLEDGED: u64 = 500;

/// A connection that has been greeted.
pub(crate) struct Mqtt {
    stream: TcpStream,
    /// What the CONNACK said.
    pub(crate) session_present: bool,
    /// Bytes of a PUBACK that has not come whole.
    held: usize,
    buffer: Vec<u8>,
}

impl Mqtt {
    /// Connects and waits for the CONNACK.
    pub(crate) fn connect(address: SocketAddr, client: &str, clean: bool) -> Result<Mqtt> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut packet = vec![0x10, u8::try_from(12 + client.len())?, 0, 4];
        packet.extend_from_slice(b"MQTT");
        // Protocol level 4, clean session or not, no keep-alive.
        packet.extend_from_slice(&[4, if clean { 2 } else { 0 }, 0, 0, 0, client.len() as u8]);
        packet.extend_from_slice(client.as_bytes());
        stream.write_all(&packet)?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).context("waiting for the CONNACK")?;
        ensure!(answer[0] == 0x20 && answer[3] == 0, "CONNACK {answer:?}");
        Ok(Mqtt { stream, session_present: answer[2] == 1, held: 0, buffer: vec![0; 64 * 1024] })
    }

    /// Subscribes and waits for the SUBACK.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) -> Result<()> {
        let mut packet = vec![0x82, u8::try_from(5 + filter.len())?, 0, 1, 0, filter.len() as u8];
        packet.extend_from_slice(filter.as_bytes());
        packet.push(qos);
        self.stream.write_all(&packet)?;
        let mut answer = [0; 5];
        self.stream.read_exact(&mut answer).context("waiting for the SUBACK")?;
        ensure!(answer[0] == 0x90 && answer[4] == qos, "SUBACK {answer:?}");
        Ok(())
    }

    /// Says farewell and waits until the broker has closed.
    pub(crate) fn disconnect(mut self) -> Result<()> {
        self.stream.write_all(&[0xe0, 0])?;
        ensure!(self.stream.read(&mut self.buffer)? == 0, "the broker says more");
        Ok(())
    }
}

impl Acknowledged for Mqtt {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    /// Nothing but PUBACKs comes, of four bytes each.
    fn acknowledgements(&mut self) -> Result<u64> {
        let read = self.stream.read(&mut self.buffer)?;
        ensure!(read > 0, "the broker closed the connection");
        ensure!(self.held > 0 || self.buffer[0] == 0x40, "not a PUBACK: {:x}", self.buffer[0]);
        self.held += read;
        let whole = self.held / 4;
        self.held %= 4;
        Ok(whole as u64)
    }
}

/// A publisher that does not run away from its subscriber: a broker may drop what a session's queue can't hold, and ours does.
struct Paced<'a> {
    publisher: &'a mut Mqtt,
    reader: &'a Reader,
    acknowledged: u64,
}

impl Acknowledged for Paced<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.publisher.write(bytes)
    }

    fn acknowledgements(&mut self) -> Result<u64> {
        let count = self.publisher.acknowledgements()?;
        self.acknowledged += count;
        self.reader.wait_within(self.acknowledged, AHEAD_ACKNOWLEDGED)?;
        Ok(count)
    }
}

/// Who receives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receiver {
    /// Nobody.
    Nobody,
    /// Nobody but a stream.
    Stream,
    /// A subscriber with a clean session.
    Clean,
    /// A subscriber with a session that outlives its connection.
    Persistent,
}

/// One publisher; messages are the operations.
pub(crate) fn run(side: Side, qos: u8, receiver: Receiver, scale: f64) -> Result<Outcome> {
    let server = side.start()?;
    if receiver == Receiver::Stream {
        jetstream::create_stream(&server, &["bench.>"])?;
    }
    let reader = match receiver {
        Receiver::Nobody | Receiver::Stream => None,
        Receiver::Clean => Some(Reader::start(server.address("mqtt"), qos, true)?),
        Receiver::Persistent => Some(Reader::start(server.address("mqtt"), qos, false)?),
    };
    let mut publisher = Mqtt::connect(server.address("mqtt"), "publisher", true)?;
    let mut ring = Ring::new(1_000, |number| publish_frame(qos, number as u16 + 1));
    let limit = Limit::new(MESSAGES, SECONDS, scale);
    let meter = Meter::start(&server)?;
    let sent = match &reader {
        Some(reader) if qos == 0 => unacknowledged(&mut ring, &mut publisher, reader, limit, &meter)?,
        Some(reader) => {
            let mut paced = Paced { publisher: &mut publisher, reader, acknowledged: 0 };
            ring.pump(&mut paced, IN_FLIGHT, limit, &meter)?
        }
        None => ring.pump(&mut publisher, IN_FLIGHT, limit, &meter)?,
    };
    if let Some(reader) = reader {
        reader.finish(sent)?;
    }
    meter.stop(sent)
}

fn unacknowledged(
    ring: &mut Ring,
    publisher: &mut Mqtt,
    reader: &Reader,
    limit: Limit,
    meter: &Meter<'_>,
) -> Result<u64> {
    let mut sent = 0;
    while !limit.reached(sent, meter) {
        let (bytes, count) = ring.take(400);
        publisher.write(bytes)?;
        sent += count;
        reader.wait_within(sent, AHEAD)?;
    }
    Ok(sent)
}

/// A subscriber on a thread of its own.
struct Reader {
    seen: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Reader {
    fn start(address: SocketAddr, qos: u8, clean: bool) -> Result<Reader> {
        let mut wire = Mqtt::connect(address, "subscriber", clean)?;
        wire.subscribe(TOPIC, qos)?;
        wire.stream.set_read_timeout(Some(GLANCE))?;
        let (seen, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, end) = (Arc::clone(&seen), Arc::clone(&stop));
        let thread = std::thread::spawn(move || read_all(&mut wire.stream, qos, &count, &end));
        Ok(Reader { seen, stop, thread })
    }

    /// Waits until at most `ahead` of `sent` have not come.
    fn wait_within(&self, sent: u64, ahead: u64) -> Result<()> {
        let mut begin = None;
        loop {
            let seen = self.seen.load(Ordering::Relaxed);
            if sent.saturating_sub(seen) <= ahead {
                return Ok(());
            }
            ensure!(!self.thread.is_finished(), "the subscriber ended early");
            let waited = begin.get_or_insert_with(crate::stopwatch::now).elapsed();
            ensure!(waited < PATIENCE, "{sent} messages were sent, {seen} came, and no more");
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// Waits until all that was sent has come.
    fn finish(self, sent: u64) -> Result<()> {
        let begin = crate::stopwatch::now();
        while self.seen.load(Ordering::Relaxed) < sent && !self.thread.is_finished() && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_micros(200));
        }
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.seen.load(Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the subscriber panicked"))??;
        ensure!(seen == sent, "{sent} messages were sent, {seen} came");
        Ok(())
    }
}

/// Counts whole packets, all of one length, and acknowledges them.
fn read_all(stream: &mut TcpStream, qos: u8, seen: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let length = publish_frame(qos, 1).len();
    let mut buffer = vec![0; 256 * 1024];
    let (mut held, mut acknowledgements) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let read = match stream.read(&mut buffer[held..]) {
            Ok(read) => read,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        ensure!(read > 0, "the broker closed the subscriber's connection");
        held += read;
        let whole = held / length;
        if qos > 0 {
            acknowledgements.clear();
            for packet in buffer[..whole * length].chunks_exact(length) {
                let id = packet_id_offset();
                acknowledgements.extend_from_slice(&[0x40, 2, packet[id], packet[id + 1]]);
            }
            stream.write_all(&acknowledgements)?;
        }
        buffer.copy_within(whole * length..held, 0);
        held -= whole * length;
        seen.fetch_add(whole as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Fixed header of one byte, a remaining length of two, the topic with its length.
fn packet_id_offset() -> usize {
    3 + 2 + TOPIC.len()
}

fn publish_frame(qos: u8, id: u16) -> Vec<u8> {
    let id = id.to_be_bytes();
    let id = if qos > 0 { id.as_slice() } else { &[] };
    let remaining = 2 + TOPIC.len() + id.len() + PAYLOAD;
    let mut frame =
        vec![0x30 | qos << 1, (remaining % 128) as u8 | 0x80, (remaining / 128) as u8, 0, TOPIC.len() as u8];
    frame.extend_from_slice(TOPIC.as_bytes());
    frame.extend_from_slice(id);
    frame.resize(frame.len() + PAYLOAD, b'x');
    frame
}
