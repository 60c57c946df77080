//! Attempts in progress. This module connects the engine, which decides, the plugin, which runs the
//! executor's code, and the supervisor, which has the processes.
//!
//! For each attempt, one asynchronous task runs the executor's instances and then waits until
//! nothing of the attempt is alive. An attempt's reports to the engine are kept until the engine
//! acknowledges that they are durable, so that the reports can be repeated after the board was
//! loaded again.

mod allowed;
mod code;
mod commands;
mod directory;
mod elsewhere;
mod ending;
mod found;
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
    found::Known,
    run::{Runner, RunnerParts},
};
