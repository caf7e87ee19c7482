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
	},
}

ask(question) := answer.verdicts[0] if {
	answer := dispatcher.decisions with data.interlock.policies as loaded
		with data.interlock.instance as "here"
		with input as {"questions": [question]}
}

test_a_task_policy_is_judged_with_its_revision if {
	ask({"kind": "task", "policies": ["no-destroy"], "input": {}}) == {"no-destroy": {
		"revision": 3,
		"rules": {"deny": {"type": "set", "value": {"no destroy"}}},
	}}
}

test_undefined_rules_are_absent if {
	ask({"kind": "access", "policies": ["readers"], "input": {}}) == {"readers": {
		"revision": 1,
		"rules": {"read": {"type": "boolean", "value": true}},
	}}
}

test_a_policy_that_is_not_loaded_has_no_verdict if {
	ask({"kind": "task", "policies": ["gone"], "input": {}}) == {}
}

test_a_policy_of_another_kind_has_no_verdict if {
	ask({"kind": "task", "policies": ["readers"], "input": {}}) == {}
}

test_each_question_has_its_answer_in_order if {
	answer := dispatcher.decisions with data.interlock.policies as loaded
		with data.interlock.instance as "here"
		with input as {"questions": [
			{"kind": "access", "policies": ["readers"], "input": {}},
			{"kind": "task", "policies": [], "input": {}},
			{"kind": "task", "policies": ["no-destroy"], "input": {}},
		]}
	[object.keys(verdict) | some verdict in answer.verdicts] == [{"readers"}, set(), {"no-destroy"}]
	answer.instance == "here"
}
