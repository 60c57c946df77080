//! Where a backup goes: a file that is there as a whole or not at all.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::{
    super::error::{AppError, ErrorKind},
    cannot,
};
use crate::fsx;

/// A file that gets its name once it is whole. What was begun has the name with `.partial` at its
/// end.
pub(super) struct Target {
    path: PathBuf,
    partial: PathBuf,
    /// What is there under its name is replaced.
    force: bool,
}

impl Target {
    pub(super) fn create(path: &Path, force: bool) -> Result<(Self, File), AppError> {
        // A broken link is something as well.
        if !force && fs::symlink_metadata(path).is_ok() {
            return Err(is_there(path));
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.partial", crate::random::hex_64()));
        let partial = PathBuf::from(name);
        let file = fsx::private()
            .write(true)
            .create_new(true)
            .open(&partial)
            .map_err(|error| cannot("write the backup", path, &error))?;
        let target = Self {
            path: path.to_owned(),
            partial,
            force,
        };
        Ok((target, file))
    }

    /// Names what was written, once it is on the disk.
    pub(super) fn name(self, file: &File) -> Result<(), AppError> {
        let named = file.sync_all().and_then(|()| self.take_name());
        match named {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let refused = is_there(&self.path);
                self.give_up();
                Err(refused)
            }
            Err(error) => {
                let failed = cannot("write the backup", &self.path, &error);
                self.give_up();
                Err(failed)
            }
        }
    }

    fn take_name(&self) -> io::Result<()> {
        if self.force {
            fs::rename(&self.partial, &self.path)?;
        } else {
            // A second name is refused where there is one, a rename would replace it.
            fs::hard_link(&self.partial, &self.path)?;
            fs::remove_file(&self.partial)?;
        }
        let directory = self.path.parent().filter(|path| *path != Path::new(""));
        File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Removes what was begun.
    pub(super) fn give_up(self) {
        if let Err(error) = fsx::remove_file(&self.partial) {
            tracing::warn!(path = %self.partial.display(), %error, "cannot be removed");
        }
    }
}

fn is_there(path: &Path) -> AppError {
    AppError::new(
        ErrorKind::Conflict,
        format!("{} is there already", path.display()),
    )
    .hint("name another file, or replace it with --force")
}
