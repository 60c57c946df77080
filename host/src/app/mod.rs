//! The use cases: one method of [`Host`] for each request of any entry point. Requests and views
//! are plain data.
//!
//! The rules of the product are here and in the domain, never in `api`. Commands go through the
//! engine; reads come from the store, which has everything up to the last commit.

mod account;
mod act;
mod actions;
pub(crate) mod backup;
mod branch_name;
mod brief;
mod by_hand;
mod capacity;
mod check;
mod checkpoint;
mod cost;
mod diff;
mod directories;
mod down;
mod effective;
mod error;
mod events;
mod explain;
pub(crate) mod graph;
mod group;
mod halted;
mod hold;
mod host;
mod leaving;
mod limit_view;
mod limits;
mod logs;
mod may;
mod merge;
mod name;
mod overview;
mod past;
mod plugins;
mod prepare;
mod present;
mod principal;
mod queue;
mod queue_view;
mod read;
mod reader;
mod reading;
mod refused;
mod request;
mod resolve;
mod retry;
mod revise;
mod room;
mod select;
mod sessions;
mod steps;
mod submit;
mod transcript;
mod unended;
mod unnoticed;
mod variables;
mod view;
mod way_out;
mod without_code;
mod worktrees;
mod written;

pub(crate) use self::{
    act::waiting_attempt,
    actions::{Action, IDS_MAX, TaskActed, TaskActions, TasksActed},
    capacity::{
        BudgetView, CapacityView, ClassView, ForgetProfiles, RefusalView, SetSlots, SlotsView,
    },
    check::{NAME_MAX_CHARS, RETRIES_MAX, START_MAX},
    cost::{CostBy, CostQuery, CostView},
    diff::{DiffQuery, DiffView},
    down::{
        end_without_host, processes_left, still_running, supervisors_left,
        supervisors_out_of_sight, tasks_left,
    },
    error::{AppError, Candidate, ErrorKind, Mistake},
    halted::{Halted, halted_supervisors, stopped_compiler},
    host::{Host, HostParts},
    merge::{MergeWorktree, WorktreeMerged},
    overview::{ChangesQuery, Counts, Overview},
    principal::{Caller, Peer},
    queue::{PauseQueue, QueuePaused},
    queue_view::QueueView,
    read::state_words,
    reader::is_keyword,
    request::{
        Change, CheckpointQuery, DependencyRef, DownMode, EndQuery, Environment, EventQuery,
        GraphQuery, GroupChange, ListFilter, LogQuery, NewTask, Origin, ResumeOptions, Retries,
        RetryOptions, Submit, TaskRef, WorktreeWish,
    },
    resolve::{ResolveStep, ResolveWorktree, UnresolvedFile, WorktreeResolved},
    transcript::{Reach, Style, lines_of},
    unended::{Unended, processes_of, unendable, unendable_text},
    unnoticed::Unnoticed,
    view::{
        AttemptView, Cancelled, Changed, CheckpointView, Delegated, ENDED_PHASE, EventPiece,
        EventView, GitView, GroupView, HaltKind, HaltView, HeldBackView, HostInfo, Item,
        LogChannel, LogEnd, LogLines, LogPiece, PermissionView, Place, PluginDetail, PluginView,
        Retried, Step, Still, Submitted, TaskList, TaskRow, TaskView, Why, WorktreeView, gap_text,
    },
    worktrees::{CleanWorktrees, FoundWorktree, WorktreesCleaned, WorktreesQuery},
};
