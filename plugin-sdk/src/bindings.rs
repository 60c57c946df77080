//! The contract in `wit/` as Rust, generated in advance, because generating it in each build would
//! cost every plugin author a minute. The test `tests/bindings.rs` compares this code with the
//! contract, and can write it again.
//!
//! This module is not part of the crate's public interface. Plugins use the macro `export!` and the
//! typed modules, which hide that only strings and lists cross the boundary.

#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::panic,
    clippy::unwrap_used,
    reason = "generated code"
)]

include!("bindings/contract.in");
