//! `claudine diff`

use std::process::ExitCode;

use clap::Args;

use super::{
    failure::Failure,
    named, output, pager,
    session::Session,
    terminal::{Colour, Look, Painted},
};
use crate::app::{DiffQuery, DiffView};

/// Show the changes of a task in a worktree.
///
/// Compares the branch with its base, uncommitted changes included. After the merge, the merged
/// changes are shown, even if the worktree is gone. Hooks, external programs and filters of the
/// repository are not run. On a terminal, the pager is $GIT_PAGER, $PAGER or `less`. For an exact
/// patch, pass the commits of --json to `git diff`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  claudine diff fix-tests
  claudine diff fix-tests --stat
  claudine diff fix-tests src/dates.py
  claudine diff x7tqrp --json | jq -r '.from, .to'")]
pub(super) struct Diff {
    /// Id, end of an id, or name [default: the newest].
    #[arg(value_name = "ID")]
    task: Option<String>,
    /// Only this file or directory, relative to the top of the repository.
    #[arg(value_name = "PATH")]
    path: Option<String>,
    /// Print a summary per file.
    #[arg(long)]
    stat: bool,
    /// Do not use a pager.
    #[arg(long)]
    no_pager: bool,
}

impl Diff {
    pub(super) async fn run(self, session: &Session) -> Result<ExitCode, Failure> {
        let task = named::or_last_told(session, self.task).await?;
        let look = Look::of_stdout();
        let columns = look.columns.and_then(|columns| u16::try_from(columns).ok());
        let query = DiffQuery {
            stat: self.stat,
            columns: columns.filter(|_| self.stat),
            path: self.path,
        };
        let diff = session.client().diff(&task, query).await?;
        if session.json {
            output::json(&diff)?;
            return Ok(ExitCode::SUCCESS);
        }
        let text = if self.stat {
            painted_stat(&diff.text, look)
        } else {
            painted_patch(&diff.text, look)
        };
        if self.no_pager {
            output::painted(&text)?;
        } else {
            pager::show(&text).await?;
        }
        if diff.text.is_empty() {
            output::say("no changes");
        }
        if diff.truncated {
            output::say(&rest(&diff));
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The hint that the diff was cut, with the command that shows all of it.
fn rest(diff: &DiffView) -> String {
    let DiffView { from, to, .. } = diff;
    let to = to.as_deref().map_or(String::new(), |to| format!(" {to}"));
    format!("the diff was cut here; `git diff {from}{to}` shows all of it")
}

/// Numbers of lines that remain in the current hunk, for the old file and for the new file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Left {
    old: u64,
    new: u64,
}

impl Left {
    /// Parses `@@ -1,2 +3 @@ fn main()`; returns the hunk and the length of its `@@ … @@` part.
    fn of_hunk(line: &str) -> Option<(Self, usize)> {
        let numbers = line.strip_prefix("@@ -")?;
        let end = numbers.find(" @@")?;
        let (old, new) = numbers[..end].split_once(" +")?;
        let count = |range: &str| match range.split_once(',') {
            Some((_, count)) => count.parse().ok(),
            None => Some(1),
        };
        let left = Self {
            old: count(old)?,
            new: count(new)?,
        };
        Some((left, "@@ -".len() + end + " @@".len()))
    }

    fn is_over(self) -> bool {
        self == Self::default()
    }
}

/// Colours a patch as git does: added lines green, removed lines red.
fn painted_patch(text: &str, look: Look) -> Painted {
    let mut painted = Painted::default();
    let mut left = Left::default();
    for line in text.split_inclusive('\n') {
        if let Some((hunk, end)) = Left::of_hunk(line).filter(|_| left.is_over()) {
            left = hunk;
            look.paint(&mut painted, Colour::Cyan, &line[..end]);
            painted.push(&line[end..]);
            continue;
        }
        let is_in_hunk = !left.is_over();
        let (text, end) = line.split_at(line.strip_suffix('\n').map_or(line.len(), str::len));
        let colour = match text.as_bytes().first() {
            Some(b'+') if is_in_hunk => {
                left.new = left.new.saturating_sub(1);
                Some(Colour::Green)
            }
            Some(b'-') if is_in_hunk => {
                left.old = left.old.saturating_sub(1);
                Some(Colour::Red)
            }
            // A note on the previous line, such as `\ No newline at end of file`.
            Some(b'\\') => None,
            _ if is_in_hunk => {
                left.old = left.old.saturating_sub(1);
                left.new = left.new.saturating_sub(1);
                None
            }
            _ => Some(Colour::Bold),
        };
        match colour {
            Some(colour) => look.paint(&mut painted, colour, text),
            None => painted.push(text),
        }
        painted.push(end);
    }
    painted
}

/// Colours the plus and minus signs of lines such as ` src/a.rs | 12 +++---`.
fn painted_stat(text: &str, look: Look) -> Painted {
    let mut painted = Painted::default();
    for line in text.split_inclusive('\n') {
        let signs = line.rfind(" | ").and_then(|bar| {
            let at = bar + line[bar..].find(['+', '-'])?;
            let is_sign = |c| matches!(c, '+' | '-');
            line[at..].trim_end().chars().all(is_sign).then_some(at)
        });
        let (head, signs) = line.split_at(signs.unwrap_or(line.len()));
        painted.push(head);
        let minus = signs.find('-').unwrap_or(signs.trim_end().len());
        let (plus, minus) = signs.split_at(minus);
        let (minus, end) = minus.split_at(minus.trim_end().len());
        look.paint(&mut painted, Colour::Green, plus);
        look.paint(&mut painted, Colour::Red, minus);
        painted.push(end);
    }
    painted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(colours: bool) -> Look {
        Look {
            colours,
            columns: Some(80),
        }
    }

    const PATCH: &str = "\
diff --git a/f b/f
index de98044..57ae7c2 100644
--- a/f
+++ b/f
@@ -1,3 +1,3 @@ fn main()
 a
--- b
+++ T
 c
diff --git a/g b/g
new file mode 100644
@@ -0,0 +1 @@
+@@ -1 +1 @@
\\ No newline at end of file
";

    #[test]
    fn lines_of_a_patch_are_coloured_by_their_kind() {
        assert_eq!(painted_patch(PATCH, look(false)).as_str(), PATCH);
        let painted = painted_patch(PATCH, look(true));
        let expected = "\
<1>diff --git a/f b/f>
<1>index de98044..57ae7c2 100644>
<1>--- a/f>
<1>+++ b/f>
<36>@@ -1,3 +1,3 @@> fn main()
 a
<31>--- b>
<32>+++ T>
 c
<1>diff --git a/g b/g>
<1>new file mode 100644>
<36>@@ -0,0 +1 @@>
<32>+@@ -1 +1 @@>
\\ No newline at end of file
";
        let shown = painted.as_str().replace("\x1b[0m", ">");
        let shown = ["1", "31", "32", "36"].iter().fold(shown, |shown, code| {
            shown.replace(&format!("\x1b[{code}m"), &format!("<{code}>"))
        });
        assert_eq!(shown, expected);
    }

    #[test]
    fn plus_and_minus_signs_in_a_list_of_changed_files_are_coloured() {
        let stat = " a - b.rs | 3 ++-\n bin      | Bin 2 -> 3 bytes\n 1 file changed\n";
        assert_eq!(painted_stat(stat, look(false)).as_str(), stat);
        let bin = " b | Bin 2 -> 3 bytes\n";
        let painted = painted_stat(&format!(" f | 3 ++-\n g | 1 -\n{bin}"), look(true));
        let (green, red, end) = ("\x1b[32m", "\x1b[31m", "\x1b[0m");
        let expected = format!(" f | 3 {green}++{end}{red}-{end}\n g | 1 {red}-{end}\n{bin}");
        assert_eq!(painted.as_str(), expected);
    }
}
