//! Plugins and their permissions.

use claudine_domain::{attempt::Phase, task::Task};
use serde_json::Value;

use super::{
    error::{AppError, ErrorKind},
    explain::is_queued,
    host::Host,
    reader::Reader,
    view::{PermissionView, PluginDetail, PluginView},
    without_code::{TRIED_AGAIN, way_out},
};
use crate::plugin::{Health, HealthState, Inspection, Listing, PluginError, Status};

impl Host {
    /// All plugins. With `refresh`, their health checks run again.
    pub(crate) async fn plugins(&self, refresh: bool) -> Vec<PluginView> {
        self.plugins
            .list(refresh)
            .await
            .iter()
            .map(listed)
            .collect()
    }

    pub(crate) async fn plugin(&self, name: &str) -> Result<PluginDetail, AppError> {
        let inspection = self.plugins.inspect(name).await.ok_or_else(|| {
            let shown: String = name.chars().take(80).collect();
            AppError::new(ErrorKind::NotFound, format!("no plugin `{shown}`"))
                .hint("`claudine plugin list` lists the plugins")
        })?;
        Ok(detail(&inspection))
    }
}

impl Host {
    /// The plugins whose code cannot be had at the moment, or whose files this host could not read,
    /// one sentence for each of them.
    pub(super) fn plugins_without_code(&self) -> impl Iterator<Item = String> {
        let lacking = self.plugins.executors().filter_map(|executor| {
            let name = &executor.manifest().name;
            let error = executor.told_lack()?;
            Some(format!(
                "plugin {name} cannot be used at the moment, so its tasks wait: {error}; {}",
                way_out()
            ))
        });
        let unread = self.plugins.unread();
        lacking.chain(unread.map(|(name, error)| unread_text(name, "its tasks wait", error)))
    }

    /// The names of these plugins.
    pub(super) fn names_without_code(&self) -> impl Iterator<Item = String> {
        let executors = self.plugins.executors();
        let lacking = executors.filter(|executor| executor.told_lack().is_some());
        let lacking = lacking.map(|executor| executor.manifest().name.clone());
        let unread = self.plugins.unread();
        lacking.chain(unread.map(|(name, _)| name.to_owned()))
    }

    /// Why the plugin of a task cannot be used at the moment, so that a queued task does not start,
    /// and nobody settles the end of a running one.
    pub(super) fn lack_of_plugin(&self, task: &Task) -> Option<String> {
        let what = if is_queued(task) {
            "the task waits"
        } else if needs_plugin(task) {
            what_waits(task)
        } else {
            return None;
        };
        let name = &*task.request.executor;
        let executor = match self.plugins.executor(name) {
            Ok(executor) => executor,
            Err(error) => {
                let waits = error.lets_tasks_wait();
                return waits.then(|| unread_text(name, what, &error));
            }
        };
        if executor.has_code() {
            return None;
        }
        if let Some(error) = executor.told_lack() {
            return Some(format!(
                "plugin {name} cannot be used at the moment, so {what}: {error}; {TRIED_AGAIN}"
            ));
        }
        // The lack is not known before the host ends the compiler.
        let compiler = self.stopped_compiler_of(name)?;
        let (stopped, way_out) = (compiler.said_of_compiler(), compiler.way_out());
        Some(format!(
            "plugin {name} is not compiled yet, so {what}: {stopped}; {way_out}"
        ))
    }

    /// The tasks that take slots although they have ended, because their plugins cannot be used.
    pub(super) async fn taken_by_ended(&self) -> Result<Option<String>, AppError> {
        let ended = self.read(Reader::unrecorded).await?;
        let reasons = ended.iter().filter_map(|task| self.lack_of_plugin(task));
        Ok(taken(&reasons.collect::<Vec<_>>()))
    }
}

/// A sentence about a plugin whose files could not be read when the host started. The error says
/// what to do.
fn unread_text(name: &str, what: &str, error: &PluginError) -> String {
    format!("plugin {name} cannot be used by this host, so {what}: {error}")
}

/// A sentence about the tasks that take slots although they have ended, with the reason why one of
/// them does. `None` if there are no such tasks.
fn taken(reasons: &[String]) -> Option<String> {
    let slots = match reasons.len() {
        1 => "one of the slots is taken by a task that has ended".to_owned(),
        count => format!("{count} of the slots are taken by tasks that have ended"),
    };
    reasons.first().map(|reason| format!("{slots}: {reason}"))
}

/// What a running task cannot do without its plugin.
fn what_waits(task: &Task) -> &'static str {
    let has_process = task
        .last_attempt()
        .is_some_and(|last| last.leader.is_some());
    let is_before = matches!(task.phase(), Some(Phase::Preparing | Phase::Starting));
    if is_before && !has_process {
        "the task is started later"
    } else {
        "the end of the task is settled later"
    }
}

/// Whether the end of a running task depends on its plugin: not if the plugin has answered, or if
/// the task is being stopped. If its processes had ended before the stop, the plugin must still say
/// how.
fn needs_plugin(task: &Task) -> bool {
    match task.phase() {
        Some(Phase::Stopping(_)) => task.last_attempt().is_some_and(|last| last.is_over),
        None | Some(Phase::Assigned | Phase::Settling) => false,
        Some(Phase::Preparing | Phase::Starting | Phase::Live | Phase::Finishing) => true,
    }
}

fn listed(listing: &Listing) -> PluginView {
    let (health, message) = match &listing.status {
        Status::Looked(Health { state, message, .. }) => match needs_grant(listing) {
            // Even if the program was found, the plugin may not start it.
            Some(message) => ("needs_grant".to_owned(), message),
            None => (state.to_string(), message.clone()),
        },
        Status::Broken(error) => ("broken".to_owned(), error.to_string()),
    };
    let attributes = match &listing.status {
        Status::Looked(health) => health.attributes.as_slice(),
        Status::Broken(_) => &[],
    };
    let warning = attributes.iter().find(|(name, _)| name == "warning");
    let warning = match &listing.status {
        Status::Broken(error) if error.is_lack_of_code() => Some(way_out()),
        _ => warning.map(|(_, text)| text.clone()),
    };
    let shipped = listing.shipped.as_ref();
    let manifest = shipped.map(|shipped| &shipped.manifest);
    PluginView {
        name: listing.name.clone(),
        kind: "executor".to_owned(),
        version: manifest.map_or_else(String::new, |manifest| manifest.version.to_string()),
        summary: manifest.map_or_else(String::new, |manifest| manifest.summary.clone()),
        origin: listing.origin.to_string(),
        digest: shipped.map_or_else(String::new, |shipped| shipped.grant.digest.clone()),
        health,
        message,
        warning,
    }
}

/// The message about a missing grant, if nothing was granted.
fn needs_grant(listing: &Listing) -> Option<String> {
    let shipped = listing.shipped.as_ref()?;
    let asked = &shipped.manifest.permissions.process.as_ref()?.commands;
    let asked: Vec<String> = asked.iter().map(ToString::to_string).collect();
    if asked.is_empty() || !shipped.grant.process.is_empty() {
        return None;
    }
    let commands = if asked.iter().any(|command| command == "*") {
        "any command".to_owned()
    } else {
        asked.join(", ")
    };
    Some(format!(
        "the plugin may not start {commands} until this is granted: write `digest = \"{}\"` and `process = {asked:?}` \
         to grants/{}.toml in the data directory, and restart the host",
        shipped.grant.digest, listing.name,
    ))
}

fn detail(inspection: &Inspection) -> PluginDetail {
    let Inspection { listing, component } = inspection;
    let mut plugin = listed(listing);
    let (imports, task_schema, config_schema) = match component {
        Ok(facts) => {
            for issue in &facts.config_issues {
                plugin.health = HealthState::Unhealthy.to_string();
                plugin.message = format!(
                    "{}; configuration {}: {}",
                    plugin.message, issue.path, issue.message
                );
            }
            (
                facts.imports.clone(),
                schema(&facts.task_schema),
                schema(&facts.config_schema),
            )
        }
        Err(error) => {
            "broken".clone_into(&mut plugin.health);
            plugin.message = error.to_string();
            (Vec::new(), Value::Null, Value::Null)
        }
    };
    let shipped = listing.shipped.as_ref();
    let process = shipped.and_then(|shipped| shipped.manifest.permissions.process.as_ref());
    let permission = |command: String| PermissionView {
        kind: "process".to_owned(),
        worth: worth(&command).to_owned(),
        scope: command,
        why: process.map_or_else(String::new, |process| process.why.clone()),
    };
    let asked = process.iter().flat_map(|process| &process.commands);
    let granted = shipped.iter().flat_map(|shipped| &shipped.grant.process);
    PluginDetail {
        asks: asked.map(ToString::to_string).map(permission).collect(),
        grants: granted.map(ToString::to_string).map(permission).collect(),
        attributes: match &listing.status {
            Status::Looked(health) => health.attributes.iter().cloned().collect(),
            Status::Broken(_) => std::collections::BTreeMap::new(),
        },
        plugin,
        imports,
        task_schema,
        config_schema,
    }
}

/// Parses a schema. It is valid JSON, because a plugin with an invalid schema is refused when it is
/// loaded.
fn schema(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

/// The effective power of a granted command, in plain words.
fn worth(command: &str) -> &'static str {
    match command {
        "*" => "as much as the user who runs the host: it may start any command",
        _ => "as much as the command it starts: an agent or a shell can do whatever the user can",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use claudine_domain::{
        attempt::{Attempt, StopWhy},
        task::State,
        time::Timestamp,
    };

    use super::*;
    use crate::{
        plugin::{Grant, Manifest, Origin, Shipped},
        store::sample_task,
    };

    #[test]
    fn only_a_running_task_whose_executor_has_still_to_answer_needs_its_plugin() {
        let check = |phase: Phase, expected: bool| {
            let mut task = sample_task(1);
            let since = Timestamp(0);
            task.state = State::Running { phase, since };
            assert_eq!(needs_plugin(&task), expected, "{task:?}");
        };
        check(Phase::Starting, true);
        check(Phase::Live, true);
        check(Phase::Assigned, false);
        check(Phase::Settling, false);
        check(Phase::Stopping(StopWhy::Timeout), false);
        let mut task = sample_task(1);
        let mut last = Attempt::new(1, Timestamp(0));
        last.is_over = true;
        task.attempts = vec![last];
        task.state = State::Running {
            phase: Phase::Stopping(StopWhy::Cancelled { reason: None }),
            since: Timestamp(0),
        };
        assert!(
            needs_plugin(&task),
            "its processes had ended before the stop"
        );
    }

    #[test]
    fn ended_tasks_that_take_slots_are_counted_with_a_reason() {
        let reason = || "plugin claude cannot be used".to_owned();
        assert_eq!(taken(&[]), None);
        let one = taken(&[reason()]).unwrap();
        assert!(
            one.starts_with("one of the slots") && one.ends_with(&reason()),
            "{one}"
        );
        let two = taken(&[reason(), reason()]).unwrap();
        assert!(two.starts_with("2 of the slots"), "{two}");
    }

    #[test]
    fn a_plugin_without_its_grant_is_shown_as_needing_it() {
        let check = |asks: &str, granted: &[&str], expected: &str| {
            let manifest = format!(
                "kind = \"executor\"\nname = \"make\"\nversion = \"1.0.0\"\nwit = \"0.1.0\"\n\
                 summary = \"Makes\"\n{asks}"
            );
            let health = Health {
                state: HealthState::Healthy,
                message: "make 4.3".to_owned(),
                attributes: Vec::new(),
            };
            let listing = Listing {
                name: "make".to_owned(),
                origin: Origin::Installed,
                shipped: Some(Shipped {
                    manifest: Manifest::parse(&manifest).unwrap(),
                    grant: Grant {
                        digest: "abc".to_owned(),
                        process: granted.iter().map(|it| (*it).to_owned()).collect(),
                    },
                }),
                status: Status::Looked(health),
            };
            let view = listed(&listing);
            assert_eq!(view.health, expected, "{asks} {granted:?}");
            view.message
        };
        let asks = "[permissions.process]\ncommands = [\"make\"]\nwhy = \"it runs make\"\n";
        let message = check(asks, &[], "needs_grant");
        for part in [
            "make",
            "digest = \"abc\"",
            "process = [\"make\"]",
            "grants/make.toml",
        ] {
            assert!(message.contains(part), "{message}");
        }
        assert_eq!(check(asks, &["make"], "healthy"), "make 4.3");
        check(asks, &["*"], "healthy");
        check("", &[], "healthy");
    }
}
