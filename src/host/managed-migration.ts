// A migration that we carry through ourselves, phase by phase: begin and perform at the source, prepare and finish at the target,
// confirm at the source. Each end has a connection of its own, and that tie is a safety: a source whose end is closed before
// `confirm` keeps its guest paused, and a target whose end is closed before `finish` throws its half-received guest away.
// libvirt: src/libvirt-domain.c, virDomainMigrateVersion3Full; docs/migration.
import { DomainMigrateFlags, MigrateParam, TypedParamType } from '../libvirt/constants.gen.ts'
import type { TypedParam } from '../libvirt/wire.gen.ts'
import type { DedicatedCalls, HostCalls } from './calls.ts'
import type { MigrateOptions } from './host.ts'
import { bandwidthParams, migrateFlags, switchToPostCopy } from './migration.ts'

export type ManagedOptions = Omit<MigrateOptions, 'peerUri'>

/** What one end tells the other; nobody else reads it. */
export type Cookie = Uint8Array

/** One host's end of a migration. Every call may throw HostError; a refusal is that host's final word on the phase. */
export interface MigrationEnd {
  /** Source: may it leave? The guest's job is held from here to `confirm`. */
  begin(uuid: string): Promise<{ xml: string; cookie: Cookie }>
  /** Target: a process waits for the guest's memory at `uri`. */
  prepare(xml: string, cookie: Cookie): Promise<{ uri: string | null; cookie: Cookie }>
  /** Source: sends the memory. Resolves once the guest stands still there, and all of it was sent. */
  perform(uuid: string, to: { xml: string; uri: string | null }, cookie: Cookie): Promise<Cookie>
  /** Target: runs the guest, or, where it is cancelled, throws it away and refuses. */
  finish(vm: { name: string; xml: string }, cookie: Cookie, cancelled: boolean): Promise<Cookie>
  /** Source: the guest is gone, or, where it is cancelled, goes on here. Never say cancelled unless the target is known not to run. */
  confirm(uuid: string, cookie: Cookie, cancelled: boolean): Promise<void>
  /** May be called twice. */
  close(): void
}

export interface ManagedMigration {
  /** Opens this host's end. @throws HostError `unreachable` */
  openMigration(options: ManagedOptions): Promise<MigrationEnd>
}

export async function openMigration(calls: HostCalls, options: ManagedOptions): Promise<MigrationEnd> {
  return new End(calls, await calls.dedicated(), options)
}

class End implements MigrationEnd {
  readonly #calls: HostCalls
  readonly #own: DedicatedCalls
  readonly #options: ManagedOptions

  constructor(calls: HostCalls, own: DedicatedCalls, options: ManagedOptions) {
    this.#calls = calls
    this.#own = own
    this.#options = options
  }

  async begin(uuid: string): Promise<{ xml: string; cookie: Cookie }> {
    const params = this.#params({})
    const { xml, cookie_out } = await this.#own.call('DOMAIN_MIGRATE_BEGIN3_PARAMS', {
      dom: domainOf(uuid),
      params,
      flags: this.#sourceFlags()
    })
    return { xml, cookie: cookie_out }
  }

  async prepare(xml: string, cookie: Cookie): Promise<{ uri: string | null; cookie: Cookie }> {
    const params = this.#params({ xml, uri: this.#options.migrationUri })
    const { uri_out, cookie_out } = await this.#own.call('DOMAIN_MIGRATE_PREPARE3_PARAMS', {
      params,
      cookie_in: cookie,
      flags: this.#targetFlags()
    })
    return { uri: uri_out ?? this.#options.migrationUri, cookie: cookie_out }
  }

  async perform(uuid: string, to: { xml: string; uri: string | null }, cookie: Cookie): Promise<Cookie> {
    const stop = this.#options.postCopy ? switchToPostCopy(this.#calls, domainOf(uuid)) : () => {}
    try {
      const { cookie_out } = await this.#own.call('DOMAIN_MIGRATE_PERFORM3_PARAMS', {
        dom: domainOf(uuid),
        dconnuri: null,
        params: this.#params(to),
        cookie_in: cookie,
        flags: this.#sourceFlags()
      })
      return cookie_out
    } finally {
      stop()
    }
  }

  async finish(vm: { name: string; xml: string }, cookie: Cookie, cancelled: boolean): Promise<Cookie> {
    const { cookie_out } = await this.#own.call('DOMAIN_MIGRATE_FINISH3_PARAMS', {
      params: this.#params(vm),
      cookie_in: cookie,
      flags: this.#targetFlags(),
      cancelled: cancelled ? 1 : 0
    })
    return cookie_out
  }

  async confirm(uuid: string, cookie: Cookie, cancelled: boolean): Promise<void> {
    await this.#own.call('DOMAIN_MIGRATE_CONFIRM3_PARAMS', {
      dom: domainOf(uuid),
      params: this.#params({}),
      cookie_in: cookie,
      flags: this.#sourceFlags(),
      cancelled: cancelled ? 1 : 0
    })
  }

  close(): void {
    this.#own.close()
  }

  #flags(): number {
    return migrateFlags({ ...this.#options, peerUri: '' }) & ~DomainMigrateFlags.PEER2PEER
  }

  // The job is held from begin to confirm, so that nobody changes the guest between the phases.
  #sourceFlags(): number {
    return this.#flags() | DomainMigrateFlags.CHANGE_PROTECTION
  }

  #targetFlags(): number {
    return this.#flags() & ~DomainMigrateFlags.AUTO_CONVERGE
  }

  #params({ xml, uri, name }: { xml?: string; uri?: string | null; name?: string }): TypedParam[] {
    const text = (field: string, value: string | null | undefined): TypedParam[] =>
      value == null ? [] : [{ field, value: { type: TypedParamType.STRING, value } }]
    return [
      ...text(MigrateParam.DEST_XML, xml),
      ...text(MigrateParam.URI, uri),
      ...text(MigrateParam.DEST_NAME, name),
      ...bandwidthParams(this.#options)
    ]
  }
}

const domainOf = (uuid: string) => ({ name: uuid, uuid, id: -1 })
