#!/bin/sh
# Keeps the newest lines of the pods' logs before a restart throws them away:
#   keep-logs.sh CONTEXT NAMESPACE LABELS
# into $LOGS/RUN.log. failoverd itself keeps the last 200 characters of an output only.
set -eu
mkdir -p "$LOGS"
file="$LOGS/${FAILOVERD_RUN:-dry-run}.log"
kubectl --context "$1" --namespace "$2" logs -l "$3" --tail=100 --prefix --all-containers >"$file.part"
mv "$file.part" "$file"
echo "kept in $file"
