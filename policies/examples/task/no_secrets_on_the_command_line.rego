# METADATA
# title: No secrets on the command line
# description: |
#   A command is shown, stored and audited as it was written, and only known secrets are masked. So what
#   looks like a credential is refused, and belongs into the stack's secret environment. The message shows
#   only a hash of it, so that the refusal does not repeat the secret.
package no_secrets_on_the_command_line

import data.interlock.lib.sanitized

deny contains message if {
	some kind, pattern in credentials
	some found in regex.find_n(pattern, input.request.command, -1)
	message := sprintf(
		"the command contains %s (%s): put it into the stack's secret environment",
		[kind, sanitized(found)],
	)
}

credentials := {
	"an AWS access key": `\b(AKIA|ASIA)[0-9A-Z]{16}\b`,
	"a GitHub token": `\bgh[pousr]_[0-9A-Za-z]{36,}\b`,
	"a GitLab token": `\bglpat-[0-9A-Za-z_-]{20,}`,
	"a private key": `-----BEGIN [A-Z ]*PRIVATE KEY-----`,
	"a password in a URL": `[a-z][a-z0-9+.-]*://[^/\s:@]+:[^/\s@$][^/\s@]*@`,
	"an inline password": `(?i)(password|passwd|secret|token|api_?key)\s*=\s*['"]?[^\s'"$]{6,}`,
}
