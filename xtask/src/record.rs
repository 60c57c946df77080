//! `cargo xtask record`: makes the recording for README.md. A test compares the recording with the
//! output of the same commands; this command lets that test write the file instead.

use anyhow::Result;

use crate::{build, checkout, program, setup, test};

/// The test that plays the scene.
const SCENE: &str = "recording::recording_matches_the_output_of_the_same_commands";

pub(crate) fn run() -> Result<()> {
    let tools = setup::tools()?;
    let binary = build::to_show()?;
    let file = checkout::root().join("docs/recording.svg");
    let mut test = test::workspace("test", &format!("--test claude -- --exact {SCENE}"));
    test.envs(tools.variables())
        .env("CLAUDINE_BIN", binary)
        .env("CLAUDINE_RECORD", &file);
    program::run(&mut test)?;
    println!("{}", file.display());
    Ok(())
}
