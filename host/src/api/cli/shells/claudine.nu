# Completes the words of claudine by asking claudine itself. The words of other programs, and those
# after `claudine run --`, are passed to the completer that was set before.
export-env {
    let others = $env.config.completions.external.completer?
    $env.config.completions.external.completer = {|words|
        let own = $words | take until {|word| $word == "--" }
        let foreign = if $words.0 != "claudine" {
            $words
        } else if "run" in $own {
            $words | skip (($own | length) + 1)
        } else {
            []
        }
        if ($foreign | is-not-empty) {
            # Without a completer, Nushell completes the names of files.
            if $others != null { do $others $foreign }
        } else {
            # Nushell passes words with their quotes.
            let words = $words | each {|word| $word | str trim --char '"' | str trim --char "'" }
            let found = with-env {CLAUDINE_COMPLETE: fish} { ^claudine -- ...$words }
            $found | lines | split column --number 2 (char tab) value description
        }
    }
}
