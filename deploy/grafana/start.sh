#!/bin/sh
# Start Grafana with dashboards in view: the entry point of its container (docker-compose.yml).
#
#   start.sh PROGRAM [ARGUMENT...]      PROGRAM is Grafana's own start script, /run.sh in its image
#
# PUBLISHED is the address on which the host publishes Grafana.
set -eu

# Whoever can connect to this host's loopback interface may look at the dashboards, as a viewer, without a login. On any
# other address a login is needed, because host names and request rates are not for everyone on a network.
case "${PUBLISHED:-}" in
  127.*:* | localhost:* | "[::1]:"*) anonymous=true ;;
  *) anonymous=false ;;
esac
export GF_AUTH_ANONYMOUS_ENABLED="$anonymous" GF_AUTH_ANONYMOUS_ORG_ROLE=Viewer

# Grafana's own default is admin/admin. A random password that nobody knows closes the account until someone sets one.
if [ -z "${GF_SECURITY_ADMIN_PASSWORD:-}" ]; then
  GF_SECURITY_ADMIN_PASSWORD=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')
  export GF_SECURITY_ADMIN_PASSWORD
  echo "GRAFANA_ADMIN_PASSWORD is not set: the administrator's password is random (deploy/README.md says how to set one)" >&2
  [ "$anonymous" = true ] || echo "published beyond loopback: nobody can view the dashboards until it is set" >&2
fi
exec "$@"
