//! The contract in `wit/` as Rust, generated. Nothing here is part of this crate's face: the macro `export!` and the typed
//! modules are, and they hide that strings and lists are what crosses the border.

#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    reason = "generated code"
)]

wit_bindgen::generate!({
    path: "../wit",
    world: "executor-plugin",
    pub_export_macro: true,
    default_bindings_module: "claudine_plugin_sdk::bindings",
    generate_all,
});
