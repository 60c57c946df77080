//! The project's Rust sources: their paths, and which lines are tests.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use crate::scan::{block_end, code_only};

/// A place where a rule is broken.
#[derive(Debug)]
pub(crate) struct Breach {
    pub(crate) file: String,
    pub(crate) line: usize,
    pub(crate) what: String,
}

/// One source file.
pub(crate) struct Source {
    /// Relative to the root of the checkout, with slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with its comments and literals replaced by blanks.
    pub(crate) code: String,
    /// Offsets of the blocks that are compiled only for tests; the whole file if it contains only
    /// tests.
    tests: Vec<std::ops::Range<usize>>,
}

impl Source {
    pub(crate) fn breach(&self, offset: usize, what: impl Into<String>) -> Breach {
        Breach {
            file: self.path.clone(),
            line: self.line_of(offset),
            what: what.into(),
        }
    }

    pub(crate) fn line_of(&self, offset: usize) -> usize {
        self.code[..offset].matches('\n').count() + 1
    }

    /// Whether the code at this offset is compiled only for tests.
    pub(crate) fn is_test(&self, offset: usize) -> bool {
        self.tests.iter().any(|range| range.contains(&offset))
    }

    /// Number of lines that are not tests.
    pub(crate) fn length(&self) -> usize {
        let mut offset = 0;
        let mut lines = 0;
        for line in self.code.split_inclusive('\n') {
            lines += usize::from(!self.is_test(offset));
            offset += line.len();
        }
        lines
    }

    /// Every offset of `piece` in code that is not a test.
    pub(crate) fn places<'s>(&'s self, piece: &'s str) -> impl Iterator<Item = usize> + 's {
        self.code
            .match_indices(piece)
            .map(|(at, _)| at)
            .filter(|at| !self.is_test(*at))
    }
}

/// All Rust files of the checkout.
pub(crate) fn all() -> Vec<Source> {
    let root = root();
    let paths = paths(&root, &["rs"]);
    let mut sources: Vec<Source> = paths.iter().map(|path| read(&root, path)).collect();
    let test_files = test_files(&sources);
    for source in &mut sources {
        if source.path.starts_with("tests/")
            || source.path.contains("/tests/")
            || test_files.contains(&source.path)
        {
            source.tests = std::iter::once(0..usize::MAX).collect();
        }
    }
    assert!(
        sources.len() > 20,
        "the sources were not found: only {} files under {}",
        sources.len(),
        root.display()
    );
    sources
}

/// The files below one directory.
pub(crate) fn below(dir: &str) -> Vec<Source> {
    let mut sources = all();
    sources.retain(|source| source.path.starts_with(dir));
    assert!(!sources.is_empty(), "no file is below {dir}");
    sources
}

/// Files of the checkout with one of these extensions: their paths from the root of the checkout,
/// and their texts.
pub(crate) fn texts(extensions: &[&str]) -> Vec<(String, String)> {
    let root = root();
    let paths = paths(&root, extensions);
    assert!(!paths.is_empty(), "no file ends with {extensions:?}");
    let text = |path: &PathBuf| (from_root(&root, path), fs::read_to_string(path).unwrap());
    paths.iter().map(text).collect()
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn paths(root: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(root, extensions, &mut found);
    found.sort();
    found
}

fn from_root(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap();
    path.to_str().unwrap().to_owned()
}

fn walk(dir: &Path, extensions: &[&str], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && !name.as_encoded_bytes().starts_with(b".") {
                walk(&path, extensions, found);
            }
        } else if let Some(extension) = path.extension()
            && extensions.iter().any(|wanted| extension == *wanted)
        {
            found.push(path);
        }
    }
}

fn read(root: &Path, path: &Path) -> Source {
    let text = fs::read_to_string(path).unwrap();
    let code = code_only(&text);
    let tests = test_blocks(&code);
    Source {
        path: from_root(root, path),
        text,
        code,
        tests,
    }
}

fn test_blocks(code: &str) -> Vec<std::ops::Range<usize>> {
    let marks = code.match_indices("#[cfg(test)]").map(|(at, _)| at);
    marks
        .filter_map(|at| Some(at..block_end(code, at)?))
        .collect()
}

/// Files of the modules that `#[cfg(test)] mod name;` declares, including files in their
/// directories.
fn test_files(sources: &[Source]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for source in sources {
        for (at, mark) in source.code.match_indices("#[cfg(test)]") {
            let rest = source.code[at + mark.len()..].trim_start();
            let Some((_, rest)) = rest
                .split_once("mod ")
                .filter(|(before, _)| matches!(*before, "" | "pub(crate) " | "pub(super) "))
            else {
                continue;
            };
            let Some(name) = rest
                .split_once(';')
                .map(|(name, _)| name)
                .filter(|name| !name.contains('{'))
            else {
                continue;
            };
            let dir = module_dir(&source.path);
            let inside = format!("{dir}/{name}/");
            found.insert(format!("{dir}/{name}.rs"));
            found.extend(
                sources
                    .iter()
                    .map(|source| &source.path)
                    .filter(|path| path.starts_with(&inside))
                    .cloned(),
            );
        }
    }
    found
}

/// Directory of the modules that a file declares.
fn module_dir(path: &str) -> String {
    let stem = path.trim_end_matches(".rs");
    let name = stem.rsplit('/').next().unwrap();
    if matches!(name, "mod" | "lib" | "main") {
        stem[..stem.len() - name.len() - 1].to_owned()
    } else {
        stem.to_owned()
    }
}
