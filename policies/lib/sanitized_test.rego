package interlock.lib_test

import data.interlock.lib

hash(x) := checksum if {
	checksum := lib.sanitized(x) with data.interlock.sanitizer_key as "key"
}

test_equal_values_have_equal_hashes if hash("token") == hash("token")

test_other_values_have_other_hashes if hash("token") != hash("tokem")

test_a_hash_is_sixteen_hex_digits if regex.match(`^[0-9a-f]{16}$`, hash("token"))

test_another_key_gives_another_hash if {
	other := lib.sanitized("token") with data.interlock.sanitizer_key as "other"
	other != hash("token")
}

test_what_is_no_string_is_hashed_as_json if hash({"a": 1}) == hash(`{"a":1}`)
