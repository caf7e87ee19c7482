# METADATA
# title: No machine users
# description: Tasks are for people. An API key may run them only on stacks labelled `machine-tasks`.
package no_machine_users

deny contains "tasks are for people: an API key may run them only on stacks labelled machine-tasks" if {
	input.session.machine
	not "machine-tasks" in input.stack.labels
}
