// Bytes of volumes on their way between a client and a host: up, kept until they have arrived; down, as they flow.
import { Downloads } from './downloads.ts'
import { Uploads, type UploadsOptions } from './uploads.ts'

export class Staging {
  readonly uploads: Uploads
  readonly downloads = new Downloads()

  constructor(options: UploadsOptions) {
    this.uploads = new Uploads(options)
  }
}
