import { api, observeCalls, setCsrfToken } from '$lib/api/client'
import { toApiError } from '$lib/api/problem'
import type { Account, Role, SessionInfo, SignInAnswer } from '$lib/api/types'
import { live } from '$lib/realtime/live.svelte'
import { clearSnapshots, readSnapshot, saveSnapshot } from '$lib/store/snapshot'
import { clearDrafts } from '$lib/form/draft.svelte'
import { turnOff } from '$lib/push/device'
import { usage } from '$lib/usage/usage'

export type Audience = 'guardian' | 'facility' | 'operator' | 'city' | 'analyst' | 'statistics'
export type Entrance = 'guardian' | 'staff'
type Status = 'loading' | 'anonymous' | 'active' | 'terms'

const DEVICE_TOKEN_KEY = 'todoke.device-token'
const ACCOUNT_SNAPSHOT = 'account'
const RECONNECT_MS = 5_000

const AUDIENCES: Record<Role, Audience> = {
  guardian: 'guardian', proxy_guardian: 'guardian',
  facility_manager: 'facility', facility_staff: 'facility',
  operator: 'operator', support_desk: 'operator',
  municipal_admin: 'city', municipal_staff: 'city', programme_section: 'city', app_section: 'city', ward_section: 'city',
  analyst: 'analyst', stats_viewer: 'statistics',
}

/** Who is signed in on this page. */
class Session {
  status = $state<Status>('loading')
  account = $state.raw<Account | undefined>(undefined)
  /** The session ended by itself; the login page says so. */
  expired = $state(false)
  /** Signed in from the device's memory, because the server was not reached at start. */
  offline = $state(false)

  constructor() {
    observeCalls({
      unauthorised: () => this.#expire(),
      failed: (error) => usage.failure(error.status),
    })
    live.onEnded = () => void this.#check()
    window.addEventListener('online', () => {
      if (this.offline) void this.restore()
    })
  }

  get audience(): Audience | undefined {
    return this.account ? AUDIENCES[this.account.role] : undefined
  }

  get entrance(): Entrance | undefined {
    return this.audience === undefined ? undefined : this.audience === 'guardian' ? 'guardian' : 'staff'
  }

  /** Takes up the session of the cookie, if there is one. */
  async restore(): Promise<void> {
    try {
      await this.#begin(await api.get<SessionInfo>('/v1/session'))
    } catch (cause) {
      const error = toApiError(cause)
      const known = error.isNetwork ? await readSnapshot<Account>(ACCOUNT_SNAPSHOT) : undefined
      this.expired = false
      if (!known) {
        this.status = 'anonymous'
        return
      }
      this.account = known.value
      this.offline = true
      this.status = 'active'
    }
  }

  async signIn(email: string, password: string, entrance: Entrance): Promise<SignInAnswer> {
    const device_token = localStorage.getItem(DEVICE_TOKEN_KEY) ?? undefined
    const answer = await api.post<SignInAnswer>('/v1/sessions', { email, password, entrance, device_token })
    if (answer.state === 'active') await this.#accept(answer)
    return answer
  }

  async confirmCode(challengeId: string, code: string, trustDevice: boolean): Promise<void> {
    await this.#accept(await api.post<SignInAnswer>('/v1/sessions/otp', { challenge_id: challengeId, code, trust_device: trustDevice }))
  }

  async acceptTerms(): Promise<void> {
    await api.post('/v1/session/terms')
    this.status = 'active'
    this.#enter()
  }

  async signOut(): Promise<void> {
    await usage.end('logout')
    // The next person at this device must not get this one's notifications.
    await turnOff().catch(() => undefined)
    await api.delete('/v1/session').catch(() => undefined)
    await this.#forget()
    this.expired = false
  }

  /** After the account itself was deleted. */
  async forgetAll(): Promise<void> {
    localStorage.removeItem(DEVICE_TOKEN_KEY)
    await usage.setEnabled(false)
    await this.#forget()
  }

  async #accept(answer: SignInAnswer): Promise<void> {
    if (answer.device_token) localStorage.setItem(DEVICE_TOKEN_KEY, answer.device_token)
    this.expired = false
    if (answer.account && answer.csrf_token) {
      await this.#begin({ account: answer.account, csrf_token: answer.csrf_token, terms_required: answer.terms_required ?? false })
    } else {
      await this.restore()
    }
  }

  async #begin(info: SessionInfo): Promise<void> {
    setCsrfToken(info.csrf_token)
    const before = await readSnapshot<Account>(ACCOUNT_SNAPSHOT)
    // A shared device must not show one person's saved inbox to the next.
    if (before && before.value.account_id !== info.account.account_id) await clearSnapshots()
    // Before a page of this person opens, and before anything is sent with their cookie.
    usage.begin(info.account.account_id)
    this.account = info.account
    this.offline = false
    this.status = info.terms_required ? 'terms' : 'active'
    if (this.audience === 'guardian') await saveSnapshot(ACCOUNT_SNAPSHOT, info.account)
    if (this.status === 'active') this.#enter()
  }

  #enter(): void {
    live.start()
    void usage.signedIn(this.audience === 'guardian')
  }

  // A final disconnect with a living session (such as changed rights) is answered by connecting anew, slowly.
  async #check(): Promise<void> {
    live.stop()
    try {
      await api.get<SessionInfo>('/v1/session')
      setTimeout(() => {
        if (this.status === 'active') live.start()
      }, RECONNECT_MS)
    } catch {
      // 401 has ended the session by now; without an answer the next use of the page will tell.
    }
  }

  #expire(): void {
    if (this.status !== 'active' && this.status !== 'terms') return
    this.expired = true
    usage.suspend()
    setCsrfToken('')
    live.stop()
    this.account = undefined
    this.status = 'anonymous'
  }

  async #forget(): Promise<void> {
    live.stop()
    usage.release()
    setCsrfToken('')
    clearDrafts()
    await clearSnapshots()
    this.account = undefined
    this.offline = false
    this.status = 'anonymous'
  }
}

export const session = new Session()
