package limited_taint_test

import data.limited_taint

cases := [
	{"command": "terraform taint aws_instance.web", "teams": ["sre"], "denials": 0},
	{"command": "terraform -chdir=eu taint 'module.a.aws_instance.web[0]'", "teams": ["platform"], "denials": 0},
	{"command": "terraform taint aws_instance.web", "teams": ["web"], "denials": 1},
	{"command": "terraform apply -replace=aws_instance.web", "teams": ["web"], "denials": 1},
	{"command": "terraform taint a.b; terraform taint a.c", "teams": ["sre"], "denials": 1},
	{"command": "tofu taint module.main.aws_db_instance.orders", "teams": ["sre"], "denials": 1},
	{"command": "tofu taint aws_db_instance.orders && tofu taint a.b", "teams": ["web"], "denials": 3},
	{"command": "terraform untaint aws_instance.web", "teams": ["web"], "denials": 0},
	{"command": "terraform state show aws_db_instance.orders", "teams": ["web"], "denials": 0},
	{"command": "echo taint", "teams": [], "denials": 0},
]

test_tainting_is_limited if {
	every case in cases {
		messages := limited_taint.deny with input.request.command as case.command
			with input.session.teams as case.teams
		count(messages) == case.denials
	}
}
