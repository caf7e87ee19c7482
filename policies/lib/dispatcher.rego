# METADATA
# title: Dispatcher
# description: |
#   Judges questions, each by the policies attached to a stack. Input: `questions`, a list of
#   {`policies`: [id], `rules`: the names to read, `input`: the document that these policies see}.
#   Every loaded policy has a rule `interlock_identity`, added when it was compiled: its kind and revision.
#   A policy that is not loaded has no verdict: the caller refuses where one is missing. So has a rule that
#   is undefined no value.
package interlock.dispatcher

# METADATA
# description: The instance tells the caller that its own OPA answered, not another one on the same port.
# entrypoint: true
decisions := {"instance": data.interlock.instance, "verdicts": verdicts}

# One `with` for all policies of a question: each costs as much as a small policy.
verdicts := [by_policy |
	some question in input.questions
	by_policy := judged(question.policies, question.rules) with input as question.input
]

judged(ids, rules) := {id: verdict |
	some id in ids
	identity := data.interlock.policies[id].interlock_identity
	verdict := {
		"kind": identity.kind,
		"revision": identity.revision,
		"rules": {rule: {"type": type_name(value), "value": value} |
			some rule in rules
			value := data.interlock.policies[id][rule]
		},
	}
}
