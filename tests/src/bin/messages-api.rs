//! The scripted Messages API as a process: prints its address and serves until it is killed.
//!
//! `messages-api [PORT] [SCRIPT.json]`. `GET /control/requests` returns the recorded requests,
//! `POST /control/script` replaces the script, `GET /control/reached/NAME` returns whether an
//! answer has reached a point, and `POST /control/release/NAME` releases a point.

use std::io::Write;

use anyhow::Context;
use claudine_tests::messages_api::{Answer, MessagesApi, Script};

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let port = match arguments.next() {
        Some(text) => text
            .parse()
            .with_context(|| format!("{text:?} is not a port"))?,
        None => 0,
    };
    let script = match arguments.next() {
        Some(path) => serde_json::from_slice(&std::fs::read(&path).with_context(|| path.clone())?)
            .with_context(|| format!("{path} is not a script"))?,
        None => Script::always(Answer::text("ok")),
    };
    let server = MessagesApi::start_on(port, script)?;
    writeln!(std::io::stdout(), "{}", server.url())?;
    server.join()?;
    Ok(())
}
