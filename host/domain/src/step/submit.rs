//! A task is accepted or refused.

use std::{collections::BTreeSet, sync::Arc};

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
            parent,
            spec,
        } = submission;
        if let Some(first) = self.already_submitted(now, &request)? {
            return Ok(Answer::Accepted {
                task: first,
                existing: true,
            });
        }
        self.room_for_one_more()?;
        request.place_under(parent.as_ref());
        self.within_bounds(&request)?;
        if let Some(idempotency) = &request.idempotency {
            let remembered = Remembered {
                task: id,
                payload_digest: idempotency.payload_digest.clone(),
                at: now.wall,
            };
            self.remember(idempotency.key.clone(), remembered);
        }
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
        self.cancel_with_ancestors(now, id);
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

    /// Both bounds count through what has ended between: else a chain in which each task ends after it has submitted the next had none.
    fn within_bounds(&self, request: &Request) -> Result<(), Refused> {
        let (depth, limit) = (request.depth(), self.bounds.depth);
        if depth > limit {
            return Err(Refused::TooDeep { depth, limit });
        }
        let limit = self.bounds.open_descendants;
        match request.ancestors().last() {
            Some(ancestor) if self.open_descendants(ancestor) >= limit => {
                Err(Refused::TooManyDescendants { ancestor, limit })
            }
            _ => Ok(()),
        }
    }

    fn open_descendants(&self, ancestor: TaskId) -> usize {
        self.descendants.get(&ancestor).map_or(0, BTreeSet::len)
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
