//! Everything particular to Linux: `/proc`, `posix_spawn`, `waitid`, `signalfd`, pidfds. Apart from
//! one call in `log::watch`, and from tests, only this part of `supervise` has `unsafe` code.

pub(super) mod files;
pub(super) mod freezer;
pub(super) mod procfs;
pub(super) mod signals;
pub(super) mod spawn;
pub(super) mod tag;
pub(super) mod wait;
