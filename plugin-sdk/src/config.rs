//! The plugin's own configuration.

use serde::de::DeserializeOwned;

use crate::bindings::claudine::plugin::config as wit;
use crate::{Class, Failure, parse};

/// Reads the plugin's own configuration: the table `[plugins.NAME]` of the host's configuration
/// file, or an empty table if the file has none. Fails with class `invalid` if the table does not
/// match the type.
pub fn config<T: DeserializeOwned>() -> Result<T, Failure> {
    parse(&wit::get()).map_err(|issue| {
        Failure::new(
            Class::Invalid,
            format!("the plugin's configuration: {}", Failure::from(issue)),
        )
    })
}
