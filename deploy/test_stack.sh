#!/usr/bin/env bash
# The stack for real: build the image, start service and Prometheus, send both a DICOM and k-space to both roles, see
# every panel's and every rule's query answered, check the hardening, kill the server and see it come back, tear down.
#
#   make test-stack
#   BUILD_ARGS="--no-cache" make test-stack       passed on to compose build
set -euo pipefail
cd "$(dirname "$0")/.."

docker info >/dev/null 2>&1 || { echo "test-stack: skipped, no Docker engine answers"; exit 0; }
if docker compose version >/dev/null 2>&1; then compose=(docker compose)
elif command -v docker-compose >/dev/null; then compose=(docker-compose)
else echo "test-stack: skipped, neither docker compose nor docker-compose is there"; exit 0
fi
compose+=(-p "kdmri-test-$$")
for image in python:3.11-slim-bookworm prom/prometheus:v2.42.0; do
  docker image inspect "$image" >/dev/null 2>&1 || timeout 300 docker pull -q "$image" >/dev/null 2>&1 ||
    { echo "test-stack: skipped, $image is neither here nor to be pulled"; exit 0; }
done
# pip asks an index that can't be reached for every package, minutes in all: do without it.
torch_index=https://download.pytorch.org/whl/cpu
if [ -z "${TORCH_INDEX+set}" ] && ! curl -fsS --max-time 10 -o /dev/null "$torch_index/torch/" 2>/dev/null; then
  export TORCH_INDEX=
fi

# An address that ends in a colon: the engine picks a free port, a new one after every restart.
export SERVICE_ADDRESS=127.0.0.1: PROMETHEUS_ADDRESS=127.0.0.1: KDMRI_IMAGE=kdmri:test KDMRI_SHADOW_RATE=1 KDMRI_QUEUE=1
# The volume of jobs, whose panels have no data in a service that keeps none.
export KDMRI_SPOOL=/var/lib/kdmri
files=$(mktemp -d)

tear_down() {
  status=$?
  if ((status)); then "${compose[@]}" logs --no-color --tail 30 || true; fi
  "${compose[@]}" down -v --timeout 5 >/dev/null 2>&1 || true
  rm -rf "$files"
  if ((status)); then echo "test-stack: FAILED"; fi
}
trap tear_down EXIT
trap 'exit 130' INT TERM

step() { echo "==> $*"; }
fail() { echo "$*" >&2; exit 1; }
wait_for() { # SECONDS COMMAND...: until the command succeeds, its last try's output shown where it never does
  local limit=$((SECONDS + $1)); shift
  until "$@" >"$files/try" 2>&1; do
    ((SECONDS < limit)) || { cat "$files/try" >&2; fail "waited in vain for: $*"; }
    sleep 1
  done
}

inside() { "${compose[@]}" exec -T "$@"; } # SERVICE COMMAND...
in_service() { inside service "$@"; }
inspect() { docker inspect -f "$2" "$("${compose[@]}" ps -q "$1")"; } # SERVICE TEMPLATE
service() { echo "http://$("${compose[@]}" port service 8000)"; }
prometheus() { echo "http://$("${compose[@]}" port prometheus 9090)"; }
expect() { [ "$2" = "$3" ] || fail "$1: expected $3, got $2"; echo "    $1: $2"; }
sample() { # NAME: a file that pydicom's wheel carries
  in_service python -c 'import shutil, sys; from pydicom.data import get_testdata_file as get
shutil.copyfileobj(open(get(sys.argv[1]), "rb"), sys.stdout.buffer)' "$1"
}

healthy() { [ "$(inspect service '{{.State.Health.Status}}')" = healthy ]; }
restarted() { [ "$(inspect service '{{.RestartCount}}')" -ge 1 ] && healthy; }
query_is() { # EXPRESSION VALUE: the first series of Prometheus' answer has this value
  curl -fsS -G "$(prometheus)/api/v1/query" --data-urlencode "query=$1" | tee "$files/answer" | grep -q "\"$2\"\]"
}
rules_loaded() { curl -fsS "$(prometheus)/api/v1/rules" | grep -q KdmriDown; }

super_resolve() { # ROLE
  curl -fsS --data-binary "@$files/in.dcm" -H 'Content-Type: application/dicom' \
    "$(service)/super-resolve?scale=2&role=$1" -o "$files/sr.dcm"
}
reconstruct() { # ROLE
  curl -fsS -F "file=@$files/in.h5" "$(service)/reconstruct?role=$1" -o "$files/out.h5"
}
crowd() { # more at a time than may wait: some are turned away
  for _ in 1 2 3 4; do curl -sS -F "file=@$files/in.h5" "$(service)/reconstruct" -o /dev/null & done
  wait
}
submit() { # a key of its own: the same file would be the same job
  curl -fsS -F "file=@$files/in.h5" -H "Idempotency-Key: $RANDOM$RANDOM" "$(service)/jobs?operation=reconstruct" -o /dev/null
}
traffic() { crowd; submit; for role in student teacher; do super_resolve "$role"; reconstruct "$role"; done; }
all_answered() { # the pause is what shadow runs need
  traffic && sleep 2 && python3 tools/dashboards/queries.py "$(prometheus)"
}

hardened() { # SERVICE PORT: as the engine and as the kernel see it
  echo "  $1"
  expect "read-only root" "$(inspect "$1" '{{.HostConfig.ReadonlyRootfs}}')" true
  expect "options" "$(inspect "$1" '{{.HostConfig.SecurityOpt}}')" "[no-new-privileges:true]"
  expect "capabilities dropped" "$(inspect "$1" '{{.HostConfig.CapDrop}}')" "[ALL]"
  expect "no new privileges, as the kernel sees it" "$(kernel_says "$1" NoNewPrivs)" 1
  expect "capabilities, as the kernel sees them" "$(kernel_says "$1" CapEff)" 0000000000000000
  expect "published on" "$(inspect "$1" "{{(index (index .NetworkSettings.Ports \"$2/tcp\") 0).HostIp}}")" 127.0.0.1
  positive "user" "$(inside "$1" id -u)"
  for limit in Memory NanoCpus PidsLimit; do positive "$limit" "$(inspect "$1" "{{.HostConfig.$limit}}")"; done
}
kernel_says() { inside "$1" sed -n "s/^$2:\t//p" /proc/1/status; } # SERVICE FIELD
positive() { [ "$2" -gt 0 ] || fail "$1: expected a number above 0, got $2"; echo "    $1: $2"; }

step "build"
# shellcheck disable=SC2086  # several arguments in one variable
"${compose[@]}" build ${BUILD_ARGS:-} service >"$files/build" 2>&1 || { tail -n 40 "$files/build"; fail "build failed"; }
step "start"
"${compose[@]}" up -d service prometheus >/dev/null 2>&1
wait_for 300 healthy

step "super-resolve a DICOM of pydicom's own"
sample MR_small.dcm >"$files/in.dcm"
super_resolve student
in_service python -c 'import io, sys, pydicom
finer = pydicom.dcmread(io.BytesIO(sys.stdin.buffer.read()))
print("   ", finer.Rows, "x", finer.Columns, "at", list(finer.PixelSpacing), "mm")
assert (finer.Rows, finer.Columns) == (128, 128)' <"$files/sr.dcm"

step "reconstruct k-space undersampled from another"
sample examples_overlay.dcm | in_service sh -c \
  'cat >/tmp/in.dcm && kdmri undersample /tmp/in.dcm -o /tmp/in.h5 --acceleration 4 >&2 && cat /tmp/in.h5' >"$files/in.h5"
reconstruct student
in_service python -c 'import io, sys, h5py
image = h5py.File(io.BytesIO(sys.stdin.buffer.read()))["reconstruction"]
print("   ", image.shape, image.dtype); assert image.dtype == "float32" and image.ndim == 3' <"$files/out.h5"

step "Prometheus scrapes it"
wait_for 120 query_is 'up{job="kdmri"}' 1
wait_for 120 query_is 'kdmri_requests_total{operation="reconstruct", role="student", status="200"} > bool 0' 1
wait_for 30 rules_loaded
step "every panel's and every rule's query has an answer"
wait_for 300 all_answered
cat "$files/try"

step "hardening"
hardened service 8000
hardened prometheus 9090
in_service sh -c '! touch /app/x 2>/dev/null' || fail "the root file system can be written to"

step "kill the server: the container comes back"
# All that this user may signal, the server; the init is not among them.
in_service sh -c 'kill -9 -1' >/dev/null 2>&1 || true
wait_for 300 restarted
reconstruct student
expect "restarts" "$(inspect service '{{.RestartCount}}')" 1
wait_for 120 query_is 'up{job="kdmri"}' 1
echo "test-stack: passed"
