//! The interface `config`.

use crate::plugin::guest::Guest;
use crate::plugin::v0_1::config::Host;

impl Host for Guest {
    fn get(&mut self) -> wasmtime::Result<String> {
        Ok(self.identity.config.clone())
    }
}
