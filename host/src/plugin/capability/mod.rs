//! Capabilities: the functions of the host that a guest can call, one file for each interface of
//! the contract.
//!
//! A capability that needs a permission checks it through [`super::grant::Gate`] and nowhere else.
//! None of these functions may block its thread or hold the Store across an await, because a call
//! of `stop` would have to wait for the Store.

mod children;
mod clock;
mod config;
mod host;
mod input;
mod log;
mod process;
mod progress;
