# METADATA
# title: Machines only look at production
# description: |
#   A program with an API key may plan and read on stacks labelled `production`, so that drift is found, but changes
#   there are made by people.
package machines_only_look_at_production

deny contains "on production stacks, a machine may only run terraform plan, output and show" if {
	input.session.machine
	"production" in input.stack.labels
	not only_looks
}

only_looks if regex.match("^(terraform|tofu) (plan|output|show)( [^;&|<>`$()\\n\\\\]*)?$", input.request.command)
