# METADATA
# title: Read-only while locked
# description: |
#   A locked stack takes no runs of others anyway. With this policy its definition, environment and source stay as they
#   are, too: everybody but the lock's owner can only read it. Attach it beside policies that say who may write.
package read_only_while_locked

deny_write if {
	input.stack.locked_by != null
	input.stack.locked_by != input.session.login
}
