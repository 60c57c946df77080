//! The REST API, on the host's Unix socket.
//!
//! Only the host's user can open the socket (mode 0600), so there are no tokens here. (A TCP
//! listener would need tokens and `Host` checks.) The kernel and `/proc` show which of the user's
//! processes sent a request ([`caller`]). The header `claudine-via` states the origin: `cli`,
//! `mcp`, or `rest`, which is the default. The permissions of a caller are decided in `app`. A
//! handler has a few lines, which parse the request, call the host and return the answer. Errors
//! are the JSON of [`crate::app::AppError`] with the status of [`super::status`].
//!
//! | method and path | answer |
//! |---|---|
//! | `POST /v1/tasks` | submits tasks, all or none |
//! | `POST /v1/plan` | the graph of tasks, without submitting them |
//! | `GET /v1/tasks?state=&name=&executor=&label=&group=&graph=&parent=&since_ms=&until_ms=&before=&limit=` | a page of tasks, newest first; `state` and `label` may be repeated |
//! | `GET /v1/tasks/{ref}` | a task |
//! | `GET /v1/tasks/{ref}/wait?timeout_ms=&waiter=` | the task as soon as it has ended, or its current state at the time limit (at most 50 s) |
//! | `GET /v1/tasks/{ref}/why` | the reasons why a task waits, or how it ended |
//! | `GET /v1/tasks/{ref}/logs?stream=&attempt=&tail=&offset=&stderr_offset=&since_ms=&follow=&transcript=` | the output of a task in [frames](frame); with `transcript`, an agent's output as items |
//! | `GET /v1/tasks/{ref}/lines?tail=` | the last lines of both streams as text |
//! | `GET /v1/tasks/{ref}/end?lines=` | the last lines of both streams as items |
//! | `POST /v1/tasks/actions` | cancels, holds, releases, retries or resumes several tasks, with a result for each |
//! | `POST /v1/tasks/{ref}/cancel` | cancels a task |
//! | `POST /v1/tasks/{ref}/retry` | gives a task a new attempt; dependants that could not run because of the task can run again |
//! | `POST /v1/tasks/{ref}/resume` | gives a task a new attempt that continues from the end of the last one |
//! | `GET /v1/tasks/{ref}/checkpoint?attempt=` | the checkpoint of a finished attempt |
//! | `POST /v1/tasks/{ref}/hold`, `POST /v1/tasks/{ref}/release` | holds or releases a task |
//! | `POST /v1/restored/release` | releases all tasks held by a restore |
//! | `GET /v1/overview?state=&name=&…&limit=` | unfinished tasks and the last finished ones, with counts |
//! | `GET /v1/changes?after=&timeout_ms=` | tasks changed after an event, as soon as there are any (within 50 s) |
//! | `GET /v1/groups`, `POST /v1/groups/{name}` | groups; sets the limit or the pause of a group |
//! | `POST /v1/groups/{name}/remove` | removes a group without unfinished tasks |
//! | `POST /v1/queue` | pauses the whole queue, or lifts its pause |
//! | `GET /v1/worktrees?graph=`, `POST /v1/worktrees/clean` | worktrees of tasks; removes unneeded ones |
//! | `POST /v1/tasks/{ref}/merge` | merges the worktree of a finished task |
//! | `POST /v1/tasks/{ref}/resolve` | begins, ends or aborts a merge in the worktree, for a person to resolve |
//! | `GET /v1/tasks/{ref}/diff?stat=&columns=&path=` | the changes of a task in a worktree |
//! | `GET /v1/events?task=&graph=&after=&since_ms=&follow=` | past and new events in [frames](frame) |
//! | `POST /v1/graph` | tasks and their dependencies |
//! | `GET /v1/plugins?refresh=`, `GET /v1/plugins/{name}` | plugins |
//! | `GET /v1/cost?graph=&since_ms=&by=` | costs by day, label or executor |
//! | `GET /v1/capacity` | free capacity, measurements, and classes of tasks that were held back |
//! | `POST /v1/capacity/slots` | sets the limit of concurrent tasks |
//! | `POST /v1/capacity/forget` | discards the measurements of an executor |
//! | `GET /v1/host` | the host |
//! | `POST /v1/host/down` | shuts the host down, or joins a shutdown in progress |
//! | `GET /v1/host/settings` | the settings that the host was started with |
//! | `GET /v1/host/environments` | `true` if the caller may read the environments of tasks |
//! | `POST /v1/host/up` | lifts a drain |

mod answer;
mod body;
mod caller;
mod capacity;
mod cost;
mod events;
pub(crate) mod frame;
mod graph;
mod groups;
mod host;
mod listen;
mod logs;
mod meant;
mod overview;
mod pages;
mod places;
mod plugins;
mod progress;
mod queue;
mod stream;
mod tasks;
mod worktrees;

use std::sync::Arc;

use axum::{
    Router,
    routing::{get, post},
};
use tokio::sync::watch;

pub(crate) use answer::{NEXT_HOST_HEADER, NOTE_HEADER, VERSION_HEADER};
pub(super) use host::{DownBody, UpView};
pub(super) use listen::converse_here;
pub(crate) use listen::serve;
pub(super) use logs::LinesQuery;
pub(super) use plugins::PluginsQuery;
pub(super) use tasks::{CancelBody, LONGEST_WAIT, WaitQuery};

use self::{body::Rooms, pages::Pages, places::Places};
use crate::app::Host;

/// Header with the origin of a request.
pub(crate) const VIA_HEADER: &str = "claudine-via";
/// Size limit of a body. A prompt may have 10 MB and is escaped in JSON.
const BODY_LIMIT_BYTES: usize = 16 << 20;
/// Size limit for a graph: a hundred thousand tasks with a million edges take about 100 MB.
pub(super) const GRAPH_LIMIT_BYTES: usize = 256 << 20;

/// State shared by the handlers.
#[derive(Clone)]
struct Shared {
    host: Arc<Host>,
    going_down: GoingDown,
    places: Places,
    rooms: Rooms,
    pages: Pages,
}

/// Announces the shutdown of the host, so that waiting requests get an answer.
#[derive(Clone)]
struct GoingDown(watch::Receiver<bool>);

impl GoingDown {
    async fn wait(&self) {
        // A closed channel means that the host has ended.
        drop(self.0.clone().wait_for(|down| *down).await);
    }
}

const TASKS: &str = "/v1/tasks";
const PLAN: &str = "/v1/plan";

/// Size limit of a request to this path.
fn limit_of(path: &str) -> usize {
    if path == TASKS || path == PLAN {
        GRAPH_LIMIT_BYTES
    } else {
        BODY_LIMIT_BYTES
    }
}

fn router(host: Arc<Host>, going_down: GoingDown, places: Places) -> Router {
    Router::new()
        .route(TASKS, post(tasks::submit).get(tasks::list))
        .route(
            "/v1/tasks/actions",
            post(tasks::act).get(tasks::status_of_actions),
        )
        .route(PLAN, post(tasks::plan))
        .route("/v1/tasks/{task}", get(tasks::status))
        .route("/v1/tasks/{task}/wait", get(tasks::wait))
        .route("/v1/tasks/{task}/why", get(tasks::why))
        .route("/v1/tasks/{task}/cancel", post(tasks::cancel))
        .route("/v1/tasks/{task}/retry", post(tasks::retry))
        .route("/v1/tasks/{task}/resume", post(tasks::resume))
        .route("/v1/tasks/{task}/checkpoint", get(tasks::checkpoint))
        .route("/v1/tasks/{task}/hold", post(tasks::hold))
        .route("/v1/tasks/{task}/release", post(tasks::release))
        .route("/v1/restored/release", post(tasks::release_restored))
        .route("/v1/overview", get(overview::show))
        .route("/v1/changes", get(overview::changes))
        .route("/v1/groups", get(groups::list))
        .route("/v1/groups/{name}", post(groups::set))
        .route("/v1/groups/{name}/remove", post(groups::remove))
        .route("/v1/queue", post(queue::pause))
        .route("/v1/tasks/{task}/logs", get(logs::stream))
        .route("/v1/tasks/{task}/lines", get(logs::lines))
        .route("/v1/tasks/{task}/end", get(logs::end))
        .route("/v1/worktrees", get(worktrees::list))
        .route("/v1/worktrees/clean", post(worktrees::clean))
        .route("/v1/tasks/{task}/merge", post(worktrees::merge))
        .route("/v1/tasks/{task}/resolve", post(worktrees::resolve))
        .route("/v1/tasks/{task}/diff", get(worktrees::diff))
        .route("/v1/events", get(events::stream))
        .route("/v1/graph", post(graph::graph))
        .route("/v1/plugins", get(plugins::list))
        .route("/v1/plugins/{name}", get(plugins::inspect))
        .route("/v1/capacity", get(capacity::show))
        .route("/v1/cost", get(cost::show))
        .route("/v1/capacity/slots", post(capacity::set_slots))
        .route("/v1/capacity/forget", post(capacity::forget))
        .route("/v1/host", get(host::info))
        .route("/v1/host/settings", get(host::settings))
        .route("/v1/host/environments", get(host::environments))
        .route("/v1/host/down", post(host::down))
        .route("/v1/host/up", post(host::up))
        .fallback(answer::no_such_path)
        .method_not_allowed_fallback(answer::no_such_method)
        .with_state(Shared {
            host,
            going_down,
            places,
            rooms: Rooms::default(),
            pages: Pages::default(),
        })
}
