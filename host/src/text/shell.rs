//! Quotes words for a shell, in commands that a person may copy.

/// Returns a word, in quotes if a shell needs them.
pub(crate) fn shell_word(word: &str) -> String {
    shell_line(&[word])
}

/// Writes a command as a person would type it. NULs are not quoted, since no command contains NULs.
pub(crate) fn shell_line<Word: AsRef<str>>(words: &[Word]) -> String {
    let quoted = shlex::try_join(words.iter().map(AsRef::<str>::as_ref));
    quoted.unwrap_or_else(|_| {
        let words: Vec<&str> = words.iter().map(AsRef::<str>::as_ref).collect();
        words.join(" ")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_each_quoted_word_as_a_single_word() {
        let check = |words: &[&str], expected: &str| assert_eq!(shell_line(words), expected);
        check(&["make", "-j2"], "make -j2");
        check(
            &["echo", "two words", "it's", ""],
            r#"echo 'two words' "it's" ''"#,
        );
        check(&["a;b", "$(c)"], "'a;b' '$(c)'");
        check(&["a\0b", "c"], "a\0b c");
        assert_eq!(shell_word("gpu"), "gpu");
        assert_eq!(shell_word("x; rm -rf /"), "'x; rm -rf /'");
    }
}
