package two_teams_test

import data.two_teams

cases := [
	{"teams": ["platform", "security"], "labels": ["critical"], "missing": set()},
	{"teams": ["security", "web", "platform"], "labels": ["critical"], "missing": set()},
	{"teams": ["platform"], "labels": ["critical"], "missing": {"security"}},
	{"teams": [], "labels": ["critical"], "missing": {"platform", "security"}},
	{"teams": [], "labels": [], "missing": set()},
]

test_both_teams_are_needed_on_critical_stacks if {
	every case in cases {
		messages := two_teams.deny with input.session.teams as case.teams
			with input.stack.labels as case.labels
		messages == {sprintf("tasks on critical stacks need the team %q", [team]) | some team in case.missing}
	}
}
