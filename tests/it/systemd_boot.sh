# Boots systemd as PID 1 of namespaces of its own, with the unit under test on a throw-away copy of
# this machine's root, and runs CHECK there. What CHECK prints comes out of stdout.
#   systemd_boot.sh WORK UNIT_DIRECTORY PROGRAM [ARGUMENTS]
# CHECK is WORK/check.sh; the configuration is WORK/failoverd.toml, where there is one.
set -eu
WORK=$1 UNITS=$2 PROGRAM=$3 ARGUMENTS=${4:-systemd::child --exact --ignored --nocapture}

# A control group of our own, which the namespace then takes for the root.
own=failoverd-boot-$$
if [ -e /sys/fs/cgroup/cgroup.procs ]; then trees=/sys/fs/cgroup; else trees="/sys/fs/cgroup/systemd /sys/fs/cgroup/unified"; fi
leave() {
    for tree in $trees; do
        echo $$ > $tree/cgroup.procs || true
        find $tree/$own -depth -type d -exec rmdir {} \; || true
    done
}
trap leave EXIT
for tree in $trees; do
    mkdir $tree/$own
    echo $$ > $tree/$own/cgroup.procs
done

export WORK UNITS PROGRAM ARGUMENTS
unshare --mount --net --pid --fork --cgroup --uts --kill-child sh -eu -c '
mkdir -p "$WORK/disk"
mount -t tmpfs none "$WORK/disk"
cd "$WORK/disk"
mkdir up work root
mount -t overlay overlay -o lowerdir=/,upperdir=up,workdir=work root
cd root
mount -t proc proc proc
mount -t sysfs sysfs sys
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
    mount -t cgroup2 cgroup2 sys/fs/cgroup
else
    mount -t tmpfs none sys/fs/cgroup
    mkdir sys/fs/cgroup/systemd sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 sys/fs/cgroup/unified
fi
mount --rbind /dev dev
mount -t tmpfs none run
mkdir -p run/work
mount --bind "$WORK" run/work

units=etc/systemd/system
cp "$UNITS/failoverd.service" $units/
mkdir -p $units/failoverd.service.d etc/failoverd
if [ -e "$WORK/failoverd.toml" ]; then cp "$WORK/failoverd.toml" etc/failoverd/; fi
ip link set lo up
install -m 0755 "$PROGRAM" usr/bin/failoverd-under-test
printf "%s\n" "[Service]" "ExecStart=" \
    "ExecStart=/usr/bin/failoverd-under-test $ARGUMENTS" \
    "WatchdogSec=1" "RestartSec=0" > $units/failoverd.service.d/test.conf
systemd-sysusers --root="$PWD" - < "$UNITS/failoverd.sysusers.conf"
# What systemd-tmpfiles does at a boot.
systemd-tmpfiles --root="$PWD" --create - < "$UNITS/failoverd.tmpfiles.conf"
printf "%s\n" "[Unit]" "DefaultDependencies=no" \
    "Wants=systemd-journald.socket systemd-journald.service failoverd.service check.service" > $units/boot.target
printf "%s\n" "[Unit]" "DefaultDependencies=no" "After=failoverd.service" "[Service]" "Type=oneshot" \
    "StandardOutput=file:/run/work/said" "StandardError=inherit" \
    "ExecStart=/bin/sh /run/work/check.sh" "ExecStopPost=/bin/systemctl exit 0" > $units/check.service
mkdir -p old
pivot_root . old
umount -l old
exec env -i container=failoverd-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=boot.target --log-target=null
' > /dev/null
