//! Free capacity, the measurements behind it, and advice.

mod advise;
mod view;

use std::sync::Arc;

use claudine_domain::{
    capacity::{Refusal, Slots},
    lane::Lane,
    principal::Principal,
    profile::{Profile, ProfileKey},
    step::{Answer, Input},
};

pub(crate) use self::view::{
    BudgetView, CapacityView, ClassView, ForgetProfiles, LimitsView, ReadingView, RefusalView,
    SetSlots, SlotsView, Spread,
};
use super::{
    error::{AppError, ErrorKind},
    explain::refusal_text,
    host::Host,
    may::{Verb, may},
    queue_view::QueueView,
};
use crate::{clock::rfc3339, config::parse_slots, engine::CapacityNow};

/// Limit of the refusals that are shown.
const REFUSALS_SHOWN: usize = 16;

impl Host {
    pub(crate) async fn capacity(&self) -> Result<CapacityView, AppError> {
        Ok(CapacityView {
            queue: self.queue().await?,
            ..capacity_view(&self.engine.capacity().await?)
        })
    }

    /// Sets the limit of concurrent tasks. The limit survives restarts and overrides the
    /// configuration; `default` removes it.
    pub(crate) async fn set_slots(
        &self,
        by: &Arc<Principal>,
        asked: &SetSlots,
    ) -> Result<CapacityView, AppError> {
        may(by, Verb::SetSlots, None, &self.settings.mcp)?;
        let slots = match asked.slots.trim() {
            "default" => None,
            slots => Some(parse_slots("the request", "slots", slots).map_err(|error| {
                let error = AppError::new(ErrorKind::Invalid, error.to_string());
                match slots {
                    "0" => error.hint(
                        "`claudine pause` keeps tasks from starting until `claudine unpause`",
                    ),
                    _ => error,
                }
            })?),
        };
        self.engine.asked(by, Input::SetSlots(slots)).await?;
        self.capacity().await
    }
}

impl Host {
    pub(crate) async fn forget_profiles(
        &self,
        by: &Arc<Principal>,
        asked: &ForgetProfiles,
    ) -> Result<CapacityView, AppError> {
        may(by, Verb::ForgetProfiles, None, &self.settings.mcp)?;
        let executor = asked.executor.clone();
        match self
            .engine
            .asked(by, Input::ForgetProfiles { executor })
            .await?
        {
            Answer::Forgotten(0) => {
                let message = format!("there are no measurements of executor `{}`", asked.executor);
                Err(AppError::new(ErrorKind::NotFound, message)
                    .hint("`claudine capacity` lists the measured executors"))
            }
            _ => self.capacity().await,
        }
    }
}

pub(super) fn slots_text(slots: Slots) -> String {
    match slots {
        Slots::Auto => "auto".to_owned(),
        Slots::Fixed(slots) => slots.to_string(),
    }
}

fn capacity_view(now: &CapacityNow) -> CapacityView {
    let capacity = &now.capacity;
    let limits = &capacity.limits;
    let rooms: Vec<Room> = capacity
        .profiles()
        .iter()
        .map(|(key, profile)| room(now, key, profile))
        .collect();
    CapacityView {
        slots: slots_text(limits.slots),
        configured_slots: now
            .queue
            .slots
            .is_some()
            .then(|| slots_text(now.configured_slots)),
        running: now.running,
        queued: now.queued,
        queue: QueueView::default(),
        reading: capacity.reading().map(ReadingView::of),
        budget: now
            .today
            .map(|level| BudgetView::of(level.spent_micro_usd, level.budget_micro_usd)),
        limits: LimitsView {
            cpu_percent: limits.cpu_percent,
            memory_reserve_bytes: limits.memory_reserve_bytes,
            disk_reserve_bytes: limits.disk_reserve_bytes,
        },
        advice: advise::advice(now, &rooms),
        classes: rooms.into_iter().map(|room| room.class).collect(),
        refusals: refusals(now),
    }
}

/// Measurements of a class, and the reason why no more of its tasks would start.
struct Room {
    class: ClassView,
    then: Option<Refusal>,
}

fn room(now: &CapacityNow, key: &ProfileKey, profile: &Profile) -> Room {
    let capacity = &now.capacity;
    let expected = capacity.profiles().need(key);
    let (more, then) = capacity.room(key, now.slots_in_use);
    let class = ClassView {
        executor: key.executor.to_string(),
        labels: key.labels.clone(),
        running: capacity.running(key),
        attempts: profile.attempts,
        samples: profile.samples(),
        enough: key.enough(),
        is_trusted: capacity.profiles().is_trusted(key),
        taught_at: rfc3339(profile.taught_at),
        cores: Spread::of(|percent| profile.cores(percent)),
        memory_bytes: Spread::of(|percent| profile.memory_bytes(percent)),
        expected_cores: expected.cores,
        expected_memory_bytes: expected.memory_bytes,
        more,
        then: then.as_ref().map(refusal_text),
    };
    Room { class, then }
}

fn refusals(now: &CapacityNow) -> Vec<RefusalView> {
    let stands = |lane: &Lane, refusal: &Refusal| {
        let same = |(refused, by): &(Lane, Refusal)| {
            refused == lane && std::mem::discriminant(by) == std::mem::discriminant(refusal)
        };
        now.refusals.iter().any(same)
    };
    let shown = now.past.iter().take(REFUSALS_SHOWN);
    shown
        .map(|past| RefusalView {
            executor: past.lane.profile.executor.to_string(),
            labels: past.lane.profile.labels.clone(),
            reason: refusal_text(&past.refusal),
            stands: stands(&past.lane, &past.refusal),
            first: rfc3339(past.first),
            last: rfc3339(past.last),
            times: past.times,
        })
        .collect()
}
