// `--cloud-init`: words become fields, files are read, and a file that says nothing is refused.
import { expect, test } from 'vitest'
import { parseCloudInit, readCloudInit } from '../../src/cli/cloud-init.ts'
import type { Cli } from '../../src/cli/context.ts'

const files: Record<string, string> = {
  'keys.pub': '# mine\nssh-ed25519 AAAA me\n\nssh-rsa BBBB you\n',
  'secret.txt': 'sesame\n',
  'user.yaml': '#cloud-config\n{}\n',
  'empty.txt': '\n'
}
const cli = { readInput: async (file: string) => files[file] ?? '' } as unknown as Cli
const read = (text: string) => readCloudInit(cli, parseCloudInit(text, '--cloud-init'))

test('plain fields, keys a line each, and a password from a file', async () => {
  expect(await read('hostname=web1,user=ops,ssh-key=keys.pub,password-file=secret.txt,store=nfs1')).toEqual({
    hostname: 'web1',
    user: 'ops',
    store: 'nfs1',
    sshKeys: ['ssh-ed25519 AAAA me', 'ssh-rsa BBBB you'],
    password: 'sesame'
  })
})

test('files are taken as they are', async () => {
  expect(await read('user-data=user.yaml')).toEqual({ userData: '#cloud-config\n{}\n' })
})

test('a file that says nothing, and a word that is not known, are refused', async () => {
  await expect(read('meta-data=empty.txt')).rejects.toThrow('meta-data=empty.txt: the file says nothing')
  expect(() => parseCloudInit('password=sesame', '--cloud-init')).toThrow(/not understood/)
})
