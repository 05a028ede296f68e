//! What the shell answers and publishes itself: monitoring requests, system events.

use subject::Filter;

use crate::account::{GLOBAL, Service, ServiceId, Target};
use crate::broker::Broker;
use crate::identity::Now;
use crate::outbox::Outbox;
use crate::routing::{Message, Origin};

impl Broker {
    /// From now on messages that match are handed to the shell as [`crate::Effect::Request`].
    pub fn serve(&mut self, filter: &Filter, service: ServiceId) {
        self.change_row(GLOBAL, filter, Target::Service(Service::Shell(service)), true);
    }

    /// Publishes a message of the server's own: an answer, an event. `subject` is a valid literal; `headers` is a header block or empty.
    /// Returns how many it reached.
    pub fn answer(&mut self, now: Now, subject: &[u8], headers: &[u8], payload: &[u8], out: &mut Outbox) -> usize {
        let body = [headers, payload].concat();
        let message = Message { header_len: headers.len(), ..Message::new(subject, &body) };
        self.publish(now, Origin::server(GLOBAL), &message, out).reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Effect, NewConnection, Protocol, Settings, TlsFacts, Transport};

    #[test]
    fn a_request_goes_to_the_shell_and_its_answer_back() {
        let mut broker = Broker::new(Settings::default(), 1);
        let mut out = broker.outbox();
        broker.serve(&Filter::parse("$SYS.REQ.SERVER.PING.>").unwrap(), ServiceId(3));
        let peer = ([127, 0, 0, 1], 1).into();
        let new = NewConnection { protocol: Protocol::Nats, transport: Transport::Tcp, peer, tls: TlsFacts::default() };
        let id = broker.open(Now::default(), &new, &mut out).unwrap();
        let sent = b"CONNECT {\"verbose\":false}\r\nSUB r 1\r\nPUB $SYS.REQ.SERVER.PING.VARZ r 2\r\n{}\r\n";
        broker.received(Now::default(), id, sent, &mut out);
        let Some(Effect::Request { service, subject, reply, payload }) = out.next_effect() else {
            panic!("no request")
        };
        assert_eq!(
            (service, &*subject, &*payload),
            (ServiceId(3), b"$SYS.REQ.SERVER.PING.VARZ".as_slice(), b"{}".as_slice())
        );
        out.sent(id, out.pending_bytes(id));
        assert_eq!(broker.answer(Now::default(), &reply, b"", b"yes", &mut out), 1);
        let bytes: Vec<u8> = out.pending(id).flatten().copied().collect();
        assert_eq!(bytes, b"MSG r 1 3\r\nyes\r\n");
    }
}
