# METADATA
# title: Some commands per team
# description: |
#   Each team may run the commands of its list on any stack that it may write to, and no others: the web team
#   may restart its pods, the data team may look into states and move resources. A word `*` of a list stands for any
#   one word; what follows the listed words is free, but shell syntax that could chain another command is not.
package team_commands

commands := {
	"data": {"terraform state list", "terraform state show *", "terraform state mv * *"},
	"web": {"kubectl rollout restart *", "kubectl rollout status *", "terraform output"},
}

deny contains message if {
	not may_run
	message := sprintf("none of %s's teams may run this command; they may run: %s", [
		input.session.login,
		concat(", ", sort(open_to_caller)),
	])
}

open_to_caller contains command if {
	some team in input.session.teams
	some command in commands[team]
}

may_run if "platform" in input.session.teams

may_run if {
	not regex.match("[;&|<>`$()\\n\\\\]", input.request.command)
	words := regex.split(`\s+`, trim_space(input.request.command))
	some command in open_to_caller
	begins_with(words, split(command, " "))
}

begins_with(words, wanted) if {
	count(words) >= count(wanted)
	every position, word in wanted {
		word in {"*", words[position]}
	}
}
