#!/bin/sh
# How many connections platform-prod had in the last hour, from CloudWatch. It changes nothing.
set -eu
now=$(date -u +%Y-%m-%dT%H:%M:%S)
hour_ago=$(date -u -d '1 hour ago' +%Y-%m-%dT%H:%M:%S)
exec /usr/bin/aws cloudwatch get-metric-statistics --region us-east-1 \
  --namespace AWS/RDS --metric-name DatabaseConnections \
  --dimensions Name=DBInstanceIdentifier,Value=platform-prod \
  --start-time "$hour_ago" --end-time "$now" --period 300 --statistics Average \
  --output text --query "reverse(sort_by(Datapoints, &Timestamp))[].[Timestamp, Average]"
