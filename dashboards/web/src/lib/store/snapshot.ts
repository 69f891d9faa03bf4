// Last good answers kept in IndexedDB, so that home and inbox can be read without a connection.
const DB_NAME = 'todoke'
const STORES = ['snapshot', 'usage'] as const
type StoreName = (typeof STORES)[number]

let opened: Promise<IDBDatabase> | undefined

/** Opens the app's database once. Rejects where the browser forbids storage (private windows). */
export function openDatabase(): Promise<IDBDatabase> {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(DB_NAME, 1)
    request.onupgradeneeded = () => {
      for (const name of STORES) {
        if (!request.result.objectStoreNames.contains(name)) request.result.createObjectStore(name)
      }
    }
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error ?? new Error('IndexedDB'))
  })
  return opened
}

/** Runs one request in its own transaction. */
export async function inStore<T>(name: StoreName, mode: IDBTransactionMode, run: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> {
  const db = await openDatabase()
  return new Promise((resolve, reject) => {
    const request = run(db.transaction(name, mode).objectStore(name))
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(request.error ?? new Error('IndexedDB'))
  })
}

export interface Snapshot<T> {
  savedAt: number
  value: T
}

/** Best effort: a device without storage simply has no offline view. */
export async function saveSnapshot<T>(key: string, value: T): Promise<void> {
  const snapshot: Snapshot<T> = { savedAt: Date.now(), value: structuredClone(value) }
  await inStore('snapshot', 'readwrite', (store) => store.put(snapshot, key)).catch(() => undefined)
}

export async function readSnapshot<T>(key: string): Promise<Snapshot<T> | undefined> {
  return inStore<Snapshot<T> | undefined>('snapshot', 'readonly', (store) => store.get(key)).catch(() => undefined)
}

/** Forgets everything of the person who signs out. */
export async function clearSnapshots(): Promise<void> {
  await inStore('snapshot', 'readwrite', (store) => store.clear()).catch(() => undefined)
}
