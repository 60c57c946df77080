//! What people are told to do about a plugin whose code cannot be had at the moment.

/// What happens to such a plugin.
pub(super) const TRIED_AGAIN: &str = "the host tries again by itself, and `claudine doctor` at \
                                      once, unless it has tried within the last second";

/// What a person can do.
pub(super) fn way_out() -> String {
    format!(
        "free space on the disk of the data directory, or remove the named file from its directory \
         `cache`, which the host fills again; {TRIED_AGAIN}"
    )
}
