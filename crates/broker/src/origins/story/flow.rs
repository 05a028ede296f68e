//! An origin that sends as far as flow control lets it, as stock does, to a store that is slower than the link.

use super::{FAR, World, answer_to};
use crate::Settings;
use crate::identity::ConnectionId;

const MESSAGE: usize = 64 << 10;
const LARGEST_WINDOW: usize = 32 << 20;

/// A stock origin's consumer.
struct Sender {
    hub: ConnectionId,
    deliver: String,
    consumer: String,
    /// Messages it was sent, and the stream's sequence behind the last.
    numbered: u64,
    next: u64,
    window: usize,
    outstanding: usize,
    /// The request that waits for its answer: its subject, and what it covers.
    asked: Option<(String, usize)>,
}

impl Sender {
    /// The consumer that is asked for.
    fn new(world: &mut World, hub: ConnectionId, number: u64, asked: &str) -> Sender {
        let consumer = format!("C-{number}");
        let (request, deliver) = answer_to(world, hub, asked, &consumer, "one");
        let start = request.split("\"opt_start_seq\":").nth(1).and_then(|rest| rest.split([',', '}']).next());
        let next = start.map_or(1, |start| start.parse().unwrap());
        world.send(hub, &format!("LS+ $JS.FC.EV.{consumer}.*\r\n"));
        Sender { hub, deliver, consumer, numbered: 0, next, window: 2 << 20, outstanding: 0, asked: None }
    }

    /// Sends what it may, and no more than so many messages; answers how many they were.
    fn send(&mut self, world: &mut World, last: u64, most: u64) -> u64 {
        let before = self.next;
        while self.outstanding < self.window && self.next <= last && self.next - before < most {
            self.numbered += 1;
            let place = format!("$JS.ACK.EV.{}.1.{}.{}.5.0@ev.a", self.consumer, self.next, self.numbered);
            world.send(self.hub, &format!("LMSG {} {place} {MESSAGE}\r\n{}\r\n", self.deliver, "x".repeat(MESSAGE)));
            self.next += 1;
            self.outstanding += MESSAGE;
            if self.outstanding > self.window / 2 && self.asked.is_none() {
                let subject = format!("$JS.FC.EV.{}.{}", self.consumer, self.numbered);
                self.say(world, &subject, "NATS/1.0 100 FlowControl Request\r\n\r\n");
                self.asked = Some((subject, self.outstanding));
            }
        }
        self.next - before
    }

    fn heartbeat(&mut self, world: &mut World) {
        let stalled = self.asked.as_ref().filter(|_| self.outstanding >= self.window);
        let stalled = stalled.map_or(String::new(), |(subject, _)| format!("Nats-Consumer-Stalled: {subject}\r\n"));
        let (consumer, last) = (self.numbered, self.next - 1);
        let text = format!(
            "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: {consumer}\r\nNats-Last-Stream: {last}\r\n{stalled}\r\n"
        );
        self.say(world, "", &text);
    }

    fn say(&self, world: &mut World, reply: &str, text: &str) {
        let reply = if reply.is_empty() { String::new() } else { format!("{reply} ") };
        world.send(self.hub, &format!("HMSG {} {reply}{1} {1}\r\n{text}\r\n", self.deliver, text.len()));
    }

    /// Is its request answered?
    fn hear(&mut self, said: &str) {
        let answered = self.asked.take_if(|(subject, _)| said.contains(&format!("MSG {subject} ")));
        if let Some((_, bytes)) = answered {
            self.outstanding -= bytes;
            self.window = (self.window * 2).min(LARGEST_WINDOW);
        }
    }
}

/// Plays a backlog of so many messages; answers how many were sent for it, by how many consumers, and the largest window.
fn drained(backlog: u64, is_store_slow: bool) -> (u64, u64, usize) {
    let mut world = World::with(Settings { memory_budget: 16 << 20, ..Settings::default() });
    world.create(FAR);
    let hub = world.link();
    world.pass(200);
    let (mut consumers, mut sent, mut largest) = (1, 0, 0);
    let asked = world.sent(hub);
    let mut sender = Sender::new(&mut world, hub, consumers, &asked);
    for round in 1.. {
        assert!(round < 5_000, "{sent} were sent");
        // A turn takes 1 MiB.
        sent += sender.send(&mut world, backlog, if is_store_slow { u64::MAX } else { 8 });
        largest = largest.max(sender.window);
        if is_store_slow {
            world.turn();
        } else {
            world.settle();
        }
        if round % 20 == 0 {
            world.pass(1000);
            sender.heartbeat(&mut world);
            world.pass(2500);
        }
        let said = world.sent(hub);
        if said.contains("CONSUMER.CREATE") {
            consumers += 1;
            sender = Sender::new(&mut world, hub, consumers, &said);
        } else {
            sender.hear(&said);
        }
        if world.broker.origin_rows().next().expect("a row").state.sequence.0 == backlog {
            break;
        }
    }
    (sent, consumers, largest)
}

#[test]
fn what_there_is_no_room_for_is_not_let_come() {
    let backlog = 1_000;
    let (sent, consumers, largest) = drained(backlog, true);
    assert_eq!(sent, backlog, "nothing twice, by {consumers} consumers");
    assert!(consumers > 1 && largest <= 8 << 20, "{consumers} consumers, {largest} bytes");
}

#[test]
fn a_store_that_keeps_up_opens_the_window() {
    let backlog = 1_000;
    let (sent, consumers, largest) = drained(backlog, false);
    assert_eq!((sent, consumers, largest), (backlog, 1, LARGEST_WINDOW));
}
