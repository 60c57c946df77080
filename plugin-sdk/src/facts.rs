//! Facts about the host and its machine.

use crate::Attributes;
use crate::bindings::claudine::plugin::host as wit;

/// `host-version`, `os`, `arch` and `uid` (the effective user, `0` is root); more may come.
pub fn facts() -> Attributes {
    Attributes::new(wit::facts())
}
