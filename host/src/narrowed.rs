//! What MCP clients and agents may ask for, what agents may cost in a day, which variables tasks do
//! not get, and how much output clients may have kept, across hosts: a small file in the data
//! directory.
//!
//! A command or an MCP request that needs a host starts one with the command's own settings, which
//! may be those of another file than the person had meant: the person's variable is missing, or a
//! task's variables do not count. Such a host allows nothing that the last host did not allow. A
//! host that a person starts with `claudine up` or `claudine serve` has exactly its settings, and
//! so has one with the same file as that host. If there has been no such host, the file of the
//! first one counts. If this file has vanished or is empty, a host keeps its limits, and a new file
//! at its place lifts only the limits that it sets itself.
//!
//! Other settings are not kept. Some protect the machine and not what a client may do (`slots`, the
//! reserves, `cpu_threshold`), some limit nothing that a client may not choose itself
//! (`task_timeout`) or do not matter to it (`log_level`, the limits of phases), and a shorter
//! `keep` takes effect only after a day. The settings of plugins are defaults for what a request
//! leaves out, and may be secret; what a task may do with them is checked against the ceiling.

use std::{
    io::{self, ErrorKind},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};

use crate::{
    config::{EnvRules, McpCeiling, Settings},
    fsx::{self, Lasting},
    layout::Layout,
    units::{dollars, dollars_text, size_word},
};

/// What a host allows, and the place of the settings that say so.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Allowed {
    /// The path of the configuration file. `None` if the settings of several hosts have narrowed
    /// the ceiling, lowered the budget or excluded variables.
    place: Option<PathBuf>,
    /// Whether there was a file with settings.
    is_there: bool,
    /// Whether limits are kept that were in this file, and that it has not set again since it had
    /// vanished or was empty.
    #[serde(default)]
    is_lost: bool,
    ceiling: McpCeiling,
    /// The budget of the day. Earlier versions recorded none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    daily_micro_usd: Option<u64>,
    /// The variables that tasks do not get.
    #[serde(default)]
    env: EnvRules,
    /// The output limit of tasks, above which a client may ask for none. Earlier versions recorded
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_output_bytes: Option<u64>,
}

/// Narrows the settings of a new host to what the last host allowed, unless a person has started
/// this host, and records them for the next host.
pub(crate) fn begin(layout: &Layout, settings: &mut Settings) {
    let Some(allowed) = narrowed(layout, settings) else {
        return;
    };
    if let Err(error) = allowed.write(layout) {
        settings.warnings.push(format!(
            "what this host allows MCP clients cannot be recorded for the next host: {error}"
        ));
    }
}

/// Narrows the settings as [`begin`] does, and records nothing.
pub(crate) fn try_on(layout: &Layout, settings: &mut Settings) {
    drop(narrowed(layout, settings));
}

/// The limits of the last hosts that the next ones keep as long as there is no file with settings
/// at the place of these settings, each as the name of a setting and its value as it is given to
/// `claudine config set`. Otherwise any other setting in a new file would lift them. Hosts with
/// several data directories may have the same file; then the narrowest limits are those of all. It
/// is an error if the limits of one of them cannot be read.
pub(crate) fn kept_without_file(
    layouts: &[Layout],
    settings: &Settings,
) -> io::Result<Vec<(&'static str, String)>> {
    let next = Allowed {
        is_there: false,
        ..Allowed::of(settings)
    };
    let mut kept = next.clone();
    for layout in layouts {
        let last = Allowed::read(layout).map_err(|error| {
            let path = layout.ceiling_file();
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        })?;
        // The limits of a host with another file are kept whatever this file says.
        if let Some(last) = last.filter(|last| last.place == next.place) {
            kept = Allowed {
                is_there: false,
                ..last.followed_by(kept, &|_| false)
            };
        }
    }
    let (mcp, own) = (&kept.ceiling, &next.ceiling);
    let most = kept.max_output_bytes;
    let daily = kept.daily_micro_usd;
    let all = [
        (
            "max_output",
            most != next.max_output_bytes,
            most.map(size_word),
        ),
        (
            "budget.daily_usd",
            daily != next.daily_micro_usd,
            daily.map(|daily| dollars(daily).to_string()),
        ),
        (
            "mcp.executors",
            mcp.executors != own.executors,
            Some(list(&mcp.executors)),
        ),
        (
            "mcp.max_permission_mode",
            mcp.max_permission_mode != own.max_permission_mode,
            Some(mcp.max_permission_mode.clone()),
        ),
        (
            "mcp.merge_strategies",
            mcp.merge_strategies != own.merge_strategies,
            Some(list(&mcp.merge_strategies)),
        ),
        (
            "mcp.extras",
            mcp.extras != own.extras,
            Some(list(&mcp.extras)),
        ),
        ("mcp.env", mcp.env != own.env, Some(list(&mcp.env))),
        (
            "mcp.directories",
            mcp.directories != own.directories,
            Some(list(&mcp.directories)),
        ),
        (
            "env.exclude",
            kept.env != next.env,
            Some(list(&kept.env.exclude)),
        ),
    ];
    let differing = all.into_iter().filter(|(_, differs, _)| *differs);
    let kept = differing.filter_map(|(name, _, value)| Some((name, value?)));
    Ok(kept.collect())
}

/// A list of words as it is written in a configuration file.
fn list(words: &[impl Serialize]) -> String {
    let words = words.iter().map(|word| serde_json::json!(word).to_string());
    format!("[{}]", words.collect::<Vec<_>>().join(", "))
}

/// Narrows the settings. Returns what is to be recorded, if this differs from the record.
fn narrowed(layout: &Layout, settings: &mut Settings) -> Option<Allowed> {
    let own = Allowed::of(settings);
    let last = match Allowed::read(layout) {
        Ok(last) => last,
        Err(_) if !settings.on_demand => None,
        Err(error) => {
            settings.mcp = McpCeiling::nothing();
            settings.warnings.push(format!(
                "this host allows MCP clients and agents nothing, because what the last host \
                 allowed cannot be read: {error}; other settings of that host, such as \
                 `env.exclude`, are not kept; `claudine down && claudine up` applies the settings"
            ));
            return None;
        }
    };
    let allowed = match &last {
        Some(last) if settings.on_demand => {
            let sets = |name: &str| settings.is_in_file(name);
            last.clone().followed_by(own, &sets)
        }
        _ => own,
    };
    let of_last = last.as_ref().and_then(|last| last.place.as_ref());
    let of_last = of_last.map_or_else(String::new, |place| format!(" ({})", place.display()));
    let mut kept = Vec::new();
    if allowed.ceiling != settings.mcp {
        kept.push(format!(
            "this host allows MCP clients and agents no more than the last host{of_last}"
        ));
        settings.mcp = allowed.ceiling.clone();
    }
    if let Some(daily) = allowed.daily_micro_usd
        && settings.limits.daily_micro_usd != Some(daily)
    {
        kept.push(format!(
            "the budget of the day is that of the last host{of_last}, {}",
            dollars_text(dollars(daily))
        ));
        settings.limits.daily_micro_usd = Some(daily);
    }
    let env = settings.env.joined(&allowed.env);
    if env != settings.env {
        kept.push(format!(
            "tasks get none of the variables that the last host{of_last} excluded"
        ));
        settings.env = env;
    }
    if let Some(most) = allowed.max_output_bytes
        && settings.max_output_bytes != most
    {
        kept.push(format!(
            "the output limit of tasks is that of the last host{of_last}, {}",
            size_word(most)
        ));
        settings.max_output_bytes = most;
    }
    let place = settings.place.display();
    let told = kept.iter().map(|kept| {
        format!(
            "{kept}, because nobody has started this host by `claudine up`, and its settings \
             ({place}) allow more; `claudine down && claudine up` applies the settings"
        )
    });
    settings.warnings.extend(told);
    (last.as_ref() != Some(&allowed)).then_some(allowed)
}

impl Allowed {
    fn of(settings: &Settings) -> Self {
        Self {
            place: Some(settings.place.clone()),
            is_there: settings.file.is_some() && !settings.is_file_empty,
            is_lost: false,
            ceiling: settings.mcp.clone(),
            daily_micro_usd: settings.limits.daily_micro_usd,
            env: settings.env.clone(),
            max_output_bytes: Some(settings.max_output_bytes),
        }
    }

    fn read(layout: &Layout) -> io::Result<Option<Self>> {
        match fsx::read(&layout.ceiling_file()) {
            Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, layout: &Layout) -> io::Result<()> {
        let text = serde_json::to_string(self)? + "\n";
        fsx::replace(&layout.ceiling_file(), Lasting::PowerCut, text.as_bytes()).map(drop)
    }

    /// What the next host allows if no person has started it. A file that has vanished, for example
    /// with its disk, or that is empty, because it is being written, is not the same as the last
    /// one. `sets` says which settings are in the next file.
    fn followed_by(self, next: Self, sets: &dyn Fn(&str) -> bool) -> Self {
        let is_at_same_place = self.place == next.place;
        if is_at_same_place && next.is_there && self.is_lost {
            return self.set_again_by(next, sets);
        }
        if is_at_same_place && (next.is_there || !self.is_there) {
            return next;
        }
        let ceiling = next.ceiling.narrowed_to(&self.ceiling);
        let budgets = self.daily_micro_usd.into_iter().chain(next.daily_micro_usd);
        let daily_micro_usd = budgets.min();
        let env = self.env.joined(&next.env);
        // Of this limit every file has a value, so a lower one need not be meant to stay.
        let outputs = self.max_output_bytes.into_iter();
        let max_output_bytes = outputs.chain(next.max_output_bytes).min();
        // If another file took the place of the person's, it could allow more later.
        let is_narrower = self.ceiling.narrowed_to(&next.ceiling) != self.ceiling
            || daily_micro_usd != self.daily_micro_usd
            || env != self.env;
        let place = self.place.filter(|_| is_at_same_place || !is_narrower);
        Self {
            is_there: self.is_there && place.is_some(),
            is_lost: (self.is_lost || is_at_same_place) && place.is_some(),
            place,
            ceiling,
            daily_micro_usd,
            env,
            max_output_bytes,
        }
    }

    /// What the next host allows if there is a file again after it had vanished or was empty: only
    /// the limits that the file sets itself are lifted, because it may have been made for another
    /// setting.
    fn set_again_by(self, next: Self, sets: &dyn Fn(&str) -> bool) -> Self {
        let kept = next.ceiling.narrowed_to(&self.ceiling);
        let mut allowed = next.clone();
        let ceiling = &mut allowed.ceiling;
        if !sets("mcp.executors") {
            ceiling.executors = kept.executors;
        }
        if !sets("mcp.max_permission_mode") {
            ceiling.max_permission_mode = kept.max_permission_mode;
        }
        if !sets("mcp.merge_strategies") {
            ceiling.merge_strategies = kept.merge_strategies;
        }
        if !sets("mcp.extras") {
            ceiling.extras = kept.extras;
        }
        if !sets("mcp.env") {
            ceiling.env = kept.env;
        }
        if !sets("mcp.directories") {
            ceiling.directories = kept.directories;
        }
        if !sets("budget.daily_usd") {
            let budgets = self.daily_micro_usd.into_iter().chain(next.daily_micro_usd);
            allowed.daily_micro_usd = budgets.min();
        }
        if !sets("env.exclude") {
            allowed.env = next.env.joined(&self.env);
        }
        if !sets("max_output") {
            let outputs = self.max_output_bytes.into_iter();
            allowed.max_output_bytes = outputs.chain(next.max_output_bytes).min();
        }
        allowed.is_lost = allowed != next;
        allowed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{ffi::OsString, fs, path::Path};

    use super::*;
    use crate::config::{CONFIG, Overrides};

    const STRICT: &str = "[mcp]\nexecutors = ['claude']\n";
    const NO_NETWORK: &str = "[mcp]\nextras = []\n";

    struct Place {
        dir: tempfile::TempDir,
        layout: Layout,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let layout = Layout::new(dir.path().join("data"));
            layout.create().unwrap();
            Self { dir, layout }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn write(&self, name: &str, toml: &str) {
            fs::create_dir_all(self.file(name).parent().unwrap()).unwrap();
            fs::write(self.file(name), toml).unwrap();
        }

        /// Settings of the next host. `config` is the value of the variable.
        fn settings(&self, on_demand: bool, config: Option<&str>) -> Settings {
            let config = config.map(|name| OsString::from(self.file(name)));
            let home = OsString::from(self.dir.path());
            let env = |name: &str| match name {
                CONFIG => config.clone(),
                "HOME" => Some(home.clone()),
                _ => None,
            };
            let overrides = Overrides {
                on_demand,
                ..Overrides::default()
            };
            Settings::load(&overrides, &env).unwrap()
        }

        /// The executors and extras that the next host allows, and whether it warns.
        fn next(&self, on_demand: bool, config: Option<&str>) -> (String, bool) {
            let mut settings = self.settings(on_demand, config);
            begin(&self.layout, &mut settings);
            let words = [settings.mcp.executors, settings.mcp.extras].concat();
            (words.join(" "), !settings.warnings.is_empty())
        }
    }

    fn quietly(words: &str) -> (String, bool) {
        (words.to_owned(), false)
    }

    fn with_a_warning(words: &str) -> (String, bool) {
        (words.to_owned(), true)
    }

    const USUAL: &str = "claude shell network";

    #[test]
    fn a_host_that_nobody_asked_for_allows_no_more_than_the_last_one_did() {
        let place = Place::new();
        place.write("strict.toml", STRICT);
        assert_eq!(
            place.next(false, Some("strict.toml")),
            quietly("claude network")
        );
        for _ in 0..2 {
            assert_eq!(place.next(true, None), with_a_warning("claude network"));
        }
        // The file of the last host that a person has started still counts.
        place.write("strict.toml", NO_NETWORK);
        assert_eq!(
            place.next(true, Some("strict.toml")),
            quietly("claude shell")
        );
        assert_eq!(place.next(true, None), with_a_warning("claude shell"));
        assert_eq!(place.next(false, None), quietly(USUAL));
        assert_eq!(place.next(true, None), quietly(USUAL));
    }

    #[test]
    fn a_narrower_host_that_nobody_asked_for_narrows_the_next_ones() {
        let place = Place::new();
        place.write("strict.toml", STRICT);
        place.write("offline.toml", NO_NETWORK);
        assert_eq!(place.next(true, None), quietly(USUAL));
        assert_eq!(
            place.next(true, Some("strict.toml")),
            quietly("claude network")
        );
        assert_eq!(place.next(true, None), with_a_warning("claude network"));
        assert_eq!(
            place.next(true, Some("offline.toml")),
            with_a_warning("claude")
        );
        for config in [None, Some("strict.toml"), Some("offline.toml")] {
            assert_eq!(place.next(true, config), with_a_warning("claude"));
        }
        assert_eq!(place.next(false, None), quietly(USUAL));
    }

    /// A client may name its own file, and change it between two hosts.
    #[test]
    fn a_file_that_no_person_has_named_cannot_allow_more_after_it_has_allowed_less() {
        let place = Place::new();
        assert_eq!(place.next(false, None), quietly(USUAL));
        place.write("other.toml", STRICT);
        assert_eq!(
            place.next(true, Some("other.toml")),
            quietly("claude network")
        );
        place.write("other.toml", "[mcp]\nexecutors = ['claude', 'more']\n");
        for config in [Some("other.toml"), None] {
            assert_eq!(place.next(true, config), with_a_warning("claude network"));
        }
    }

    #[test]
    fn a_host_that_nobody_asked_for_has_no_higher_budget_of_the_day_than_the_last_one() {
        let place = Place::new();
        let daily = |on_demand: bool, config: Option<&str>| {
            let mut settings = place.settings(on_demand, config);
            begin(&place.layout, &mut settings);
            let dollars = settings.limits.daily_micro_usd.map(|it| it / 1_000_000);
            (dollars, !settings.warnings.is_empty())
        };
        place.write("own.toml", "[budget]\ndaily_usd = 5.0\n");
        place.write("other.toml", "[budget]\ndaily_usd = 3.0\n");
        assert_eq!(daily(false, Some("own.toml")), (Some(5), false));
        for _ in 0..2 {
            assert_eq!(daily(true, None), (Some(5), true));
        }
        // The person's file may be changed, but another one only lowers the budget.
        place.write("own.toml", "[budget]\ndaily_usd = 9.0\n");
        assert_eq!(daily(true, Some("own.toml")), (Some(9), false));
        assert_eq!(daily(true, Some("other.toml")), (Some(3), false));
        for config in [None, Some("own.toml")] {
            assert_eq!(daily(true, config), (Some(3), true));
        }
        assert_eq!(daily(false, None), (None, false));
        assert_eq!(daily(true, Some("other.toml")), (Some(3), false));
    }

    #[test]
    fn a_host_that_nobody_asked_for_gives_tasks_no_variable_that_the_last_one_excluded() {
        let place = Place::new();
        let dropped = |on_demand: bool, config: Option<&str>| {
            let mut settings = place.settings(on_demand, config);
            begin(&place.layout, &mut settings);
            let dropped = ["AWS_KEY", "TOKEN"].map(|name| settings.env.drops(name));
            (dropped, !settings.warnings.is_empty())
        };
        place.write("own.toml", "[env]\nexclude = ['AWS_*']\n");
        place.write("other.toml", "[env]\nexclude = ['TOKEN']\n");
        place.write("empty.toml", "");
        assert_eq!(dropped(false, Some("own.toml")), ([true, false], false));
        for config in [None, Some("empty.toml"), None] {
            assert_eq!(dropped(true, config), ([true, false], true), "{config:?}");
        }
        // The person's file may be changed, but another one only excludes more.
        place.write("own.toml", "[env]\nexclude = []\n");
        assert_eq!(dropped(true, Some("own.toml")), ([false, false], false));
        assert_eq!(dropped(true, Some("other.toml")), ([false, true], false));
        for config in [None, Some("own.toml")] {
            assert_eq!(dropped(true, config), ([false, true], true), "{config:?}");
        }
        assert_eq!(dropped(false, None), ([false, false], false));
    }

    #[test]
    fn a_host_that_nobody_asked_for_keeps_no_more_output_than_the_last_one() {
        let place = Place::new();
        let most = |on_demand: bool, config: Option<&str>| {
            let mut settings = place.settings(on_demand, config);
            begin(&place.layout, &mut settings);
            (
                settings.max_output_bytes >> 20,
                !settings.warnings.is_empty(),
            )
        };
        place.write("less.toml", "max_output = '10M'\n");
        assert_eq!(most(false, Some("less.toml")), (10, false));
        assert_eq!(most(true, None), (10, true));
        assert_eq!(most(true, Some("less.toml")), (10, false));
        // A host with the usual limit does not take the place of the person's file.
        place.write("more.toml", "max_output = '4G'\n");
        assert_eq!(most(false, Some("more.toml")), (4_096, false));
        assert_eq!(most(true, None), (1_024, false));
        assert_eq!(most(true, Some("more.toml")), (4_096, false));
    }

    /// An editor may empty a file before it writes, and a full disk leaves it empty.
    #[test]
    fn a_file_without_settings_allows_no_more_than_the_last_one() {
        let place = Place::new();
        let usual = ".config/claudine/config.toml";
        place.write(usual, STRICT);
        assert_eq!(place.next(false, None), quietly("claude network"));
        for empty in ["", "# nothing yet\n"] {
            place.write(usual, empty);
            assert_eq!(place.next(true, None), with_a_warning("claude network"));
        }
        // A file that is made for another setting lifts nothing.
        place.write(usual, "keep = '3d'\n");
        for _ in 0..2 {
            assert_eq!(place.next(true, None), with_a_warning("claude network"));
        }
        place.write(usual, "[mcp]\nextras = []\n");
        assert_eq!(place.next(true, None), with_a_warning("claude"));
        place.write(usual, "[mcp]\nexecutors = ['claude', 'shell']\n");
        assert_eq!(place.next(true, None), with_a_warning("claude shell"));
        // Nothing is lost any more once a person has started a host.
        assert_eq!(place.next(false, None), quietly("claude shell network"));
        place.write(usual, "keep = '3d'\n");
        assert_eq!(place.next(true, None), quietly(USUAL));
    }

    #[test]
    fn a_new_file_lifts_only_the_limits_that_it_sets_itself() {
        let place = Place::new();
        let usual = ".config/claudine/config.toml";
        place.write(
            usual,
            "max_output = '10M'\n[budget]\ndaily_usd = 2\n[env]\nexclude = ['TOKEN']\n",
        );
        place.next(false, None);
        fs::remove_file(place.file(usual)).unwrap();
        place.next(true, None);
        let check = |text: &str, expected: (u64, Option<u64>, bool)| {
            place.write(usual, text);
            let mut settings = place.settings(true, None);
            begin(&place.layout, &mut settings);
            let most = settings.max_output_bytes >> 20;
            let daily = settings.limits.daily_micro_usd.map(|it| it / 1_000_000);
            assert_eq!(
                (most, daily, settings.env.drops("TOKEN")),
                expected,
                "{text}"
            );
        };
        check("keep = '3d'\n", (10, Some(2), true));
        let daily = "[budget]\ndaily_usd = 5\n";
        check(daily, (10, Some(5), true));
        let env = format!("{daily}[env]\nexclude = []\n");
        check(&env, (10, Some(5), false));
        let all = format!("max_output = '20M'\n{env}");
        check(&all, (20, Some(5), false));
        // The file is the same as before again.
        check("keep = '3d'\n", (1_024, None, false));
    }

    #[test]
    fn only_the_limits_that_a_new_file_would_lift_are_kept_for_it() {
        let place = Place::new();
        let usual = ".config/claudine/config.toml";
        let kept = |config: Option<&str>| {
            let settings = place.settings(true, config);
            let layouts = std::slice::from_ref(&place.layout);
            let kept = kept_without_file(layouts, &settings).unwrap().into_iter();
            kept.map(|(name, value)| format!("{name} = {value}"))
                .collect::<Vec<_>>()
        };
        let none = Vec::<String>::new();
        assert_eq!(kept(None), none);
        place.write(
            usual,
            "max_output = '10M'\nkeep = '3d'\n[budget]\ndaily_usd = 2.5\n\
             [mcp]\nexecutors = ['claude', 'other']\nmax_permission_mode = 'plan'\n\
             merge_strategies = ['manual']\nextras = []\nenv = ['LC_ALL']\ndirectories = ['/srv']\n\
             [env]\nexclude = ['AWS_*', 'TOKEN']\n",
        );
        place.next(false, None);
        fs::remove_file(place.file(usual)).unwrap();
        let expected = [
            "max_output = 10M",
            "budget.daily_usd = 2.5",
            "mcp.executors = [\"claude\"]",
            "mcp.max_permission_mode = plan",
            "mcp.merge_strategies = [\"manual\"]",
            "mcp.extras = []",
            "mcp.env = [\"LC_ALL\"]",
            "mcp.directories = [\"/srv\"]",
            "env.exclude = [\"AWS_*\", \"TOKEN\"]",
        ];
        assert_eq!(kept(None), expected);
        // A host that keeps them does not change that.
        assert_eq!(place.next(true, None), with_a_warning("claude"));
        assert_eq!(kept(None), expected);
        // Another file lifts nothing.
        place.write("other.toml", "");
        assert_eq!(kept(Some("other.toml")), none);
        // A person has accepted that there is no file.
        place.next(false, None);
        assert_eq!(kept(None), none);
        place.write(usual, "[mcp]\nexecutors = ['claude', 'shell', 'more']\n");
        place.next(false, None);
        fs::remove_file(place.file(usual)).unwrap();
        assert_eq!(kept(None), none);
    }

    #[test]
    fn a_new_file_keeps_the_limits_of_all_hosts_that_had_the_file() {
        let place = Place::new();
        let usual = ".config/claudine/config.toml";
        let others = ["other", "third"].map(|name| Layout::new(place.file(name)));
        let begin_in = |layout: &Layout, toml: &str| {
            layout.create().unwrap();
            place.write(usual, toml);
            begin(layout, &mut place.settings(false, None));
        };
        begin_in(
            &place.layout,
            "[mcp]\nextras = []\n[budget]\ndaily_usd = 5\n",
        );
        begin_in(
            &others[0],
            "[mcp]\nexecutors = ['claude']\n[budget]\ndaily_usd = 2\n",
        );
        fs::remove_file(place.file(usual)).unwrap();
        let kept = || {
            let settings = place.settings(true, None);
            let layouts = [&place.layout, &others[0], &others[1]].map(Clone::clone);
            let kept = kept_without_file(&layouts, &settings)?;
            let kept = kept
                .into_iter()
                .map(|(name, value)| format!("{name} = {value}"));
            io::Result::Ok(kept.collect::<Vec<_>>())
        };
        let expected = [
            "budget.daily_usd = 2",
            "mcp.executors = [\"claude\"]",
            "mcp.extras = []",
        ];
        assert_eq!(kept().unwrap(), expected);
        // Nobody knows what the last host in the third directory allowed.
        others[1].create().unwrap();
        fs::write(others[1].ceiling_file(), "{").unwrap();
        let error = kept().unwrap_err().to_string();
        let path = others[1].ceiling_file().display().to_string();
        assert!(error.starts_with(&path), "{error}");
    }

    #[test]
    fn a_file_that_has_vanished_applies_once_it_is_back() {
        let place = Place::new();
        let (usual, more) = (".config/claudine/config.toml", "claude shell other network");
        let allows_more = "[mcp]\nexecutors = ['claude', 'shell', 'other']\n";
        place.write(usual, allows_more);
        assert_eq!(place.next(false, None), quietly(more));
        fs::remove_file(place.file(usual)).unwrap();
        assert_eq!(place.next(true, None), quietly(USUAL));
        place.write(usual, allows_more);
        assert_eq!(place.next(true, None), quietly(more));
    }

    #[test]
    fn a_file_that_a_person_has_changed_applies_but_not_one_that_has_vanished() {
        let place = Place::new();
        let usual = ".config/claudine/config.toml";
        assert_eq!(place.next(false, None), quietly(USUAL));
        place.write(usual, "[mcp]\nexecutors = ['claude', 'other']\n");
        assert_eq!(place.next(true, None), quietly("claude other network"));
        place.write(usual, STRICT);
        assert_eq!(place.next(true, None), quietly("claude network"));
        fs::remove_file(place.file(usual)).unwrap();
        assert_eq!(place.next(true, None), with_a_warning("claude network"));
        let mut settings = place.settings(true, None);
        assert_eq!(narrowed(&place.layout, &mut settings), None);
        let says = format!("than the last host ({}),", place.file(usual).display());
        assert!(settings.warnings[0].contains(&says), "{settings:?}");
        assert_eq!(place.next(false, None), quietly(USUAL));
    }

    #[test]
    fn nothing_is_allowed_if_it_is_unknown_what_the_last_host_allowed() {
        let place = Place::new();
        let record: &Path = &place.layout.ceiling_file();
        fs::write(record, "{").unwrap();
        assert_eq!(place.next(true, None), with_a_warning(""));
        assert_eq!(fs::read(record).unwrap(), b"{");
        assert_eq!(place.next(false, None), quietly(USUAL));
        assert_eq!(place.next(true, None), quietly(USUAL));
    }
}
