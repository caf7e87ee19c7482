package team_commands_test

import data.team_commands

cases := [
	{"teams": ["web"], "command": "kubectl rollout restart deployment/shop", "denied": false},
	{"teams": ["web"], "command": "kubectl  rollout status deployment/shop --timeout=60s", "denied": false},
	{"teams": ["web"], "command": "kubectl rollout restart", "denied": true},
	{"teams": ["web"], "command": "kubectl rollout restart deployment/shop; id", "denied": true},
	{"teams": ["web"], "command": "terraform state list", "denied": true},
	{"teams": ["data"], "command": "terraform state mv a.b a.c", "denied": false},
	{"teams": ["data"], "command": "terraform state rm a.b", "denied": true},
	{"teams": ["web", "data"], "command": "terraform state list", "denied": false},
	{"teams": ["platform"], "command": "terraform apply", "denied": false},
	{"teams": [], "command": "terraform output", "denied": true},
]

test_a_team_runs_the_commands_of_its_list if {
	every case in cases {
		messages := team_commands.deny with input.request.command as case.command
			with input.session.teams as case.teams
			with input.session.login as "ana"
		denied := count(messages) > 0
		denied == case.denied
	}
}

test_the_message_says_what_is_open_to_the_caller if {
	messages := team_commands.deny with input.request.command as "terraform apply"
		with input.session.teams as ["web"]
		with input.session.login as "ana"
	some message in messages
	endswith(message, "they may run: kubectl rollout restart *, kubectl rollout status *, terraform output")
}
