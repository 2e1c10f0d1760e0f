// doctor: what is wrong with the fleet, the worst first, each with the way out.
import type { HostView, PoolView, StoreView, VmView } from '../../api/fleet.ts'
import type { TaskSummary } from '../../api/task.ts'
import type { OwnCommand } from '../command.ts'
import { diagnose, type Finding } from '../diagnose.ts'
import { printList, type Tone, type View } from '../render.ts'
import { everything } from './reading.ts'

const tones: Record<Finding['level'], Tone> = { error: 'bad', warning: 'busy', note: 'dim' }

const view: View<Finding> = {
  name: ({ about }) => about,
  columns: [
    { title: 'LEVEL', value: ({ level }) => level, tone: ({ level }) => tones[level] },
    { title: 'ABOUT', value: ({ about }) => about },
    { title: 'FINDING', value: ({ finding }) => finding },
    { title: 'NEXT', value: ({ next }) => next }
  ]
}

export const doctor: OwnCommand = {
  verb: 'doctor',
  summary: 'Say what is wrong with the fleet: copies, autostart flags, silent hosts, uncertain tasks',
  more: 'Ends with 1 when something can cost data.',
  async run(cli) {
    const findings = diagnose({
      hosts: await everything<HostView>(cli, '/hosts'),
      vms: await everything<VmView>(cli, '/vms'),
      stores: await everything<StoreView>(cli, '/stores'),
      pools: await everything<PoolView>(cli, '/pools'),
      uncertain: await everything<TaskSummary>(cli, '/tasks', { state: 'uncertain' })
    })
    await printList(cli, findings, view)
    return findings.some(({ level }) => level === 'error') ? 'error' : 'done'
  }
}
