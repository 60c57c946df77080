//! A bare MCP server with one trivial tool. Its cost is the minimum for any server made with the
//! same library.

use anyhow::Result;
use rmcp::{
    ServerHandler, ServiceExt, handler::server::router::tool::ToolRouter, tool, tool_handler,
    tool_router,
};
use tokio::net::unix::pipe;

#[derive(Clone)]
struct Bare {
    #[expect(dead_code, reason = "read by code that `tool_handler` generates")]
    tool_router: ToolRouter<Self>,
}

#[tool_router]
impl Bare {
    #[tool(description = "Says something.")]
    fn say() -> String {
        "something".to_owned()
    }
}

#[tool_handler]
impl ServerHandler for Bare {}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    use std::os::fd::AsFd;
    // Uses pipes with epoll instead of tokio's standard streams, which use a thread for each read.
    let input = pipe::Receiver::from_owned_fd(std::io::stdin().as_fd().try_clone_to_owned()?)?;
    let output = pipe::Sender::from_owned_fd(std::io::stdout().as_fd().try_clone_to_owned()?)?;
    let bare = Bare {
        tool_router: Bare::tool_router(),
    };
    bare.serve((input, output)).await?.waiting().await?;
    Ok(())
}
