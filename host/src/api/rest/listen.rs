//! The listener: serves connections, and lets those in flight finish when the host goes down.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinSet,
};

use super::{
    GoingDown,
    caller::Connected,
    places::{Answering, Place, Places},
};
use crate::{
    app::{Host, Peer},
    clock,
};

/// How long a client may take for the head of a request, and stay without one. Clients keep a
/// connection for a shorter time.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// How long connections may go on once the host goes down: answers that are being written get through, followers do not hold it up.
const FAREWELL: Duration = Duration::from_secs(2);
/// After a failed `accept` (no descriptor left) the next try waits this long.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// The version of the host, on every answer: a client of another one says so.
pub(crate) const VERSION_HEADER: &str = "claudine-version";

/// Serves until it is told to shut down and the last answers are written. `listeners` brings a new
/// one when the socket was made anew. Its end before the shutdown is an error.
pub(crate) async fn serve(
    mut listeners: watch::Receiver<Arc<UnixListener>>,
    host: Arc<Host>,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let going_down = GoingDown(shutdown);
    let places = Places::of_this_process();
    let router = super::router(host, going_down.clone(), places.clone());
    let mut connections = JoinSet::new();
    // A connection that was accepted, and has no place yet.
    let mut arrived = None;
    loop {
        let listener = listeners.borrow_and_update().clone();
        tokio::select! {
            accepted = listener.accept(), if arrived.is_none() => match accepted {
                Ok((stream, _)) => arrived = Some(stream),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    places.make_room();
                    clock::sleep(ACCEPT_AGAIN).await;
                }
            },
            place = places.enter(), if arrived.is_some() => {
                if let Some(stream) = arrived.take() {
                    let router = router.clone();
                    connections.spawn(converse(stream, router, going_down.clone(), place));
                }
            }
            Some(ended) = connections.join_next(), if !connections.is_empty() => log_panic(ended),
            changed = listeners.changed() => match changed {
                Ok(()) => {}
                Err(_) if going_down.is_near() => break,
                Err(error) => return Err(io::Error::other(error)),
            },
            () = going_down.wait() => break,
        }
    }
    drop(listeners);
    let farewell = async {
        while let Some(ended) = connections.join_next().await {
            log_panic(ended);
        }
    };
    if clock::within(FAREWELL, farewell).await.is_none() {
        connections.shutdown().await;
    }
    Ok(())
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

async fn converse(stream: UnixStream, router: Router, going_down: GoingDown, place: Place) {
    let connected = match peer_of(&stream) {
        Ok(peer) => Connected::new(peer),
        Err(error) => {
            tracing::warn!(%error, "a connection does not say whose it is");
            return;
        }
    };
    let place = Arc::new(place);
    let answers = TowerToHyperService::new(router);
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(connected.clone());
        let busy = place.begin();
        let answer = answers.call(request);
        async move {
            let answer = answer.await?;
            Ok::<_, Infallible>(answer.map(|body| Answering { body, _busy: busy }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = place.sent_away() => return tracing::debug!("an idle connection makes room"),
        () = going_down.wait() => {
            // No request has come as a whole, so no client waits for an answer.
            if place.is_idle() {
                return;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // A client may go away in the middle of an answer.
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
    }
}
