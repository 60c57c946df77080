//! Paths of the data directory and of the configuration file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{CONFIG, ConfigError, DATA_DIR, Environment, text_of};

/// The data directory: `given`, or else `$CLAUDINE_DATA_DIR`, or else `$XDG_STATE_HOME/claudine`,
/// or else `~/.local/state/claudine`.
pub(crate) fn data_dir(given: Option<&Path>, env: Environment<'_>) -> Result<PathBuf, ConfigError> {
    if let Some(path) = given {
        return std::path::absolute(path).map_err(|source| ConfigError::Read {
            path: path.to_owned(),
            source,
        });
    }
    if let Some(value) = text_of(env, DATA_DIR)? {
        return absolute(DATA_DIR, value);
    }
    let state = text_of(env, "XDG_STATE_HOME")?;
    if let Some(value) = state.filter(|value| value.starts_with('/')) {
        return Ok(Path::new(&value).join("claudine"));
    }
    let home = text_of(env, "HOME")?.ok_or(ConfigError::NoDataDir)?;
    Ok(absolute("HOME", home)?.join(".local/state/claudine"))
}

fn absolute(name: &'static str, value: String) -> Result<PathBuf, ConfigError> {
    let path = PathBuf::from(&value);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(ConfigError::NotAbsolute { name, value })
    }
}

/// The configuration file: `$CLAUDINE_CONFIG`, or else `$XDG_CONFIG_HOME/claudine/config.toml`, or
/// else `~/.config/claudine/config.toml`.
pub(crate) fn file_path(env: Environment<'_>) -> Result<PathBuf, ConfigError> {
    if let Some(value) = text_of(env, CONFIG)? {
        return absolute(CONFIG, value);
    }
    let named = text_of(env, "XDG_CONFIG_HOME")?;
    let directory = if let Some(directory) = named.filter(|value| value.starts_with('/')) {
        PathBuf::from(directory)
    } else {
        let home = text_of(env, "HOME")?.ok_or(ConfigError::NoFile)?;
        absolute("HOME", home)?.join(".config")
    };
    Ok(directory.join("claudine/config.toml"))
}

/// The configuration file, and whether it is to be read. A file that `CLAUDINE_CONFIG` names must
/// exist. If it is unknown whether there is a file, it is to be read, which gives an error: a host
/// that ignored the file would not apply the limits in it. For the same reason, it is an error if
/// the place of the file is unknown, or if a link in its path leads nowhere.
pub(super) fn config_file(env: Environment<'_>) -> Result<(PathBuf, bool), ConfigError> {
    let path = file_path(env)?;
    let is_read = env(CONFIG).is_some() || !is_missing(&path)?;
    Ok((path, is_read))
}

/// Whether there is certainly no such file.
fn is_missing(path: &Path) -> Result<bool, ConfigError> {
    for place in path.ancestors() {
        match fs::symlink_metadata(place) {
            // A link is followed: only its target can be missing here.
            Ok(_) => match fs::metadata(place) {
                Err(error) if is_nothing(&error) => {
                    return Err(ConfigError::LinkToNothing {
                        path: path.to_owned(),
                        link: place.to_owned(),
                    });
                }
                _ => return Ok(place != path),
            },
            Err(error) if is_nothing(&error) => {}
            Err(_) => return Ok(false),
        }
    }
    Ok(true)
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};

    use super::{
        super::{Overrides, Settings, tests::load},
        *,
    };

    #[test]
    fn a_path_in_a_variable_must_be_utf8() {
        let check = |wrong: &str, others: &[(&str, &str)]| {
            let env = |name: &str| {
                let mut others = others.iter().filter(|(other, _)| *other == name);
                if name == wrong {
                    Some(OsString::from_vec(b"/srv/jos\xe9".to_vec()))
                } else {
                    others.next().map(|(_, value)| OsString::from(*value))
                }
            };
            let error = Settings::load(&Overrides::default(), &env).unwrap_err();
            let expected = format!(r#"{wrong} is "/srv/jos\xE9", but must be valid UTF-8"#);
            assert_eq!(error.to_string(), expected);
        };
        let home = ("HOME", "/h");
        check(DATA_DIR, &[home]);
        check("XDG_STATE_HOME", &[home]);
        check(CONFIG, &[home]);
        check("XDG_CONFIG_HOME", &[home]);
        let elsewhere = [("XDG_STATE_HOME", "/s"), ("XDG_CONFIG_HOME", "/c")];
        check("HOME", &elsewhere[..1]);
        check("HOME", &elsewhere[1..]);
    }

    #[test]
    fn the_data_directory_follows_xdg() {
        let dir = |pairs: &[(&str, &str)]| {
            load(pairs)
                .map(|settings| settings.data_dir)
                .map_err(|e| e.to_string())
        };
        assert_eq!(
            dir(&[("HOME", "/h")]).unwrap(),
            Path::new("/h/.local/state/claudine")
        );
        assert_eq!(
            dir(&[("HOME", "/h"), ("XDG_STATE_HOME", "/s")]).unwrap(),
            Path::new("/s/claudine")
        );
        assert_eq!(
            dir(&[("HOME", "/h"), (DATA_DIR, "/d")]).unwrap(),
            Path::new("/d")
        );
        assert_eq!(
            dir(&[(DATA_DIR, "d")]).unwrap_err(),
            "CLAUDINE_DATA_DIR is `d`, but must be an absolute path"
        );
        assert!(
            dir(&[])
                .unwrap_err()
                .starts_with("neither CLAUDINE_DATA_DIR")
        );
    }

    #[test]
    fn a_file_that_is_there_but_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let settings = || {
            load(&[
                ("HOME", "/h"),
                ("XDG_CONFIG_HOME", dir.path().to_str().unwrap()),
            ])
        };
        assert_eq!(settings().unwrap().file, None);
        let folder = dir.path().join("claudine");
        fs::write(&folder, "not a directory").unwrap();
        assert_eq!(settings().unwrap().file, None);
        fs::remove_file(&folder).unwrap();
        fs::create_dir(&folder).unwrap();
        // A link to itself cannot be followed, not even by root.
        std::os::unix::fs::symlink("config.toml", folder.join("config.toml")).unwrap();
        let error = settings().unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }), "{error}");
        // Nobody opens the other end of this FIFO.
        fs::remove_file(folder.join("config.toml")).unwrap();
        rustix::fs::mkfifoat(
            rustix::fs::CWD,
            folder.join("config.toml"),
            rustix::fs::Mode::RUSR,
        )
        .unwrap();
        let error = settings().unwrap_err().to_string();
        assert!(error.contains("it is a FIFO"), "{error}");
    }

    /// The file may be on a disk that is not mounted at the moment.
    #[test]
    fn a_link_to_nothing_in_the_path_of_the_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let check = |link: &str| {
            let above = dir.path().join(link);
            fs::create_dir_all(above.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink("unmounted/files", &above).unwrap();
            let error = load(&[("HOME", dir.path().to_str().unwrap())]).unwrap_err();
            let error = error.to_string();
            let says = format!(
                "{} is a link to a file that does not exist",
                above.display()
            );
            assert!(error.contains(&says), "{error}");
            fs::remove_file(&above).unwrap();
        };
        check(".config");
        check(".config/claudine");
        check(".config/claudine/config.toml");
    }

    #[test]
    fn settings_whose_place_is_unknown_are_an_error() {
        let error = |pairs: &[(&str, &str)]| load(pairs).unwrap_err().to_string();
        let unknown = error(&[(DATA_DIR, "/d")]);
        assert!(unknown.starts_with("neither CLAUDINE_CONFIG"), "{unknown}");
        // The directory of a client of MCP would contain this file.
        let relative = error(&[(DATA_DIR, "/d"), ("HOME", ".")]);
        assert_eq!(relative, "HOME is `.`, but must be an absolute path");
        let named = load(&[(DATA_DIR, "/d"), ("XDG_CONFIG_HOME", "/c")]).unwrap();
        assert_eq!(named.file, None);
        assert_eq!(named.place, Path::new("/c/claudine/config.toml"));
    }
}
