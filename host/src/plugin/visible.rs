//! The variables of a task's environment that a guest may see, which are the ones that the guest's
//! manifest names.

use std::collections::BTreeMap;

use super::Manifest;

/// Returns the variables that the manifest names.
pub(crate) fn visible(
    manifest: &Manifest,
    variables: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let read = manifest.reads_env.iter().filter_map(|name| {
        variables
            .get(name)
            .map(|value| (name.clone(), value.clone()))
    });
    read.collect()
}
