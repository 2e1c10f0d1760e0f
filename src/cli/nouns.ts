// The nouns, for the first page of help and for loading a noun's table only when it is used.
import type { NounSpec } from './command.ts'

export type NounEntry = { summary: string; verbs: string; load: () => Promise<NounSpec> }

export const nouns: Readonly<Record<string, NounEntry>> = {
  vm: {
    summary: 'virtual machines',
    verbs:
      'list show create start stop reboot reset pause resume save set edit adopt migrate clone rename label delete snapshot disk nic cdrom',
    load: async () => (await import('./commands/vm.ts')).vm
  },
  host: {
    summary: 'hosts of virtual machines',
    verbs: 'list show add check label cordon uncordon clear restore balance confirm-off doctor refresh remove',
    load: async () => (await import('./commands/host.ts')).host
  },
  store: {
    summary: 'stores: where bytes are',
    verbs: 'list share set',
    load: async () => (await import('./commands/storage.ts')).store
  },
  pool: {
    summary: "pools: a host's handle on a store",
    verbs: 'list create start stop refresh delete',
    load: async () => (await import('./commands/storage.ts')).pool
  },
  volume: {
    summary: 'volumes in stores',
    verbs: 'list create clone upload download resize delete',
    load: async () => (await import('./commands/storage.ts')).volume
  },
  image: {
    summary: 'images that new VMs are made from',
    verbs: 'list show add remove',
    load: async () => (await import('./commands/image.ts')).image
  },
  network: {
    summary: "hosts' virtual networks",
    verbs: 'list create start stop delete',
    load: async () => (await import('./commands/network.ts')).network
  },
  limit: {
    summary: 'how much goes on at one time',
    verbs: 'list set unset',
    load: async () => (await import('./commands/limit.ts')).limit
  },
  task: {
    summary: 'tasks: what was asked for',
    verbs: 'list show watch why wait log cancel retry hold release verdict',
    load: async () => (await import('./commands/task.ts')).task
  },
  plan: {
    summary: 'tasks submitted together',
    verbs: 'submit show wait undo',
    load: async () => (await import('./commands/plan.ts')).plan
  },
  action: {
    summary: 'what can be asked for',
    verbs: 'list',
    load: async () => (await import('./commands/task.ts')).actionNoun
  }
}

/** Commands that are no NOUN VERB; bin/taskomatic.ts knows how to run them. */
export const otherCommands = {
  server: 'run the server: API, dispatcher, watchers',
  doctor: 'say what is wrong with the fleet',
  demo: 'run a server with simulated hosts, to try things out',
  simhost: 'run simulated hosts, for virsh or a server',
  db: 'prepare a PostgreSQL database: `db init`',
  complete: 'print a shell completion script: `complete bash|zsh|fish`'
} as const
