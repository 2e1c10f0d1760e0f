// The completion script for bash: of our own, since the one that comes with the completion library needs the package
// bash-completion, cannot be read twice, and evaluates what stands on the line. What may come next, `taskomatic complete -- WORDS`
// says: a line for each, a tab before its explanation, and last `:NUMBER`, of no use here.

/** For `source <(taskomatic complete bash)`. Needs bash 3.2 or later and nothing beside it. */
export const bashScript = `# bash completion for taskomatic
_taskomatic() {
  local line=\${COMP_LINE:0:COMP_POINT} item start= at breaks=\${COMP_WORDBREAKS//[@[:space:]]/}
  local current=\${line##*[[:space:]]}
  local -a words
  # Bash parts words at = and : as well; names hold those. Nothing of the line is evaluated.
  read -r -a words <<< "$line"
  [[ -n $current ]] || words+=('')
  # What stands before the last such sign is not to be typed again.
  for ((at = \${#current}; at > 0; at--)); do
    case \${current:at-1:1} in
      @) start=\${current:0:at-1}; break ;;
      ["$breaks"]) start=\${current:0:at}; break ;;
    esac
  done
  COMPREPLY=()
  while IFS= read -r item; do
    item=\${item%%$'\\t'*}
    [[ $item == "$current"* && ! $item =~ ^:[0-9]+$ ]] && COMPREPLY+=("$(printf '%q' "\${item#"$start"}")")
  done < <("\${COMP_WORDS[0]/#\\~/$HOME}" complete -- "\${words[@]:1}" 2> /dev/null)
}
# Where nothing fits, the name of a file may be meant.
complete -o default -F _taskomatic taskomatic
`
