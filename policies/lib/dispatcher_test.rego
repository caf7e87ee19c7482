package interlock.dispatcher_test

import data.interlock.dispatcher

no_destroy := {"kind": "task", "revision": 3, "rules": {"deny": {"type": "set", "value": {"no destroy"}}}}

readers := {"kind": "access", "revision": 1, "rules": {"read": {"type": "boolean", "value": true}}}

loaded := {
	"no-destroy": {"interlock_verdict": no_destroy},
	"readers": {"interlock_verdict": readers},
}

answer(questions) := given if {
	given := dispatcher.decisions with data.interlock.policies as loaded
		with data.interlock.instance as "here"
		with input as {"questions": questions}
}

test_every_policy_of_a_question_has_its_verdict if {
	verdicts := {"no-destroy": no_destroy, "readers": readers}
	answer([{"policies": ["no-destroy", "readers"], "input": {}}]).verdicts == [verdicts]
}

test_a_policy_that_is_not_loaded_has_no_verdict if {
	answer([{"policies": ["gone"], "input": {}}]).verdicts == [{}]
}

test_each_question_is_answered_in_its_place if {
	questions := [
		{"policies": ["readers"], "input": {}},
		{"policies": [], "input": {}},
		{"policies": ["no-destroy"], "input": {}},
	]
	answer(questions).verdicts == [{"readers": readers}, {}, {"no-destroy": no_destroy}]
}

test_the_answer_is_signed_with_the_instance if {
	answer([]).instance == "here"
}
