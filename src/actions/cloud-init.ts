// What a new VM's first boot is told: a disc with cloud-init's NoCloud files (user-data, meta-data, network-config; label `cidata`),
// made of files that are given or of a few plain fields. The disc is named after the VM's UUID and goes with the VM.
// Source: cloud-init's documentation of the datasource NoCloud.
import { Type, type Static } from 'typebox'
import type { FleetState } from '../inventory/fleet-state.ts'
import type { VmFacts } from '../inventory/facts.ts'
import { isoImage } from '../model/iso9660.ts'
import { passwordHash } from '../model/password-hash.ts'
import { StoreRef } from './refs.ts'
import type { PlacedVolume } from './volume-place.ts'

const maxFileCharacters = 262_144

const file = (description: string) =>
  Type.String({ description, minLength: 1, maxLength: maxFileCharacters, 'x-secret': true })

export const cloudInitArgs = Type.Object(
  {
    userData: Type.Optional(file('user-data as it is: a cloud-config or a script; instead of the plain fields')),
    metaData: Type.Optional(file('meta-data as it is; default the UUID as instance-id, and the host name')),
    networkConfig: Type.Optional(file('network-config as it is; default none')),
    hostname: Type.Optional(
      Type.String({
        description: "The guest's host name; default the VM's name",
        minLength: 1,
        maxLength: 253,
        pattern: '^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$',
        'x-rule': 'a host name: letters, digits and "-", parts separated by "."'
      })
    ),
    user: Type.Optional(
      Type.String({
        description: "User that keys and password are for; default the image's own",
        minLength: 1,
        maxLength: 32,
        pattern: '^[a-z_][a-z0-9_-]*$',
        'x-rule': 'a user name: lower-case letters, digits, "_" and "-"'
      })
    ),
    sshKeys: Type.Optional(
      Type.Array(
        Type.String({ minLength: 1, maxLength: 16_384, pattern: '^[^\\u0000-\\u001f]+$', 'x-rule': 'one line' }),
        {
          description: 'Public keys that may log in',
          maxItems: 64
        }
      )
    ),
    password: Type.Optional(
      Type.String({
        description: 'Password of the user; only its hash is kept',
        minLength: 1,
        maxLength: 256,
        'x-secret': true
      })
    ),
    passwordHash: Type.Optional(
      Type.String({
        description: 'Or its hash, as crypt(3) writes it',
        maxLength: 256,
        pattern: '^\\$[0-9a-z]+\\$[A-Za-z0-9./,=$-]+$',
        'x-rule': 'a hash as crypt(3) writes it: $6$…',
        'x-secret': true
      })
    ),
    store: Type.Optional({ ...StoreRef, description: "Store of the disc; default that of the VM's first disk" })
  },
  { additionalProperties: false, description: 'What the guest is told at its first boot, by cloud-init' }
)

export type CloudInit = Static<typeof cloudInitArgs>

const plainFields = ['hostname', 'user', 'sshKeys', 'password', 'passwordHash'] as const

export function cloudInitProblem(cloudInit: CloudInit): { message: string; next: string } | undefined {
  const plain = plainFields.find((field) => cloudInit[field] !== undefined)
  if (cloudInit.userData !== undefined && plain)
    return { message: `"userData" says everything, so that "${plain}" says nothing`, next: 'give either, not both' }
  if (cloudInit.password !== undefined && cloudInit.passwordHash !== undefined)
    return { message: 'the password is given twice, once as its hash', next: 'give one of them' }
  return undefined
}

/** The password is forgotten before anything is stored. */
export function withoutPassword({ password, ...rest }: CloudInit): CloudInit {
  if (password === undefined || rest.passwordHash !== undefined)
    return { ...rest, ...(password === undefined ? {} : { password }) }
  return { ...rest, passwordHash: passwordHash(password) }
}

/** Of letters that a volume's name may have; it stays the same when the VM is renamed. */
export const seedName = (uuid: string): string => `seed-${uuid.toLowerCase()}.iso`

/** The disc's bytes: the same for the same VM. */
export function seedImage(vm: { uuid: string; name: string }, cloudInit: CloudInit): Buffer {
  const hostname = cloudInit.hostname ?? vm.name
  const texts = {
    'user-data': cloudInit.userData ?? userData(hostname, cloudInit),
    'meta-data': cloudInit.metaData ?? json({ 'instance-id': vm.uuid, 'local-hostname': hostname }),
    ...(cloudInit.networkConfig === undefined ? {} : { 'network-config': cloudInit.networkConfig })
  }
  return isoImage(
    'cidata',
    Object.entries(texts).map(([name, text]) => ({ name, bytes: Buffer.from(text, 'utf8') }))
  )
}

// JSON is YAML, and needs no escaping of ours.
const json = (value: object): string => `${JSON.stringify(value, null, 2)}\n`

function userData(hostname: string, { user, sshKeys, passwordHash: hash }: CloudInit): string {
  // Merged over the image's own user, so that groups and sudo stay as they are there.
  const account = {
    ...(user === undefined ? {} : { name: user }),
    ...(hash === undefined ? {} : { lock_passwd: false, passwd: hash })
  }
  const config = {
    hostname,
    ...(Object.keys(account).length > 0 ? { user: account } : {}),
    ...(sshKeys ? { ssh_authorized_keys: sshKeys } : {})
  }
  return `#cloud-config\n${json(config)}`
}

/** The VM's disc, in its drive or ejected: looked for in the stores of all that it has. */
export function seedsOf(vm: VmFacts | undefined, state: FleetState): PlacedVolume[] {
  if (!vm) return []
  const name = seedName(vm.uuid)
  const stores = new Set(vm.disks.flatMap(({ store }) => (store === null ? [] : [store])))
  return [...stores].flatMap((store) => (state.volume(store, name) ? [{ store, volume: name }] : []))
}
