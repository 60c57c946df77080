
# Completes the words after `claudine run --` as a command of their own.
function _claudine() {
    local -i at=${words[(i)--]}
    if (( at < CURRENT && ${words[(i)run]} < at )); then
        words=("${(@)words[at + 1, -1]}")
        (( CURRENT -= at ))
        _normal
        return
    fi
    _clap_dynamic_completer_claudine "$@"
}

# If this file is autoloaded from $fpath, the file itself is the body of the function.
if [[ $funcstack[1] == _claudine ]]; then
    _claudine "$@"
else
    compdef _claudine claudine
fi
