// Rows of every-action: hosts and limits.
import { join } from 'node:path'
import type { Row } from './every-action-rows.ts'

export const fleetRows: { readonly [action: string]: Row } = {
  'host.add': {
    stage: async (p) => {
      const name = `more-${p.of}`
      const socketPath = join(p.world.directory, `${name}.sock`)
      const { uri } = await p.world.fleet.add({ name, socketPath })
      return { host: name, controlUri: uri, peerUri: uri }
    },
    again: 'nothing to do',
    undo: 'undone'
  },
  'host.remove': {
    stage: async (p) => {
      const name = `less-${p.of}`
      const socketPath = join(p.world.directory, `${name}.sock`)
      const { uri } = await p.world.fleet.add({ name, socketPath })
      await p.done('host.add', { host: name, controlUri: uri, peerUri: uri })
      return { host: name }
    },
    again: 'refused: not_found',
    undo: 'undone'
  },
  'host.check': {
    peer: true,
    stage: async (p) => ({ host: p.host, peer: p.peer }),
    again: 'nothing to do',
    undo: 'impossible: looking changes nothing'
  },
  'host.refresh': {
    stage: async (p) => ({ host: p.host }),
    again: 'nothing to do',
    undo: 'impossible: looking changes nothing'
  },
  'host.cordon': {
    stage: async (p) => ({ host: p.host, reason: 'new fan' }),
    again: 'nothing to do',
    undo: 'undone'
  },
  'host.uncordon': {
    stage: async (p) => {
      await p.done('host.cordon', { host: p.host, reason: 'new fan' })
      return { host: p.host }
    },
    again: 'nothing to do',
    undo: 'undone',
    tidy: async (p) => void (await p.done('host.uncordon', { host: p.host }))
  },
  'host.label': {
    stage: async (p) => ({ host: p.host, set: { rack: p.of } }),
    again: 'nothing to do',
    undo: 'undone'
  },
  'host.clear': {
    parts: true,
    peer: true,
    stage: async (p) => {
      await p.vm({ on: true, store: p.common })
      return { host: p.host, reason: 'new fan' }
    },
    again: 'nothing to do',
    undo: 'undone',
    tidy: async (p) => void (await p.done('host.restore', { host: p.host }))
  },
  'host.restore': {
    parts: true,
    peer: true,
    stage: async (p) => {
      await p.vm({ on: true, store: p.common })
      await p.done('host.clear', { host: p.host, reason: 'new fan' })
      return { host: p.host }
    },
    again: 'nothing to do',
    undo: 'undone',
    tidy: async (p) => void (await p.done('host.restore', { host: p.host }))
  },
  'host.balance': {
    parts: true,
    peer: true,
    stage: async (p) => {
      await p.vm({ on: true, store: p.common, memoryMiB: 20_000 })
      await p.vm({ on: true, name: 'other', store: p.common, memoryMiB: 20_000 })
      return { hosts: [p.host, p.peer] }
    },
    again: 'nothing to do',
    undo: 'impossible: its moves are tasks of their own'
  },
  'host.confirm-off': {
    stage: async (p) => {
      await p.world.fleet.powerOff(p.host)
      await p.connection('down')
      return { host: p.host, reason: 'the power is cut at the rack' }
    },
    again: 'nothing to do',
    undo: 'impossible: the host ends the statement itself',
    tidy: async (p) => {
      await p.world.fleet.boot(p.host)
      await p.connection('up')
      await p.done('host.uncordon', { host: p.host })
    }
  },
  'limit.set': {
    stage: async (p) => ({ key: `starts/${p.host}`, cap: 7 }),
    again: 'nothing to do',
    undo: 'impossible: what it was before'
  }
}
