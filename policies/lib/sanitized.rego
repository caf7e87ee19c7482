# METADATA
# title: Helpers that every policy may use
package interlock.lib

import rego.v1

# METADATA
# description: |
#   The short keyed hash under which Interlock shows a secret: equal values have equal hashes,
#   and the value cannot be read from it. Anything but a string is hashed as its JSON text.
sanitized(x) := _checksum(x) if is_string(x)

sanitized(x) := _checksum(json.marshal(x)) if not is_string(x)

_checksum(text) := substring(crypto.hmac.sha256(text, data.interlock.sanitizer_key), 0, 16)
