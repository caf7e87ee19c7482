# METADATA
# title: Built-ins that Rego v1 dropped
# description: |
#   With their old meaning, for policies converted from v0. Those that have a v1 name
#   (re_match, net.cidr_overlap) are renamed instead.
package interlock.v0

import rego.v1

any(xs) if {
	some x in xs
	x == true
} else := false

all(xs) if {
	every x in xs {
		x == true
	}
} else := false

set_diff(a, b) := a - b

cast_array(xs) := [x | some x in xs] if _is_collection(xs)

cast_set(xs) := {x | some x in xs} if _is_collection(xs)

cast_string(x) := x if is_string(x)

cast_boolean(x) := x if is_boolean(x)

cast_null(x) := x if is_null(x)

cast_object(x) := x if is_object(x)

_is_collection(xs) if is_array(xs)

_is_collection(xs) if is_set(xs)
