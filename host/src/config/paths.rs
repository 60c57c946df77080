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
        Path::new(&home).join(".config")
    };
    Ok(directory.join("claudine/config.toml"))
}

/// The configuration file to read; `None` if there is none. A file that `CLAUDINE_CONFIG` names
/// must exist. The path of a file that cannot be looked at is returned, so that reading the file
/// gives an error: a host that ignored the file would not apply the limits in it.
pub(super) fn config_file(env: Environment<'_>) -> Result<Option<PathBuf>, ConfigError> {
    match file_path(env) {
        Ok(path) => {
            let kind = fs::metadata(&path).map_err(|error| error.kind());
            let is_missing = matches!(
                kind,
                Err(io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
            );
            Ok(Some(path).filter(|_| env(CONFIG).is_some() || !is_missing))
        }
        Err(ConfigError::NoFile) => Ok(None),
        Err(error) => Err(error),
    }
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
    }
}
