//! The contract in `wit/` as Rust, generated in advance: generating it in each build would cost
//! every plugin author a minute. `tests/bindings.rs` compares this code with the contract, and can
//! write it again.
//!
//! The module is not part of this crate's public interface: the macro `export!` and the typed
//! modules are, and they hide that strings and lists cross the boundary.

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
