//! One HTTP connection to the host.
//!
//! Whoever uses it drives it: there is no task beside it that would have to be joined. An idle
//! connection is not driven, and that its host is gone is found out when it is to be used again.

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

/// The connection ended before the answer was whole.
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

/// What bytes go over: a socket, or a pipe within this process.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub(super) struct Connection {
    via: Via,
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    /// Its other end is in this process.
    pub(super) is_here: bool,
}

type Wire = http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

/// The half that moves bytes; `None` once it has come to its end.
struct Driver(Option<Pin<Box<Wire>>>);

impl Driver {
    /// Does a piece of work that needs the connection to move.
    async fn drive<F: Future>(&mut self, work: F) -> F::Output {
        tokio::pin!(work);
        if let Some(wire) = self.0.as_mut() {
            tokio::select! {
                biased;
                done = &mut work => return done,
                // Its error, if it is one, reaches the work as well.
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

    /// Whether it is still there and ready for a request.
    pub(super) async fn is_usable(&mut self) -> bool {
        self.driver.drive(self.sender.ready()).await.is_ok()
    }

    /// Sends a request and gives the head of the answer; the body is read by [`Self::drive`].
    pub(super) async fn send(&mut self, ask: &Ask) -> Result<Response<Incoming>, Broken> {
        let mut request = Request::new(Full::new(ask.body.clone()));
        *request.method_mut() = ask.method.clone();
        // Paths are percent-encoded by `address`, so there is none that is not a URI but one that
        // is too long.
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
