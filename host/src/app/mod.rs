//! The use cases: one method of [`Host`] for each thing that can be asked, whoever asks. Requests and views are plain data.
//!
//! Rules of the product are here and in the domain, never in `api`. Commands go through the engine; reads come from the store, which is true
//! as of the last commit.

mod act;
mod check;
mod delegate;
mod error;
mod explain;
mod host;
mod logs;
mod plugins;
mod present;
mod read;
mod reader;
mod request;
mod view;

pub(crate) use self::{
    error::{AppError, ErrorKind},
    host::{Host, HostParts},
    logs::LogStream,
    request::{Delegate, DownMode, Environment, ListFilter, LogQuery, Origin, TaskRef},
    view::{
        AttemptView, Cancelled, Delegated, HostInfo, LogChannel, LogLines, LogPiece,
        PermissionView, PluginDetail, PluginView, Retried, TaskList, TaskView, Why,
    },
};
