package team_label_test

import data.team_label

default read := false

read := team_label.read

default write := false

write := team_label.write

default deny := false

deny := team_label.deny

default deny_write := false

deny_write := team_label.deny_write

cases := [
	{"labels": ["team:web"], "teams": ["web"], "member": true, "true": {"read", "write"}},
	{"labels": ["team:web"], "teams": ["db"], "member": true, "true": {"read"}},
	{"labels": ["team:web", "team:db"], "teams": ["db"], "member": true, "true": {"read", "write"}},
	{"labels": [], "teams": ["web"], "member": true, "true": {"read"}},
	{"labels": ["team:web"], "teams": ["db"], "member": false, "true": set()},
	{"labels": ["team:web", "confidential"], "teams": ["db"], "member": true, "true": {"read", "deny"}},
	{"labels": ["team:web", "confidential"], "teams": ["web"], "member": true, "true": {"read", "write"}},
	{"labels": ["team:web", "frozen"], "teams": ["web"], "member": true, "true": {"read", "write", "deny_write"}},
]

test_access_follows_the_labels if {
	every case in cases {
		said := {"read": read, "write": write, "deny": deny, "deny_write": deny_write} with input as {
			"session": {"teams": case.teams, "member": case.member},
			"stack": {"labels": case.labels},
		}
		{rule | some rule, value in said; value} == case["true"]
	}
}
