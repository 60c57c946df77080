
# What follows `claudine run --` is completed as the command that it is.
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

# As a file of $fpath this is itself the function.
if [[ $funcstack[1] == _claudine ]]; then
    _claudine "$@"
else
    compdef _claudine claudine
fi
