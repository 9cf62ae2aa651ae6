#!/bin/sh
# A script of the runbook that takes longer than the 30 s of an apply, as a job of its own: started once
# for each step of a run, and looked at until it has ended.
#   job.sh start PROGRAM ARGUMENTS…   starts it; one that runs or ended well already is left alone
#   job.sh look                       0: it ended well; 1: it did not (yet)
# Below $JOBS/RUN/STEP are its output (log) and, once it has ended, its exit code (code).
set -eu
folder="$JOBS/${FAILOVERD_RUN:-dry-run}/$FAILOVERD_STEP"
case "$1" in
start)
    shift
    if [ -e "$folder/code" ] && [ "$(cat "$folder/code")" != 0 ]; then
        rm -r "$folder"
    fi
    mkdir -p "${folder%/*}"
    # Who makes the folder starts the job: two attempts never start two.
    mkdir "$folder" 2>/dev/null || exit 0
    if [ -d /run/systemd/system ]; then
        # A unit of its own: failoverd's own is closed too tightly for a build, and may be restarted.
        set -- "$0" run "$folder" "$@"
        [ -z "${DATABASE_URL:-}" ] || set -- --setenv=DATABASE_URL "$@"
        unit=$(printf 'failoverd-%s-%s' "${FAILOVERD_RUN:-dry-run}" "$FAILOVERD_STEP" | tr -c 'A-Za-z0-9-' -)
        exec systemd-run --quiet --collect --no-block --unit="$unit" --uid="$(id -u)" --gid="$(id -g)" \
            --working-directory="$PWD" --setenv=PATH --setenv=JOBS --setenv=FAILOVERD_RUN \
            --setenv=FAILOVERD_STEP --setenv=FAILOVERD_EPOCH "$@"
    fi
    setsid "$0" run "$folder" "$@" </dev/null >/dev/null 2>&1 &
    ;;
run)
    folder=$2
    shift 2
    code=0
    "$@" >"$folder/log" 2>&1 || code=$?
    echo "$code" >"$folder/code.part"
    mv "$folder/code.part" "$folder/code"
    ;;
look)
    if [ ! -e "$folder/code" ]; then
        echo "it has not ended yet" >&2
        exit 1
    fi
    code=$(cat "$folder/code")
    if [ "$code" != 0 ]; then
        echo "it failed with exit code $code: $(tail -n 3 "$folder/log")" >&2
        exit 1
    fi
    tail -n 3 "$folder/log"
    ;;
*)
    echo "job.sh start PROGRAM ARGUMENTS… | job.sh look" >&2
    exit 2
    ;;
esac
