//! Attempts at work: between the engine, which decides, the plugin, which knows how, and the supervisor, which holds the processes.
//!
//! For each attempt there is one task that runs the executor's instances and then waits until nothing of the attempt is alive. What it has told
//! the engine is kept until the engine says it is durable, so that a board that had to be loaded again can be told once more.

mod allowed;
mod ending;
mod given;
mod guest_host;
mod input;
mod live;
mod output;
mod route;
mod run;
mod standby;
mod whose;
mod workspace;

pub(crate) use self::{
    route::Known,
    run::{Runner, RunnerParts},
};
