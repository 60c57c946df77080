//! The contract in `wit/` as Rust, generated beforehand: to do it at each build would cost everyone
//! who builds a plugin a minute for the generator. `tests/bindings.rs` holds it to the contract,
//! and writes it anew.
//!
//! Nothing here is part of this crate's face: the macro `export!` and the typed modules are, and
//! they hide that strings and lists are what crosses the border.

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
