# METADATA
# title: Read-only commands
# description: |
#   Allows a list of commands that only look; everything else is refused. Shell syntax that could
#   chain or hide another command is refused with it.
package read_only_commands

deny contains message if {
	not is_read_only
	not input.session.admin
	message := sprintf("only read-only commands are allowed: %s", [concat(", ", sort(allowed))])
}

allowed := {
	"terraform output",
	"terraform plan",
	"terraform show",
	"terraform state list",
	"terraform state show",
	"terraform validate",
	"terraform version",
}

is_read_only if {
	not regex.match("[;&|<>`$()\\n\\\\]", input.request.command)
	some command in allowed
	words := regex.split(`\s+`, trim_space(input.request.command))
	wanted := split(command, " ")
	array.slice(words, 0, count(wanted)) == wanted
}
