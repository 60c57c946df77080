//! Everything particular to Linux: `/proc`, `posix_spawn`, `waitid`, `signalfd`, pidfds. Only this
//! part of `supervise` has `unsafe` code; the rest of `supervise` uses plain values.

pub(super) mod files;
pub(super) mod procfs;
pub(super) mod signals;
pub(super) mod spawn;
pub(super) mod tag;
pub(super) mod wait;
