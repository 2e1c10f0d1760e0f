// What is said of a volume's bytes that a client has sent.
import { Type, type Static } from 'typebox'

export const UploadView = Type.Object(
  {
    upload: Type.String({ description: 'UUID: names the bytes to volume.upload' }),
    bytes: Type.Integer(),
    sha256: Type.String({ description: 'Hex' }),
    format: Type.Union([Type.Literal('raw'), Type.Literal('qcow2')]),
    capacityBytes: Type.Integer({ description: 'Size of the disk that they are' })
  },
  { $id: 'Upload', description: 'As arguments of volume.upload, beside store and name' }
)
export type UploadView = Static<typeof UploadView>
