#!/bin/sh
# One day's work: daily.sh CONFIG [DATE]. DATE is the first day left out, by default today (UTC).
# Ends with 0 when all is done (also if it was done before), 3 or 75 when trying later is right, else with the failing step's code.
set -u
config=${1:?usage: daily.sh CONFIG [DATE]}
date=${2:-$(date -u +%F)}
tries=${ECDCTR_TRIES:-6}
pause=${ECDCTR_PAUSE_SECONDS:-600}

step() {
    left=$tries
    while :; do
        ecdctr "$@" --config "$config"
        code=$?
        case $code in
            0 | 4) return 0 ;;
            3 | 75)
                left=$((left - 1))
                [ "$left" -gt 0 ] || return $code
                sleep "$pause"
                ;;
            *) return $code ;;
        esac
    done
}

step prepare --until "$date" || exit $?
step run --until "$date" || exit $?
if [ "$(date -u -d "$date" +%u)" = 7 ]; then
    step tables compact || exit $?
    step tables vacuum --yes || exit $?
fi
