package deny_destroy_test

import data.deny_destroy

cases := [
	{"command": "terraform destroy", "denied": true},
	{"command": "terraform destroy -auto-approve", "denied": true},
	{"command": "cd network && terraform -chdir=eu destroy", "denied": true},
	{"command": "terraform apply -auto-approve -destroy", "denied": true},
	{"command": "tofu state rm aws_instance.web", "denied": true},
	{"command": "kubectl -n prod delete pod web-1", "denied": true},
	{"command": "pulumi destroy --yes", "denied": true},
	{"command": "terraform state list", "denied": false},
	{"command": "terraform plan", "denied": false},
	{"command": "echo destroy", "denied": false},
	{"command": "terraform plan; echo not destroyed", "denied": false},
]

test_destroying_commands_are_denied if {
	every case in cases {
		messages := deny_destroy.deny with input.request.command as case.command
		denied := count(messages) > 0
		denied == case.denied
	}
}

test_the_message_says_what_is_forbidden if {
	messages := deny_destroy.deny with input.request.command as "terraform destroy"
	messages == {"a task must not destroy infrastructure; use a reviewed run"}
}
