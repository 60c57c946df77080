//! The listener: serves connections, and lets those in flight finish when the host goes down.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
};

use super::{GoingDown, caller::Connected};
use crate::{
    app::{Host, Peer},
    clock,
};

/// Connections at once. A client that is over it waits in the kernel's queue until another one leaves.
const CONNECTIONS: usize = 1_024;
/// How long connections may go on once the host goes down: answers that are being written get through, followers do not hold it up.
const FAREWELL: Duration = Duration::from_secs(2);
/// After a failed `accept` (no descriptor left) the next try waits this long.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The version of the host, on every answer: a client of another one says so.
pub(crate) const VERSION_HEADER: &str = "claudine-version";

/// Serves until it is told to shut down and the last answers are written.
pub(crate) async fn serve(
    listener: UnixListener,
    host: Arc<Host>,
    shutdown: watch::Receiver<bool>,
) {
    let going_down = GoingDown(shutdown);
    let router = super::router(host, going_down.clone());
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &places) => accepted,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                log_panic(ended);
                continue;
            }
            () = going_down.wait() => break,
        };
        match accepted {
            Ok((stream, place)) => {
                connections.spawn(converse(stream, router.clone(), going_down.clone(), place));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                clock::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
    drop(listener);
    let farewell = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if clock::within(FAREWELL, farewell).await.is_none() {
        connections.shutdown().await;
    }
}

async fn accept(
    listener: &UnixListener,
    places: &Arc<Semaphore>,
) -> io::Result<(UnixStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a request's handler panicked");
    }
}

fn peer_of(stream: &UnixStream) -> io::Result<Peer> {
    let cred = stream.peer_cred()?;
    // The kernel says 0 of a process in a pid namespace that cannot be seen from here.
    let pid = cred.pid().and_then(|pid| u32::try_from(pid).ok());
    Ok(Peer::new(cred.uid(), pid.filter(|pid| *pid != 0)))
}

async fn converse(
    stream: UnixStream,
    router: Router,
    going_down: GoingDown,
    _place: OwnedSemaphorePermit,
) {
    let connected = match peer_of(&stream) {
        Ok(peer) => Connected::new(peer),
        Err(error) => {
            tracing::warn!(%error, "it cannot be told who has connected");
            return;
        }
    };
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(connected.clone());
        router.call(request)
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = going_down.wait() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A client that goes away in the middle is its own affair.
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
