//! Determines the account of a task. Tasks of one account share its usage limit, so an account must
//! have the same key for all spellings of the directory with its login.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use claudine_domain::id::AccountKey;

use super::error::{AppError, ErrorKind};
use crate::{digest, fsx, plugin::Manifest};

/// The account of a task with this working directory, and the key of the account's configuration
/// directory. Tasks with the same directory key start one after the other.
pub(super) async fn account_of(
    manifest: &Manifest,
    variables: &BTreeMap<String, String>,
    working_directory: &Path,
) -> Result<(Option<AccountKey>, Option<String>), AppError> {
    let Some(spelt) = directory(manifest, variables) else {
        return Ok((None, None));
    };
    let path = working_directory.join(spelt);
    // Runs on a thread that may block, because the directory may be on a disk that does not answer.
    let real = crate::aside::run(move || fsx::real(&path)).await;
    let real = real.map_err(|panic| {
        let message = format!("cannot check the directory of the task's account: {panic}");
        AppError::new(ErrorKind::Internal, message)
    })?;
    let directory = format!("{}:{}", manifest.name, real.display());
    let key = format!("{directory}:{}", login(manifest, variables));
    let serial = manifest.serial_start.then_some(directory);
    Ok((Some(AccountKey(key)), serial))
}

/// The directory with the login, according to the task's environment.
fn directory(manifest: &Manifest, variables: &BTreeMap<String, String>) -> Option<PathBuf> {
    let account = manifest.account.as_ref()?;
    let named = variables.get(&account.directory_variable);
    if let Some(named) = named.filter(|value| !value.is_empty()) {
        return Some(named.into());
    }
    let default = &account.default_directory;
    Some(match default.strip_prefix("~/") {
        Some(rest) => {
            let home = variables.get("HOME").map_or("", String::as_str);
            format!("{home}/{rest}").into()
        }
        None => default.into(),
    })
}

/// A hash of the variables that contain a login.
fn login(manifest: &Manifest, variables: &BTreeMap<String, String>) -> String {
    let names = manifest.account.iter().flat_map(|one| &one.credentials);
    let values: Vec<&[u8]> = names
        .map(|name| {
            variables
                .get(name)
                .map_or(&[] as &[u8], |value| value.as_bytes())
        })
        .collect();
    let mut digest = digest::hex_of_pieces(&values);
    digest.truncate(16);
    digest
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::{fs, os::unix::fs::symlink};

    use super::*;

    type Keys = (Option<AccountKey>, Option<String>);

    async fn keys(home: &Path, variables: &[(&str, &str)]) -> Keys {
        let manifest = include_str!("../../../plugins/claude/plugin.toml");
        let manifest = Manifest::parse(manifest).unwrap();
        let pairs = variables.iter();
        let pairs = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let variables = pairs.collect();
        let work = home.join("work");
        let keys = account_of(&manifest, &variables, &work).await;
        keys.unwrap()
    }

    async fn named(home: &Path, directory: &str) -> Keys {
        keys(
            home,
            &[("HOME", "/other"), ("CLAUDE_CONFIG_DIR", directory)],
        )
        .await
    }

    #[tokio::test]
    async fn an_account_has_the_same_key_for_all_spellings_of_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().canonicalize().unwrap().join("home");
        fs::create_dir_all(home.join("work")).unwrap();
        let link = dir.path().join("link");
        symlink(&home, &link).unwrap();
        let text = home.to_str().unwrap();
        let spellings = [
            text.to_owned(),
            format!("{text}/"),
            format!("{text}/work/.."),
            link.to_str().unwrap().to_owned(),
        ];
        // The directory exists only after a login.
        for is_there in [false, true] {
            if is_there {
                fs::create_dir(home.join(".claude")).unwrap();
            }
            let plain = keys(&home, &[("HOME", text)]).await;
            assert_eq!(plain.1, Some(format!("claude:{text}/.claude")));
            for spelt in &spellings {
                assert_eq!(
                    keys(&home, &[("HOME", spelt.as_str())]).await,
                    plain,
                    "{spelt}"
                );
                let spelt = format!("{spelt}/.claude/");
                assert_eq!(named(&home, &spelt).await, plain, "{spelt}");
            }
            assert_eq!(named(&home, "../.claude").await, plain);
            assert_ne!(named(&home, "/other/.claude").await, plain);
            let variables = [("HOME", text), ("ANTHROPIC_API_KEY", "k")];
            let with_key = keys(&home, &variables).await;
            assert_ne!(with_key.0, plain.0);
            assert_eq!(with_key.1, plain.1, "starts still take turns");
        }
    }
}
