//! Environments of tasks. Each environment is stored in a file named by its digest, so that two
//! thousand tasks with the same environment share one file.
//!
//! Environments are never printed. A file is written and synced before it is renamed, so that a
//! file with a digest as its name always contains a complete environment. The file exists before a
//! task that refers to it is committed.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    fs, io,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use serde::{Deserialize, Serialize};

use crate::{
    bounds::Bounds,
    config::{self, BOUNDS, EnvRules, UMASK},
    digest,
    fsx::{self, Lasting},
    layout::Layout,
    lock::lock,
    restored::Restored,
};

/// The environment of a task.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Environment {
    /// The submitter's whole environment, or, with `--env-clean`, a minimal environment (`HOME`,
    /// `PATH`, `USER`, `LANG`, `TERM`, `TMPDIR`). It may contain the marker of an enclosing attempt
    /// (`CLAUDINE_ATTEMPT`). If the host does not know the attempt of the submitter's process, it
    /// determines the task's parent task from this marker. The marker is then removed.
    pub(crate) base: BTreeMap<String, String>,
    /// Variables given by name (`--env K=V`). They override `base` and ignore `env.exclude`.
    #[serde(default)]
    pub(crate) set: BTreeMap<String, String>,
}

pub(crate) struct Environments {
    layout: Layout,
    rules: EnvRules,
    /// Whether environments are written to disk.
    writes: bool,
    /// Digest of the environment that is used for tasks that were restored without their own
    /// environment.
    stand_in: Option<String>,
    /// Number of holds on each environment that was handed out. The task for which an environment
    /// was handed out may not be stored yet, so an environment with a hold is not removed even if
    /// no stored task names it.
    handed_out: Mutex<HashMap<Arc<str>, usize>>,
    /// Cache of the environments that were handed out or read last, the newest at the end. It is
    /// small, because consecutive tasks usually have the same environment.
    recent: Mutex<VecDeque<Recent>>,
    named: Mutex<Named>,
}

/// The directories that variables of stored environments name. The files of environments never
/// change, so each is read once.
#[derive(Default)]
struct Named {
    /// The variables that are looked up.
    variables: BTreeSet<String>,
    /// The names of the files that were read for them.
    read: HashSet<String>,
    /// The variables with their values.
    directories: BTreeSet<(String, PathBuf)>,
}

type Variables = Arc<BTreeMap<String, String>>;
type Recent = (String, Variables);

const RECENT: usize = 8;

/// The environment of a task. Its file is not removed while this value exists, so the value must be
/// held until the task is durable.
pub(crate) struct Kept {
    pub(crate) digest: Arc<str>,
    pub(crate) variables: Variables,
    /// Umask of the submitter, if it was passed.
    pub(crate) umask: Option<u16>,
    /// Limits and niceness of the submitter in their short encoding, if they were passed.
    pub(crate) bounds: Option<Arc<str>>,
    _hold: Hold,
}

/// One hold on an environment.
struct Hold {
    environments: Arc<Environments>,
    digest: Arc<str>,
}

impl Hold {
    /// Takes a hold on an environment. Also returns whether nobody else has held this environment
    /// since [`Environments::let_go`] was last called.
    fn take(environments: &Arc<Environments>, digest: &Arc<str>) -> (Self, bool) {
        let mut handed_out = lock(&environments.handed_out);
        let is_first = !handed_out.contains_key(digest);
        *handed_out.entry(digest.clone()).or_default() += 1;
        let hold = Self {
            environments: environments.clone(),
            digest: digest.clone(),
        };
        (hold, is_first)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(count) = lock(&self.environments.handed_out).get_mut(&self.digest) {
            *count -= 1;
        }
    }
}

impl Named {
    /// Adds the absolute paths among the values of the variables that are looked up.
    fn add(&mut self, environment: impl Iterator<Item = (String, PathBuf)>) {
        let looked_up = &self.variables;
        let directories =
            environment.filter(|(name, value)| looked_up.contains(name) && value.is_absolute());
        self.directories.extend(directories);
    }
}

/// Number of environments that had no hold when [`Environments::let_go`] was called before a prune.
pub(crate) struct LetGo(usize);

impl LetGo {
    pub(crate) fn is_nothing(&self) -> bool {
        self.0 == 0
    }
}

fn umask_in(base: &BTreeMap<String, String>) -> Option<u16> {
    let umask = u16::from_str_radix(base.get(UMASK)?, 8).ok()?;
    (umask <= 0o777).then_some(umask)
}

fn bounds_in(base: &BTreeMap<String, String>) -> Option<Arc<str>> {
    let bounds: Bounds = base.get(BOUNDS)?.parse().ok()?;
    Some(bounds.short().into())
}

impl Environments {
    pub(crate) fn new(layout: Layout, rules: EnvRules) -> Self {
        Self {
            stand_in: Restored::known(&layout).and_then(|restored| restored.environment),
            layout,
            rules,
            writes: true,
            handed_out: Mutex::default(),
            recent: Mutex::default(),
            named: Mutex::default(),
        }
    }

    /// Environments of a process that is not a host, and so writes nothing to disk.
    pub(crate) fn unwritten(layout: Layout, rules: EnvRules) -> Self {
        Self {
            writes: false,
            ..Self::new(layout, rules)
        }
    }

    /// Removes variables that tasks do not get, and stores all others on disk.
    pub(crate) async fn keep(self: &Arc<Self>, environment: Environment) -> io::Result<Kept> {
        let umask = umask_in(&environment.base);
        let bounds = bounds_in(&environment.base);
        let variables = self.given_to_tasks(environment);
        let bytes = encode(&variables);
        let digest: Arc<str> = digest::hex(&bytes).into();
        // The hold is taken before the file is written, so that the file is not pruned. The file is
        // written again if an earlier write failed.
        let (hold, is_first) = Hold::take(self, &digest);
        if self.writes && (is_first || !self.has(&digest)) {
            let (this, digest) = (Arc::clone(self), digest.clone());
            // The write runs on a thread that may block, because it waits for the disk.
            let write = crate::aside::run(move || this.write(&digest, &bytes));
            write
                .await
                .unwrap_or_else(|panic| Err(io::Error::other(panic)))?;
        }
        let variables = Arc::new(variables);
        self.remember(&digest, &variables);
        Ok(Kept {
            digest,
            variables,
            umask,
            bounds,
            _hold: hold,
        })
    }

    fn given_to_tasks(&self, environment: Environment) -> BTreeMap<String, String> {
        let mut variables: BTreeMap<String, String> = environment
            .base
            .into_iter()
            .filter(|(name, _)| !self.rules.drops(name))
            .collect();
        variables.extend(environment.set);
        variables
    }

    /// Does the same as [`Environments::keep`] without an async runtime. Returns the digest.
    pub(crate) fn keep_blocking(&self, environment: Environment) -> io::Result<String> {
        let bytes = encode(&self.given_to_tasks(environment));
        let digest = digest::hex(&bytes);
        self.write(&digest, &bytes)?;
        Ok(digest)
    }

    /// The file with a task's environment. If the task was restored without its own environment,
    /// this is the file with the environment of the restoring command.
    pub(crate) fn file(&self, digest: &str) -> PathBuf {
        let own = self.layout.environment(digest);
        match &self.stand_in {
            // A file that cannot be looked at is not replaced, so that the task does not run in
            // another environment.
            Some(stand_in) if fsx::is_missing(&own) => self.layout.environment(stand_in),
            _ => own,
        }
    }

    fn has(&self, digest: &str) -> bool {
        self.layout.environment(digest).exists()
    }

    /// Whether a task with this environment runs in the environment of the restoring command,
    /// because the task's own environment was not in the backup.
    pub(crate) fn is_stood_in_for(&self, digest: &str) -> bool {
        self.stand_in.is_some() && fsx::is_missing(&self.layout.environment(digest))
    }

    /// An environment with additional or changed variables.
    pub(crate) async fn with(
        self: &Arc<Self>,
        kept: &Kept,
        set: &BTreeMap<String, String>,
    ) -> io::Result<Kept> {
        // The stored variables were already filtered, and are not filtered again.
        let variables = kept.variables.iter().chain(set);
        let with = self
            .keep(Environment {
                base: BTreeMap::new(),
                set: variables
                    .map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
            })
            .await?;
        Ok(Kept {
            umask: kept.umask,
            bounds: kept.bounds.clone(),
            ..with
        })
    }

    /// The environment, if it is among the last few. Does not read the disk.
    pub(crate) fn recent(&self, digest: &str) -> Option<Variables> {
        let recent = lock(&self.recent);
        let found = recent.iter().find(|(known, _)| known == digest);
        found.map(|(_, variables)| variables.clone())
    }

    pub(crate) fn read(&self, digest: &str) -> io::Result<Variables> {
        if let Some(variables) = self.recent(digest) {
            return Ok(variables);
        }
        let variables = Arc::new(decode(&fsx::read(&self.file(digest))?));
        self.remember(digest, &variables);
        Ok(variables)
    }

    /// The absolute paths that these variables have in the stored environments and in that of this
    /// process. Those of removed environments are forgotten only by the next host.
    /// Reads the environments that were stored since the last call.
    pub(crate) fn directories_of(
        &self,
        variables: &BTreeSet<String>,
    ) -> io::Result<BTreeSet<(String, PathBuf)>> {
        let mut named = lock(&self.named);
        if !named.variables.is_superset(variables) {
            named.variables.extend(variables.iter().cloned());
            named.read.clear();
            let own = config::whole_environment().into_iter();
            let own =
                own.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into())));
            named.add(own);
        }
        let mut stored = HashSet::new();
        for file in fs::read_dir(self.layout.environments())? {
            let name = file?.file_name().to_string_lossy().into_owned();
            // A name with a dot is a file that is being written. Its task is still to be stored.
            if name.contains('.') {
                continue;
            }
            if !named.read.contains(&name) {
                match fsx::read(&self.layout.environment(&name)) {
                    Ok(bytes) => {
                        let all = decode(&bytes).into_iter();
                        named.add(all.map(|(name, value)| (name, value.into())));
                    }
                    // It was removed meanwhile.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => {
                        // No task can run with it either.
                        tracing::warn!(%error, %name, "an environment cannot be read");
                        continue;
                    }
                }
            }
            stored.insert(name);
        }
        named.read = stored;
        let of_these = named.directories.iter();
        let of_these = of_these.filter(|(name, _)| variables.contains(name));
        Ok(of_these.cloned().collect())
    }

    fn remember(&self, digest: &str, variables: &Variables) {
        let mut recent = lock(&self.recent);
        recent.retain(|(known, _)| known != digest);
        if recent.len() == RECENT {
            recent.pop_front();
        }
        recent.push_back((digest.to_owned(), variables.clone()));
    }

    /// Lets the next [`Environments::prune`] remove the environments that have no hold now. If a
    /// task was submitted with such an environment, the task is among the engine's inputs by now,
    /// so it is stored with the next batch or never.
    pub(crate) fn let_go(&self) -> LetGo {
        let mut handed_out = lock(&self.handed_out);
        let before = handed_out.len();
        handed_out.retain(|_, count| *count > 0);
        LetGo(before - handed_out.len())
    }

    /// Removes environments that have no hold and that no stored task names. `in_use` must be read
    /// only after the store contains all inputs that the engine had when `let_go` was called.
    /// Environments that were handed out after `let_go` are kept.
    pub(crate) fn prune(&self, _: LetGo, in_use: &[String]) -> io::Result<()> {
        let in_use: HashSet<&str> = in_use.iter().map(String::as_str).collect();
        // The record is read again, because it may have been unreadable when this host started.
        let restored = Restored::read(&self.layout)?;
        let stand_in = restored.and_then(|restored| restored.environment);
        let mut unused = Vec::new();
        for file in fs::read_dir(self.layout.environments())? {
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            let stands_in = stand_in.as_ref() == Some(&name);
            // A name with a dot is a file that is being written.
            if !(name.contains('.') || stands_in || in_use.contains(name.as_str())) {
                unused.push((name, file.path()));
            }
        }
        for (name, path) in unused {
            // The lock is taken separately for each removal, so that a caller that needs an
            // environment waits for at most one removal.
            let handed_out = lock(&self.handed_out);
            if !handed_out.contains_key(name.as_str())
                && let Err(error) = fs::remove_file(path)
            {
                tracing::warn!(%error, "an old environment cannot be removed");
            }
        }
        Ok(())
    }

    fn write(&self, digest: &str, bytes: &[u8]) -> io::Result<()> {
        let path = self.layout.environment(digest);
        if path.exists() {
            return Ok(());
        }
        // The file must be durable before the task that names it is stored.
        fsx::replace(&path, Lasting::PowerCut, bytes).map(drop)
    }
}

/// Encodes variables as in `/proc/PID/environ`: `NAME=VALUE`, each followed by a NUL byte.
fn encode(variables: &BTreeMap<String, String>) -> Vec<u8> {
    let lengths = variables
        .iter()
        .map(|(name, value)| name.len() + value.len());
    let mut bytes = Vec::with_capacity(lengths.map(|length| length + "=\0".len()).sum());
    for (name, value) in variables {
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(b'=');
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
    }
    bytes
}

fn decode(bytes: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(bytes);
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_task_restored_without_its_environment_gets_the_restoring_commands_environment() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let open = || Environments::new(layout.clone(), EnvRules::default());
        let of = |name: &str| Environment {
            base: pairs(&[("WHO", name), ("CLAUDECODE", "1")]),
            ..Environment::default()
        };
        let (own, missing) = (
            open().keep_blocking(of("submitter")).unwrap(),
            "0".repeat(64),
        );
        assert!(open().read(&missing).is_err());
        let restorers = open().keep_blocking(of("restorer")).unwrap();
        let restored = Restored {
            taken_at: claudine_domain::time::Timestamp(1),
            at: claudine_domain::time::Timestamp(2),
            environment: Some(restorers.clone()),
        };
        restored.write(&layout).unwrap();
        let environments = Arc::new(open());
        let who = |digest: &str| environments.read(digest).unwrap()["WHO"].clone();
        assert_eq!(
            (who(&own), who(&missing)),
            ("submitter".into(), "restorer".into())
        );
        assert_eq!(environments.file(&missing), layout.environment(&restorers));
        assert_eq!(environments.file(&own), layout.environment(&own));
        let stood_in = |digest: &str| environments.is_stood_in_for(digest);
        assert!(!stood_in(&own) && stood_in(&missing));
        // A link to itself is a file that is there and cannot be read.
        let unreadable = "1".repeat(64);
        let path = layout.environment(&unreadable);
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert_eq!(environments.file(&unreadable), path);
        assert!(!stood_in(&unreadable) && environments.read(&unreadable).is_err());
        std::fs::remove_file(&path).unwrap();
        environments
            .prune(environments.let_go(), &[missing])
            .unwrap();
        assert!(layout.environment(&restorers).exists() && !layout.environment(&own).exists());
    }

    #[tokio::test]
    async fn environments_without_a_hold_and_without_a_task_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let environments = Arc::new(Environments::new(layout.clone(), EnvRules::default()));
        let keep = async |value: &str| {
            let base = pairs(&[("A", value)]);
            let set = BTreeMap::new();
            environments.keep(Environment { base, set }).await.unwrap()
        };
        let is_there = |digest: &str| layout.environment(digest).exists();
        let held = keep("held").await;
        let (twice, again) = (keep("twice").await, keep("twice").await);
        drop(twice);
        let named = keep("named").await.digest.clone();
        let refused = keep("refused").await.digest.clone();
        let let_go = environments.let_go();
        assert!(!let_go.is_nothing());
        // This environment is handed out after `let_go` and before `prune`.
        let late = keep("late").await.digest.clone();
        environments.prune(let_go, &[named.to_string()]).unwrap();
        for stays in [&held.digest, &again.digest, &named, &late] {
            assert!(is_there(stays));
        }
        assert!(!is_there(&refused));
        // An environment that was removed is written again for the next task.
        assert!(is_there(&keep("refused").await.digest));
        drop((held, again));
        environments.prune(environments.let_go(), &[]).unwrap();
        assert_eq!(fs::read_dir(layout.environments()).unwrap().count(), 0);
        assert!(environments.let_go().is_nothing());
    }

    #[test]
    fn directories_that_variables_of_stored_environments_name_are_known() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let open = || Environments::new(layout.clone(), EnvRules::default());
        let keep = |environments: &Environments, name: &str, value: &str| {
            let base = pairs(&[(name, value)]);
            let set = BTreeMap::new();
            environments.keep_blocking(Environment { base, set })
        };
        let check = |environments: &Environments, names: &[&str], expected: &[(&str, &str)]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let found = environments.directories_of(&names).unwrap();
            let expected = expected.iter();
            let expected: BTreeSet<(String, PathBuf)> = expected
                .map(|(name, value)| ((*name).to_owned(), PathBuf::from(value)))
                .collect();
            assert_eq!(found, expected);
        };
        let environments = open();
        check(&environments, &["ONE_DIR"], &[]);
        let first = keep(&environments, "ONE_DIR", "/a").unwrap();
        for (name, value) in [("ONE_DIR", "b"), ("ONE_DIR", "~/c"), ("TWO_DIR", "/d")] {
            keep(&environments, name, value).unwrap();
        }
        check(&environments, &["ONE_DIR"], &[("ONE_DIR", "/a")]);
        let both = [("ONE_DIR", "/a"), ("TWO_DIR", "/d")];
        check(&environments, &["ONE_DIR", "TWO_DIR"], &both);
        check(&environments, &["TWO_DIR"], &both[1..]);
        // A removed environment is forgotten only by the next host, and one that cannot be read
        // keeps no other from being read.
        fs::remove_file(layout.environment(&first)).unwrap();
        fs::create_dir(layout.environment("unreadable")).unwrap();
        keep(&environments, "ONE_DIR", "/e").unwrap();
        let all = [("ONE_DIR", "/a"), ("ONE_DIR", "/e")];
        check(&environments, &["ONE_DIR"], &all);
        check(&open(), &["ONE_DIR"], &all[1..]);
        // The host's own environment counts too.
        let path = std::env::var("PATH").unwrap();
        let own = open().directories_of(&BTreeSet::from(["PATH".to_owned()]));
        assert_eq!(own.unwrap().len(), usize::from(path.starts_with('/')));
    }

    #[tokio::test]
    async fn equal_environments_share_one_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create().unwrap();
        let rules = EnvRules {
            exclude: vec!["SECRET".to_owned(), "GIVEN".to_owned()],
        };
        let environments = Arc::new(Environments::new(layout.clone(), rules));
        let asked = || Environment {
            base: pairs(&[
                ("A", "1=2"),
                ("SECRET", "x"),
                ("CLAUDECODE", "1"),
                ("CLAUDINE_UMASK", "0027"),
                ("CLAUDINE_BOUNDS", "nice=7"),
                ("LINES", "a\nb"),
            ]),
            set: pairs(&[("GIVEN", "by name")]),
        };
        let first = environments.keep(asked()).await.unwrap();
        let second = environments.keep(asked()).await.unwrap();
        assert_eq!(first.digest, second.digest);
        let more = environments.with(&first, &pairs(&[("B", "2")])).await;
        for kept in [&first, &more.unwrap()] {
            assert_eq!(kept.umask, Some(0o027));
            assert_eq!(kept.bounds.as_deref(), Some("nice=7"));
        }
        let expected = pairs(&[("A", "1=2"), ("GIVEN", "by name"), ("LINES", "a\nb")]);
        assert_eq!(*first.variables, expected);
        assert_eq!(*environments.recent(&first.digest).unwrap(), expected);
        let more = pairs(&[("A", "2"), ("SECRET", "given after all")]);
        let both = environments.with(&first, &more).await.unwrap();
        let expected_of_both = [
            ("A", "2"),
            ("GIVEN", "by name"),
            ("LINES", "a\nb"),
            ("SECRET", "given after all"),
        ];
        assert_eq!(*both.variables, pairs(&expected_of_both));
        fs::remove_file(layout.environment(&both.digest)).unwrap();
        lock(&environments.recent).clear();
        assert_eq!(*environments.read(&first.digest).unwrap(), expected);
        let files: Vec<_> = fs::read_dir(layout.environments())
            .unwrap()
            .map(|entry| entry.unwrap())
            .collect();
        assert_eq!(files.len(), 2);
        let mode =
            std::os::unix::fs::PermissionsExt::mode(&files[0].metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
