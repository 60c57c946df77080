//! `/v1/overview` and `/v1/changes`: tasks as a screen shows them, and their changes.

use axum::extract::State;

use super::{
    Shared,
    answer::{Answered, Asked, Refusal, ok},
    caller::Sender,
    tasks::going_down,
};
use crate::app::{ChangesQuery, ListFilter, Overview};

pub(super) async fn show(
    State(shared): State<Shared>,
    sender: Sender,
    Asked(filter): Asked<ListFilter>,
) -> Answered<Overview> {
    let filter = sender.meant(&shared, filter).await?;
    ok(shared.host.overview(filter).await?)
}

/// Ends when the caller disconnects, because the disconnect drops this future.
pub(super) async fn changes(
    State(shared): State<Shared>,
    Asked(query): Asked<ChangesQuery>,
) -> Answered<Overview> {
    let stay = shared.places.stay();
    let has_to_end = async {
        match &stay {
            Some(_) => std::future::pending().await,
            None => shared.places.has_to_end().await,
        }
    };
    let at_once = ChangesQuery {
        timeout_ms: Some(0),
        ..query
    };
    tokio::select! {
        changes = shared.host.changes(query) => ok(changes?),
        // Without a place for a long stay, the answer comes early, and the client asks again.
        () = has_to_end => ok(shared.host.changes(at_once).await?),
        () = shared.going_down.wait() => Err(Refusal(going_down())),
    }
}
