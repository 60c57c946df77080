//! Words as a shell reads them, for commands that a person copies.

/// A word in quotes, if it needs them.
pub(crate) fn shell_word(word: &str) -> String {
    shell_line(&[word])
}

/// A command as a person would type it. A NUL, which no command has, is not quoted.
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
    fn words_are_one_word_each_to_a_shell() {
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
