#!/bin/sh
# Signs files in a job of CI: GitHub Actions, GitLab CI, Jenkins, or any other.
#
#   greatseal-ci.sh sign    [FILE…]   asks, waits, and finishes the files
#   greatseal-ci.sh submit  [FILE…]   asks and ends: the job does not wait for people
#   greatseal-ci.sh collect [FILE…]   finishes the files of a request, later or elsewhere
#
# Everything else is said by variables:
#
#   GREATSEAL_SERVER, GREATSEAL_ROOT, GREATSEAL_AS, GREATSEAL_IDENTITY, GREATSEAL_CA
#                                 as for greatseal itself; the identity is oidc:github,
#                                 oidc:gitlab:VARIABLE, oidc:env:VARIABLE …
#   GREATSEAL_CI_FILES            more files or folders, one a line
#   GREATSEAL_CI_POLICY           the signing policy (sign, submit)
#   GREATSEAL_CI_PURPOSE, _FORMAT, _REASON, _EXPIRES
#                                 as the flags of "greatseal sign"
#   GREATSEAL_CI_RECURSIVE        true: take the files below folders
#   GREATSEAL_CI_REQUEST          the request to collect; default: that of GREATSEAL_REQUEST,
#                                 which submit leaves behind
#   GREATSEAL_CI_DIR              collect: the folder with the files (default: here)
#   GREATSEAL_CI_TIMEOUT          how long sign and collect wait for people, 30m say;
#                                 collect with 0 asks once (default: 1h)
#   GREATSEAL_CI_PENDING_EXIT     exit code of a request that waits when submit or collect
#                                 ends (default: submit 0, collect 4)
#   GREATSEAL_CI_RETRIES          how often a server that is away is asked again (default: 5)
#   GREATSEAL_CI_RESULT           file for the result as JSON (default: greatseal-result.json)
#   GREATSEAL_CI_PROGRAM          the greatseal program (default: greatseal)
#
# Outputs: request and state (pending, executed, disapproved, expired, failed, cancelled),
# into $GITHUB_OUTPUT on GitHub; elsewhere into the file $GREATSEAL_CI_ENV (default:
# greatseal.env) as GREATSEAL_REQUEST and GREATSEAL_STATE, which GitLab takes for a dotenv
# report and Jenkins for properties. Neither holds anything that others have written, nor
# a secret.
#
# Exit codes are greatseal's: 0 done (submit: asked), 1 failed, 2 wrong use, 3 refused,
# disapproved, expired or cancelled, 4 still waiting, 5 something did not verify,
# 6 the server is away.
set -eu
umask 077

die() {
	printf 'greatseal-ci: %s\n' "$1" >&2
	exit 2
}

mode=${1-}
case $mode in
sign | submit | collect) shift ;;
*) die 'want sign, submit or collect' ;;
esac

# What is a variable and not a flag is taken from the environment as it is: nothing
# here is evaluated, and no name of a file is looked into.
program=${GREATSEAL_CI_PROGRAM:-greatseal}
result=${GREATSEAL_CI_RESULT:-greatseal-result.json}
retries=${GREATSEAL_CI_RETRIES:-5}
timeout=${GREATSEAL_CI_TIMEOUT:-1h}
case $retries in '' | *[!0-9]*) die 'GREATSEAL_CI_RETRIES is no number' ;; esac
waiting=${GREATSEAL_CI_PENDING_EXIT:-}
case $waiting in *[!0-9]*) die 'GREATSEAL_CI_PENDING_EXIT is no number' ;; esac
if [ -z "$waiting" ]; then
	waiting=4
	[ "$mode" != submit ] || waiting=0
fi

# The files: arguments, and lines of GREATSEAL_CI_FILES.
while IFS= read -r line; do
	[ -z "$line" ] || set -- "$@" "$line"
done <<LINES
${GREATSEAL_CI_FILES-}
LINES

request=${GREATSEAL_CI_REQUEST:-${GREATSEAL_REQUEST-}}
if [ "$mode" = collect ]; then
	case $request in
	'') die 'GREATSEAL_CI_REQUEST is missing: the request that submit made' ;;
	*[!0-9a-f]*) die 'GREATSEAL_CI_REQUEST is no request: want hexadecimal digits' ;;
	esac
	set -- -- "$request" "$@"
	if [ $# -eq 2 ]; then
		set -- --dir "${GREATSEAL_CI_DIR:-.}" "$@"
	fi
	if [ "$timeout" != 0 ]; then
		set -- --wait --timeout "$timeout" "$@"
	fi
	[ "${GREATSEAL_CI_RECURSIVE-}" != true ] || set -- --recursive "$@"
	set -- collect "$@"
else
	[ -n "${GREATSEAL_CI_POLICY-}" ] || die 'GREATSEAL_CI_POLICY is missing'
	[ $# -gt 0 ] || die 'there are no files: name them, or set GREATSEAL_CI_FILES'
	set -- -- "$@"
	[ -z "${GREATSEAL_CI_PURPOSE-}" ] || set -- --purpose "$GREATSEAL_CI_PURPOSE" "$@"
	[ -z "${GREATSEAL_CI_FORMAT-}" ] || set -- --format "$GREATSEAL_CI_FORMAT" "$@"
	[ -z "${GREATSEAL_CI_REASON-}" ] || set -- --reason "$GREATSEAL_CI_REASON" "$@"
	[ -z "${GREATSEAL_CI_EXPIRES-}" ] || set -- --expires "$GREATSEAL_CI_EXPIRES" "$@"
	[ "${GREATSEAL_CI_RECURSIVE-}" != true ] || set -- --recursive "$@"
	if [ "$mode" = submit ]; then
		set -- --no-wait "$@"
	else
		set -- --timeout "$timeout" "$@"
	fi
	set -- sign --policy "$GREATSEAL_CI_POLICY" "$@"
fi

# field prints a member of the result's top level: two spaces deep, where no name of a
# file and no word of anybody's stands.
field() {
	sed -n 's/^  "'"$1"'": "\([0-9a-z-]*\)",\{0,1\}$/\1/p' "$2"
}

# run runs greatseal, again and later while the server is away. What is asked again is
# the same request: the server attaches it to the one that is open.
run() {
	out=$1
	shift
	try=0
	pause=2
	while :; do
		code=0
		"$program" --json "$@" >"$out.new" || code=$?
		if [ "$code" -ne 6 ] || [ "$try" -ge "$retries" ]; then
			mv -f -- "$out.new" "$out"
			return "$code"
		fi
		try=$((try + 1))
		printf 'greatseal-ci: the server is away: try %s of %s in %s seconds\n' "$try" "$retries" "$pause" >&2
		sleep "$pause"
		pause=$((pause * 2))
		[ "$pause" -le 60 ] || pause=60
	done
}

case $result in
/* | ./* | ../*) ;;
*) result=./$result ;;
esac
code=0
run "$result" "$@" || code=$?

found=$(field request "$result")
state=$(field state "$result")
[ -z "$found" ] || request=$found

# A request that came to nothing says how it ended.
if [ -n "$request" ] && [ -z "$state" ] && [ "$code" -ne 0 ]; then
	if "$program" --json --quiet request show -- "$request" >"$result.show" 2>/dev/null; then
		state=$(field state "$result.show")
		found=$(field id "$result.show")
		[ -z "$found" ] || request=$found
	fi
	rm -f -- "$result.show"
fi
case $state in
pending | endorsed) [ "$code" -ne 0 ] && [ "$code" -ne 4 ] || code=$waiting ;;
esac

# Outputs, as each CI takes them. The values are digits and lower-case letters.
if [ -n "${GITHUB_OUTPUT-}" ]; then
	printf 'request=%s\nstate=%s\nexit-code=%s\n' "$request" "$state" "$code" >>"$GITHUB_OUTPUT"
	if [ -n "${GITHUB_STEP_SUMMARY-}" ]; then
		# shellcheck disable=SC2016 # the backticks are Markdown
		printf 'Greatseal request `%s`: %s\n' "${request:-none}" "${state:-not made}" >>"$GITHUB_STEP_SUMMARY"
	fi
else
	printf 'GREATSEAL_REQUEST=%s\nGREATSEAL_STATE=%s\n' "$request" "$state" >"${GREATSEAL_CI_ENV:-greatseal.env}"
fi
printf 'greatseal-ci: %s: request %s is %s\n' "$mode" "${request:-none}" "${state:-not made}" >&2
exit "$code"
