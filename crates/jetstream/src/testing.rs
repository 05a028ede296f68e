//! Tests of the whole state machine: golden scripts, random stories, damaged descriptions.

mod crowded;
mod crowds;
mod properties;
mod recovery;
mod script;
mod script_consumers;
mod script_forwards;
mod script_output;

use crate::command::{Batch, Command, Deliveries};

/// What was delivered has left.
fn credits(deliveries: &Deliveries) -> Batch {
    let mut batch = Batch::default();
    for delivery in &deliveries.entries {
        batch.commands.extend(delivery.from.map(|to| Command::Credit { to, bytes: delivery.cost() }));
    }
    batch
}
