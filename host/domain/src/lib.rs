//! The rules of Claudine's queue.
//!
//! Sans-I/O: no clock, no randomness, no async, no file. A [`board::Board`] holds all unfinished
//! work. [`board::Board::step`] takes one input and decides. [`board::Board::seal`] closes a batch:
//! the content of one transaction, and the effects that follow once this transaction is durable.
//! The caller commits the batches in order and then releases their effects. If a commit fails, the
//! caller drops the board and loads another from the store.

pub mod account;
pub mod attempt;
pub mod batch;
pub mod board;
pub mod budget;
pub mod capacity;
pub mod dependency;
pub mod event;
pub mod group;
pub mod id;
mod id_set;
pub mod idempotency;
pub mod ladder;
pub mod lane;
pub mod outbox;
pub mod outcome;
pub mod principal;
pub mod profile;
pub mod queue;
pub mod refusals;
pub mod retry_policy;
pub mod revision;
pub mod session;
mod started;
pub mod step;
pub mod task;
pub mod time;
pub mod worktree;

#[cfg(test)]
mod tests;
