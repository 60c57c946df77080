//! `/v1/overview` and `/v1/changes`: tasks as a screen shows them, and their changes.

use axum::{extract::State, response::Response};

use super::{
    Shared,
    answer::{Asked, Refusal},
    caller::Sender,
    pages::Cut,
    tasks::going_down,
};
use crate::app::{ChangesQuery, ListFilter};

pub(super) async fn show(
    State(shared): State<Shared>,
    sender: Sender,
    cut: Cut,
    Asked(filter): Asked<ListFilter>,
) -> Result<Response, Refusal> {
    let filter = sender.meant(&shared, filter).await?;
    let host = shared.host.clone();
    let overview = async move { host.overview(filter).await };
    shared.pages.rows(&cut, overview).await
}

/// Ends when the caller disconnects, because the disconnect drops this future.
pub(super) async fn changes(
    State(shared): State<Shared>,
    cut: Cut,
    Asked(query): Asked<ChangesQuery>,
) -> Result<Response, Refusal> {
    let stay = shared.places.stay();
    let has_to_end = async {
        match &stay {
            Some(_) => std::future::pending().await,
            None => shared.places.has_to_end().await,
        }
    };
    tokio::select! {
        changed = shared.host.changed(query) => changed?,
        // Without a place for a long stay, the answer comes early, and the client asks again.
        () = has_to_end => {}
        () = shared.going_down.wait() => return Err(Refusal(going_down())),
    }
    let host = shared.host.clone();
    let changes = async move { host.changes(query.after).await };
    shared.pages.rows(&cut, changes).await
}
