package destroy_needs_two_test

import data.destroy_needs_two

default approve := false

approve := destroy_needs_two.approve

default reject := false

reject := destroy_needs_two.reject

review(author, team) := {"author": author, "session": {"login": author, "teams": [team]}}

deletion := {"action": "deleted", "entity": {"address": "aws_instance.web", "type": "aws_instance"}, "phase": "plan"}

cases := [
	{"note": "harmless", "command": "terraform plan", "by": [], "against": [], "changes": [], "says": {"approve"}},
	{"note": "nobody yet", "command": "terraform destroy", "by": [], "against": [], "changes": [], "says": set()},
	{
		"note": "one is not enough",
		"command": "terraform destroy",
		"by": [review("bo", "security")],
		"against": [],
		"changes": [],
		"says": set(),
	},
	{
		"note": "two of another team",
		"command": "terraform destroy",
		"by": [review("bo", "security"), review("cy", "data")],
		"against": [],
		"changes": [],
		"says": {"approve"},
	},
	{
		"note": "the creator's own team does not count",
		"command": "terraform destroy",
		"by": [review("bo", "security"), review("di", "web")],
		"against": [],
		"changes": [],
		"says": set(),
	},
	{
		"note": "nor does the creator",
		"command": "terraform destroy",
		"by": [review("bo", "security"), review("ana", "security")],
		"against": [],
		"changes": [],
		"says": set(),
	},
	{
		"note": "one of another team rejects",
		"command": "terraform destroy",
		"by": [review("bo", "security"), review("cy", "data")],
		"against": [review("ed", "security")],
		"changes": [],
		"says": {"approve", "reject"},
	},
	{"note": "a plan that deletes", "command": null, "by": [], "against": [], "changes": [deletion], "says": set()},
	{"note": "a plan that adds", "command": null, "by": [], "against": [], "changes": [], "says": {"approve"}},
]

test_two_of_another_team_decide_on_destroying if {
	every case in cases {
		said := {"approve": approve, "reject": reject} with input as {
			"reviews": {"current": {"approvals": case.by, "rejections": case.against}},
			"run": {
				"command": case.command,
				"changes": case.changes,
				"creator_session": {"login": "ana", "teams": ["web"]},
			},
		}
		{rule | some rule, value in said; value} == case.says
	}
}
