package no_secrets_on_the_command_line_test

import data.no_secrets_on_the_command_line

cases := [
	{"command": "terraform plan", "denied": false},
	{"command": "terraform plan -var password=$DB_PASSWORD", "denied": false},
	{"command": "curl https://example.com/path", "denied": false},
	{"command": "curl https://me:$TOKEN@example.com", "denied": false},
	{"command": "export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "denied": true},
	{"command": "terraform plan -var password=correct-horse", "denied": true},
	{"command": "API_KEY='0123456789' ./deploy", "denied": true},
	{"command": "git clone https://me:hunter22@example.com/x", "denied": true},
]

test_what_looks_like_a_credential_is_denied if {
	every case in cases {
		messages := no_secrets_on_the_command_line.deny with input.request.command as case.command
			with data.interlock.sanitizer_key as "key"
		denied := count(messages) > 0
		denied == case.denied
	}
}

test_the_message_does_not_repeat_the_secret if {
	messages := no_secrets_on_the_command_line.deny with input.request.command as "x --token=correct-horse"
		with data.interlock.sanitizer_key as "key"
	every message in messages {
		not contains(message, "correct-horse")
	}
}
