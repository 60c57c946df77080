
# Completes the words after `claudine run --` as a command of their own.
_claudine() {
    local at
    for ((at = 1; at < COMP_CWORD; at++)); do
        [[ ${COMP_WORDS[at]} == -- ]] && break
    done
    if ((at < COMP_CWORD)) && [[ " ${COMP_WORDS[*]:1:at-1} " == *" run "* ]]; then
        local offset
        for offset in _comp_command_offset _command_offset; do
            if declare -F "$offset" > /dev/null; then
                compopt +o nospace 2> /dev/null
                "$offset" $((at + 1))
                return
            fi
        done
        return
    fi
    _clap_complete_claudine "$@"
}
if [[ "${BASH_VERSINFO[0]}" -eq 4 && "${BASH_VERSINFO[1]}" -ge 4 || "${BASH_VERSINFO[0]}" -gt 4 ]]; then
    complete -o nospace -o bashdefault -o nosort -F _claudine claudine
else
    complete -o nospace -o bashdefault -F _claudine claudine
fi
