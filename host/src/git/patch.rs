//! Writes the changes of a branch as a file that any git can apply.

use std::{ffi::OsString, path::Path};

use super::{
    Commit, Git, GitError,
    spec::{LONG, Spec},
};

/// The command. An explicit option overrides each setting that would affect the output, because
/// `git apply` does not accept patches that are formatted for people.
const OPTIONS: &[&str] = &[
    "diff-tree",
    "-r",
    "--patch",
    "--binary",
    "--full-index",
    "--no-textconv",
    "--no-ext-diff",
    "--no-color",
    "--no-color-moved",
    "--ws-error-highlight=none",
    "--src-prefix=a/",
    "--dst-prefix=b/",
    "--no-relative",
    "--no-renames",
    "--unified=3",
    "--inter-hunk-context=0",
    "--diff-algorithm=myers",
    "--submodule=short",
    "--ignore-submodules=none",
    // Order of files. An empty file means git's own order.
    "-O/dev/null",
];

impl Git {
    /// Writes a file with the changes of `tip` since its common ancestor with `base`.
    pub(crate) async fn write_patch(
        &self,
        base: &Commit,
        tip: &Commit,
        file: &Path,
    ) -> Result<(), GitError> {
        // If there is no common ancestor, the changes from `base` to `tip` are written.
        let common = self.common_ancestor(base, tip).await?;
        let mut output = OsString::from("--output=");
        output.push(file);
        let spec = Spec::changes(OPTIONS)
            .arg(output)
            .arg(common.as_ref().unwrap_or(base).hash())
            .arg(tip.hash());
        self.change(&spec.limit(LONG)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::fs;

    use crate::git::tests::Person;

    const HOSTILE: &str = "\
[diff]
	noprefix = true
	mnemonicPrefix = true
	relative = true
	orderFile = ~/.order
	algorithm = patience
	context = 0
	interHunkContext = 20
	external = false
	submodule = log
	renames = copies
	suppressBlankEmpty = true
	wsErrorHighlight = all
	colorMoved = zebra
	ignoreSubmodules = all
	wordRegex = .
[diff \"text\"]
	textconv = od
	command = false
[color]
	ui = always
	diff = always
[core]
	abbrev = 4
	quotePath = true
	attributesFile = ~/.attributes
	whitespace = trailing-space,space-before-tab
	pager = false
[submodule \"lib\"]
	ignore = all
";

    const MODULES: &str = "[submodule \"lib\"]\n\tpath = lib\n\turl = ./lib\n";

    /// Records in the index that the submodule is at the commit whose hash consists of this digit.
    fn submodule(person: &Person, digit: char) {
        let hash = digit.to_string().repeat(40);
        let entry = format!("160000,{hash},lib");
        person.git(&["update-index", "--add", "--cacheinfo", &entry]);
    }

    #[tokio::test]
    async fn a_patch_applies_although_the_users_settings_change_the_format_of_diffs() {
        let person = Person::with_repository(HOSTILE);
        fs::write(person.home().join(".attributes"), "* diff=text\n").unwrap();
        fs::write(person.home().join(".order"), "sub/*\nnew\n").unwrap();
        let lines: Vec<String> = (0..40).map(|n| format!("{n}\n\n")).collect();
        let lines = lines.concat();
        person.write("sub/lines", &lines);
        person.write("größe\n2", "old\n");
        person.write("binary", "\0\x01");
        person.write(".gitmodules", MODULES);
        person.git(&["add", "-A"]);
        submodule(&person, '1');
        person.git(&["commit", "-q", "-m", "first"]);
        let base = person.commit("HEAD").await;
        person.write("sub/lines", &lines.replace("20\n", "changed \n"));
        person.git(&["mv", "größe\n2", "größe\n3"]);
        person.write("binary", "\0\x02");
        person.write("new", "no end of line");
        person.git(&["add", "-A"]);
        submodule(&person, '2');
        person.git(&["commit", "-q", "-m", "second"]);
        let tip = person.commit("HEAD").await;
        let file = person.home().join("patch");
        let git = person.at("sub");
        git.write_patch(&base, &tip, &file).await.unwrap();
        person.git(&["reset", "-q", "--hard", base.hash()]);
        // A user without these settings applies the patch.
        person.configure("");
        person.git(&["apply", "--index", file.to_str().unwrap()]);
        person.git(&["diff", "--exit-code", "--cached", tip.hash()]);
    }
}
