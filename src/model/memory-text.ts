// Memory and other sizes as people say them.

/** 512 MiB, 1332 MiB, 2 GiB, 11.7 GiB, 100 TiB: exact below 10 GiB, where a rounded figure could look as if it fitted. */
export function memoryText(mib: number): string {
  if (mib !== 0 && mib % 1_048_576 === 0) return `${mib / 1_048_576} TiB`
  if (mib !== 0 && mib % 1024 === 0) return `${mib / 1024} GiB`
  return mib < 10_240 ? `${Number(mib.toFixed(1))} MiB` : `${(mib / 1024).toFixed(1)} GiB`
}
