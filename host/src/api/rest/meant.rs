//! References to tasks in requests. A keyword such as `@last` means another task for a person than
//! for a client, so it is replaced by the task that it means for the sender.

use axum::{extract::FromRequestParts, http::request::Parts};

use super::{
    Shared,
    answer::{Named, Refusal},
    caller::Sender,
};
use crate::app::{
    CleanWorktrees, CostQuery, EventQuery, GraphQuery, ListFilter, TaskActions, TaskRef,
    WorktreesQuery, is_keyword,
};

/// The task that a path names.
pub(super) struct NamedTask(pub(super) TaskRef);

impl FromRequestParts<Shared> for NamedTask {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Shared) -> Result<Self, Refusal> {
        let Named(task) = Named::from_request_parts(parts, shared).await?;
        let mut task = TaskRef(task);
        if is_keyword(&task.0) {
            let sender = Sender::from_request_parts(parts, shared).await?;
            sender.replace(shared, &mut task.0).await?;
        }
        Ok(Self(task))
    }
}

/// A request with references to tasks.
pub(super) trait Refers {
    fn references(&mut self) -> Vec<&mut String>;
}

impl Sender {
    /// The request with the tasks that its keywords mean.
    pub(super) async fn meant<T: Refers>(
        &self,
        shared: &Shared,
        mut asked: T,
    ) -> Result<T, Refusal> {
        for reference in asked.references() {
            self.replace(shared, reference).await?;
        }
        Ok(asked)
    }

    async fn replace(&self, shared: &Shared, reference: &mut String) -> Result<(), Refusal> {
        if is_keyword(reference) {
            let by = self.principal(shared).await?;
            if let Some(task) = shared.host.meant(&by, reference).await? {
                *reference = task.to_string();
            }
        }
        Ok(())
    }
}

impl Refers for ListFilter {
    fn references(&mut self) -> Vec<&mut String> {
        let parent = self.parent.as_mut().map(|parent| &mut parent.0);
        self.graph.iter_mut().chain(parent).collect()
    }
}

impl Refers for TaskActions {
    fn references(&mut self) -> Vec<&mut String> {
        let ids = self.ids.iter_mut().map(|task| &mut task.0);
        let filter = self.filter.as_mut().map(Refers::references);
        ids.chain(filter.into_iter().flatten()).collect()
    }
}

impl Refers for EventQuery {
    fn references(&mut self) -> Vec<&mut String> {
        self.task.iter_mut().chain(&mut self.graph).collect()
    }
}

impl Refers for GraphQuery {
    fn references(&mut self) -> Vec<&mut String> {
        let tasks = self.tasks.iter_mut().map(|task| &mut task.0);
        tasks.chain(&mut self.graph).collect()
    }
}

impl Refers for WorktreesQuery {
    fn references(&mut self) -> Vec<&mut String> {
        self.graph.iter_mut().collect()
    }
}

impl Refers for CleanWorktrees {
    fn references(&mut self) -> Vec<&mut String> {
        self.graph.iter_mut().collect()
    }
}

impl Refers for CostQuery {
    fn references(&mut self) -> Vec<&mut String> {
        self.graph.iter_mut().collect()
    }
}
