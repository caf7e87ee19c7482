# METADATA
# title: Who may taint what
# description: |
#   A tainted resource is replaced by the next apply. So only the teams platform and sre may taint, one resource by
#   one command, and nobody taints what holds data.
package limited_taint

tainting_teams := {"platform", "sre"}

holding_data := {"aws_db_instance", "aws_rds_cluster", "aws_s3_bucket", "google_sql_database_instance"}

taints := regex.find_n(`\b(terraform|tofu)\b[^;|&\n]*\s(taint|-replace)\b`, input.request.command, -1)

deny contains message if {
	count(taints) > 0
	count({team | some team in input.session.teams; team in tainting_teams}) == 0
	message := sprintf("only the teams %s may taint", [concat(" and ", sort(tainting_teams))])
}

deny contains "taint one resource by one command" if count(taints) > 1

deny contains message if {
	count(taints) > 0
	some type in holding_data
	regex.match(sprintf(`\b%s\.`, [type]), input.request.command)
	message := sprintf("a resource of type %s holds data and is not tainted by a task", [type])
}
