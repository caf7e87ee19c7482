# METADATA
# title: Maintenance by a label
# description: |
#   While a stack carries the label `maintenance`, tasks on it are for the team operations alone; with a label
#   `maintenance:TEAM`, also for that team. Setting and removing the label is all that it takes.
package maintenance

deny contains message if {
	is_maintained
	not belongs_to_maintainers
	message := sprintf("the stack is in maintenance: tasks are for %s until its label is removed", [
		concat(", ", sort(maintainers)),
	])
}

is_maintained if {
	some label in input.stack.labels
	regex.match(`^maintenance(:|$)`, label)
}

maintainers := {"operations"} | {team |
	some label in input.stack.labels
	startswith(label, "maintenance:")
	team := trim_prefix(label, "maintenance:")
}

belongs_to_maintainers if {
	some team in input.session.teams
	team in maintainers
}
