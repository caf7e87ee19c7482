# METADATA
# title: starter_login
# description: Says who comes in, and as what. Keys that were made as an admin's are not asked about.
# schemas:
#   - input: schema.login
package starter_login

networks := ["10.0.0.0/8", "192.0.2.0/24"]

allow if {
	some network in networks
	net.cidr_contains(network, input.request.remote_ip)
}

admin if "platform" in input.session.teams

# A program is never an admin.
deny_admin if input.session.machine
