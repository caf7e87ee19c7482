package maintenance_test

import data.maintenance

cases := [
	{"labels": [], "teams": ["web"], "denied": false},
	{"labels": ["maintenance"], "teams": ["web"], "denied": true},
	{"labels": ["maintenance"], "teams": ["operations"], "denied": false},
	{"labels": ["maintenance:web"], "teams": ["web"], "denied": false},
	{"labels": ["maintenance:web"], "teams": ["operations"], "denied": false},
	{"labels": ["maintenance:web"], "teams": ["db"], "denied": true},
	{"labels": ["maintenance-window"], "teams": ["db"], "denied": false},
]

test_maintained_stacks_are_for_their_maintainers if {
	every case in cases {
		messages := maintenance.deny with input.stack.labels as case.labels
			with input.session.teams as case.teams
		denied := count(messages) > 0
		denied == case.denied
	}
}
