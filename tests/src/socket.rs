//! Requests to the socket of a host, for tests that ask for a state again and again.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
};

use serde_json::Value;

use crate::wait::PATIENCE;

/// Asks the host at this socket for a document.
pub(crate) fn get(socket: &Path, path: &str) -> io::Result<Value> {
    let answer = said(socket, &format!("GET {path} HTTP/1.1"), "")?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(serde_json::from_str(body)?),
        _ => Err(io::Error::other(answer)),
    }
}

/// Sends a body to the host at this socket, as a client of MCP does. Returns the whole answer.
pub(crate) fn post_as_client(socket: &Path, path: &str, body: &str) -> io::Result<String> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nclaudine-via: mcp\r\ncontent-type: application/json\r\n\
         content-length: {length}"
    );
    said(socket, &head, body)
}

/// The answer to a request, which begins with this head.
pub(crate) fn said(socket: &Path, head: &str, body: &str) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let request = format!("{head}\r\nhost: claudine\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}
