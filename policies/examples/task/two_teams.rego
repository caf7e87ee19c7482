# METADATA
# title: Two teams
# description: |
#   On stacks labelled `critical`, tasks are for members of both the platform and the security team.
#   The message names the team that is missing.
package two_teams

required_teams := {"platform", "security"}

deny contains message if {
	"critical" in input.stack.labels
	some team in required_teams
	not team in input.session.teams
	message := sprintf("tasks on critical stacks need the team %q", [team])
}
