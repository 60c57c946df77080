//! A scripted stand-in for the Messages API, for tests that drive the real Claude Code without the
//! real service.
//!
//! It listens on a free loopback port, answers `POST /v1/messages` (streaming or not) according to
//! a [`Script`], records every request for assertions, and can hold an answer at a named point
//! until the test releases the point. The server contains nothing specific to Claude Code; the
//! tests check how Claude Code behaves.
//!
//! Tests in other processes (a shell, Python) use the binary `messages-api`, which is controlled by
//! requests to `/control/…`.

mod points;
mod script;
mod serve;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

pub use script::{Answer, ApiError, Rule, Script, Step};
pub use serve::Recorded;
use serve::Shared;
use tokio::sync::oneshot;

/// A running server. It stops when this value is dropped.
pub struct MessagesApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Dropping this stops the server.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl MessagesApi {
    pub fn start(script: Script) -> io::Result<Self> {
        Self::start_on(0, script)
    }

    /// Starts a server on this port; 0 means any free port.
    pub fn start_on(port: u16, script: Script) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(script));
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let for_server = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("messages-api".to_owned())
            .spawn(move || runtime.block_on(serve::serve(listener, for_server, stopped)))?;
        Ok(Self {
            address,
            shared,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Value for `ANTHROPIC_BASE_URL`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// All requests so far, in order of arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.requests()
    }

    /// The requests for messages, without requests of other kinds such as `count_tokens`.
    pub fn message_requests(&self) -> Vec<Recorded> {
        self.requests()
            .into_iter()
            .filter(Recorded::asks_for_message)
            .collect()
    }

    /// Releases every answer that waits at this point, now or later.
    pub fn release(&self, point: &str) {
        self.shared.points.release(point);
    }

    /// Waits until an answer has reached the point; returns `false` if none has within `at_most`.
    pub fn wait_reached(&self, point: &str, at_most: Duration) -> bool {
        self.shared.points.wait_reached(point, at_most)
    }

    /// Replaces the script, for requests from now on.
    pub fn set_script(&self, script: Script) {
        self.shared.set_script(script);
    }

    /// Serves until the process is killed.
    pub fn join(mut self) -> io::Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(io::Error::other("the server's thread panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for MessagesApi {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && let Ok(Err(error)) = thread.join()
        {
            eprintln!("messages-api ended with an error: {error}");
        }
    }
}
