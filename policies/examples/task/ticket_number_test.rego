package ticket_number_test

import data.ticket_number

cases := [
	{"command": "terraform apply # OPS-1234", "labels": ["production"], "denied": false},
	{"command": "terraform apply #INC-7 shop is down", "labels": ["production"], "denied": false},
	{"command": "terraform apply", "labels": ["production"], "denied": true},
	{"command": "terraform apply # HR-12", "labels": ["production"], "denied": true},
	{"command": "terraform apply # OPS-0", "labels": ["production"], "denied": true},
	{"command": "terraform apply OPS-1234", "labels": ["production"], "denied": true},
	{"command": "terraform apply # OPS-1234\nterraform destroy", "labels": ["production"], "denied": true},
	{"command": "terraform apply", "labels": ["staging"], "denied": false},
]

test_production_needs_a_ticket if {
	every case in cases {
		messages := ticket_number.deny with input.request.command as case.command
			with input.stack.labels as case.labels
		denied := count(messages) > 0
		denied == case.denied
	}
}
