// The contract that every host keeps, on a simulated one.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect } from '../../src/libvirt/connect.ts'
import { type SimFleet, startSimFleet } from '../../src/sim/fleet.ts'
import { contract } from '../libvirt/contract.ts'

const dir = mkdtempSync(join(tmpdir(), 'sim-contract-'))
let fleet: SimFleet
const uri = (name: string): string => `qemu+unix:///system?socket=${join(dir, `${name}.sock`)}`

contract({
  name: 'simulated host',
  connect: (overrides) => connect(uri('h1'), overrides),
  capabilities: {
    qemu: true,
    networks: true,
    streams: true,
    migration: { connect: (overrides) => connect(uri('h2'), overrides), peerUri: uri('h2') }
  },
  folder: '/pools',
  start: async () => {
    fleet = await startSimFleet({ dir, hosts: 2 })
  },
  stop: async () => {
    await fleet.stop()
    rmSync(dir, { recursive: true, force: true })
  }
})
