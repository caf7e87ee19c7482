package read_only_while_locked_test

import data.read_only_while_locked

default deny_write := false

deny_write := read_only_while_locked.deny_write

cases := [
	{"locked_by": null, "deny_write": false},
	{"locked_by": "ana", "deny_write": false},
	{"locked_by": "bo", "deny_write": true},
]

test_only_the_owner_of_the_lock_writes if {
	every case in cases {
		said := deny_write with input as {"session": {"login": "ana"}, "stack": {"locked_by": case.locked_by}}
		said == case.deny_write
	}
}
