package teams_and_networks_test

import data.teams_and_networks

default allow := false

allow := teams_and_networks.allow

default admin := false

admin := teams_and_networks.admin

default deny_admin := false

deny_admin := teams_and_networks.deny_admin

cases := [
	{"ip": "10.20.1.2", "machine": false, "teams": ["web"], "says": {"allow"}},
	{"ip": "192.0.2.9", "machine": false, "teams": ["platform"], "says": {"allow", "admin"}},
	{"ip": "10.20.1.2", "machine": false, "teams": ["guests"], "says": set()},
	{"ip": "198.51.100.1", "machine": false, "teams": ["platform"], "says": set()},
	{"ip": "10.30.8.4", "machine": true, "teams": [], "says": {"allow", "deny_admin"}},
	{"ip": "", "machine": false, "teams": ["platform"], "says": set()},
	{"ip": "10.20.1.2", "machine": true, "teams": ["platform"], "says": {"deny_admin"}},
]

test_team_and_network_decide if {
	every case in cases {
		said := {"allow": allow, "admin": admin, "deny_admin": deny_admin} with input as {
			"request": {"remote_ip": case.ip},
			"session": {"machine": case.machine, "teams": case.teams},
		}
		{rule | some rule, value in said; value} == case.says
	}
}
