package interlock.dispatcher_test

import data.interlock.dispatcher

loaded := {
	"no-destroy": {
		"interlock_identity": {"kind": "task", "revision": 3},
		"deny": {"no destroy"},
	},
	"readers": {
		"interlock_identity": {"kind": "access", "revision": 1},
		"read": true,
		"helper": "not asked for",
	},
}

no_destroy := {"kind": "task", "revision": 3, "rules": {"deny": {"type": "set", "value": {"no destroy"}}}}

readers := {"kind": "access", "revision": 1, "rules": {"read": {"type": "boolean", "value": true}}}

answer(questions) := given if {
	given := dispatcher.decisions with data.interlock.policies as loaded
		with data.interlock.instance as "here"
		with input as {"questions": questions}
}

asked(policies) := {"policies": policies, "rules": ["deny", "read", "write"], "input": {}}

test_every_policy_of_a_question_has_its_verdict if {
	verdicts := {"no-destroy": no_destroy, "readers": readers}
	answer([asked(["no-destroy", "readers"])]).verdicts == [verdicts]
}

test_a_policy_that_is_not_loaded_has_no_verdict if {
	answer([asked(["gone"])]).verdicts == [{}]
}

test_each_question_is_answered_in_its_place if {
	questions := [asked(["readers"]), asked([]), asked(["no-destroy"])]
	answer(questions).verdicts == [{"readers": readers}, {}, {"no-destroy": no_destroy}]
}

test_the_answer_is_signed_with_the_instance if {
	answer([]).instance == "here"
}
