package starter_approval_test

import data.starter_approval

reviewed(approvals, rejections) := {
	"reviews": {"current": {
		"approvals": [{"author": author} | some author in approvals],
		"rejections": [{"author": author} | some author in rejections],
	}},
	"run": {"creator_session": {"login": "ana"}},
}

test_a_run_waits_without_a_review if {
	not starter_approval.approve with input as reviewed([], [])
	not starter_approval.reject with input as reviewed([], [])
}

test_somebody_else_approves if {
	starter_approval.approve with input as reviewed(["bo"], [])
}

test_the_creator_does_not_approve_alone if {
	not starter_approval.approve with input as reviewed(["ana"], [])
}

test_a_rejection_ends_it if {
	starter_approval.reject with input as reviewed(["bo"], ["cy"])
}
