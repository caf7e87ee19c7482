# METADATA
# title: Dispatcher
# description: |
#   Judges questions, each by the policies attached to a stack. Input: `questions`, a list of
#   {`policies`: [id], `input`: the document that these policies see}. Every loaded policy has a rule
#   `interlock_verdict`, added when it was compiled: its kind, its revision, and its rules that are defined.
#   A policy that is not loaded has no verdict: the caller refuses where one is missing.
package interlock.dispatcher

# METADATA
# description: The instance tells the caller that its own OPA answered, not another one on the same port.
# entrypoint: true
decisions := {"instance": data.interlock.instance, "verdicts": verdicts}

verdicts := [by_policy |
	some question in input.questions
	by_policy := {id: verdict |
		some id in question.policies
		verdict := data.interlock.policies[id].interlock_verdict with input as question.input
	}
]
