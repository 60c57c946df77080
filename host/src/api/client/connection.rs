//! One HTTP connection to the host.
//!
//! The caller drives the connection, so no tokio task runs in the background. An idle connection is
//! not driven, so a client notices only at the next use that the host is gone.

use std::pin::Pin;

use claudine_domain::principal::Via;
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header::{CONTENT_TYPE, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Ask;
use crate::api::rest::VIA_HEADER;

/// The connection ended before the answer was complete.
#[derive(Debug)]
pub(super) struct Broken {
    /// Whether the host may have seen the request.
    pub(super) sent: bool,
    pub(super) source: hyper::Error,
}

impl Broken {
    pub(super) fn unfinished(source: hyper::Error) -> Self {
        Self { sent: true, source }
    }
}

/// Transport of a connection: a socket, or a pipe within this process.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(super) struct Connection {
    via: Via,
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    /// Whether the other end is in this process.
    pub(super) is_here: bool,
}

type Wire = http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

/// The part that reads and writes; `None` once the connection has ended.
struct Driver(Option<Pin<Box<Wire>>>);

impl Driver {
    /// Drives the connection until `work`, which depends on the connection, is done.
    async fn drive<F: Future>(&mut self, work: F) -> F::Output {
        tokio::pin!(work);
        if let Some(wire) = self.0.as_mut() {
            tokio::select! {
                biased;
                done = &mut work => return done,
                // An error of the connection is ignored here, because `work` returns it too.
                _ = wire => self.0 = None,
            }
        }
        work.await
    }
}

impl Connection {
    pub(super) async fn open(stream: Box<dyn Stream>, via: Via) -> hyper::Result<Self> {
        let (sender, wire) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self {
            via,
            sender,
            driver: Driver(Some(Box::pin(wire))),
            is_here: false,
        })
    }

    /// Whether the connection is still open and ready for a request.
    pub(super) async fn is_usable(&mut self) -> bool {
        self.driver.drive(self.sender.ready()).await.is_ok()
    }

    /// Sends a request and returns the head of the answer. The body arrives only while
    /// [`Self::drive`] drives the connection.
    pub(super) async fn send(&mut self, ask: &Ask) -> Result<Response<Incoming>, Broken> {
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        // Each path is a valid URI, because `address` percent-encodes it and limits its length.
        *request.uri_mut() = ask.path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_static("claudine"));
        headers.insert(VIA_HEADER, HeaderValue::from_static(self.via.as_str()));
        if !ask.body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        self.driver
            .drive(self.sender.try_send_request(request))
            .await
            .map_err(|mut error| {
                let sent = error.take_message().is_none();
                Broken {
                    sent,
                    source: error.into_error(),
                }
            })
    }

    pub(super) async fn drive<F: Future>(&mut self, work: F) -> F::Output {
        self.driver.drive(work).await
    }
}
