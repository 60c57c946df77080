//! Facts about the host and its machine.

use crate::Attributes;
use crate::bindings::claudine::plugin::host as wit;

/// `host-version`, `os`, `arch` and `uid` (the effective user; `0` is root). More may be added.
pub fn facts() -> Attributes {
    Attributes::new(wit::facts())
}
