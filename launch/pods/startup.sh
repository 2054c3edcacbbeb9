#!/usr/bin/env bash
# Start-up script of TPU VMs on Compute Engine: at every start of a VM it mounts the file system that
# all hosts share, installs vidpref and runs the command. Made once, in the instance template:
#
#     gcloud compute instance-templates create ... --metadata-from-file=startup-script=startup.sh \
#         --metadata='^@^vidpref-nfs=10.0.0.2:/shared@vidpref-command=python launch/tpu_run.py ...'
#
# Metadata of the instance:
#   vidpref-nfs       SERVER:/SHARE of the file system, mounted at /shared
#   vidpref-command   what every host runs
#   vidpref-checkout  folder of the checkout; /shared/vidpref if not given
#
# The command is the systemd unit `vidpref` (journalctl -fu vidpref; also on the serial console). It
# starts again after a crash, a kill and exit code 143, and not after codes below 42, 126 and 127.
set -euo pipefail

attribute() {
  curl --silent --fail --max-time 20 --header 'Metadata-Flavor: Google' \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}

needed() {
  attribute "$1" || {
    echo "vidpref: the instance has no metadata $1" >&2
    return 1
  }
}

share="$(needed vidpref-nfs)"
command="$(needed vidpref-command)"
checkout="$(attribute vidpref-checkout || echo /shared/vidpref)"
target=/opt/vidpref

if ! mountpoint --quiet /shared; then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq nfs-common
  mkdir -p /shared
  mount -t nfs -o hard,noatime "$share" /shared
fi

# A copy on this host's disk: hosts that install into one folder would undo each other's work.
mkdir -p "$target"
find "$target" -mindepth 1 -maxdepth 1 ! -name .venv -exec rm -rf {} +
tar -C "$checkout" --exclude=./.git --exclude=./.venv --exclude=./runs -cf - . | tar -C "$target" -xf -
bash "$target/launch/pods/install.sh"

systemctl stop vidpref 2> /dev/null || true
systemctl reset-failed vidpref 2> /dev/null || true
systemd-run --unit=vidpref --working-directory="$target" \
  --property=Restart=on-failure \
  --property=RestartSec=20 \
  --property=StartLimitIntervalSec=0 \
  --property="RestartPreventExitStatus=$(seq -s ' ' 1 41) 126 127" \
  --property=TimeoutStopSec=120 \
  --property=StandardOutput=journal+console \
  --property=StandardError=journal+console \
  bash -c "exec bash launch/pods/worker.sh $command"
