# METADATA
# title: Destroying needs two approvals from another team
# description: |
#   A task that destroys, and a plan that deletes, waits until two people approve who share no team with its creator.
#   One rejection by such a person ends it. Everything else is approved at once.
package destroy_needs_two

needed := 2

approve if not destroys

approve if count(outsiders(input.reviews.current.approvals)) >= needed

reject if {
	destroys
	count(outsiders(input.reviews.current.rejections)) > 0
}

destroys if {
	input.run.command != null
	regex.match(`\b(terraform|tofu|pulumi)\b[^;|&]*\bdestroy\b`, input.run.command)
}

destroys if {
	some change in input.run.changes
	change.action == "deleted"
}

outsiders(reviews) := {review.author |
	some review in reviews
	review.author != input.run.creator_session.login
	count({team | some team in review.session.teams; team in input.run.creator_session.teams}) == 0
}
