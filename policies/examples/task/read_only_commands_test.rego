package read_only_commands_test

import data.read_only_commands

cases := [
	{"command": "terraform state list", "denied": false},
	{"command": "terraform  state   show aws_instance.web", "denied": false},
	{"command": "terraform plan -lock=false", "denied": false},
	{"command": "terraform apply", "denied": true},
	{"command": "terraform state rm aws_instance.web", "denied": true},
	{"command": "terraform planned", "denied": true},
	{"command": "terraform plan; rm -rf .", "denied": true},
	{"command": "terraform plan $(terraform destroy)", "denied": true},
	{"command": "terraform plan `terraform destroy`", "denied": true},
	{"command": "terraform plan\nterraform destroy", "denied": true},
	{"command": "env", "denied": true},
]

test_only_commands_that_look_are_allowed if {
	every case in cases {
		messages := read_only_commands.deny with input.request.command as case.command
			with input.session.admin as false
		denied := count(messages) > 0
		denied == case.denied
	}
}

test_an_admin_may_run_anything if {
	messages := read_only_commands.deny with input.request.command as "terraform apply"
		with input.session.admin as true
	count(messages) == 0
}
