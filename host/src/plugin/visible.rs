//! Which variables of a task's environment a guest may see: those its manifest names.

use std::collections::BTreeMap;

use super::Manifest;

/// The effective user, for executors whose manifest asks for it.
const UID: &str = "UID_EFFECTIVE";

/// Those variables that the manifest names, and the effective user where it asks.
pub(crate) fn visible(
    manifest: &Manifest,
    variables: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let read = manifest.reads_env.iter().filter_map(|name| {
        if name == UID {
            return Some((
                name.clone(),
                rustix::process::geteuid().as_raw().to_string(),
            ));
        }
        variables
            .get(name)
            .map(|value| (name.clone(), value.clone()))
    });
    read.collect()
}
