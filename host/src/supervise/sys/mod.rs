//! What is particular to Linux: `/proc`, `posix_spawn`, `waitid`, `signalfd`, pidfds. The only
//! place of this module's tree with `unsafe` code; everything above it deals in plain values.

pub(super) mod files;
pub(super) mod procfs;
pub(super) mod signals;
pub(super) mod spawn;
pub(super) mod tag;
pub(super) mod wait;
