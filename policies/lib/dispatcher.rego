# METADATA
# title: Dispatcher
# description: |
#   Judges questions, each by the policies attached to a stack. Input: `questions`, a list of
#   {`kind`, `policies`: [id], `input`: the document that these policies see}. A policy that is not
#   loaded, or is of another kind, has no verdict: the caller refuses where one is missing.
package interlock.dispatcher

# The rules that are read of each kind. An undefined rule is absent from the verdict.
rules := {
	"task": ["deny", "sample"],
	"access": ["read", "write", "deny", "deny_write", "sample"],
}

# METADATA
# description: The instance tells the caller that its own OPA answered, not another one on the same port.
# entrypoint: true
decisions := {"instance": data.interlock.instance, "verdicts": verdicts}

verdicts := [by_policy |
	some question in input.questions
	by_policy := {id: verdict |
		some id in question.policies
		identity := data.interlock.policies[id].interlock_identity
		identity.kind == question.kind
		verdict := {
			"revision": identity.revision,
			"rules": {rule: {"type": type_name(value), "value": value} |
				some rule in rules[question.kind]
				value := data.interlock.policies[id][rule] with input as question.input
			},
		}
	}
]
