# METADATA
# title: Breaking the glass, with a reason
# description: |
#   Stacks labelled `sealed` take no task, but for an emergency: somebody of the team oncall ends the command with
#   `# break-glass: WHY`. A shell takes that for a comment; the run, the audit log and the decision keep it.
package break_glass

shortest_reason := 10

deny contains "this stack is sealed: only the team oncall may break the glass" if {
	"sealed" in input.stack.labels
	not "oncall" in input.session.teams
}

deny contains message if {
	"sealed" in input.stack.labels
	"oncall" in input.session.teams
	not has_reason
	message := sprintf("this stack is sealed: end the command with `# break-glass: WHY`, in %d characters or more", [shortest_reason])
}

has_reason if {
	some found in regex.find_all_string_submatch_n(`\s# break-glass:([^\n]*)$`, input.request.command, 1)
	count(trim_space(found[1])) >= shortest_reason
}
