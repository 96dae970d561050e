# fish completion for run-recorder and run-recorderd, installed as
# /usr/share/fish/vendor_completions.d/run-recorder.fish, with run-recorderd.fish as a link to it. What there is to offer
# the tool says itself (run-recorder --complete), for all shells; the daemon's flags are those of its --help.

function __run_recorder_offer
    set -l typed $argv[-1]
    for line in (run-recorder --complete $argv 2>/dev/null)
        set -l parts (string split -m 1 \t -- $line)
        if test -n "$parts[1]"
            echo $line
            continue
        end
        # Behind --flag= only the value is completed.
        set -l begin (string match -r -- '^--[a-z-]+=' $typed)
        set -l value (string replace -- "$begin" '' $typed)
        switch $parts[2]
            case files
                printf "$begin%s\n" (__fish_complete_path $value)
            case folders
                printf "$begin%s\n" (__fish_complete_directories $value)
            case users
                __fish_complete_users
            case groups
                __fish_complete_groups
            case 'command *'
                # With the index of the command's first word; there is the program before it, and fish counts from 1.
                set -l first (math (string replace 'command ' '' -- $parts[2]) + 1)
                complete -C (string join ' ' -- (string escape -- $argv[$first..-2]) $typed)
        end
    end
end

function __run_recorder
    set -l words (commandline -opc)
    __run_recorder_offer $words[2..-1] (commandline -ct)
end

function __run_recorderd
    set -l words (commandline -opc)
    set -l actions --check --check-config --migrate --print --drain --restore --adopt-spool --version --help
    if string match -q -- '--*' $words[-1]; and not contains -- $words[-1] $actions
        # A setting is a flag of the tool, too, with the same values.
        __run_recorder_offer $words[-1] (commandline -ct)
        return
    end
    run-recorderd --help 2>/dev/null | string replace -rf -- '^  (--[a-z-]+)( .*|$)' '$1'
end

complete -c run-recorder -f -a '(__run_recorder)'
complete -c run-recorderd -f -a '(__run_recorderd)'
