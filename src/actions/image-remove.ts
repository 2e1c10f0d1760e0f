// An image is one no more; its volume stays, as whatever it was before.
import { Type } from 'typebox'
import { quote } from '../model/name.ts'
import { resource } from '../model/resource.ts'
import { action, complete, impossible, nothingToDo, possible, type Probe } from './action.ts'
import { attempt } from './attempt.ts'
import { ImageName } from './image-use.ts'
import { exclusive, shared } from './vm-place.ts'

const args = Type.Object({ image: ImageName }, { additionalProperties: false })

export const imageRemove = action({
  name: 'image.remove',
  summary: 'Forget an image; its volume stays',
  args,
  title: ({ image }) => `Remove image ${image}`,
  claims({ image }, state) {
    const facts = state.image(image)
    const volume = facts ? [shared(resource.volume(facts.store, facts.volume))] : []
    return [exclusive(resource.image(image)), ...volume]
  },
  check({ image }, state) {
    if (state.image(image)) return possible
    if (state.phase === 'starting') return nothingToDo('it is gone already')
    return impossible('image_not_found', `there is no image ${quote(image)}`, 'see `taskomatic image list`')
  },
  effect({ image }, state) {
    const facts = state.image(image)
    const volume = facts ? [{ subject: resource.volume(facts.store, facts.volume), facts: { image: null } }] : []
    return [{ subject: resource.image(image), facts: null }, ...volume]
  },
  run: (ctx, { image }) =>
    attempt(
      ctx,
      async (step) => {
        step('forget the image')
        await ctx.observe.setImage(image, null)
        return complete({ image })
      },
      { probe }
    ),
  probe,
  undo({ image }, state) {
    const facts = state.image(image)
    if (!facts) return { impossible: 'what it was is not known any more' }
    const { store, volume, description, memoryMiB, vcpus, firmware, bus, cloudInit } = facts
    const told = { description, memoryMiB, vcpus, firmware, bus }
    const known = Object.fromEntries(Object.entries(told).filter(([, value]) => value !== null))
    return { action: 'image.add', args: { name: image, volume: `${store}/${volume}`, cloudInit, ...known } }
  }
})

/** It is a row of our own: removing it again changes nothing. */
async function probe(): Promise<Probe> {
  return { happened: 'no', evidence: null }
}
