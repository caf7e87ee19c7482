package starter_task_test

import data.starter_task

asked(command, teams) := {
	"request": {"command": command},
	"session": {"login": "ana", "teams": teams},
}

test_others_may_not_destroy if {
	messages := starter_task.deny with input as asked("terraform destroy", ["web"])
	messages == {"ana is not in the team platform, which alone may destroy"}
}

test_platform_may_destroy if {
	count(starter_task.deny) == 0 with input as asked("terraform destroy", ["platform"])
}

test_everybody_may_plan if {
	count(starter_task.deny) == 0 with input as asked("terraform plan", ["web"])
}
