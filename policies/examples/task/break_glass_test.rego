package break_glass_test

import data.break_glass

cases := [
	{"command": "terraform apply", "teams": ["web"], "labels": [], "denied": false},
	{"command": "terraform apply", "teams": ["web"], "labels": ["sealed"], "denied": true},
	{"command": "terraform apply # break-glass: shop is down, INC-7", "teams": ["web"], "labels": ["sealed"], "denied": true},
	{"command": "terraform apply", "teams": ["oncall"], "labels": ["sealed"], "denied": true},
	{"command": "terraform apply # break-glass: asap", "teams": ["oncall"], "labels": ["sealed"], "denied": true},
	{"command": "terraform apply # break-glass:           ", "teams": ["oncall"], "labels": ["sealed"], "denied": true},
	{"command": "terraform apply # break-glass: shop is down, INC-7", "teams": ["oncall"], "labels": ["sealed"], "denied": false},
	{
		"command": "terraform apply # break-glass: shop is down, INC-7\nterraform destroy",
		"teams": ["oncall"],
		"labels": ["sealed"],
		"denied": true,
	},
]

test_the_glass_is_broken_by_oncall_with_a_reason if {
	every case in cases {
		messages := break_glass.deny with input.request.command as case.command
			with input.session.teams as case.teams
			with input.stack.labels as case.labels
		denied := count(messages) > 0
		denied == case.denied
	}
}
