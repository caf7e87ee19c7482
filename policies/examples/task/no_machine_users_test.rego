package no_machine_users_test

import data.no_machine_users

cases := [
	{"machine": false, "labels": [], "denied": false},
	{"machine": true, "labels": [], "denied": true},
	{"machine": true, "labels": ["machine-tasks"], "denied": false},
]

test_machines_run_tasks_only_where_they_may if {
	every case in cases {
		messages := no_machine_users.deny with input.session.machine as case.machine
			with input.stack.labels as case.labels
		denied := count(messages) > 0
		denied == case.denied
	}
}
