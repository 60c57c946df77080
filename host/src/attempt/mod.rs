//! Attempts at work: between the engine, which decides, the plugin, which knows how, and the
//! supervisor, which holds the processes.
//!
//! For each attempt there is one task that runs the executor's instances and then waits until
//! nothing of the attempt is alive. What it has told the engine is kept until the engine says it is
//! durable, so that a board that had to be loaded again can be told once more.

mod allowed;
mod commands;
mod ending;
mod guest_host;
mod input;
mod inputs;
mod launcher;
mod live;
mod output;
mod registry;
mod reporter;
mod requests;
mod run;
mod standby;
mod told;
mod whose;
mod workspaces;

pub(crate) use self::{
    registry::Known,
    run::{Runner, RunnerParts},
};
