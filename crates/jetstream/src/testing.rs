//! Tests of the whole state machine: golden scripts, random stories, damaged descriptions.

mod crowded;
mod crowds;
mod properties;
mod recovery;
mod script;
mod script_consumers;
mod script_forwards;
mod script_output;
