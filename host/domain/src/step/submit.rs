//! A task is accepted or refused.

use std::sync::Arc;

use super::{Answer, Refused, Submission};
use crate::{
    batch::DocumentKey,
    board::{Board, IDEMPOTENCY_WINDOW, Remembered},
    event::Fact,
    id::TaskId,
    task::{Request, State, Task, WaitingFor},
    time::{Now, Timestamp},
};

impl Board {
    pub(super) fn submit(&mut self, now: Now, submission: Submission) -> Result<Answer, Refused> {
        let Submission {
            id,
            mut request,
            spec,
        } = submission;
        if let Some(first) = self.already_submitted(now, &request)? {
            return Ok(Answer::Accepted {
                task: first,
                existing: true,
            });
        }
        self.room_for_one_more()?;
        self.place_under_parent(&mut request)?;
        if let Some(idempotency) = &request.idempotency {
            let remembered = Remembered {
                task: id,
                payload_digest: idempotency.payload_digest.clone(),
                at: now.wall,
            };
            self.remember(idempotency.key.clone(), remembered);
        }
        let parent = request.parent.filter(|_| !request.detached);
        let state = self.queued_state(&request, now.wall, now);
        self.insert(Task {
            id,
            request: Arc::new(request),
            created_at: now.wall,
            state,
            attempts: Vec::new(),
        });
        self.pending.documents.push((DocumentKey::Spec(id), spec));
        self.record(id, now, Fact::Submitted);
        if let Some(parent) = parent {
            self.cancel_with_parent(now, id, parent);
        }
        Ok(Answer::Accepted {
            task: id,
            existing: false,
        })
    }

    pub(super) fn room_for_one_more(&self) -> Result<(), Refused> {
        let limit = self.bounds.unfinished;
        if self.tasks.len() >= limit {
            return Err(Refused::QueueFull { limit });
        }
        Ok(())
    }

    fn already_submitted(
        &mut self,
        now: Now,
        request: &Request,
    ) -> Result<Option<TaskId>, Refused> {
        self.forget_old_keys(now);
        let Some(idempotency) = &request.idempotency else {
            return Ok(None);
        };
        match self.remembered.get(&idempotency.key) {
            None => Ok(None),
            Some(first) if first.payload_digest == idempotency.payload_digest => {
                Ok(Some(first.task))
            }
            Some(first) => Err(Refused::IdempotencyConflict {
                key: idempotency.key.clone(),
                task: first.task,
            }),
        }
    }

    fn forget_old_keys(&mut self, now: Now) {
        while let Some((at, key)) = self.remembered_by_age.first().cloned() {
            if at.after(IDEMPOTENCY_WINDOW) > now.wall {
                return;
            }
            self.remembered_by_age.pop_first();
            // Each key has one entry by age, so what is forgotten here is what was remembered then.
            self.remembered.remove(&key);
        }
    }

    /// A parent that is not unfinished any more is none: what it left behind is nobody's child.
    fn place_under_parent(&self, request: &mut Request) -> Result<(), Refused> {
        let Some(parent) = request.parent.and_then(|parent| self.tasks.get(&parent)) else {
            request.parent = None;
            request.depth = 0;
            return Ok(());
        };
        request.depth = parent.request.depth + 1;
        if request.depth > self.bounds.depth {
            return Err(Refused::TooDeep {
                depth: request.depth,
                limit: self.bounds.depth,
            });
        }
        let ancestor = self.topmost_ancestor(parent.id);
        if self.open_descendants(ancestor) >= self.bounds.open_descendants {
            return Err(Refused::TooManyDescendants {
                ancestor,
                limit: self.bounds.open_descendants,
            });
        }
        Ok(())
    }

    fn topmost_ancestor(&self, mut id: TaskId) -> TaskId {
        while let Some(parent) = self.tasks.get(&id).and_then(|task| task.request.parent) {
            if !self.tasks.contains_key(&parent) {
                break;
            }
            id = parent;
        }
        id
    }

    /// Counts no further than the limit asks for.
    fn open_descendants(&self, ancestor: TaskId) -> usize {
        let mut open = vec![ancestor];
        let mut found = 0;
        while let Some(id) = open.pop() {
            for child in self.children.get(&id).into_iter().flatten() {
                found += 1;
                open.push(*child);
            }
            if found >= self.bounds.open_descendants {
                break;
            }
        }
        found
    }

    /// The state of a task that could run as far as it alone is concerned, and could since then.
    pub(super) fn queued_state(&self, request: &Request, since: Timestamp, now: Now) -> State {
        let parked = request
            .account
            .as_ref()
            .and_then(|account| Some((account, self.accounts.get(account)?)));
        match parked {
            Some((account, parked)) if parked.until > now.wall => State::Waiting {
                until: parked.until,
                why: WaitingFor::Account(account.clone()),
            },
            _ => State::Ready { since },
        }
    }
}
