# METADATA
# title: Nobody destroys by a task
# description: |
#   Refuses commands that destroy infrastructure or throw away its state, also inside a longer command.
#   Destroying goes through the stack's own reviewed runs instead.
package deny_destroy

deny contains message if {
	some pattern, what in forbidden
	regex.match(pattern, input.request.command)
	message := sprintf("a task must not %s; use a reviewed run", [what])
}

# A word, whatever stands before it: `cd x && terraform  -chdir=y destroy`.
forbidden := {
	`\b(terraform|tofu|terragrunt)\b[^;|&]*\bdestroy\b`: "destroy infrastructure",
	`\b(terraform|tofu|terragrunt)\b[^;|&]*\bapply\b[^;|&]*-destroy\b`: "destroy infrastructure",
	`\b(terraform|tofu|terragrunt)\b[^;|&]*\bstate\s+rm\b`: "remove resources from the state",
	`\bpulumi\b[^;|&]*\bdestroy\b`: "destroy infrastructure",
	`\bkubectl\b[^;|&]*\bdelete\b`: "delete Kubernetes resources",
}
