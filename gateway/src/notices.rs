//! Hands what the broker tells the gateway's own engines to the one it is for: a remote's task, or the forwards.

use std::cell::RefCell;
use std::rc::Rc;

use broker::{ConnectionId, Notice};
use forward::Hub;
use server::CoreHandle;
use tokio::sync::mpsc;

use crate::forwarder::Forwards;

/// What waits for a remote's task at most; more INFO than that is lost.
const QUEUE: usize = 64;

/// What a remote's task is told of its link. The end of the channel is the end of the link.
#[derive(Debug)]
pub(crate) enum LinkNotice {
    /// The hub sent INFO: its JSON.
    Info(Box<[u8]>),
    /// The hub sent `-ERR`, or a loop was found.
    Error(String),
    /// The hub answered a PING after so many microseconds.
    Pong(u32),
    /// What the hub can't be sent, a sentence.
    Withheld(String),
    /// Why the link is gone.
    Closed(&'static str),
}

/// See the module; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Notices(Rc<Registry>);

#[derive(Debug, Default)]
struct Registry {
    links: RefCell<Vec<(ConnectionId, mpsc::Sender<LinkNotice>)>>,
    forwards: RefCell<Option<Forwards>>,
}

impl Notices {
    /// Starts the task that takes the broker's notices. On the core thread.
    #[must_use]
    pub fn start(core: &CoreHandle) -> Notices {
        let notices = Notices::default();
        let (core, dispatching) = (core.clone(), notices.clone());
        tokio::task::spawn_local(async move {
            loop {
                let notice = core.next_notice().await;
                dispatching.dispatch(notice);
            }
        });
        notices
    }

    /// From now on the forwards are told of links, interest and answers. Before the first link is dialled.
    pub fn connect(&self, forwards: &Forwards) {
        *self.0.forwards.borrow_mut() = Some(forwards.clone());
    }

    /// A link is up and announced.
    pub(crate) fn link_up(&self, id: ConnectionId, hub: Hub) -> mpsc::Receiver<LinkNotice> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.0.links.borrow_mut().push((id, sender));
        if let Some(forwards) = self.forwards() {
            forwards.link_up(id, hub);
        }
        receiver
    }

    /// The hub says other things of itself than before.
    pub(crate) fn link_changed(&self, id: ConnectionId, hub: Hub) {
        if let Some(forwards) = self.forwards() {
            forwards.link_changed(id, hub);
        }
    }

    /// A link is given up, or gone.
    pub(crate) fn link_down(&self, id: ConnectionId) {
        self.0.links.borrow_mut().retain(|(known, _)| *known != id);
        if let Some(forwards) = self.forwards() {
            forwards.link_down(id);
        }
    }

    fn forwards(&self) -> Option<Forwards> {
        self.0.forwards.borrow().clone()
    }

    fn dispatch(&self, notice: Notice) {
        match notice {
            Notice::LeafClosed { id, reason } => {
                self.tell(id, LinkNotice::Closed(reason.text()));
                self.link_down(id);
            }
            Notice::LeafInfo { id, json } => self.tell(id, LinkNotice::Info(json)),
            Notice::LeafError { id, text } => self.tell(id, LinkNotice::Error(text)),
            Notice::LeafPong { id, round_trip_micros } => self.tell(id, LinkNotice::Pong(round_trip_micros)),
            Notice::HubInterest { id } => {
                if let Some(forwards) = self.forwards() {
                    forwards.interest_changed(id);
                }
            }
            Notice::TooLarge { id, ack_subject, size, largest } => {
                self.tell(id, LinkNotice::Withheld(too_large(&ack_subject, size, largest)));
            }
            Notice::Message { subscription, subject, headers, payload } => {
                if let Some(forwards) = self.forwards() {
                    forwards.reply(subscription, &subject, &headers, &payload);
                }
            }
        }
    }

    fn tell(&self, id: ConnectionId, notice: LinkNotice) {
        if let Some((_, sender)) = self.0.links.borrow().iter().find(|(known, _)| *known == id) {
            // A queue that is full holds what matters already; the end of the link shows in the end of the channel.
            let _ = sender.try_send(notice);
        }
    }
}

/// What the owner of a stream has to know of a message that its hub does not take.
fn too_large(ack_subject: &[u8], size: usize, largest: usize) -> String {
    let text = String::from_utf8_lossy(ack_subject);
    let mut tokens = text.split('.').skip(2);
    let (stream, sequence) = (tokens.next().unwrap_or_default(), tokens.nth(2).unwrap_or_default());
    format!(
        "message {sequence} of stream {stream} has {size} bytes, the hub takes {largest}: its source or mirror waits there; raise max_payload at the hub, \
         or delete the message"
    )
}

#[cfg(test)]
mod tests {
    use super::too_large;

    #[test]
    fn the_owner_is_told_which_message_it_is() {
        let text = too_large(b"$JS.ACK.EV.JS_SRC_x-12345678.1.42.7.1767225600000000000.0", 2_000, 1_000);
        assert!(text.starts_with("message 42 of stream EV has 2000 bytes, the hub takes 1000:"), "{text}");
    }
}
