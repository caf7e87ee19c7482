# METADATA
# title: Who may call the serving OPA, and what
# description: Only the control plane that started it, and only to ask. Its policies cannot be changed by anybody.
package system.authz

default allow := false

allow if {
	crypto.sha256(input.identity) == data.interlock.token_sha256
	is_needed
}

is_needed if {
	input.method == "POST"
	input.path == ["v1", "data", "interlock", "dispatcher", "decisions"]
}

is_needed if {
	input.method == "GET"
	input.path == ["health"]
}
