//! `plugin-bench FOLDER [LIVE]`: measures what plugins cost. `cargo xtask bench` runs it on the
//! plugins that it has built.

use std::process::ExitCode;

fn main() -> ExitCode {
    claudine::plugin_bench(std::env::args_os().skip(1))
}
