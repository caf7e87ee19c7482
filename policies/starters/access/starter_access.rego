# METADATA
# title: starter_access
# description: Says who sees a stack and who may run on it. Without a rule that holds, nobody but admins does.
# schemas:
#   - input: schema.access
package starter_access

# Everybody with a key sees the stack.
read if input.session.member

# The stack's label `team:NAME` says who may run on it.
write if {
	some team in input.session.teams
	sprintf("team:%s", [team]) in input.stack.labels
}

# Nobody but admins runs anything on a stack with this label.
deny_write if "frozen" in input.stack.labels
