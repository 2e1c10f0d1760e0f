// The contract on libvirt's own code without QEMU: its test driver, behind a real daemon.

import { connect } from '../../src/libvirt/connect.ts'
import { contract } from './contract.ts'
import { LibvirtDaemon, whyNoDaemon } from './daemon.ts'

let daemon: LibvirtDaemon

contract({
  name: 'libvirtd test:///default',
  connect: (overrides) => connect(daemon.uri('test:///default'), overrides),
  capabilities: { networks: true },
  folder: () => daemon.folder,
  skip: whyNoDaemon(),
  start: async () => {
    daemon = await LibvirtDaemon.start()
  },
  stop: () => daemon.stop()
})
