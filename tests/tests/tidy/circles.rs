//! Dependencies between modules of a crate: no two sibling modules use each other, directly or
//! indirectly.
//!
//! A module and its submodules count as one: a parent and its children may use each other.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    nothing,
    scan::{code_only, words},
    sources::{self, Source},
};

/// Roots of the checked crates.
const CRATES: &[&str] = &[
    "host/domain/src/",
    "host/src/",
    "plugin-sdk/build/src/",
    "plugin-sdk/src/",
    "plugins/claude/src/",
    "plugins/mock/src/",
    "plugins/shell/src/",
    "xtask/src/",
];

/// Largest number of re-exports by `use` that are followed from a path to a definition.
const HOPS: usize = 8;

/// The names from the root of a crate to a module or to an item in it.
type Path = Vec<String>;

/// The names that a module imports, and the paths in its code.
#[derive(Debug, Default)]
struct Module {
    /// Names that the module imports or re-exports, each with the path after `use`.
    imports: BTreeMap<String, Path>,
    /// Every path as it is written in the module, with its offset.
    named: Vec<(usize, Path)>,
}

impl Module {
    fn read(code: &str, is_test: impl Fn(usize) -> bool) -> Self {
        let mut module = Self::default();
        let mut passed_to = 0;
        for (at, word) in words(code) {
            if at < passed_to || is_test(at) {
                continue;
            }
            let rest = &code[at + word.len()..];
            if word == "use" {
                let tree = rest.split(';').next().unwrap_or_default();
                if is_for_tests(&code[..at]) {
                    passed_to = at + tree.len();
                    continue;
                }
                for (path, name) in imported(tree, &[]) {
                    module.named.push((at, path.clone()));
                    module.imports.insert(name, path);
                }
            } else if rest.starts_with("::") && !code[..at].ends_with("::") {
                module.named.push((at, path_at(&code[at..])));
            }
        }
        module
    }
}

/// Whether this code, which a `use` follows, ends with the attribute `#[cfg(test)]`. A visibility
/// may stand between the attribute and the `use`.
fn is_for_tests(before: &str) -> bool {
    let before = before.trim_end();
    let visibility = ["pub(crate)", "pub(super)", "pub"];
    let before = visibility
        .iter()
        .find_map(|word| before.strip_suffix(word))
        .unwrap_or(before);
    before.trim_end().ends_with("#[cfg(test)]")
}

/// The path at the beginning of some code.
fn path_at(code: &str) -> Path {
    let is_path = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let end = code.find(|c| !is_path(c)).unwrap_or(code.len());
    names(&code[..end])
}

fn names(path: &str) -> Path {
    let names = path.split("::").map(str::trim);
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Paths in the tree of a `use`, each with the name under which it is imported.
fn imported(tree: &str, before: &[String]) -> Vec<(Path, String)> {
    let (head, group) = match tree.trim().split_once('{') {
        Some((head, group)) => (head, group.rfind('}').map(|end| &group[..end])),
        None => (tree.trim(), None),
    };
    let (head, alias) = match head.split_once(" as ") {
        Some((head, alias)) => (head, Some(alias.trim().to_owned())),
        None => (head, None),
    };
    let mut path = [before, &names(head)].concat();
    if let Some(group) = group {
        let members = members(group);
        return members
            .into_iter()
            .flat_map(|member| imported(member, &path))
            .collect();
    }
    if path
        .last()
        .is_some_and(|last| last == "self" || last == "*")
    {
        path.pop();
    }
    let name = alias.or_else(|| path.last().cloned());
    name.map(|name| (path, name)).into_iter().collect()
}

/// Members of a group in a `use`, split at commas outside inner groups.
fn members(group: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let is_between = |c: char| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    };
    let members = group.split(is_between).map(str::trim);
    members.filter(|member| !member.is_empty()).collect()
}

/// The modules of a crate, each by its path from the root.
struct Modules(BTreeMap<Path, Module>);

/// Pairs of sibling modules of which the first uses the second. The value is the place of one such
/// use: the module that contains it (the first of the pair, or one of its submodules), and the
/// offset in that module's file.
type Uses = BTreeMap<(Path, Path), (Path, usize)>;

impl Modules {
    /// A path as written in a module, from the root of the crate; `None` if it leads out of the
    /// crate.
    fn path_from_root(&self, module: &[String], path: &[String]) -> Option<Path> {
        let (first, rest) = path.split_first()?;
        let from: &[String] = match first.as_str() {
            "crate" => &[],
            "self" => module,
            "super" => module.split_last()?.1,
            _ => {
                let child = [module, &path[..1]].concat();
                let known = self.0.contains_key(&child);
                return known.then(|| [module, path].concat());
            }
        };
        if rest.first().is_some_and(|name| name == "super") {
            return self.path_from_root(from, rest);
        }
        Some([from, rest].concat())
    }

    /// The module that defines the item of a path, found by following at most `hops` re-exports.
    fn home(&self, path: &[String], hops: usize) -> Path {
        let is_known = |len: &usize| self.0.contains_key(&path[..*len]);
        let known = (0..=path.len()).rev().find(is_known);
        let (module, rest) = path.split_at(known.unwrap_or(0));
        let passed_on = rest.split_first().and_then(|(name, rest)| {
            let import = self.0.get(module)?.imports.get(name)?;
            Some([self.path_from_root(module, import)?.as_slice(), rest].concat())
        });
        match passed_on {
            Some(path) if hops > 0 => self.home(&path, hops - 1),
            _ => module.to_vec(),
        }
    }

    fn uses(&self) -> Uses {
        let mut uses = Uses::new();
        for (of, module) in &self.0 {
            for (at, path) in &module.named {
                let Some(path) = self.path_from_root(of, path) else {
                    continue;
                };
                let used = self.home(&path, HOPS);
                let both = of.iter().zip(&used);
                let shared = both.take_while(|(one, other)| one == other).count();
                if of.len() > shared && used.len() > shared {
                    let pair = (of[..=shared].to_vec(), used[..=shared].to_vec());
                    uses.entry(pair).or_insert_with(|| (of.clone(), *at));
                }
            }
        }
        uses
    }
}

/// Uses that are part of a cycle.
fn in_circles(uses: &Uses) -> Vec<&(Path, Path)> {
    let mut used_by: BTreeMap<&Path, Vec<&Path>> = BTreeMap::new();
    for (user, used) in uses.keys() {
        used_by.entry(user).or_default().push(used);
    }
    let leads = |from: &Path, to: &Path| {
        let mut seen = BTreeSet::new();
        let mut next = vec![from];
        while let Some(module) = next.pop() {
            if module == to {
                return true;
            }
            if seen.insert(module) {
                next.extend(used_by.get(module).into_iter().flatten().copied());
            }
        }
        false
    };
    let pairs = uses.keys();
    pairs.filter(|(user, used)| leads(used, user)).collect()
}

/// Path of the module in a file below the root of its crate.
fn module_of(file: &str) -> Path {
    let file = file.trim_end_matches(".rs");
    let names = file.split('/').map(str::to_owned);
    let mut names: Path = names.collect();
    let is_parent = |name: &String| name == "mod" || name == "lib" || name == "main";
    if names.last().is_some_and(is_parent) {
        names.pop();
    }
    names
}

#[test]
fn sibling_modules_do_not_use_each_other() {
    let sources = sources::all();
    let mut breaches = Vec::new();
    for root in CRATES {
        let mut files: BTreeMap<Path, &Source> = BTreeMap::new();
        for source in &sources {
            if let Some(file) = source.path.strip_prefix(*root) {
                files.entry(module_of(file)).or_insert(source);
            }
        }
        assert!(!files.is_empty(), "no crate found at {root}");
        let read = |source: &&Source| Module::read(&source.code, |at| source.is_test(at));
        let modules = files
            .iter()
            .map(|(path, source)| (path.clone(), read(source)));
        let uses = Modules(modules.collect()).uses();
        for pair in in_circles(&uses) {
            let (module, at) = &uses[pair];
            let (user, used) = (pair.0.join("::"), pair.1.join("::"));
            let what = format!("`{user}` and `{used}` use each other, directly or indirectly");
            breaches.push(files[module].breach(*at, what));
        }
    }
    nothing(
        "sibling modules must not use each other in a cycle",
        &breaches,
    );
}

#[test]
fn cycles_are_found_through_any_path() {
    let check = |files: &[(&str, &str)], expected: &[(&str, &str)]| {
        let read = |code: &str| Module::read(&code_only(code), |_| false);
        let modules = files
            .iter()
            .map(|(file, code)| (module_of(file), read(code)));
        let uses = Modules(modules.collect()).uses();
        let found = in_circles(&uses).into_iter();
        let found: Vec<_> = found
            .map(|(user, used)| (user.join("::"), used.join("::")))
            .collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(user, used)| ((*user).to_owned(), (*used).to_owned()))
            .collect();
        assert_eq!(found, expected, "{files:?}");
    };
    let both = [("a", "b"), ("b", "a")];
    check(
        &[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "fn f() { super::a::g() }"),
        ],
        &both,
    );
    // The cycles lead through a child, a group, another name, and a name that the parent
    // re-exports.
    check(
        &[
            ("lib.rs", "mod a; mod b; pub use a::c::{C, D as E};"),
            ("a/mod.rs", "mod c;"),
            ("a/c.rs", "use crate::{x::X, b::{self as other, B}};"),
            ("b.rs", "use super::E;"),
        ],
        &both,
    );
    check(
        &[
            ("lib.rs", ""),
            ("a.rs", "use crate::b::B;"),
            ("b.rs", "use crate::c::C;"),
            ("c.rs", "use crate::a::A;"),
        ],
        &[("a", "b"), ("b", "c"), ("c", "a")],
    );
    // None of these is a cycle: a parent and its child, test code, other crates, uses in one
    // direction.
    check(
        &[
            ("lib.rs", "mod a; mod b; use a::A; struct S;"),
            ("a/mod.rs", "mod c; use c::C; use crate::b::B;"),
            ("a/c.rs", "use super::Shared; use crate::S;"),
            (
                "b.rs",
                "use std::a::A; #[cfg(test)] pub(crate) use crate::a::A;",
            ),
        ],
        &[],
    );
}
