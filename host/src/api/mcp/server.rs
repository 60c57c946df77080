//! The MCP server: dispatches calls and formats answers and errors.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock},
};

use futures_util::FutureExt;
use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, Implementation,
        JsonObject, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig,
        Tool,
    },
    service::RequestContext,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Origins, answers::Failed, tools, wording::shown_name};
use crate::{
    api::{client::Client, lenient},
    app::{AppError, ErrorKind},
};

/// The tools, built once because clients request the list repeatedly.
static TOOLS: LazyLock<Vec<Tool>> = LazyLock::new(tools::all);

/// Limit of the tasks that all calls together wait for at the same time, because each needs a
/// connection to the host. A further wait begins when one of them ends. Until then, the call reads
/// its task again and again.
const WAITS_AT_ONCE: usize = 64;

/// Limit of the calls that read their tasks at the same time, because their waits cannot begin yet
/// or have ended with the input. Each needs a connection to the host meanwhile.
const LOOKS_AT_ONCE: usize = 4;

/// Limit of the calls that read many tasks, or output, at the same time. The host reads for a few
/// requests at a time, so with more of them, a client that makes many calls at once would let the
/// commands of others wait behind all of its own.
const READS_AT_ONCE: usize = 4;

/// The tools whose calls read many tasks, or output, and do not wait.
const READERS: [&str; 2] = [tools::LOGS, tools::LIST];

pub(super) struct Server {
    pub(super) client: Arc<Client>,
    pub(super) origins: Origins,
    pub(super) waits: Semaphore,
    pub(super) looks: Semaphore,
    reads: Semaphore,
    /// Cancelled at the end of the session's input, and if its answers cannot be written.
    pub(super) ended: CancellationToken,
}

impl Server {
    pub(super) fn new(client: Arc<Client>, origins: Origins, ended: CancellationToken) -> Self {
        Self {
            client,
            origins,
            waits: Semaphore::new(WAITS_AT_ONCE),
            looks: Semaphore::new(LOOKS_AT_ONCE),
            reads: Semaphore::new(READS_AT_ONCE),
            ended,
        }
    }

    async fn call(&self, name: &str, arguments: JsonObject) -> Result<Value, AppError> {
        let _turn = if READERS.contains(&name) {
            Some(self.reads.acquire().await)
        } else {
            None
        };
        match name {
            tools::DELEGATE => answer(self.delegate_task(parse(arguments)?).await),
            tools::SUBMIT => answer(self.submit_graph(parse(arguments)?).await),
            tools::STATUS => answer(self.task_status(parse(arguments)?).await),
            tools::LOGS => answer(self.task_logs(parse(arguments)?).await),
            tools::CANCEL => answer(self.cancel_task(parse(arguments)?).await),
            tools::RETRY => answer(self.retry_task(parse(arguments)?).await),
            tools::RESUME => answer(self.resume_task(parse(arguments)?).await),
            tools::LIST => answer(self.list_tasks(parse(arguments)?).await),
            tools::WAIT => answer(self.wait_task(parse(arguments)?).await),
            tools::DIFF => answer(self.task_diff(parse(arguments)?).await),
            tools::MERGE => answer(self.merge_task(parse(arguments)?).await),
            other => {
                let name = shown_name(other);
                let known = tools::NAMES.join(", ");
                Err(
                    AppError::new(ErrorKind::Invalid, format!("unknown tool `{name}`"))
                        .hint(format!("the tools are {known}")),
                )
            }
        }
    }
}

/// The error of a call that only a running host can carry out, and that starts none.
pub(super) fn no_host(message: &str) -> AppError {
    AppError::new(ErrorKind::Unavailable, message).hint(
        "the user may have ended the host on purpose: ask whether to go on. A host is started by DelegateTask, SubmitGraph, RetryTask or ResumeTask, or by a person with `claudine up`; until then TaskStatus, ListTasks and TaskLogs still answer, and running tasks run on",
    )
}

fn parse<T: DeserializeOwned>(arguments: JsonObject) -> Result<T, AppError> {
    lenient::read(Value::Object(arguments))
        .map_err(|why| AppError::new(ErrorKind::Invalid, format!("invalid arguments: {why}")))
}

fn answer(answer: Result<impl Serialize, AppError>) -> Result<Value, AppError> {
    serde_json::to_value(answer?).map_err(|error| {
        AppError::new(
            ErrorKind::Internal,
            format!("the answer cannot be written: {error}"),
        )
    })
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(
                Implementation::new("claudine", env!("CARGO_PKG_VERSION")).with_title("Claudine"),
            )
            .with_instructions(tools::INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(TOOLS.clone()))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        TOOLS.iter().find(|tool| tool.name == name).cloned()
    }

    /// Returns errors as answers, because clients do not show protocol errors to the agent.
    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let called = self.call(&request.name, request.arguments.unwrap_or_default());
        // A panic must not leave the client without an answer.
        let called = AssertUnwindSafe(called).catch_unwind();
        let called = tokio::select! {
            called = called => called.unwrap_or_else(|_| Err(AppError::new(
                ErrorKind::Internal,
                "internal error in Claudine; the log of this server has the details",
            ))),
            // The client has cancelled the call; this also ends a wait.
            () = context.ct.cancelled() => Err(AppError::new(ErrorKind::Unavailable, "the call was cancelled")),
        };
        Ok(match called {
            Ok(answer) => CallToolResult::structured(answer),
            // Sends errors as text alone, because clients check structured content against the
            // schema of the tool's answer, even if the content is an error.
            Err(error) => {
                CallToolResult::error(vec![ContentBlock::text(Failed::from(error).to_json())])
            }
        }
        .into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::Duration,
    };

    use futures_util::future::join_all;
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{UnixListener, UnixStream},
        sync::Barrier,
    };

    use super::*;
    use crate::{api::mcp::waiting::tests::server_in, clock, layout::Layout};

    /// A host that answers requests only in groups of [`READS_AT_ONCE`], so that a client that
    /// makes more requests at a time is noticed.
    struct SlowHost {
        group: Barrier,
        unanswered: AtomicUsize,
        most_unanswered: AtomicUsize,
    }

    impl SlowHost {
        async fn listen(self: Arc<Self>, listener: UnixListener) {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(Arc::clone(&self).answer_each(stream));
            }
        }

        async fn answer_each(self: Arc<Self>, mut stream: UnixStream) {
            let body = json!({ "tasks": [], "next": null }).to_string();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            let mut request = Vec::new();
            while stream.read_buf(&mut request).await.unwrap() > 0 {
                if !request.ends_with(b"\r\n\r\n") {
                    continue;
                }
                request.clear();
                let unanswered = self.unanswered.fetch_add(1, Ordering::Relaxed) + 1;
                self.most_unanswered
                    .fetch_max(unanswered, Ordering::Relaxed);
                self.group.wait().await;
                self.unanswered.fetch_sub(1, Ordering::Relaxed);
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(body.as_bytes()).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn calls_that_read_much_are_sent_to_the_host_a_few_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let server = server_in(dir.path());
        let listener = UnixListener::bind(Layout::new(dir.path()).socket()).unwrap();
        let host = Arc::new(SlowHost {
            group: Barrier::new(READS_AT_ONCE),
            unanswered: AtomicUsize::new(0),
            most_unanswered: AtomicUsize::new(0),
        });
        let listening = tokio::spawn(Arc::clone(&host).listen(listener));
        let calls = (0..8 * READS_AT_ONCE).map(|_| {
            let asked = json!({ "name": "build" });
            server.call(tools::LIST, asked.as_object().unwrap().clone())
        });
        let answers = clock::within(Duration::from_secs(30), join_all(calls)).await;
        for answer in answers.unwrap() {
            assert_eq!(answer.unwrap()["success"], true);
        }
        let most = host.most_unanswered.load(Ordering::Relaxed);
        assert_eq!(most, READS_AT_ONCE);
        listening.abort();
    }
}
