//! The interface `host`.

use std::env::consts::{ARCH, OS};

use crate::plugin::guest::Guest;
use crate::plugin::v0_1::host::Host;

impl Host for Guest {
    fn facts(&mut self) -> wasmtime::Result<Vec<(String, String)>> {
        let uid = rustix::process::geteuid().as_raw().to_string();
        let facts = [
            ("host-version", env!("CARGO_PKG_VERSION")),
            ("os", OS),
            ("arch", ARCH),
            ("uid", &uid),
        ];
        let own = facts.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Ok(own.into())
    }
}
