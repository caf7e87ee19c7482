# METADATA
# title: Login by team and by network
# description: |
#   People of the listed teams come in from the office or the VPN, the team platform as admins. Programs come in from the
#   build machines alone. Everybody else is refused.
package teams_and_networks

people := {"10.20.0.0/16", "192.0.2.0/24"}

machines := {"10.30.8.0/24"}

teams := {"data", "platform", "web"}

allow if {
	not input.session.machine
	is_in(people)
	some team in input.session.teams
	team in teams
}

allow if {
	input.session.machine
	is_in(machines)
}

admin if {
	not input.session.machine
	is_in(people)
	"platform" in input.session.teams
}

deny_admin if input.session.machine

# Over a unix socket there is no address.
is_in(networks) if {
	input.request.remote_ip != ""
	some network in networks
	net.cidr_contains(network, input.request.remote_ip)
}
