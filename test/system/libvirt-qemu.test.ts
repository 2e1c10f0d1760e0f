// The libvirt client's contract on real QEMU, in an unprivileged session of our own daemon.

import { connect } from '../../src/libvirt/connect.ts'
import { contract } from '../libvirt/contract.ts'
import { LibvirtDaemon, whyNoDaemon } from '../libvirt/daemon.ts'

let daemon: LibvirtDaemon

contract({
  name: 'libvirtd qemu:///session',
  connect: (overrides) => connect(daemon.uri('qemu:///session'), overrides),
  capabilities: { qemu: true, streams: true },
  folder: () => daemon.folder,
  skip: whyNoDaemon(['libvirtd', 'unshare', 'setpriv', 'qemu-system-x86_64']),
  start: async () => {
    daemon = await LibvirtDaemon.start()
  },
  stop: () => daemon.stop()
})
