//! The space that requests of clients leave to the person. What they submit is kept for days, even
//! if the person cancels it, and no task starts while less than the reserve is free.

use std::io;

use claudine_domain::{capacity::Limits, principal::Principal};

use super::error::{AppError, ErrorKind};
use crate::{aside, fsx, layout::Layout, units::bytes_text};

/// Refuses a request of a restrained principal if less than the reserve is free on the disk of the
/// data directory. A disk that cannot be asked refuses nothing.
pub(super) async fn refuse_without(
    by: &Principal,
    layout: &Layout,
    limits: &Limits,
) -> Result<(), AppError> {
    if !by.restrained {
        return Ok(());
    }
    let dir = layout.root().to_owned();
    let free = aside::run(move || fsx::free_bytes(&dir)).await;
    let free = free.unwrap_or_else(|error| Err(io::Error::other(error)));
    let free = free.unwrap_or_else(|error| {
        tracing::debug!(%error, "the free space of the data directory is unknown");
        u64::MAX
    });
    let reserve = limits.disk_reserve_bytes;
    if free >= reserve {
        return Ok(());
    }
    let message = format!(
        "only {} are free on the disk of {}, less than the reserve of {} (CLAUDINE_DISK_RESERVE), \
         so no task of an MCP client is accepted or run again",
        bytes_text(free),
        layout.root().display(),
        bytes_text(reserve)
    );
    Err(AppError::new(ErrorKind::StoreFull, message).hint("free some space on this disk"))
}
