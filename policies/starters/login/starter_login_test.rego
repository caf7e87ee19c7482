package starter_login_test

import data.starter_login

asked(address, teams, machine) := {
	"request": {"remote_ip": address},
	"session": {"teams": teams, "machine": machine},
}

test_the_office_comes_in if {
	starter_login.allow with input as asked("192.0.2.7", [], false)
}

test_others_do_not if {
	not starter_login.allow with input as asked("198.51.100.1", [], false)
}

test_platform_are_admins if {
	starter_login.admin with input as asked("192.0.2.7", ["platform"], false)
	not starter_login.admin with input as asked("192.0.2.7", ["web"], false)
}

test_programs_are_no_admins if {
	starter_login.deny_admin with input as asked("192.0.2.7", ["platform"], true)
	not starter_login.deny_admin with input as asked("192.0.2.7", ["platform"], false)
}
