package interlock.v0_test

import data.interlock.v0

test_any_and_all_of_nothing if {
	v0.any([]) == false
	v0.all([]) == true
}

test_any_wants_one_true if {
	v0.any({false, true}) == true
	v0.any([false, 1]) == false
}

test_all_wants_only_true if {
	v0.all([true, true]) == true
	v0.all([true, false]) == false
}

test_casts_between_arrays_and_sets if {
	v0.cast_set([1, 1]) == {1}
	v0.cast_array({1}) == [1]
}

test_a_cast_of_another_type_is_undefined if not v0.cast_string(1)

test_set_diff if v0.set_diff({1, 2}, {2}) == {1}
