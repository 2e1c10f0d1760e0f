#!/bin/sh
# Process 1 of a test host, in mount, network, process, IPC and name namespaces of its own (test/system/hosts.ts starts it).
# It gives the host its own /run, /etc/libvirt, /var/lib/libvirt and so on, then runs sshd and libvirtd, and libvirtd again
# whenever that ends. It speaks to its parent in lines: says `named` and waits for a line that says the network is there,
# then says `exited` each time libvirtd has ended. QEMU processes whose libvirtd died become its children.
#   host-init.sh NAME DIRECTORY
set -eu
name=$1 state=$2
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C

hostname "$name"
mount -t proc proc /proc
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
for file in hosts passwd group shadow; do mount --bind "$state/etc/$file" "/etc/$file"; done
mount --bind "$state/etc/libvirt" /etc/libvirt
mount --bind "$state/etc/pki" /etc/pki
for place in lib cache log; do mount --bind "$state/$place" "/var/$place/libvirt"; done
mount --bind "$state/run" /run

echo named
read -r _

/usr/sbin/sshd -D -f /etc/libvirt/sshd_config -E /var/log/libvirt/sshd.log </dev/null >/dev/null 2>&1 &

while [ ! -e "$state/stop" ]; do
  libvirtd --listen --config /etc/libvirt/libvirtd.conf --pid-file /run/libvirtd.pid </dev/null >>/var/log/libvirt/init.log 2>&1 || true
  echo exited
done
