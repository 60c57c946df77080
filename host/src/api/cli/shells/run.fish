
# Completes the words after `claudine run --` as a command of their own.
function __claudine_command
    set -l words (commandline -opc)
    set -l at (contains -i -- -- $words); or return 1
    contains -- run $words[1..$at]; or return 1
    test $at -lt (count $words); and string escape -- $words[(math $at + 1)..-1]
    return 0
end
complete -c claudine -n __claudine_command -f -a '(complete -C (string join " " -- (__claudine_command) (commandline -ct)))'
