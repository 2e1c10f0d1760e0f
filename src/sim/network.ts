// One virtual network of one host. No packets: it is there, and it is active or not.

export type SimNetwork = {
  name: string
  uuid: string
  bridge: string
  xml: string
  active: boolean
  persistent: boolean
  autostart: boolean
}
