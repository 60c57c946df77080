//! `claudine doctor`

use std::{fmt, path::Path, process::ExitCode, time::Duration};

use clap::Args;
use claudine_domain::{capacity::Limits, time::Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    failure::Failure,
    output,
    session::Session,
    terminal::{Colour, Look, Painted},
    text, times,
};
use crate::{
    api::client::{Client, ClientError},
    app::{AppError, BudgetView, HostInfo, PluginView},
    clock,
    config::{Overrides, Settings, process_environment},
    fsx,
    identity::HostProcess,
    inherited::Inherited,
    layout::Layout,
};

/// Time limit for the answer of a running host.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);
/// Time limit for the start of a host. A host that cannot start reports why before this limit.
const STARTS_WITHIN: Duration = Duration::from_mins(1);
/// Time limit for the health checks of all plugins together; each check may run a command.
const PLUGINS_WITHIN: Duration = Duration::from_secs(30);

/// Free disk space below which `doctor` warns, as a multiple of the reserve.
const DISK_WARN_RESERVES: u64 = 2;
/// Number of files below which `doctor` warns that few files can still be created on the disk.
const FEW_FILES: u64 = 10_000;

/// Check the setup and suggest fixes.
///
/// Starts the host if none is running. Exits with 1 if a check fails.
#[derive(Debug, Args)]
pub(super) struct Doctor {}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// Result of one check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, JsonSchema)]
pub(super) struct Finding {
    verdict: Verdict,
    what: String,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Finding {
    fn new(verdict: Verdict, what: &str, found: impl Into<String>) -> Self {
        Self {
            verdict,
            what: what.to_owned(),
            found: found.into(),
            hint: None,
        }
    }

    fn hint(mut self, hint: Option<String>) -> Self {
        self.hint = hint;
        self
    }
}

impl Doctor {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let client = session.client();
        let layout = &client.start().layout;
        let limit = limit_of_start(layout);
        let reached = clock::within(limit, client.reach()).await;
        let reserve = match &reached {
            Some(Ok((host, _))) => host.disk_reserve_bytes,
            _ => own_disk_reserve(&client.start().overrides),
        };
        let mut findings = vec![disk(layout.root(), reserve)];
        match reached {
            Some(Ok((host, started))) => {
                let plugins = plugins(client).await;
                let host = with_plugins_as_now(client, host).await;
                findings.extend(of_host(&host, started));
                findings.extend(not_inherited(layout));
                findings.extend(next_host(&client.start().overrides));
                findings.extend(plugins);
            }
            Some(Err(error)) => findings.push(failed("host", error)),
            None => findings.push(silent(HostProcess::of(layout), limit)),
        }
        findings.extend(times::unknown_zone().map(|unknown| {
            let hint =
                "set it to a name such as `Europe/Paris`, or unset it to use the machine's zone";
            Finding::new(Verdict::Warn, "time zone", unknown).hint(Some(hint.to_owned()))
        }));
        show(session, &findings)?;
        let failing = findings
            .iter()
            .any(|finding| finding.verdict == Verdict::Fail);
        Ok(if failing {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// What the host says now, if it has said before that plugins cannot be used: the look at the
/// plugins may have loaded them.
async fn with_plugins_as_now(client: &Client, host: HostInfo) -> HostInfo {
    if host.plugins_without_code.is_empty() {
        return host;
    }
    let again = clock::within(ANSWERS_WITHIN, client.info()).await;
    again.and_then(Result::ok).unwrap_or(host)
}

/// The reserve of disk space that a host would have if it were started here and now.
fn own_disk_reserve(overrides: &Overrides) -> u64 {
    // If a setting is invalid, no host starts, and the finding about the host reports the setting.
    let settings = Settings::load(overrides, &process_environment);
    let limits = settings.map_or_else(|_| Limits::default(), |settings| settings.limits);
    limits.disk_reserve_bytes
}

/// A finding if no host could be started with the settings of this command. A running host keeps
/// the settings that it has read.
fn next_host(overrides: &Overrides) -> Option<Finding> {
    let error = Settings::load(overrides, &process_environment).err()?;
    let found = format!("this host goes on, but the next one cannot start: {error}");
    Some(Finding::new(Verdict::Fail, "settings", found))
}

/// Time limit of the first answer. If a host has to be started, the limit is longer, because the
/// host reads its database before it answers.
fn limit_of_start(layout: &Layout) -> Duration {
    if HostProcess::of(layout).is_some() {
        ANSWERS_WITHIN
    } else {
        STARTS_WITHIN
    }
}

fn silent(host: Option<HostProcess>, limit: Duration) -> Finding {
    let limit = limit.as_secs();
    let Some(host) = host else {
        let found = format!("no host has started within {limit} s");
        return Finding::new(Verdict::Fail, "host", found);
    };
    let pid = host.pid;
    if host.is_stopped() {
        let found = format!("pid {pid} is stopped by a signal and does not answer");
        let hint = format!("`kill -CONT {pid}` continues it; running tasks are not affected");
        return Finding::new(Verdict::Fail, "host", found).hint(Some(hint));
    }
    let found = format!("pid {pid} has not answered within {limit} s");
    let hint = format!(
        "see its log; `kill {pid}` ends it, running tasks continue, and the next command starts another host"
    );
    Finding::new(Verdict::Fail, "host", found).hint(Some(hint))
}

fn show(session: &Session, findings: &[Finding]) -> Result<(), Failure> {
    if session.json {
        return output::json(&findings);
    }
    output::painted(&shown(findings, Look::of_stdout(), times::now()))
}

/// Column in which the texts of the findings begin.
const INDENT: usize = 25;

/// The findings, each with its hint on the next line.
fn shown(findings: &[Finding], look: Look, now: Timestamp) -> Painted {
    let mut shown = Painted::default();
    for finding in findings {
        let colour = match finding.verdict {
            Verdict::Ok => Colour::Green,
            Verdict::Warn => Colour::Yellow,
            Verdict::Fail => Colour::Red,
        };
        let verdict = format!("{:<4}", finding.verdict);
        look.paint(&mut shown, colour, &verdict);
        let Finding { what, found, .. } = finding;
        let found = times::in_text(found, now);
        let text = format!("  {what:<18} {found}");
        look.prose_after(verdict.len(), &mut shown, &text, INDENT);
        if let Some(hint) = &finding.hint {
            look.prose(&mut shown, &format!("{:INDENT$}{hint}", ""), INDENT);
        }
    }
    shown
}

fn failed(what: &str, error: ClientError) -> Finding {
    let error = AppError::from(error);
    Finding::new(Verdict::Fail, what, error.message).hint(error.hint)
}

fn disk(data_dir: &Path, reserve: u64) -> Finding {
    // A host could not make the directory below such a link either.
    if let Some(reason) = data_dir.ancestors().find_map(fsx::link_to_nothing) {
        return Finding::new(Verdict::Fail, "data directory", reason);
    }
    // Before the first start the directory does not exist, so the disk of its nearest existing
    // ancestor is examined.
    let existing = data_dir
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or(Path::new("/"));
    let free = fsx::free_bytes(existing).and_then(|free| Ok((free, fsx::free_files(existing)?)));
    match free {
        Ok((free, files)) => free_space(data_dir, free, files, reserve),
        Err(error) => Finding::new(
            Verdict::Fail,
            "data directory",
            format!("{}: {error}", data_dir.display()),
        ),
    }
}

/// The free space, and the number of files that can still be created, if they are few.
fn free_space(data_dir: &Path, free: u64, files: Option<u64>, reserve: u64) -> Finding {
    let (place, bytes) = (data_dir.display(), text::bytes(free));
    if let Some(files) = files.filter(|files| *files < FEW_FILES) {
        let found = format!("{place}, {bytes} and {files} inodes free");
        let hint = "each task needs some files: remove files from this disk (`df -i`)".to_owned();
        return Finding::new(Verdict::Warn, "data directory", found).hint(Some(hint));
    }
    let found = format!("{place}, {bytes} free");
    if free >= reserve.saturating_mul(DISK_WARN_RESERVES) {
        return Finding::new(Verdict::Ok, "data directory", found);
    }
    let hint = format!(
        "nothing starts with less than CLAUDINE_DISK_RESERVE ({}) free: make room on this disk",
        text::bytes(reserve)
    );
    Finding::new(Verdict::Warn, "data directory", found).hint(Some(hint))
}

fn of_host(host: &HostInfo, started: bool) -> Vec<Finding> {
    let word = if started { "started now" } else { "running" };
    let load = format!(
        "{} running, {} queued, {} slots",
        host.running, host.queued, host.slots
    );
    let mut findings = vec![Finding::new(
        Verdict::Ok,
        "host",
        format!("{word}, pid {}, {}", host.pid, host.url),
    )];
    let ours = env!("CARGO_PKG_VERSION");
    findings.push(if host.version == ours {
        Finding::new(Verdict::Ok, "version", ours)
    } else {
        Finding::new(
            Verdict::Warn,
            "version",
            format!("the host is {}, this command is {ours}", host.version),
        )
        .hint(Some(
            "`claudine down && claudine up` upgrades it; running tasks continue".to_owned(),
        ))
    });
    findings.push(Finding::new(Verdict::Ok, "tasks", load));
    let way_out =
        Some("`claudine down` ends the host, and the next command starts another".to_owned());
    findings.extend(
        host.faults
            .iter()
            .map(|fault| Finding::new(Verdict::Fail, "engine", fault).hint(way_out.clone())),
    );
    if host.draining {
        findings.push(
            Finding::new(
                Verdict::Warn,
                "tasks",
                "the host is draining: nothing new starts",
            )
            .hint(Some("`claudine up` lifts the drain".to_owned())),
        );
    }
    findings.extend(supervisors(host));
    findings.extend(host.held_back.as_ref().map(|held| {
        let hint = text::let_it_be_written(&host.data_dir);
        Finding::new(Verdict::Fail, "output", text::held_back(held)).hint(Some(hint))
    }));
    let earlier = host.earlier_commands.iter();
    findings.extend(earlier.map(|earlier| Finding::new(Verdict::Warn, "git", earlier)));
    // Dropping reports of attempts that are over is correct, so this is only information.
    if host.dropped_reports > 0 {
        let dropped = format!(
            "{} dropped: they came from attempts that were over",
            host.dropped_reports
        );
        findings.push(Finding::new(Verdict::Ok, "reports", dropped));
    }
    findings.extend(host.budget.as_ref().map(day_budget));
    findings.extend(host.commands_over_mcp.then(commands_over_mcp));
    findings.extend(host.any_variable_over_mcp.then(any_variable_over_mcp));
    findings.extend(
        host.warnings
            .iter()
            .map(|warning| Finding::new(Verdict::Warn, "host", warning)),
    );
    findings
}

/// A finding if the host differs from this process in what tasks inherit from it.
fn not_inherited(layout: &Layout) -> Option<Finding> {
    let host = HostProcess::of(layout)?;
    // A host that cannot be looked at is not compared.
    let of_host = Inherited::of(&host.pid.to_string()).ok()?;
    let own = Inherited::of_this_process().ok()?;
    inherited_from_host(&Inherited::differences(&of_host, &own))
}

fn inherited_from_host(differences: &[String]) -> Option<Finding> {
    let found = format!(
        "tasks inherit from the host what they cannot get from this command: they {}",
        differences.join("; they ")
    );
    let hint = "`claudine down && claudine up` starts a host that is like this command";
    let finding = Finding::new(Verdict::Warn, "tasks", found).hint(Some(hint.to_owned()));
    (!differences.is_empty()).then_some(finding)
}

/// One finding for all working supervisors together, and one for each supervisor that is stopped by
/// a signal. Warnings of the host name the others that do not work. If there is no supervisor, one
/// finding that none is needed.
fn supervisors(host: &HostInfo) -> Vec<Finding> {
    let suspended = &host.suspended_supervisors;
    let halted = host.halted_supervisors.iter().filter_map(|one| one.pid);
    let halted: Vec<u32> = halted.collect();
    let working = host
        .supervisors
        .iter()
        .filter(|pid| !suspended.contains(pid) && !halted.contains(pid));
    let working: Vec<String> = working.map(ToString::to_string).collect();
    let mut findings = Vec::new();
    if host.supervisors.is_empty() {
        findings.push(Finding::new(
            Verdict::Ok,
            "supervisor",
            "no supervisor is needed",
        ));
    } else if !working.is_empty() {
        let pids = format!("pid {}", working.join(", "));
        findings.push(Finding::new(Verdict::Ok, "supervisor", pids));
    }
    findings.extend(suspended.iter().map(|pid| {
        let found = format!(
            "pid {pid} is stopped by a signal: its tasks do not end, not even at their time limits"
        );
        let hint = format!("`kill -CONT {pid}` continues it");
        Finding::new(Verdict::Fail, "supervisor", found).hint(Some(hint))
    }));
    findings
}

fn day_budget(budget: &BudgetView) -> Finding {
    let found = text::budget(budget);
    if budget.left_usd > 0.0 {
        return Finding::new(Verdict::Ok, "budget", found);
    }
    let hint =
        "agents wait until tomorrow (UTC); budget.daily_usd in the configuration file is the limit";
    Finding::new(Verdict::Warn, "budget", found).hint(Some(hint.to_owned()))
}

fn commands_over_mcp() -> Finding {
    let found = "`shell` is among mcp.executors, so agents can do whatever you can: the other limits of [mcp] mean nothing";
    let hint = "to restrict agents, write `executors = [\"claude\"]` below [mcp] in the configuration file";
    Finding::new(Verdict::Warn, "mcp", found).hint(Some(hint.to_owned()))
}

fn any_variable_over_mcp() -> Finding {
    let found = "`*` is among mcp.env, so agents can set all variables except those that are known to make programs run other code";
    let hint = "no list has all of these variables: name the ones that agents need in `env` below [mcp] in the configuration file";
    Finding::new(Verdict::Warn, "mcp", found).hint(Some(hint.to_owned()))
}

async fn plugins(client: &Client) -> Vec<Finding> {
    match clock::within(PLUGINS_WITHIN, client.plugins(true)).await {
        Some(Ok(plugins)) => plugins.iter().map(of_plugin).collect(),
        Some(Err(error)) => vec![failed("plugins", error)],
        None => {
            let found = format!("no answer within {} s", PLUGINS_WITHIN.as_secs());
            vec![Finding::new(Verdict::Fail, "plugins", found)]
        }
    }
}

fn of_plugin(plugin: &PluginView) -> Finding {
    let verdict = match plugin.health.as_str() {
        "healthy" if plugin.warning.is_some() => Verdict::Warn,
        "healthy" => Verdict::Ok,
        // The plugin's program is not installed, or the plugin may not start it: this is no fault,
        // but the plugin runs no tasks.
        "undetected" | "needs_grant" => Verdict::Warn,
        _ => Verdict::Fail,
    };
    let message = if plugin.message.is_empty() {
        plugin.health.clone()
    } else {
        plugin.message.clone()
    };
    Finding::new(verdict, &format!("plugin {}", plugin.name), message).hint(plugin.warning.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;
    use crate::{
        api::cli::terminal::in_each_look,
        app::{HaltKind, HaltView},
    };

    fn host() -> HostInfo {
        HostInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: 1,
            url: "unix:/s".to_owned(),
            mcp_url: None,
            data_dir: "/".to_owned(),
            started_at: String::new(),
            slots: "auto".to_owned(),
            running: 0,
            queued: 0,
            draining: false,
            paused_since: None,
            supervisors: Vec::new(),
            suspended_supervisors: Vec::new(),
            halted_supervisors: Vec::new(),
            plugins_without_code: Vec::new(),
            held_back: None,
            earlier_commands: Vec::new(),
            disk_reserve_bytes: 1 << 30,
            dropped_reports: 0,
            commands_over_mcp: false,
            any_variable_over_mcp: false,
            budget: None,
            faults: Vec::new(),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn a_data_directory_at_or_below_a_link_to_nothing_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("unmounted", &link).unwrap();
        for data_dir in [link.clone(), link.join("below")] {
            let found = disk(&data_dir, 0);
            assert_eq!(found.verdict, Verdict::Fail, "{found:?}");
            assert!(found.found.contains("does not exist"), "{found:?}");
        }
        let missing = disk(&dir.path().join("missing"), 0);
        assert_ne!(missing.verdict, Verdict::Fail, "{missing:?}");
    }

    #[test]
    fn findings_fit_the_width_of_the_terminal() {
        let host = HostInfo {
            url: "unix:/home/dana/.local/state/claudine/host.sock".to_owned(),
            supervisors: vec![7, 8],
            suspended_supervisors: vec![8],
            commands_over_mcp: true,
            ..host()
        };
        let mut findings = of_host(&host, true);
        findings.push(free_space(Path::new("/data"), 1 << 20, None, 1 << 30));
        let missing =
            "`claude` was not found; install it with `npm install -g @anthropic-ai/claude-code`";
        findings.push(Finding::new(Verdict::Warn, "plugin claude", missing));
        let version = env!("CARGO_PKG_VERSION");
        let drawn = in_each_look(|look| shown(&findings, look, Timestamp(1_795_359_153_042)));
        insta::assert_snapshot!("findings", drawn.replace(version, "VERSION"));
    }

    #[test]
    fn granting_shell_over_mcp_is_a_warning() {
        let warned = |commands_over_mcp: bool| {
            let host = HostInfo {
                commands_over_mcp,
                ..host()
            };
            let findings = of_host(&host, false);
            let found = findings.into_iter().find(|finding| finding.what == "mcp");
            found.map(|finding| finding.verdict)
        };
        assert_eq!(warned(true), Some(Verdict::Warn));
        assert_eq!(warned(false), None);
    }

    #[test]
    fn granting_all_variables_over_mcp_is_a_warning() {
        let warned = |any_variable_over_mcp: bool| {
            let host = HostInfo {
                any_variable_over_mcp,
                ..host()
            };
            let findings = of_host(&host, false);
            let found = findings.into_iter().find(|finding| finding.what == "mcp");
            found.map(|it| (it.verdict, it.found.contains("mcp.env")))
        };
        assert_eq!(warned(true), Some((Verdict::Warn, true)));
        assert_eq!(warned(false), None);
    }

    #[test]
    fn a_suspended_supervisor_is_a_failure_with_the_command_that_continues_it() {
        let check = |all: &[u32], suspended: &[u32], expected: &[(Verdict, &str, Option<&str>)]| {
            let host = HostInfo {
                supervisors: all.to_vec(),
                suspended_supervisors: suspended.to_vec(),
                ..host()
            };
            let findings = of_host(&host, false);
            let found: Vec<(Verdict, &str, Option<&str>)> = findings
                .iter()
                .filter(|finding| finding.what == "supervisor")
                .map(|it| (it.verdict, it.found.as_str(), it.hint.as_deref()))
                .collect();
            assert_eq!(found, expected);
        };
        let suspended = (
            Verdict::Fail,
            "pid 8 is stopped by a signal: its tasks do not end, not even at their time limits",
            Some("`kill -CONT 8` continues it"),
        );
        check(&[], &[], &[(Verdict::Ok, "no supervisor is needed", None)]);
        check(&[7, 8], &[], &[(Verdict::Ok, "pid 7, 8", None)]);
        check(&[7, 8], &[8], &[(Verdict::Ok, "pid 7", None), suspended]);
        check(&[8], &[8], &[suspended]);
    }

    #[test]
    fn a_supervisor_of_which_the_host_warns_does_not_count_as_working() {
        let check = |halted: u32, expected: &str| {
            let halt = HaltView {
                kind: HaltKind::Unreached,
                pid: Some(halted),
                message: "it cannot be reached: late".to_owned(),
            };
            let host = HostInfo {
                supervisors: vec![7, 78],
                halted_supervisors: vec![halt],
                ..host()
            };
            let found = supervisors(&host);
            let found: Vec<&str> = found.iter().map(|it| it.found.as_str()).collect();
            assert_eq!(found, [expected]);
        };
        check(7, "pid 78");
        check(8, "pid 7, 78");
    }

    #[test]
    fn doctor_warns_if_free_space_is_below_twice_the_reserve_of_the_host() {
        const MIB: u64 = 1 << 20;
        let check = |free: u64, reserve: u64, expected: Option<&str>| {
            let finding = free_space(Path::new("/data"), free, Some(FEW_FILES), reserve);
            let hint = expected.map(|reserve| {
                format!(
                    "nothing starts with less than CLAUDINE_DISK_RESERVE ({reserve}) free: make room on this disk"
                )
            });
            let verdict = expected.map_or(Verdict::Ok, |_| Verdict::Warn);
            let found = (finding.verdict, finding.hint);
            assert_eq!(found, (verdict, hint), "{free} of {reserve}");
        };
        check(40 * MIB, MIB, None);
        check(MIB, MIB, Some("1.0 MiB"));
        check(2048 * MIB, 1024 * MIB, None);
        check(2047 * MIB, 1024 * MIB, Some("1.0 GiB"));
        check(2048 * MIB, 10_240 * MIB, Some("10.0 GiB"));
        check(0, 0, None);
    }

    #[test]
    fn doctor_shows_how_many_files_can_be_created_if_they_are_few() {
        let found = |files| {
            let finding = free_space(Path::new("/data"), 1 << 30, files, 1 << 20);
            (finding.verdict, finding.found)
        };
        let usual = (Verdict::Ok, "/data, 1.0 GiB free".to_owned());
        assert_eq!(found(Some(FEW_FILES)), usual);
        assert_eq!(found(None), usual);
        let few = "/data, 1.0 GiB and 0 inodes free".to_owned();
        assert_eq!(found(Some(0)), (Verdict::Warn, few));
    }

    #[test]
    fn tasks_that_lack_a_group_of_the_caller_are_a_warning_with_the_way_out() {
        assert_eq!(inherited_from_host(&[]), None);
        let finding = inherited_from_host(&["lack groups of this command: 998".to_owned()]);
        let finding = finding.unwrap();
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(
            finding
                .found
                .ends_with("they lack groups of this command: 998")
        );
        assert!(
            finding
                .hint
                .unwrap()
                .contains("claudine down && claudine up")
        );
    }

    #[test]
    fn a_spent_daily_budget_is_a_warning() {
        let check = |left_usd: f64, expected: Verdict, text: &str| {
            let budget = BudgetView {
                spent_usd: 10.0 - left_usd,
                daily_usd: 10.0,
                left_usd,
            };
            let finding = day_budget(&budget);
            assert_eq!((finding.verdict, finding.found.as_str()), (expected, text));
        };
        check(6.8, Verdict::Ok, "$3.20 of $10.00 spent today, $6.80 left");
        check(
            0.0,
            Verdict::Warn,
            "$10.00 of $10.00 spent today, $0.00 left",
        );
    }

    #[test]
    fn dropped_reports_are_shown_if_there_are_any() {
        let check = |dropped_reports: u64, expected: Option<&str>| {
            let host = HostInfo {
                dropped_reports,
                ..host()
            };
            let findings = of_host(&host, false);
            let found = findings.iter().find(|finding| finding.what == "reports");
            assert_eq!(found.map(|finding| finding.found.as_str()), expected);
        };
        check(0, None);
        check(3, Some("3 dropped: they came from attempts that were over"));
    }

    #[test]
    fn the_verdict_on_a_plugin_follows_from_its_health() {
        let check_with = |health: &str, warning: Option<&str>, expected: Verdict| {
            let plugin = PluginView {
                warning: warning.map(str::to_owned),
                name: "claude".to_owned(),
                kind: "executor".to_owned(),
                version: "0.1.0".to_owned(),
                summary: String::new(),
                origin: "built-in".to_owned(),
                digest: String::new(),
                health: health.to_owned(),
                message: String::new(),
            };
            let finding = of_plugin(&plugin);
            assert_eq!(finding.verdict, expected, "{health}");
            assert_eq!(finding.hint.as_deref(), warning);
        };
        let check = |health: &str, expected| check_with(health, None, expected);
        check_with("healthy", Some("it is old"), Verdict::Warn);
        check("healthy", Verdict::Ok);
        check("undetected", Verdict::Warn);
        check("needs_grant", Verdict::Warn);
        check("unhealthy", Verdict::Fail);
        check("broken", Verdict::Fail);
    }
}
