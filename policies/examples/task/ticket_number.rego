# METADATA
# title: A ticket number with every change
# description: |
#   On stacks labelled `production`, a command ends with the ticket that it is for, as a shell comment:
#   `terraform apply # OPS-1234`. The ticket is then in the run, the audit log and every list of runs.
package ticket_number

projects := {"OPS", "SEC", "INC"}

deny contains message if {
	"production" in input.stack.labels
	not has_ticket
	message := sprintf("end the command with its ticket, such as `# OPS-1234` (%s)", [concat(", ", sort(projects))])
}

has_ticket if {
	some found in regex.find_all_string_submatch_n(`\s#\s*([A-Z]+)-[1-9][0-9]*\b[^\n]*$`, input.request.command, 1)
	found[1] in projects
}
