#!/usr/bin/env bash
# What the bench `regional` compares with: section 4.1 of the playbook ("scripts/failover-to-backup.sh"), as a
# careful engineer would keep it. Beyond the playbook's own text it waits until each change has been carried
# out, checks that the database takes writes, and points the application to it.
#
#   regional.sh sequential   one step after the other, in the playbook's order
#   regional.sh parallel     what needs not wait does not: the dependencies of regional.toml
#
# Time runs 20:1 in the bench: POLL stands for 5 s, SOAK for the playbook's `sleep 30`, and the waiters of the
# AWS CLI look every 1.5 s instead of every 30 s (AWS_DATA_PATH).
set -euo pipefail

region=us-west-2
replica=shop-replica
deployment=deployment/api
name=api.shop.example
target=dualstack.backup-lb.us-west-2.elb.amazonaws.com
target_zone=Z0987654321XYZ
topic=arn:aws:sns:us-west-2:123456789012:critical

say() { printf '%s %s\n' "$(date +%T.%3N)" "$*"; }
die() { say "ERROR: $*" >&2; exit 1; }
in_cluster() { kubectl --context backup-cluster --namespace shop "$@"; }
rolled_out() { in_cluster rollout status "$deployment" --timeout 60s >/dev/null; }

primary_is_down() {
  say "verifying that the primary is down"
  if curl -fsS -o /dev/null --max-time 10 --retry 3 "$PRIMARY_API" 2>/dev/null; then
    die "the primary appears healthy; no failover"
  fi
}

promote() {
  say "promoting the replica"
  aws rds promote-read-replica --region "$region" --db-instance-identifier "$replica" >/dev/null
  # `aws rds wait db-instance-available` may look before the instance has begun to change, and does not see
  # whether it still follows.
  local deadline=$((SECONDS + 60))
  until [[ $(aws rds describe-db-instances --region "$region" --db-instance-identifier "$replica" --output text \
    --query 'DBInstances[0].[DBInstanceStatus, ReadReplicaSourceDBInstanceIdentifier]') == $'available\tNone' ]]; do
    ((SECONDS < deadline)) || die "the replica was not promoted in time"
    sleep "$POLL"
  done
  say "promoted"
}

point_app() {
  say "pointing the application to the database"
  in_cluster set env "$deployment" POSTGRES_HOST="$replica.$region.rds.amazonaws.com" POSTGRES_PORT=5432 >/dev/null
  rolled_out
}

database_answers() {
  say "writing to the database"
  psql "$STANDBY_DB" -X -q -v ON_ERROR_STOP=1 \
    -c 'BEGIN; CREATE TABLE failover_check (at timestamptz); INSERT INTO failover_check VALUES (now()); ROLLBACK'
}

route() {
  say "updating Route 53"
  local change
  change=$(aws route53 change-resource-record-sets --hosted-zone-id "$ZONE" --query ChangeInfo.Id --output text \
    --change-batch '{"Changes": [{"Action": "UPSERT", "ResourceRecordSet": {"Name": "'"$name"'", "Type": "A",
      "AliasTarget": {"HostedZoneId": "'"$target_zone"'", "DNSName": "'"$target"'", "EvaluateTargetHealth": true}}}]}')
  aws route53 wait resource-record-sets-changed --id "$change"
}

scale() {
  say "scaling the backup region"
  in_cluster scale "$deployment" --replicas=6 >/dev/null
  rolled_out
}

backup_is_healthy() {
  say "verifying the backup region's health"
  sleep "$SOAK"
  curl -fsS -o /dev/null --max-time 10 "$BACKUP_API" || die "the backup region is unhealthy after the failover"
}

notify() {
  say "sending notifications"
  aws sns publish --region "$region" --topic-arn "$topic" \
    --subject "FAILOVER COMPLETED: now serving from $region" \
    --message "Primary region failed; traffic goes to the backup region." >/dev/null
}

status_page() {
  curl -fsS -o /dev/null --max-time 10 -X POST "$STATUS_PAGE" -H 'content-type: application/json' \
    -d '{"status": "'"$1"'"}'
}

sequential() {
  primary_is_down
  promote
  point_app
  database_answers
  route
  scale
  backup_is_healthy
  notify
  status_page monitoring
}

parallel() {
  local customers scaling checking telling
  primary_is_down
  status_page investigating & customers=$!
  scale & scaling=$!
  promote
  wait "$scaling"
  database_answers & checking=$!
  point_app
  wait "$checking"
  backup_is_healthy
  route
  notify & telling=$!
  status_page monitoring
  wait "$telling"
  wait "$customers"
}

# Nothing that was begun outlives a step that failed.
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
case "${1-}" in
  sequential | parallel) "$1" ;;
  *) die "usage: ${0##*/} sequential|parallel" ;;
esac
say "failed over to $region"
