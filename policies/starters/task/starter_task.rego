# METADATA
# title: starter_task
# description: Says no by messages. Where there is none, the task may run.
# schemas:
#   - input: schema.task
package starter_task

# Only the platform team may destroy.
deny contains message if {
	contains(input.request.command, "destroy")
	not "platform" in input.session.teams
	message := sprintf("%s is not in the team platform, which alone may destroy", [input.session.login])
}
