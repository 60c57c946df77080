//! Claudine: a host for delegated work.
//!
//! Tasks come from an agent, a terminal or a program, are kept in a queue that survives anything, and are run by executors that are
//! WebAssembly components. `ARCHITECTURE.md` has the map of the modules and what holds between them; here they are only wired.

mod clock;
mod config;
mod digest;
mod layout;
mod plugin;
mod random;
mod store;
mod supervise;
