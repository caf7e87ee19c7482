package starter_access_test

import data.starter_access

asked(teams, labels) := {
	"session": {"member": true, "teams": teams},
	"stack": {"labels": labels},
}

test_everybody_reads if {
	starter_access.read with input as asked([], [])
}

test_the_labelled_team_writes if {
	starter_access.write with input as asked(["web"], ["team:web"])
}

test_other_teams_do_not_write if {
	not starter_access.write with input as asked(["data"], ["team:web"])
}

test_nobody_writes_to_a_frozen_stack if {
	starter_access.deny_write with input as asked(["web"], ["team:web", "frozen"])
	not starter_access.deny_write with input as asked(["web"], ["team:web"])
}
