// All actions by name. API, CLI and web take schemas and help texts from here: adding an action is adding one file and a line.
import type { Action } from './action.ts'
import { hostAdd } from './host-add.ts'
import { hostBalance } from './host-balance.ts'
import { hostCheck } from './host-check.ts'
import { hostClear } from './host-clear.ts'
import { hostConfirmOff } from './host-confirm-off.ts'
import { hostCordon } from './host-cordon.ts'
import { hostLabel } from './host-label.ts'
import { hostRefresh } from './host-refresh.ts'
import { hostRemove } from './host-remove.ts'
import { hostRestore } from './host-restore.ts'
import { hostUncordon } from './host-uncordon.ts'
import { imageAdd } from './image-add.ts'
import { imageRemove } from './image-remove.ts'
import { networkCreate } from './network-create.ts'
import { networkDelete } from './network-delete.ts'
import { networkStart } from './network-start.ts'
import { networkStop } from './network-stop.ts'
import { limitSet } from './limit-set.ts'
import { poolCreate } from './pool-create.ts'
import { poolDelete } from './pool-delete.ts'
import { poolRefresh } from './pool-refresh.ts'
import { poolStart } from './pool-start.ts'
import { poolStop } from './pool-stop.ts'
import { storeSet } from './store-set.ts'
import { storeShare } from './store-share.ts'
import { vmCdromEject } from './vm-cdrom-eject.ts'
import { vmCdromInsert } from './vm-cdrom-insert.ts'
import { vmAdopt } from './vm-adopt.ts'
import { vmClone } from './vm-clone.ts'
import { vmCreate } from './vm-create.ts'
import { vmDelete } from './vm-delete.ts'
import { vmDiskAdd } from './vm-disk-add.ts'
import { vmDiskMove } from './vm-disk-move.ts'
import { vmDiskRemove } from './vm-disk-remove.ts'
import { vmDiskResize } from './vm-disk-resize.ts'
import { vmEdit } from './vm-edit.ts'
import { vmLabel } from './vm-label.ts'
import { vmMigrate } from './vm-migrate.ts'
import { vmNicAdd } from './vm-nic-add.ts'
import { vmNicRemove } from './vm-nic-remove.ts'
import { vmPause } from './vm-pause.ts'
import { vmReboot } from './vm-reboot.ts'
import { vmRename } from './vm-rename.ts'
import { vmReset } from './vm-reset.ts'
import { vmResume } from './vm-resume.ts'
import { vmSnapshotCreate } from './vm-snapshot-create.ts'
import { vmSnapshotDelete } from './vm-snapshot-delete.ts'
import { vmSnapshotRevert } from './vm-snapshot-revert.ts'
import { vmSave } from './vm-save.ts'
import { vmSet } from './vm-set.ts'
import { vmStart } from './vm-start.ts'
import { vmStop } from './vm-stop.ts'
import { volumeClone } from './volume-clone.ts'
import { volumeCreate } from './volume-create.ts'
import { volumeDelete } from './volume-delete.ts'
import { volumeDownload } from './volume-download.ts'
import { volumeResize } from './volume-resize.ts'
import { volumeUpload } from './volume-upload.ts'

const all: readonly Action[] = [
  hostAdd,
  hostBalance,
  hostCheck,
  hostClear,
  hostConfirmOff,
  hostCordon,
  hostLabel,
  hostRefresh,
  hostRemove,
  hostRestore,
  hostUncordon,
  imageAdd,
  imageRemove,
  networkCreate,
  networkDelete,
  networkStart,
  networkStop,
  limitSet,
  poolCreate,
  poolDelete,
  poolRefresh,
  poolStart,
  poolStop,
  storeSet,
  storeShare,
  vmCdromEject,
  vmCdromInsert,
  vmAdopt,
  vmClone,
  vmCreate,
  vmDelete,
  vmDiskAdd,
  vmDiskMove,
  vmDiskRemove,
  vmDiskResize,
  vmEdit,
  vmLabel,
  vmMigrate,
  vmNicAdd,
  vmNicRemove,
  vmPause,
  vmReboot,
  vmRename,
  vmReset,
  vmResume,
  vmSnapshotCreate,
  vmSnapshotDelete,
  vmSnapshotRevert,
  vmSave,
  vmSet,
  vmStart,
  vmStop,
  volumeClone,
  volumeCreate,
  volumeDelete,
  volumeDownload,
  volumeResize,
  volumeUpload
]

export const registry: ReadonlyMap<string, Action> = new Map(all.map((action) => [action.name, action]))
