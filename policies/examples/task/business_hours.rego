# METADATA
# title: Business hours
# description: |
#   Stacks labelled `production` are left alone outside of Monday to Friday, 9 to 17 o'clock in Berlin.
#   The time is that of the request: a policy has no clock of its own, so a decision can be repeated.
package business_hours

timezone := "Europe/Berlin"

first_hour := 9

last_hour := 17

deny contains message if {
	"production" in input.stack.labels
	not in_business_hours
	message := sprintf("production stacks take tasks from Monday to Friday, %d:00 to %d:00, %s", [
		first_hour,
		last_hour,
		timezone,
	])
}

in_business_hours if {
	not weekday in {"Saturday", "Sunday"}
	[hour, _, _] := time.clock([input.request.timestamp_ns, timezone])
	hour >= first_hour
	hour < last_hour
}

weekday := time.weekday([input.request.timestamp_ns, timezone])
