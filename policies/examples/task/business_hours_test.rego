package business_hours_test

import data.business_hours

cases := [
	{"note": "Wednesday noon", "at": "2026-01-14T12:00:00+01:00", "labels": ["production"], "denied": false},
	{"note": "first minute", "at": "2026-01-14T09:00:00+01:00", "labels": ["production"], "denied": false},
	{"note": "one second early", "at": "2026-01-14T08:59:59+01:00", "labels": ["production"], "denied": true},
	{"note": "last second", "at": "2026-01-14T16:59:59+01:00", "labels": ["production"], "denied": false},
	{"note": "closing time", "at": "2026-01-14T17:00:00+01:00", "labels": ["production"], "denied": true},
	{"note": "Saturday", "at": "2026-01-17T12:00:00+01:00", "labels": ["production"], "denied": true},
	{"note": "summer time", "at": "2026-07-15T07:30:00Z", "labels": ["production"], "denied": false},
	{"note": "other stacks", "at": "2026-01-17T12:00:00+01:00", "labels": ["staging"], "denied": false},
]

test_production_is_left_alone_out_of_hours if {
	every case in cases {
		messages := business_hours.deny with input.request.timestamp_ns as time.parse_rfc3339_ns(case.at)
			with input.stack.labels as case.labels
		denied := count(messages) > 0
		denied == case.denied
	}
}
