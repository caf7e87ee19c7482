package system.authz_test

import data.system.authz

decisions := ["v1", "data", "interlock", "dispatcher", "decisions"]

calls := [
	{"token": "right", "method": "POST", "path": decisions, "allowed": true},
	{"token": "right", "method": "PUT", "path": ["v1", "policies", "policies", "p.rego"], "allowed": false},
	{"token": "right", "method": "DELETE", "path": ["v1", "policies", "policies", "p.rego"], "allowed": false},
	{"token": "right", "method": "GET", "path": ["health"], "allowed": true},
	{"token": "wrong", "method": "POST", "path": decisions, "allowed": false},
	{"token": "", "method": "GET", "path": ["health"], "allowed": false},
	{"token": "right", "method": "GET", "path": ["v1", "data", "interlock"], "allowed": false},
	{"token": "right", "method": "PUT", "path": ["v1", "policies", "lib", "authz.rego"], "allowed": false},
	{"token": "right", "method": "PUT", "path": ["v1", "data", "interlock"], "allowed": false},
	{"token": "right", "method": "POST", "path": ["v1", "query"], "allowed": false},
	{"token": "right", "method": "POST", "path": ["v1", "compile"], "allowed": false},
]

may(call) if {
	authz.allow with data.interlock.token_sha256 as crypto.sha256("right")
		with input as {"identity": call.token, "method": call.method, "path": call.path}
} else := false

test_only_the_control_planes_own_calls_are_allowed if {
	every call in calls {
		may(call) == call.allowed
	}
}

test_a_call_without_identity_is_refused if {
	not authz.allow with data.interlock.token_sha256 as crypto.sha256("right")
		with input as {"method": "GET", "path": ["health"]}
}
