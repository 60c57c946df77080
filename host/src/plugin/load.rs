//! Compiled code: made once in a process with limits, kept in a cache that only the host writes,
//! and mapped from this cache.
//!
//! The compiler reads components that anybody may have written, so it runs in a child process with
//! limits on time and memory. This process leaves the code in a file for the host. wasmtime trusts
//! the machine code that it loads. So the cache's directory is private to the user, and a file is
//! mapped only if its digest, with the plugin and component that it was made from, equals what was
//! recorded when the file was made.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use wasmtime::component::Component;
use wasmtime::{Engine, Store};

use super::builtin::Builtin;
use super::check::Surface;
#[cfg(test)]
use super::engine::Allocation;
use super::engine::OPTIMISES;
use super::error::PluginError;
use super::guest::Guest;
use super::v0_1::{ExecutorPluginPre, executor, lifecycle};
use crate::{
    aside::{self, AsideError},
    command::{Abandoned, finish_within},
    digest,
    fsx::{self, Lasting},
    layout::Layout,
    ulimits::COMPILER_THREADS,
};

/// The longest time that the compiler may take. Optimised, it needs some seconds for a large
/// component; unoptimised and on a busy machine, up to a minute. Whoever needs the code waits for
/// this time if the compiler is stopped by a signal. A compiler that computes is ended earlier, by
/// its own limit on processor time.
const COMPILE_WALL: Duration = Duration::from_mins(3);
/// The exit code with which the compiler reports that it refuses the component.
pub(super) const REFUSED: u8 = 3;
/// The most bytes kept of the compiler's output.
const SAID_BYTES: usize = 64 << 10;
/// Disk space that must stay free when compiled code is stored: twice the host's ballast.
const ROOM_BYTES: u64 = 16 << 20;
/// The number of digits of each digest in a file's name.
const NAME_DIGITS: usize = 16;

/// A component that was loaded, checked and linked.
pub(crate) struct Loaded {
    pub(crate) pre: ExecutorPluginPre<Guest>,
    pub(crate) surface: Surface,
    executor: executor::GuestIndices,
    /// Whether the types of the exports were checked that an executor's instance does not call.
    are_others_checked: AtomicBool,
}

impl Loaded {
    pub(super) fn new(pre: ExecutorPluginPre<Guest>, surface: Surface) -> wasmtime::Result<Loaded> {
        Ok(Loaded {
            executor: executor::GuestIndices::new(pre.instance_pre())?,
            pre,
            surface,
            are_others_checked: AtomicBool::new(false),
        })
    }

    /// Makes an instance that is called only as an executor. The types of the other exports are the
    /// same in each instance, so they are not checked again each time.
    pub(super) async fn executor(
        &self,
        store: &mut Store<Guest>,
    ) -> wasmtime::Result<executor::Guest> {
        let instance_pre = self.pre.instance_pre();
        let instance = instance_pre.instantiate_async(&mut *store).await?;
        if !self.are_others_checked.load(Ordering::Relaxed) {
            let others = lifecycle::GuestIndices::new(instance_pre)?;
            others.load(&mut *store, &instance)?;
            self.are_others_checked.store(true, Ordering::Relaxed);
        }
        self.executor.load(&mut *store, &instance)
    }
}

/// A component that may have to be compiled.
pub(crate) enum Uncompiled {
    BuiltIn(&'static Builtin),
    Read(Vec<u8>),
}

impl Uncompiled {
    fn bytes(self) -> Result<Vec<u8>, PluginError> {
        match self {
            Self::BuiltIn(builtin) => builtin.component().map_err(|error| PluginError::Load {
                message: format!("this binary is damaged: {error}"),
            }),
            Self::Read(bytes) => Ok(bytes),
        }
    }
}

/// The program that compiles.
#[derive(Debug, Clone)]
pub(crate) enum Compiler {
    /// This executable, called as `PROGRAM __compile IN OUT`. The running version is called, even
    /// if its file has been replaced or removed since its start.
    Process,
    /// There is no compiler: a component that is not in the cache cannot be used.
    Nobody,
    /// This process; used in tests, whose program is not the host.
    #[cfg(test)]
    Here,
}

/// The cache's directory, and the compiler that fills it.
#[derive(Debug)]
pub(crate) struct CodeCache {
    dir: PathBuf,
    compiler: Compiler,
}

impl CodeCache {
    pub(crate) fn new(dir: PathBuf, compiler: Compiler) -> CodeCache {
        CodeCache { dir, compiler }
    }

    /// Removes the files that killed hosts were compiling. Another host with the pid of one of them
    /// would seem to compile for ever. Must be called before this host compiles.
    pub(crate) fn forget_unfinished(&self) -> io::Result<()> {
        for path in fsx::entries(&self.dir)? {
            let extension = path.extension();
            if extension.is_some_and(|extension| extension == "wasm" || extension == "new") {
                fsx::remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// The component, from the cache or compiled now.
    pub(crate) async fn load(
        &self,
        engine: &Engine,
        name: &str,
        component: Uncompiled,
        component_digest: &str,
    ) -> Result<Component, PluginError> {
        let entry = self.entry(engine, name, component_digest);
        match entry.open(engine).await {
            Ok(Some(component)) => return Ok(component),
            Ok(None) => {}
            // The code of another processor, for example, whose instructions this one lacks.
            Err(PluginError::Load { message }) => {
                let code = entry.code.display();
                tracing::warn!("{code} cannot be loaded; it is compiled again: {message}");
            }
            Err(error) => return Err(error),
        }
        if matches!(self.compiler, Compiler::Nobody) {
            return Err(PluginError::Load {
                message: "it is not compiled yet; `claudine up` compiles it".into(),
            });
        }
        self.compile(&entry, engine, component).await?;
        match entry.open(engine).await {
            Ok(Some(component)) => Ok(component),
            Ok(None) => Err(PluginError::Uncompiled {
                message: "its code was removed from the cache".into(),
            }),
            // The code is new and for this engine, so that only the machine can be the reason.
            Err(PluginError::Load { message }) => Err(PluginError::Uncompiled { message }),
            Err(error) => Err(error),
        }
    }

    fn entry(&self, engine: &Engine, name: &str, component_digest: &str) -> Entry {
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        // An engine without a compiler does not know how the compiler optimises.
        OPTIMISES.hash(&mut hasher);
        let stem = format!(
            "{name}-{}-{:016x}",
            &component_digest[..NAME_DIGITS],
            hasher.finish()
        );
        Entry {
            code: self.dir.join(format!("{stem}.cwasm")),
            record: self.dir.join(format!("{stem}.sha256")),
            prefix: format!("{name}-"),
            origin: format!("{name} {component_digest}"),
        }
    }

    async fn compile(
        &self,
        entry: &Entry,
        engine: &Engine,
        component: Uncompiled,
    ) -> Result<(), PluginError> {
        let bytes = component.bytes()?;
        fsx::make_private_dir(&self.dir).map_err(|error| PluginError::io(&self.dir, &error))?;
        let source = Temporary(
            entry
                .code
                .with_extension(Layout::compiled_by(std::process::id())),
        );
        let target = Temporary(
            entry
                .code
                .with_extension(format!("{}.new", std::process::id())),
        );
        write_if_room(&source.0, &bytes).map_err(|error| PluginError::io(&source.0, &error))?;
        self.run_compiler(engine, &source.0, &target.0).await?;
        let code = fsx::read(&target.0).map_err(|error| PluginError::io(&target.0, &error))?;
        entry
            .keep(&code, &target.0)
            .map_err(|error| PluginError::io(&entry.code, &error))?;
        // The new code can be used, whatever is left beside it.
        if let Err(error) = entry.forget_others(&self.dir) {
            let dir = self.dir.display();
            tracing::warn!("{dir} still contains code that is not used any more: {error}");
        }
        Ok(())
    }

    async fn run_compiler(
        &self,
        _engine: &Engine,
        source: &Path,
        target: &Path,
    ) -> Result<(), PluginError> {
        // The host is named by its pid: if a supervisor runs the command, `self` would mean the
        // supervisor.
        let host = format!("/proc/{}/exe", std::process::id());
        let program = match &self.compiler {
            Compiler::Process | Compiler::Nobody => Path::new(&host),
            #[cfg(test)]
            Compiler::Here => {
                let code = super::compile::compile(source, Allocation::on_demand())?;
                return write_if_room(target, &code)
                    .map_err(|error| PluginError::io(target, &error));
            }
        };
        let threads = std::thread::available_parallelism()
            .map_or(1, std::num::NonZero::get)
            .min(COMPILER_THREADS);
        let mut command = Command::new(program);
        command
            .arg("__compile")
            .arg(source)
            .arg(target)
            .stdin(Stdio::null());
        // Nothing in the host's own environment may affect the code.
        command
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string());
        let finished = finish_within(command, SAID_BYTES, COMPILE_WALL, Abandoned::Killed)
            .await
            .map_err(|error| PluginError::io(program, &error))?
            .ok_or_else(|| PluginError::Uncompiled {
                message: format!(
                    "the compiler had not ended after {} s, and was ended",
                    COMPILE_WALL.as_secs()
                ),
            })?;
        if finished.status.success() {
            return Ok(());
        }
        Err(failed(finished.status, &finished.stderr))
    }
}

/// The error if the compiler has ended without success. It is a fault of the component if the
/// compiler refuses it, or would exceed one of its own limits at each further try too. Any other
/// end says nothing about the component.
pub(super) fn failed(status: ExitStatus, said: &[u8]) -> PluginError {
    let said = String::from_utf8_lossy(said);
    let said = said.trim();
    let message = if said.is_empty() {
        format!("the compiler ended with {status}")
    } else {
        said.into()
    };
    let of_own_limits = [Signal::XCPU, Signal::XFSZ].map(Signal::as_raw);
    let is_over = status
        .signal()
        .is_some_and(|signal| of_own_limits.contains(&signal));
    if is_over || status.code() == Some(REFUSED.into()) {
        PluginError::Compile { message }
    } else {
        PluginError::Uncompiled { message }
    }
}

/// A component that was compiled for one engine.
#[derive(Debug, Clone)]
struct Entry {
    code: PathBuf,
    /// The file with the digest and origin of the code, written when the code was made.
    record: PathBuf,
    /// The plugin, and the digest of its component. Without this in the record, the code of one
    /// plugin could be run as that of another.
    origin: String,
    /// The beginning of the file names of all entries of this plugin.
    prefix: String,
}

impl Entry {
    /// Opens the entry. `None` if there is no entry, or if its file has changed since it was
    /// written; the component is then compiled again.
    async fn open(&self, engine: &Engine) -> Result<Option<Component>, PluginError> {
        let (entry, engine) = (self.clone(), engine.clone());
        let opened = aside::run(move || entry.open_now(&engine)).await;
        opened.map_err(|error| {
            let message = error.to_string();
            match error {
                AsideError::NoThread => PluginError::NoThread { message },
                AsideError::Failed(_) => PluginError::Load { message },
            }
        })?
    }

    fn open_now(&self, engine: &Engine) -> Result<Option<Component>, PluginError> {
        // A damaged record need not be UTF-8.
        let recorded = match fsx::read(&self.record) {
            Ok(recorded) => recorded,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PluginError::io(&self.record, &error)),
        };
        let code = match fsx::read(&self.code) {
            Ok(code) => code,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PluginError::io(&self.code, &error)),
        };
        if self.recorded(&code).as_bytes() != recorded {
            tracing::warn!(
                "{} has changed since it was written, or belongs to another plugin; it is compiled \
                 again",
                self.code.display()
            );
            return Ok(None);
        }
        drop(code);
        map(engine, &self.code)
            .map(Some)
            .map_err(|error| PluginError::Load {
                message: format!("{error:#}"),
            })
    }

    /// Writes the code and then the record. An entry exists only if its record exists. Neither file
    /// is synced: if a power cut damages the code, the digest shows the damage and the component is
    /// compiled again.
    fn keep(&self, code: &[u8], written: &Path) -> io::Result<()> {
        fsx::rename(written, &self.code, Lasting::Process)?;
        let recorded = self.recorded(code);
        fsx::replace(&self.record, Lasting::Process, recorded.as_bytes()).map(drop)
    }

    /// What the record of this code must say.
    fn recorded(&self, code: &[u8]) -> String {
        format!("{}\n{}\n", digest::hex(code), self.origin)
    }

    /// Removes this plugin's entries for older components and for older engines, which are not used
    /// again.
    fn forget_others(&self, dir: &Path) -> io::Result<()> {
        for file in fs::read_dir(dir)? {
            let path = file?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let stale = name.strip_prefix(&self.prefix).is_some_and(is_entry);
            if stale && path != self.code && path != self.record {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }
}

/// Whether the part of a file name after the plugin's name consists of two digests and an
/// extension. The file of another plugin whose name begins with this plugin's name has more text in
/// between.
fn is_entry(rest: &str) -> bool {
    let stem = rest
        .strip_suffix(".cwasm")
        .or_else(|| rest.strip_suffix(".sha256"));
    stem.is_some_and(are_digests)
}

fn are_digests(stem: &str) -> bool {
    let hex =
        |part: &str| part.len() == NAME_DIGITS && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    stem.split_once('-')
        .is_some_and(|(component, engine)| hex(component) && hex(engine))
}

/// Whether a file of this name in the cache belongs to the plugin, and not to another one whose
/// name begins with the plugin's name.
pub(crate) fn belongs_to(file: &str, plugin: &str) -> bool {
    let rest = file.strip_prefix(plugin);
    let rest = rest.and_then(|rest| rest.strip_prefix('-'));
    rest.and_then(|rest| rest.split('.').next())
        .is_some_and(are_digests)
}

#[allow(
    unsafe_code,
    reason = "machine code is mapped; its digest is the one that a host recorded when the code was made"
)]
fn map(engine: &Engine, code: &Path) -> wasmtime::Result<Component> {
    // SAFETY: wasmtime's own compiler made the file, its digest was just compared with the recorded
    // one, and only this user, who could run any other code anyway, can write to its directory.
    // wasmtime checks version and settings.
    unsafe { Component::deserialize_file(engine, code) }
}

/// A file that is removed when the `Temporary` is dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Ok(()) => {}
            // The file was moved to its final name, or never written.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!("{} is left behind: {error}", self.0.display()),
        }
    }
}

/// Writes a private file, unless the disk is almost full: the last space is reserved for the files
/// that the host needs to continue.
pub(super) fn write_if_room(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(path);
    if !fsx::has_room(dir, ROOM_BYTES + bytes.len() as u64) {
        return Err(io::Error::from(io::ErrorKind::StorageFull));
    }
    fsx::write_private(path, bytes)
}
