//! The `claudine` binary. Everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    claudine::run(std::env::args_os().collect())
}
