package freeze_windows_test

import data.freeze_windows

cases := [
	{"at": "2026-11-26T17:59:59+01:00", "labels": ["shop"], "frozen": set()},
	{"at": "2026-11-26T18:00:00+01:00", "labels": ["shop"], "frozen": {"Black Friday"}},
	{"at": "2026-12-01T07:59:59+01:00", "labels": ["shop"], "frozen": {"Black Friday"}},
	{"at": "2026-12-01T08:00:00+01:00", "labels": ["shop"], "frozen": set()},
	{"at": "2026-11-28T00:00:00Z", "labels": ["staging"], "frozen": set()},
	{"at": "2026-12-31T00:00:00Z", "labels": ["production"], "frozen": {"end of the year"}},
	{"at": "2026-12-31T00:00:00Z", "labels": ["shop"], "frozen": set()},
]

test_a_freeze_holds_from_its_first_to_before_its_last_moment if {
	every case in cases {
		messages := freeze_windows.deny with input.request.timestamp_ns as time.parse_rfc3339_ns(case.at)
			with input.stack.labels as case.labels
		{name | some message in messages; name := split(message, ": ")[1]} == case.frozen
	}
}
