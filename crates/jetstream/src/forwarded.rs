//! What a forwarded stream keeps account of: what became of its messages, what its hub is still owed, and the records of what is missing.

pub mod gaps;
pub mod ledger;
pub(crate) mod owed;

#[cfg(test)]
mod ledger_properties;
#[cfg(test)]
mod owed_properties;
