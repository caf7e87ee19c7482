# METADATA
# title: Access by team label
# description: |
#   A stack labelled `team:NAME` can be written to by the members of the team NAME, and read by every
#   member of the organisation. A stack labelled `confidential` is hidden from everybody else, and the
#   label `frozen` takes writing away from all.
package team_label

read if input.session.member

write if {
	some label in input.stack.labels
	startswith(label, "team:")
	trim_prefix(label, "team:") in input.session.teams
}

deny if {
	"confidential" in input.stack.labels
	not write
}

deny_write if "frozen" in input.stack.labels
