//! A scripted hub, an edge around a [`crate::Forward`], golden scripts and a simulation.

mod edge;
mod hub;
mod script;
mod simulation;
