//! Plain English: phrases that must not come back.
//!
//! To extend the list, first remove the phrase everywhere (`grep -ri`, also across line ends), then
//! add a row with its replacement. Case does not matter. A phrase is also found in names
//! (`so_far_that`), in comments that are wrapped in the middle of it, and in strings that continue
//! on the next line. Only add phrases that are never right: reviewers judge words that also have a
//! plain use.

use crate::{
    nothing,
    sources::{self, Breach},
};

/// Banned phrases with their replacements.
const BANNED: &[(&str, &str)] = &[
    // Phrases with the syntax of another language.
    ("at the utmost", "at most"),
    ("to the utmost", "as far as possible"),
    ("the utmost", "the most"),
    ("at the most", "at most"),
    ("be the host", "run the host"),
    ("it comes that", "therefore"),
    ("how it looks like", "what it looks like"),
    ("how it stands", "its state"),
    ("is so far that", "has reached"),
    ("until it is so far", "until then"),
    ("since so long", "for so long"),
    ("already since", "since"),
    ("not before when", "only when"),
    ("only then when", "only if"),
    ("each time when", "each time"),
    ("at once when", "as soon as"),
    ("in case that", "if"),
    ("be it that", "if"),
    ("so that not", "so that nothing, or so as not to"),
    ("different as", "different from"),
    ("a own", "its own"),
    ("an own", "its own"),
    ("an other", "another"),
    ("from alone", "automatically"),
    ("by alone", "alone"),
    ("on its own accord", "of its own accord, or automatically"),
    ("allow to", "allow it to, or let"),
    ("allows to", "allows it to, or lets"),
    ("enables to", "enables it to, or lets"),
    ("in the first line", "mainly"),
    ("comes into question", "is possible"),
    ("worked off", "done, or processed"),
    ("informations", "information"),
    // Clauses in help and messages for which there is a technical noun.
    ("end it after", "time limit"),
    ("end it when", "kill it after, or limit"),
    ("give it up when", "give up if"),
    ("silent for so long", "without output for this long"),
    ("so long after its start", "within this time of starting"),
    ("so many us dollars", "budget in USD"),
    ("up to so often", "up to N times"),
    ("so often when", "N times if"),
    ("stay to its end", "wait for it"),
    ("let a task go", "release a task"),
    ("whoever has waited long", "waiting tasks"),
    ("how much room there is for work", "free capacity"),
    ("are in use or about to be", "busy"),
    (
        "shows what there is",
        "shows the tasks, commands, or what they are",
    ),
    ("no task is called", "no task matches"),
    ("is the beginning of several", "is ambiguous"),
    ("is no priority", "invalid priority"),
    ("is no duration", "invalid duration"),
    ("has such an id", "matches"),
    ("makes no sense", "is invalid"),
    ("make no sense", "are invalid"),
    ("whatever happens in between", "durably"),
    ("told to go down", "stopped"),
    ("takes them back", "picks them up again"),
    ("take on a graph", "submit a graph"),
    ("everything is as it should be", "the setup is right"),
    ("why a task is where it is", "why a task is waiting"),
    ("in which it became true", "of the log"),
    ("what that goes by", "measured usage"),
    ("would make more of it", "limits it"),
    ("stop it for a while", "pause it"),
    ("goes before p1", "P0 is the highest priority"),
    ("without a free place", "without having started"),
    ("keep at most so much", "limit"),
    ("at most so many", "at most N"),
    ("goes out from", "starts at"),
    ("stands as it is", "is in this state"),
    ("is done, for", "ended … ago"),
    ("lets it go", "releases it"),
    ("somebody holds it", "it is held"),
    ("more would pass", "busy"),
    ("of memory at most", "peak"),
    ("no longer there", "removed"),
    ("did not need more", "95th percentile"),
    ("of a hundred earlier", "percentile of earlier"),
    ("needs nothing on this machine", "ready"),
    ("leaves it to its end", "stops waiting"),
    ("tasks go on", "tasks continue"),
    ("goes on, as attempt", "continues as attempt"),
    // Sentences that have to be deciphered.
    ("nobody wants to know", "callers only need"),
    ("of how much more there is room", "of the reported room"),
    ("as if it had never been", "without a trace"),
    ("be laid into", "land in"),
    ("not ours to make", "a decision of a person"),
    ("the half that is random", "the random half"),
    ("who goes first", "the order"),
    ("a sender that is gone", "a closed channel"),
    ("a host that is gone", "a host that has shut down"),
    ("what becomes free", "freed capacity"),
    ("a word to the person", "a message to the user"),
    ("which harms nothing", "which does no harm"),
    ("needs no telling", "need not be told"),
    ("stands ahead", "is reserved"),
    ("is in force", "applies"),
    // Archaic words.
    ("whosoever", "whoever"),
    ("whereby", "by which"),
    ("wherein", "in which"),
    ("wherefore", "why"),
    ("whereupon", "then"),
    ("thereby", "so"),
    ("therein", "in it"),
    ("thereof", "of it"),
    ("thereupon", "then"),
    ("hereby", "with this"),
    ("herein", "here"),
    ("henceforth", "from now on"),
    ("hitherto", "until now"),
    ("forthwith", "at once"),
    ("inasmuch", "because"),
    ("insofar", "if, or as far as"),
    ("amongst", "among"),
    ("whilst", "while"),
    ("unto", "to"),
    ("naught", "nothing"),
    ("nought", "nothing"),
];

/// Extensions of the checked files.
const EXTENSIONS: &[&str] = &[
    "bash", "fish", "md", "nu", "rs", "sh", "sql", "toml", "wit", "yaml", "zsh",
];

/// Files that may contain banned phrases, because they list them.
const EXEMPT: &[&str] = &["tests/tests/tidy/words.rs"];

/// Separators between two words of a phrase, besides white space: a wrapped comment, a string that
/// continues on the next line, a name.
const BETWEEN: &[char] = &['/', '!', '#', '\\', '_'];

#[test]
fn no_banned_phrase_occurs() {
    let mut breaches = Vec::new();
    for (file, text) in sources::texts(EXTENSIONS) {
        if EXEMPT.contains(&file.as_str()) {
            continue;
        }
        breaches.extend(banned(&text).into_iter().map(|(line, what)| Breach {
            file: file.clone(),
            line,
            what,
        }));
    }
    nothing("the text must be plain English", &breaches);
}

/// The banned phrases of a text, with their line numbers.
fn banned(text: &str) -> Vec<(usize, String)> {
    let (flat, starts) = flattened(text);
    let mut found = Vec::new();
    for (phrase, instead) in BANNED {
        for (at, _) in flat.match_indices(phrase) {
            if is_whole(&flat, at, at + phrase.len()) {
                let line = starts.partition_point(|start| *start <= at);
                found.push((line, format!("`{phrase}`: write {instead}")));
            }
        }
    }
    found
}

/// The text in lower case with single spaces between words, and the offset of each line.
fn flattened(text: &str) -> (String, Vec<usize>) {
    let mut flat = String::with_capacity(text.len());
    let mut starts = vec![0];
    for c in text.chars() {
        if c == '\n' {
            starts.push(flat.len());
        }
        if !c.is_whitespace() && !BETWEEN.contains(&c) {
            flat.push(c.to_ascii_lowercase());
        } else if !flat.ends_with(' ') {
            flat.push(' ');
        }
    }
    (flat, starts)
}

/// Whether the match begins and ends at word boundaries.
fn is_whole(flat: &str, start: usize, end: usize) -> bool {
    let before = flat[..start].chars().next_back();
    let after = flat[end..].chars().next();
    let in_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    !in_word(before) && !in_word(after)
}

#[test]
fn phrases_are_found_in_names_and_across_lines() {
    let check = |text: &str, lines: &[usize]| {
        let found: Vec<_> = banned(text).into_iter().map(|(line, _)| line).collect();
        assert_eq!(found, lines, "{text}");
    };
    check("one\n/// Takes two of\n/// an\n/// own kind.\n", &[3]);
    check("fn a_file_of_an_own_kind() {}", &[1]);
    check("key = 1 # of an\n# own kind\n", &[1]);
    check("\"so it is Already \\\n    since then\"", &[1]);
    check("Informations\n\nand informations", &[1, 3]);
    check("an owner, a misinformations, alreadysince", &[]);
    check("an, own", &[]);
}

#[test]
fn phrases_are_listed_in_their_searched_form() {
    for (phrase, instead) in BANNED {
        assert_eq!(&flattened(phrase).0, phrase, "the phrase is never found");
        assert!(!instead.is_empty(), "{phrase}");
    }
}
