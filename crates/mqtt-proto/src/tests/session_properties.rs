//! The outgoing half of a session against a model: a list of what the client has seen.

use proptest::prelude::*;

use crate::protocol::{PacketId, Qos};
use crate::session::{Outbound, PubackOutcome, PubcompOutcome, PubrecOutcome, Resend};

#[derive(Debug, Clone, Copy)]
enum Step {
    Send {
        skip: u64,
        exactly_once: bool,
    },
    /// Acknowledge the open message at this index, by whatever is next for it.
    Acknowledge(usize),
    Reconnect {
        window: u16,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (prop_oneof![9 => Just(0u64), 1 => 0..70_000u64], any::<bool>())
            .prop_map(|(skip, exactly_once)| Step::Send { skip, exactly_once }),
        4 => (0..8usize).prop_map(Step::Acknowledge),
        1 => (1..6u16).prop_map(|window| Step::Reconnect { window }),
    ]
}

/// Open messages as a client would list them: position, QoS 2, released.
type Model = Vec<(u64, bool, bool)>;

fn acknowledge(outbound: &mut Outbound, model: &mut Model, index: usize) {
    let (position, exactly_once, released) = model[index];
    let id = PacketId::of_position(position);
    match (exactly_once, released) {
        (false, _) => {
            assert!(outbound.handle_pubrec(id, false).is_err() && outbound.handle_pubcomp(id).is_err());
            assert_eq!(outbound.handle_puback(id), Ok(PubackOutcome::Settled(position)));
            assert_eq!(outbound.handle_puback(id), Ok(PubackOutcome::Unknown));
            model.remove(index);
        }
        (true, false) => {
            assert!(outbound.handle_puback(id).is_err() && outbound.handle_pubcomp(id).is_err());
            assert_eq!(outbound.handle_pubrec(id, false), Ok(PubrecOutcome::Released(position)));
            assert_eq!(outbound.handle_pubrec(id, false), Ok(PubrecOutcome::AlreadyReleased(position)));
            model[index].2 = true;
        }
        (true, true) => {
            assert_eq!(outbound.handle_pubcomp(id), Ok(PubcompOutcome::Settled(position)));
            model.remove(index);
        }
    }
}

/// Everything is sent again in order, a window at a time, the oldest acknowledged to make room.
fn reconnect(outbound: &mut Outbound, model: &mut Model, window: u16) {
    outbound.detach();
    assert!(!outbound.has_room() && outbound.next_resend().is_none());
    outbound.attach(window);
    let mut sent = 0;
    while outbound.is_resending() {
        while let Some(resend) = outbound.next_resend() {
            let (position, exactly_once, released) = model[sent];
            let id = PacketId::of_position(position);
            let qos = if exactly_once { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
            let expected = if released { Resend::Pubrel { id } } else { Resend::Publish { position, id, qos } };
            assert_eq!(resend, expected);
            sent += 1;
            assert!(sent <= usize::from(window));
        }
        if outbound.is_resending() {
            assert!(!outbound.has_room());
            let before = model.len();
            acknowledge(outbound, model, 0);
            sent -= before - model.len();
        }
    }
    assert_eq!(sent, model.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn nothing_is_lost_repeated_or_reordered(start in any::<u32>(), steps in proptest::collection::vec(step(), 1..60)) {
        let mut outbound = Outbound::new(u64::from(start));
        let mut model = Model::new();
        let mut window = 4;
        outbound.attach(window);
        for step in steps {
            match step {
                Step::Send { skip, exactly_once } => {
                    let position = outbound.next_position() + skip;
                    let near = model.first().is_none_or(|&(oldest, ..)| position - oldest < PacketId::COUNT);
                    let room = model.len() < usize::from(window) && near;
                    let qos = if exactly_once { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
                    let id = outbound.send(position, qos);
                    prop_assert_eq!(id, room.then(|| PacketId::of_position(position)));
                    if room {
                        prop_assert!(model.iter().all(|&(open, ..)| PacketId::of_position(open) != id.unwrap()));
                        model.push((position, exactly_once, false));
                    }
                }
                Step::Acknowledge(index) if index < model.len() => acknowledge(&mut outbound, &mut model, index),
                Step::Acknowledge(_) => {}
                Step::Reconnect { window: next } => {
                    window = next;
                    reconnect(&mut outbound, &mut model, window);
                }
            }
            prop_assert_eq!(outbound.open_count(), model.len());
            prop_assert_eq!(outbound.oldest_open(), model.first().map_or(outbound.next_position(), |open| open.0));
        }
        // What a restart restores is what was there.
        let mut restored = Outbound::new(outbound.oldest_open());
        for (position, exactly_once, released) in model {
            let qos = if exactly_once { Qos::ExactlyOnce } else { Qos::AtLeastOnce };
            prop_assert!(restored.restore(position, qos, released));
        }
        outbound.detach();
        prop_assert_eq!(restored.open_count(), outbound.open_count());
        prop_assert_eq!(restored.oldest_open(), outbound.oldest_open());
    }
}
