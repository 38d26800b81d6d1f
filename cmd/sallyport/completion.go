package main

import (
	"context"
	"fmt"
)

// The shells ask sallyport itself: with --generate-bash-completion as the last word it
// prints what may follow, one a line.
const (
	bashCompletion = `# bash completion for sallyport
_sallyport() {
	local cur=${COMP_WORDS[COMP_CWORD]} words=("${COMP_WORDS[@]:0:COMP_CWORD}")
	[[ $cur == -* ]] && words+=("$cur")
	local IFS=$'\n'
	COMPREPLY=($(compgen -W "$("${words[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
	[[ ${#COMPREPLY[@]} -eq 0 ]] && COMPREPLY=($(compgen -f -- "$cur"))
}
complete -o filenames -F _sallyport sallyport
`
	zshCompletion = `#compdef sallyport
_sallyport() {
	local -a replies given
	given=("${words[@]:0:$((CURRENT - 1))}")
	[[ ${words[CURRENT]} == -* ]] && given+=("${words[CURRENT]}")
	replies=("${(@f)$("${given[@]}" --generate-bash-completion 2>/dev/null)}")
	if [[ -n ${replies[1]} ]]; then
		compadd -a replies
	else
		_files
	fi
}
compdef _sallyport sallyport
`
)

func completionCommand() command {
	return command{
		name: "completion", summary: "print the completion script of a shell", args: "bash|zsh|fish", min: 1, max: 1,
		detail: "bash: sallyport completion bash > /usr/share/bash-completion/completions/sallyport\n" +
			"zsh:  sallyport completion zsh > /usr/share/zsh/vendor-completions/_sallyport\n" +
			"fish: sallyport completion fish > /usr/share/fish/vendor_completions.d/sallyport.fish",
		run: func(_ context.Context, i *invocation) error {
			var text string
			switch shell := i.arg(0); shell {
			case "bash":
				text = bashCompletion
			case "zsh":
				text = zshCompletion
			case "fish":
				var err error
				if text, err = i.c.App.ToFishCompletion(); err != nil {
					return fmt.Errorf("completion: %w", err)
				}
			default:
				return usage("", "there is completion for bash, zsh and fish, not for %q", shell)
			}
			_, err := i.out.Write([]byte(text))
			return err
		},
	}
}
