#!/bin/sh
# Gate a build on Talon.One's integration checklist:  gate.sh COMMAND…
#
# Runs the shop's own tests (COMMAND) against a simulated Talon.One, through the proxy at http://127.0.0.1:7410, and then
# asks the proxy what the checklist finds in the calls they made. Fails where the tests do, or where a rule has a warning
# (FAIL_ON=problem: or worse). Writes JUnit's XML to checklist.xml (REPORT).
set -u

talon-proxy demo --stay --checklist.replies 1 > "${LOG:-/dev/null}" &
proxy=$!
trap 'kill "$proxy" 2> /dev/null; wait "$proxy" 2> /dev/null' EXIT
talon-proxy ready --wait 30s || exit 1

"$@"
tests=$?

# By one call already: a test makes few.
talon-proxy checklist --least 1 --fail-on "${FAIL_ON:-warning}" --format junit > "${REPORT:-checklist.xml}"
rules=$?

[ "$tests" -eq 0 ] && [ "$rules" -eq 0 ]
