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

pub(super) struct Server {
    pub(super) client: Arc<Client>,
    pub(super) origins: Origins,
    pub(super) waits: Semaphore,
    pub(super) looks: Semaphore,
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
            ended,
        }
    }

    async fn call(&self, name: &str, arguments: JsonObject) -> Result<Value, AppError> {
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
