// The browser of the flow: it follows redirects, keeps cookies, and fills in the
// sign-in and the consent page as a user without JavaScript would.

// A flow needs about eight requests; more than this is a loop.
const MAX_REQUESTS = 30

const USER_AGENT = 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0'

// CookieJar keeps cookies by host and path, as RFC 6265 §5 has it, without
// domain cookies: an authorization server has no use for those.
export class CookieJar {
  #cookies = new Map()

  store(url, headers) {
    for (const line of headers.getSetCookie()) {
      const [pair, ...rest] = line.split(';')
      const name = pair.slice(0, pair.indexOf('=')).trim()
      const value = pair.slice(pair.indexOf('=') + 1).trim()
      const attributes = new Map(rest.map((a) => {
        const [key, ...v] = a.split('=')
        return [key.trim().toLowerCase(), v.join('=').trim()]
      }))
      if (attributes.has('domain')) {
        throw new Error(`the cookie ${name} has a Domain attribute and would reach other hosts`)
      }
      if (attributes.has('secure') && url.protocol !== 'https:') {
        throw new Error(`the cookie ${name} is Secure, but was set over ${url.protocol}//`)
      }
      let path = attributes.get('path') ?? ''
      if (!path.startsWith('/')) {
        path = url.pathname.slice(0, Math.max(1, url.pathname.lastIndexOf('/')))
      }
      const gone = attributes.has('max-age')
        ? Number(attributes.get('max-age')) <= 0
        : attributes.has('expires') && Date.parse(attributes.get('expires')) <= Date.now()
      const key = `${url.hostname} ${path} ${name}`
      if (gone) this.#cookies.delete(key)
      else this.#cookies.set(key, { host: url.hostname, path, name, value })
    }
  }

  header(url) {
    const within = (path) =>
      url.pathname === path || url.pathname.startsWith(path.endsWith('/') ? path : path + '/')
    return [...this.#cookies.values()]
      .filter((c) => c.host === url.hostname && within(c.path))
      .map((c) => `${c.name}=${c.value}`)
      .join('; ')
  }
}

function decodeEntities(text) {
  const named = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'", nbsp: '\u00a0' }
  return text.replace(/&(?:#x([0-9a-f]+)|#([0-9]+)|([a-z]+));/gi, (whole, hex, decimal, name) => {
    if (hex) return String.fromCodePoint(parseInt(hex, 16))
    if (decimal) return String.fromCodePoint(parseInt(decimal, 10))
    return named[name.toLowerCase()] ?? whole
  })
}

// attributes returns the attributes of a start tag by lower-case name.
function attributes(tag) {
  const found = {}
  const body = tag.replace(/^<[a-z]+/i, '').replace(/\/?>$/, '')
  for (const m of body.matchAll(/([^\s"'<>/=]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'=<>`]+)))?/g)) {
    found[m[1].toLowerCase()] ??= decodeEntities(m[2] ?? m[3] ?? m[4] ?? '')
  }
  return found
}

// Start tags with their attributes; a quoted value may hold a '>'.
const START_TAG = /<(form|input|button|textarea|select)\b(?:"[^"]*"|'[^']*'|[^"'>])*>/gi

// postForms returns the page's forms with method=post: the absolute action, the
// names of all fields, and the values a browser would send for the fields that
// nobody touched (hidden ones, filled text fields, ticked boxes).
export function postForms(html, pageURL) {
  const forms = []
  const text = html.replace(/<!--[\s\S]*?-->/g, '').replace(/<script\b[\s\S]*?<\/script>/gi, '')
  for (const [whole] of text.matchAll(/<form\b[\s\S]*?<\/form>/gi)) {
    const [start, ...fields] = [...whole.matchAll(START_TAG)].map((m) => ({
      tag: m[1].toLowerCase(),
      attributes: attributes(m[0]),
    }))
    if ((start.attributes.method ?? 'get').toLowerCase() !== 'post') continue
    const form = {
      action: new URL(start.attributes.action || pageURL.href, pageURL),
      names: new Set(),
      choices: new Map(), // name of submit button → its values
      values: new URLSearchParams(),
    }
    for (const { tag, attributes: a } of fields) {
      if (a.name === undefined || a.disabled !== undefined) continue
      form.names.add(a.name)
      const type = tag === 'button' ? (a.type ?? 'submit').toLowerCase() : (a.type ?? 'text').toLowerCase()
      if (tag === 'button' || type === 'submit') {
        form.choices.set(a.name, [...(form.choices.get(a.name) ?? []), a.value ?? ''])
      } else if (type === 'checkbox' || type === 'radio') {
        if (a.checked !== undefined) form.values.append(a.name, a.value ?? 'on')
      } else if (tag === 'input' && type !== 'image' && type !== 'file' && type !== 'reset' && type !== 'button') {
        form.values.append(a.name, a.value ?? '')
      }
    }
    forms.push(form)
  }
  return forms
}

// readable returns the start of a page's text, for an error.
function readable(html) {
  const text = decodeEntities(
    html.replace(/<(script|style|head)\b[\s\S]*?<\/\1>/gi, ' ').replace(/<[^>]*>/g, ' '),
  )
  return text.replace(/\s+/g, ' ').trim().slice(0, 500)
}

// Browser walks from the authorization request to the redirect URI.
export class Browser {
  pages = [] // what was filled in, in order: 'sign-in', 'consent'
  #jar = new CookieJar()
  #user

  // user: {username, password, decision}, decision being 'allow' or 'deny'.
  constructor(user) {
    this.#user = user
  }

  // authorize opens the authorization request and returns the URL, below
  // redirectURI, to which the server sent the browser in the end.
  async authorize(start, redirectURI) {
    let request = { url: new URL(start), site: 'none' }
    const seen = new Set()
    for (let n = 0; n < MAX_REQUESTS; n++) {
      const response = await this.#send(request)
      if (response.status >= 300 && response.status < 400) {
        const target = this.#redirectTarget(request, response)
        if (isCallback(target, redirectURI)) return target
        request = { url: target, site: 'same-origin' }
        continue
      }
      const html = await response.text()
      if (response.status !== 200) {
        throw new Error(`${describe(request)} answered ${response.status}: ${readable(html)}`)
      }
      request = this.#fillIn(html, request.url, seen)
    }
    throw new Error(`no redirect to ${redirectURI} within ${MAX_REQUESTS} requests`)
  }

  async #send({ url, site, body }) {
    const headers = {
      accept: 'text/html,application/xhtml+xml;q=0.9,*/*;q=0.8',
      'accept-language': 'en',
      'user-agent': USER_AGENT,
      'sec-fetch-site': site, // fetch itself insists on sec-fetch-mode: cors
    }
    const cookie = this.#jar.header(url)
    if (cookie) headers.cookie = cookie
    if (body) headers.origin = url.origin
    const response = await fetch(url, {
      method: body ? 'POST' : 'GET',
      headers,
      body,
      redirect: 'manual',
      signal: AbortSignal.timeout(30_000),
    })
    this.#jar.store(url, response.headers)
    return response
  }

  #redirectTarget(request, response) {
    const location = response.headers.get('location')
    if (!location) {
      throw new Error(`${describe(request)} answered ${response.status} without a Location`)
    }
    // RFC 9700 §4.12: 307 and 308 would post the password to where they point.
    if (request.body && (response.status === 307 || response.status === 308)) {
      throw new Error(`${describe(request)} answered a form with ${response.status}, which repeats the form's content`)
    }
    return new URL(location, request.url)
  }

  #fillIn(html, url, seen) {
    const forms = postForms(html, url)
    const signIn = forms.find((f) => f.names.has('username') && f.names.has('password'))
    const consent = forms.find((f) => f.choices.has('decision'))
    const form = signIn ?? consent
    const page = signIn ? 'sign-in' : 'consent'
    if (!form) {
      throw new Error(`${url.pathname} is neither a sign-in nor a consent page: ${readable(html)}`)
    }
    if (seen.has(page)) {
      throw new Error(`the ${page} page came a second time: ${readable(html)}`)
    }
    seen.add(page)
    this.pages.push(page)
    if (form.action.origin !== url.origin) {
      throw new Error(`the ${page} form would be sent to ${form.action.origin}`)
    }
    if (signIn) {
      form.values.set('username', this.#user.username)
      form.values.set('password', this.#user.password)
    } else {
      const { decision } = this.#user
      if (!consent.choices.get('decision').includes(decision)) {
        throw new Error(`the consent page has no button decision=${decision}`)
      }
      form.values.set('decision', decision)
    }
    return { url: form.action, site: 'same-origin', body: form.values }
  }
}

function isCallback(url, redirectURI) {
  const wanted = new URL(redirectURI)
  return url.origin === wanted.origin && url.pathname === wanted.pathname
}

// describe names a request without its query, which holds codes and stamps.
function describe({ url, body }) {
  return `${body ? 'POST' : 'GET'} ${url.origin}${url.pathname}`
}
