# METADATA
# title: Freeze windows
# description: |
#   During a freeze, stacks that carry one of its labels take no task. Times are absolute, with an offset, and a
#   freeze ends in the moment that `until` names. The message says which freeze it is and when it ends.
package freeze_windows

freezes := [
	{
		"name": "Black Friday",
		"from": "2026-11-26T18:00:00+01:00",
		"until": "2026-12-01T08:00:00+01:00",
		"labels": {"production", "shop"},
	},
	{
		"name": "end of the year",
		"from": "2026-12-23T12:00:00+01:00",
		"until": "2027-01-04T08:00:00+01:00",
		"labels": {"production"},
	},
]

deny contains message if {
	some freeze in freezes
	some label in input.stack.labels
	label in freeze.labels
	input.request.timestamp_ns >= time.parse_rfc3339_ns(freeze.from)
	input.request.timestamp_ns < time.parse_rfc3339_ns(freeze.until)
	message := sprintf("stacks labelled %s are frozen until %s: %s", [label, freeze.until, freeze.name])
}
