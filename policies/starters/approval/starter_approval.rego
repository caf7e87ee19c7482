# METADATA
# title: starter_approval
# description: A run waits until somebody else than its creator approves it. Any rejection ends it.
# schemas:
#   - input: schema.approval
package starter_approval

approve if {
	some review in input.reviews.current.approvals
	review.author != input.run.creator_session.login
}

reject if count(input.reviews.current.rejections) > 0
