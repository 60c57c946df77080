//! Changes a finished task before it runs again.

use std::sync::Arc;

use crate::{
    budget::GraphBudget,
    principal::Principal,
    revision::{Difference, Revised},
    task::{Request, Task},
};

/// A task's request and document that apply from its next attempt on.
#[derive(Clone, Debug)]
pub struct Revision {
    /// The new request. Only the fields that may change are taken from it: see
    /// [`Request::revised`].
    pub request: Request,
    /// The executor's document, if it changes.
    pub spec: Option<Arc<[u8]>>,
    /// The changes in words, for people who compare attempts.
    pub differences: Vec<Difference>,
}

impl Request {
    /// Returns this request with the changeable fields taken from another. Author, parent, working
    /// directory and executor are kept.
    #[must_use]
    pub fn revised(&self, to: Self) -> Self {
        Self {
            priority: to.priority,
            labels: to.labels,
            group: to.group,
            budget_micro_usd: to.budget_micro_usd,
            graph_budget: to.graph_budget,
            allow_denied: to.allow_denied,
            summary: to.summary,
            authority: to.authority,
            resumes_session: to.resumes_session,
            queue_timeout: to.queue_timeout,
            retries: to.retries,
            timeout: to.timeout,
            idle_timeout: to.idle_timeout,
            start_timeout: to.start_timeout,
            max_output_bytes: to.max_output_bytes,
            ..self.clone()
        }
    }
}

impl Task {
    /// Applies the changes to the request, and records who has made them and the attempt from which
    /// they apply.
    pub(crate) fn revise(
        &mut self,
        request: Request,
        differences: Vec<Difference>,
        by: Option<Arc<Principal>>,
    ) {
        self.request = Arc::new(self.request.revised(request));
        self.revised.push(Revised {
            from_attempt: self.next_attempt(),
            differences,
            by,
        });
    }

    /// The unrestrained principal who last changed the request, if there is one. If it is not
    /// stored who made a change, whoever requested the changed attempt counts as having made it.
    pub fn unrestrained_reviser(&self) -> Option<&Arc<Principal>> {
        let latest_first = self.revised.iter().rev();
        let mut revisers = latest_first.map(|revised| {
            let stored = revised.by.as_ref();
            stored.unwrap_or_else(|| self.requester_of(revised.from_attempt))
        });
        revisers.find(|reviser| !reviser.restrained)
    }

    /// Sets the changed budget of the graph, if the task belongs to this graph.
    pub(crate) fn share_budget(&mut self, changed: GraphBudget) {
        if self.is_held_to(changed) {
            self.request = Arc::new(Request {
                graph_budget: Some(changed),
                ..Request::clone(&self.request)
            });
        }
    }

    /// Whether the task belongs to the graph of this budget and still has the graph's old budget.
    pub(crate) fn is_held_to(&self, changed: GraphBudget) -> bool {
        let own = self.request.graph_budget;
        own.is_some_and(|own| own.graph == changed.graph && own != changed)
    }

    /// Number of the next attempt.
    pub(crate) fn next_attempt(&self) -> u32 {
        self.last_attempt().map_or(1, |last| last.number + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Class, Priority};

    #[test]
    fn revision_changes_only_changeable_fields() {
        let old = Request::new("claude", Class::Agent);
        let to = Request {
            priority: Priority::P0,
            budget_micro_usd: Some(5),
            resumes_session: Some("0b6b".into()),
            cwd: "/elsewhere".into(),
            detached: true,
            ..Request::new("shell", Class::Command)
        };
        let new = old.revised(to);
        assert_eq!(
            (new.priority, new.budget_micro_usd),
            (Priority::P0, Some(5))
        );
        assert_eq!(new.resumes_session.as_deref(), Some("0b6b"));
        let kept = Request {
            priority: old.priority,
            budget_micro_usd: old.budget_micro_usd,
            resumes_session: None,
            ..new
        };
        assert_eq!(kept, old);
    }
}
