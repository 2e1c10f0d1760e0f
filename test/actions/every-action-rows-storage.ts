// Rows of every-action: pools, stores, volumes, images, networks.
import { randomUUID } from 'node:crypto'
import type { Place } from './every-action-place.ts'
import type { Row } from './every-action-rows.ts'

const poolOf = (p: Place) => ({ host: p.host, pool: `pool-${p.of}` })
const networkOf = (p: Place) => ({ host: p.host, network: `net-${p.of}` })
const madePool = (p: Place) => p.done('pool.create', { ...poolOf(p), target: `/srv/pool-${p.of}` })
const madeNetwork = (p: Place) => p.done('network.create', { ...networkOf(p), mode: 'isolated' })

async function* once(bytes: Buffer): AsyncGenerator<Buffer> {
  yield bytes
}

/** A client that takes what it is given, and asks again when it was cut off. */
async function takenAsOften(p: Place, download: string): Promise<void> {
  for (let times = 0; times < 6; times++) {
    try {
      const source = await p.world.staging.downloads.take(download, { timeoutMs: 5_000 })
      for await (const _ of source);
    } catch {
      // Cut off, or nobody gives any more.
    }
  }
}

export const storageRows: { readonly [action: string]: Row } = {
  'pool.create': {
    stage: async (p) => ({ ...poolOf(p), target: `/srv/pool-${p.of}` }),
    again: 'nothing to do',
    undo: 'undone'
  },
  'pool.delete': {
    stage: async (p) => {
      await madePool(p)
      return poolOf(p)
    },
    again: 'refused: pool_not_found',
    undo: 'impossible: make the pool again'
  },
  'pool.refresh': {
    stage: async (p) => ({ host: p.host, pool: 'data' }),
    again: 'nothing to do',
    undo: 'impossible: looking changes nothing'
  },
  'pool.start': {
    stage: async (p) => {
      await madePool(p)
      await p.done('pool.stop', poolOf(p))
      return poolOf(p)
    },
    again: 'nothing to do',
    undo: 'undone'
  },
  'pool.stop': {
    stage: async (p) => {
      await madePool(p)
      return poolOf(p)
    },
    again: 'nothing to do',
    undo: 'undone'
  },
  'store.share': {
    peer: true,
    stage: async (p) => {
      const pools = p.hosts.map((host) => ({ host, pool: `both-${p.of}` }))
      for (const pool of pools) await p.done('pool.create', { ...pool, target: `/srv/nfs/${p.host}/${p.of}` })
      return { store: `both-${p.of}`, pools }
    },
    again: 'done again',
    refused: {
      'STORAGE_VOL_DELETE 0': {
        leaves: 'taskomatic-share',
        because: 'the proof is read: that its file is left is told in the log',
        alsoLost: true
      }
    },
    undo: 'impossible: that pools are one store is a fact'
  },
  'volume.create': {
    stage: async (p) => ({ store: p.store, name: `new-${p.of}.img`, sizeMiB: 8 }),
    again: 'refused: volume_exists',
    undo: 'undone'
  },
  'volume.clone': {
    stage: async (p) => ({ volume: await p.volume('from'), store: p.store, name: `copy-${p.of}.img` }),
    again: 'refused: volume_exists',
    undo: 'undone'
  },
  'store.set': {
    stage: async (p) => ({ store: p.store, thinPercent: 50 }),
    again: 'nothing to do',
    undo: 'undone'
  },
  'volume.resize': {
    stage: async (p) => ({ volume: await p.volume('grown'), sizeMiB: 16 }),
    again: 'nothing to do',
    undo: 'impossible: a volume is never made smaller'
  },
  'volume.delete': {
    stage: async (p) => ({ volume: await p.volume('gone') }),
    again: 'refused: not_found',
    undo: 'impossible: a deleted volume is gone'
  },
  'volume.upload': {
    stage: async (p) => {
      const staged = await p.world.staging.uploads.stage(once(Buffer.alloc(4096, 7)))
      return { store: p.store, name: `up-${p.of}.img`, ...staged }
    },
    again: 'refused: volume_exists',
    undo: 'undone'
  },
  'volume.download': {
    stage: async (p) => {
      const download = randomUUID()
      void takenAsOften(p, download)
      return { volume: await p.volume('down'), download }
    },
    again: 'nothing to do',
    undo: 'impossible: reading changes nothing'
  },
  'image.add': {
    stage: async (p) => ({ name: `image-${p.of}`, volume: await p.volume('base'), memoryMiB: 64 }),
    again: 'nothing to do',
    undo: 'undone'
  },
  'image.remove': {
    stage: async (p) => {
      await p.done('image.add', { name: `image-${p.of}`, volume: await p.volume('base'), memoryMiB: 64 })
      return { image: `image-${p.of}` }
    },
    again: 'refused: image_not_found',
    undo: 'undone'
  },
  'network.create': {
    stage: async (p) => ({ ...networkOf(p), mode: 'isolated' }),
    again: 'nothing to do',
    undo: 'undone'
  },
  'network.delete': {
    stage: async (p) => {
      await madeNetwork(p)
      return networkOf(p)
    },
    again: 'refused: network_not_found',
    undo: 'impossible: make the network again'
  },
  'network.start': {
    stage: async (p) => {
      await madeNetwork(p)
      await p.done('network.stop', networkOf(p))
      return networkOf(p)
    },
    again: 'nothing to do',
    undo: 'undone'
  },
  'network.stop': {
    stage: async (p) => {
      await madeNetwork(p)
      return networkOf(p)
    },
    again: 'nothing to do',
    undo: 'undone'
  }
}
