// Hosts, VMs, stores, pools and volumes as the API shows them: what hosts said last, and when.
import { Type, type Static, type TSchema } from 'typebox'

const orNull = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const Text = Type.String()
const Instant = Type.String({ description: 'ISO 8601, UTC' })

export const VmView = Type.Object(
  {
    uuid: Text,
    name: Text,
    home: Type.String({ description: 'The host that has its definition' }),
    activeOn: orNull(Type.String({ description: 'The host that it is active on; null while off' })),
    power: Text,
    reason: Text,
    persistent: Type.Boolean(),
    autostart: Type.Boolean(),
    hasSavedImage: Type.Boolean(),
    restorable: Type.Optional(Type.Boolean({ description: 'Its saved image goes on where the VM ended' })),
    startsWithHost: Type.Optional(
      orNull(
        Type.Object(
          { order: Type.Integer(), delaySeconds: Type.Integer() },
          { description: 'Started by us when its host has booted' }
        )
      )
    ),
    pins: Type.Optional(
      Type.Array(Type.Object({ kind: Text, what: Text }), { description: 'What ties it to its host' })
    ),
    memoryMiB: Type.Integer(),
    maxMemoryMiB: Type.Integer(),
    vcpus: Type.Integer(),
    disks: Type.Array(
      Type.Object({
        target: Text,
        device: Text,
        kind: Text,
        source: orNull(Text),
        format: orNull(Text),
        bus: orNull(Text),
        readOnly: Type.Boolean(),
        shareable: Type.Boolean(),
        store: orNull(Text),
        volume: orNull(Text)
      })
    ),
    nics: Type.Array(Type.Object({ mac: Text, kind: Text, source: orNull(Text), model: orNull(Text) })),
    snapshots: Type.Array(
      Type.Object({
        name: Text,
        parent: orNull(Text),
        current: Type.Boolean({ description: 'What it was made or brought back to last' }),
        createdAt: Instant,
        state: Type.String({ description: 'running, paused or off: as it is after going back' }),
        external: Type.Boolean(),
        description: orNull(Text)
      })
    ),
    owner: Type.Union([Type.Literal('ours'), Type.Literal('foreign'), Type.Literal('plain')]),
    elsewhere: Type.Record(Text, Text, {
      description: 'Other hosts that may have it: host → active, defined or unknown'
    }),
    job: orNull(Text),
    labels: Type.Optional(Type.Record(Text, Text)),
    observedAt: orNull(Instant)
  },
  { $id: 'Vm' }
)
export type VmView = Static<typeof VmView>

export const VmXmlView = Type.Object(
  {
    uuid: Text,
    host: Type.String({ description: 'The host that was asked' }),
    xml: Text,
    digest: Type.String({ description: 'SHA-256 of the XML in hex: what vm.edit takes as `was`' })
  },
  { $id: 'VmXml' }
)
export type VmXmlView = Static<typeof VmXmlView>

export const HostView = Type.Object(
  {
    name: Text,
    uuid: orNull(Text),
    controlUri: Text,
    peerUri: orNull(Text),
    migrationUri: orNull(Text),
    connection: Type.Union([Type.Literal('up'), Type.Literal('down'), Type.Literal('unknown')]),
    connectionReason: orNull(Text),
    cordoned: Type.Boolean(),
    cordonReason: orNull(Text),
    inMaintenance: Type.Boolean({
      description: 'Cleared, with nothing active there and nothing arriving: safe to reboot'
    }),
    maintenanceSince: orNull(Type.String({ description: 'When a clear ended well; ISO 8601, UTC' })),
    confirmedOff: orNull(Type.String({ description: 'What an operator said when they stated that it is off' })),
    unreconciled: Type.Boolean({
      description:
        'It answers again after it was said to be off; what it left behind is looked through before it is opened'
    }),
    arch: orNull(Text),
    domainType: orNull(Text),
    emulator: orNull(Text),
    machine: orNull(Text),
    cpus: Type.Integer(),
    memoryMiB: Type.Integer(),
    definitions: Type.Integer({ description: 'VMs that are defined here' }),
    activeVms: Type.Integer(),
    labels: Type.Optional(Type.Record(Text, Text)),
    committedMiB: Type.Integer({ description: 'Memory promised to VMs' })
  },
  { $id: 'Host' }
)
export type HostView = Static<typeof HostView>

export const PoolView = Type.Object(
  {
    host: Text,
    name: Text,
    uuid: orNull(Text),
    type: Text,
    store: Text,
    target: orNull(Text),
    active: Type.Boolean(),
    autostart: Type.Boolean(),
    capacityBytes: Type.Integer(),
    availableBytes: Type.Integer()
  },
  { $id: 'Pool' }
)
export type PoolView = Static<typeof PoolView>

export const StoreView = Type.Object(
  {
    name: Text,
    shared: Type.Boolean(),
    type: Text,
    pools: Type.Record(Text, Type.Object({ pool: Text, target: orNull(Text), active: Type.Boolean() }), {
      description: 'Host → its pool on this store'
    })
  },
  { $id: 'Store' }
)
export type StoreView = Static<typeof StoreView>

export const NetworkView = Type.Object(
  { host: Text, name: Text, active: Type.Boolean(), bridge: orNull(Type.String({ description: 'On the host' })) },
  { $id: 'Network' }
)
export type NetworkView = Static<typeof NetworkView>

export const VolumeView = Type.Object(
  {
    store: Text,
    name: Text,
    path: Text,
    format: orNull(Text),
    capacityBytes: Type.Integer(),
    allocationBytes: Type.Integer(),
    backing: orNull(Text),
    usedBy: Type.Array(Type.String(), { description: 'UUIDs of VMs that have it as a disk or under a disk' }),
    image: Type.Optional(orNull(Type.String({ description: 'The image that it is' })))
  },
  { $id: 'Volume' }
)
export type VolumeView = Static<typeof VolumeView>

export const ImageView = Type.Object(
  {
    name: Text,
    store: Text,
    volume: Text,
    description: orNull(Text),
    memoryMiB: orNull(Type.Integer({ description: 'Of a VM of it, where none is asked for' })),
    vcpus: orNull(Type.Integer()),
    firmware: orNull(Text),
    bus: orNull(Text),
    cloudInit: Type.Boolean({ description: 'VMs of it get a cloud-init disc' }),
    addedAt: orNull(Instant),
    addedBy: Text
  },
  { $id: 'Image' }
)
export type ImageView = Static<typeof ImageView>
