//! Determines the principal of a request, once per connection.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};
use claudine_domain::principal::{Kind, Principal, Via};
use tokio::sync::OnceCell;

use super::{
    Shared, VIA_HEADER,
    answer::{Refusal, invalid},
};
use crate::app::{Caller, Peer};

/// The principal of a request.
pub(super) struct By(pub(super) Arc<Principal>);

/// The peer of a connection, as reported by the kernel. Its principal is determined only when a
/// request needs it, because determining it costs more than most answers.
#[derive(Clone)]
pub(super) struct Connected {
    peer: Arc<Peer>,
    caller: Arc<OnceCell<Caller>>,
}

impl Connected {
    pub(super) fn new(peer: Peer) -> Self {
        Self {
            peer: Arc::new(peer),
            caller: Arc::default(),
        }
    }
}

/// The sender of a request, whose principal is determined only when it is needed.
pub(super) struct Sender {
    connected: Connected,
    via: Via,
}

impl Sender {
    pub(super) async fn principal(&self, shared: &Shared) -> Result<Principal, Refusal> {
        let recognised = shared.host.recognise(&self.connected.peer);
        let caller = self.connected.caller.get_or_try_init(|| recognised).await?;
        Ok(caller.by(self.via))
    }
}

impl FromRequestParts<Shared> for Sender {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let via = via(parts)?;
        let connected = match parts.extensions.get::<Connected>() {
            Some(connected) => connected.clone(),
            None if shared.host.is_absent() => Connected::new(Peer::of_this_process()),
            // The listener adds the connection to the requests of every connection.
            None => {
                let message = "internal error in Claudine: the request has no connection";
                return Err(invalid(message));
            }
        };
        Ok(Self { connected, via })
    }
}

impl FromRequestParts<Shared> for By {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let sender = Sender::from_request_parts(parts, shared).await?;
        Ok(Self(Arc::new(sender.principal(shared).await?)))
    }
}

/// The sender of a request. All processes of a task are one client, because a task can start any
/// number of them. Every other process is a client.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Client {
    pub(super) kind: Kind,
    pub(super) pid: Option<u32>,
    pub(super) is_restrained: bool,
}

/// The client of a request. A request from within this process comes from the owner.
pub(super) async fn client_of(parts: &mut Parts, shared: &Shared) -> Result<Client, Refusal> {
    let Some(connected) = parts.extensions.get::<Connected>().cloned() else {
        return Ok(Client {
            kind: Kind::Owner,
            pid: None,
            is_restrained: false,
        });
    };
    let By(by) = By::from_request_parts(parts, shared).await?;
    let is_task = matches!(by.kind, Kind::Agent { task: Some(_) });
    Ok(Client {
        kind: by.kind,
        pid: connected.peer.pid.filter(|_| !is_task),
        is_restrained: by.restrained,
    })
}

/// The origin that a request states in a header. A request can state nothing else about its sender.
fn via(parts: &Parts) -> Result<Via, Refusal> {
    let Some(said) = parts.headers.get(VIA_HEADER) else {
        return Ok(Via::Rest);
    };
    let ways = [Via::Cli, Via::Mcp, Via::Rest];
    let found = ways
        .into_iter()
        .find(|via| via.as_str().as_bytes() == said.as_bytes());
    found.ok_or_else(|| {
        let said = String::from_utf8_lossy(said.as_bytes())
            .escape_debug()
            .to_string();
        invalid(format!(
            "{VIA_HEADER} is `{said}`, but must be cli, mcp or rest"
        ))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use axum::http::Request;

    use super::*;

    #[test]
    fn the_stated_origin_must_be_cli_mcp_or_rest() {
        let check = |said: Option<&str>, expected: Result<Via, &str>| {
            let mut request = Request::builder();
            if let Some(said) = said {
                request = request.header(VIA_HEADER, said);
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            let found = via(&parts).map_err(|refusal| refusal.0.message);
            assert_eq!(found, expected.map_err(str::to_owned), "{said:?}");
        };
        check(None, Ok(Via::Rest));
        check(Some("cli"), Ok(Via::Cli));
        check(Some("mcp"), Ok(Via::Mcp));
        check(Some("rest"), Ok(Via::Rest));
        let other = |said| format!("claudine-via is `{said}`, but must be cli, mcp or rest");
        check(Some("schedule"), Err(&other("schedule")));
        check(Some("MCP"), Err(&other("MCP")));
    }
}
