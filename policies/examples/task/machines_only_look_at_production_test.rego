package machines_only_look_at_production_test

import data.machines_only_look_at_production

cases := [
	{"machine": true, "labels": ["production"], "command": "terraform plan -detailed-exitcode", "denied": false},
	{"machine": true, "labels": ["production"], "command": "terraform plan", "denied": false},
	{"machine": true, "labels": ["production"], "command": "terraform planned", "denied": true},
	{"machine": true, "labels": ["production"], "command": "terraform apply", "denied": true},
	{"machine": true, "labels": ["production"], "command": "terraform plan; terraform apply", "denied": true},
	{"machine": true, "labels": ["staging"], "command": "terraform apply", "denied": false},
	{"machine": false, "labels": ["production"], "command": "terraform apply", "denied": false},
]

test_machines_only_look_at_production if {
	every case in cases {
		messages := machines_only_look_at_production.deny with input.session.machine as case.machine
			with input.stack.labels as case.labels
			with input.request.command as case.command
		denied := count(messages) > 0
		denied == case.denied
	}
}
