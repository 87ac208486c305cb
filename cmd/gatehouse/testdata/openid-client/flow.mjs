// A relying party built on openid-client, which shares no code with Gatehouse:
// it finds where our reading of the specifications is ours alone. The end-to-end
// tests run it; by hand:
//
//   node flow.mjs '{"issuer": "http://localhost:8080/authorization-servers/myAS", …}'
//
// The configuration is one JSON object, the first argument or standard input:
//
//   issuer                     the authorization server; required
//   insecure                   true allows http (default false)
//   client_id                  required
//   client_secret, auth_method client_secret_basic (default with a secret), client_secret_post,
//                              client_secret_jwt, private_key_jwt (default with client_jwk), none
//   client_jwk                 the private key of private_key_jwt, a JWK with alg and kid
//   redirect_uri               required; nothing needs to listen there
//   username, password         what the user types; decision: allow (default) or deny
//   scope                      default "openid"
//   resource                   a string or an array of them (RFC 8707)
//   par                        true pushes the authorization request (RFC 9126)
//   authorization_parameters   further parameters, such as {"max_age": "60"}
//   introspection_client       {client_id, client_secret, auth_method, client_jwk} that introspects;
//                              by default the client itself, unless it is public
//   service                    {client_id, client_secret, auth_method, client_jwk, scope, resource}:
//                              a second client, for the client credentials grant
//   post_logout_redirect_uri   where to come back to after a logout, which then ends the flow
//   skip                       array of: userinfo, refresh, introspection, revocation
//
// It prints one JSON object (see main) and exits 0 if every answer passed
// openid-client's checks. Otherwise it prints {"failed", "name", "message",
// "error", "error_description", "status", "cause"}, a line on standard error, and exits 1.

import { readFileSync } from 'node:fs'
import * as client from 'openid-client'
import { Browser } from './browser.mjs'

// step is what the flow is doing, for the error.
let step = 'reading the configuration'

function readConfig() {
  const config = JSON.parse(process.argv[2] ?? readFileSync(0, 'utf8'))
  for (const name of ['issuer', 'client_id', 'redirect_uri', 'username', 'password']) {
    if (!config[name]) throw new Error(`the configuration lacks ${name}`)
  }
  return config
}

// importKey returns a private JWK as openid-client takes it. The parameters are
// those of RFC 7518 §3.1 in the Web Crypto API's words.
async function importKey(jwk) {
  const algorithms = {
    ES256: { name: 'ECDSA', namedCurve: 'P-256' },
    ES384: { name: 'ECDSA', namedCurve: 'P-384' },
    RS256: { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
    PS256: { name: 'RSA-PSS', hash: 'SHA-256' },
    EdDSA: { name: 'Ed25519' },
    Ed25519: { name: 'Ed25519' },
  }
  const algorithm = algorithms[jwk.alg]
  if (!algorithm) throw new Error(`client_jwk has the unknown alg ${JSON.stringify(jwk.alg)}`)
  // Web Crypto refuses a key whose alg, use or key_ops it would name otherwise.
  const { alg, use, key_ops, ...bare } = jwk
  return { key: await crypto.subtle.importKey('jwk', bare, algorithm, false, ['sign']), kid: jwk.kid }
}

function authMethod(c) {
  return c.auth_method ?? (c.client_jwk ? 'private_key_jwt' : c.client_secret ? 'client_secret_basic' : 'none')
}

async function authentication(c) {
  switch (authMethod(c)) {
    case 'client_secret_basic':
      return client.ClientSecretBasic(c.client_secret)
    case 'client_secret_post':
      return client.ClientSecretPost(c.client_secret)
    case 'client_secret_jwt':
      return client.ClientSecretJwt(c.client_secret)
    case 'private_key_jwt':
      return client.PrivateKeyJwt(await importKey(c.client_jwk))
    case 'none':
      return client.None()
    default:
      throw new Error(`unknown auth_method ${c.auth_method}`)
  }
}

// discover returns openid-client's configuration for one client. Without
// enableNonRepudiationChecks openid-client would trust TLS for ID tokens from
// the token endpoint and never look at our keys and signatures.
async function discover(config, c) {
  const execute = [client.enableNonRepudiationChecks]
  if (config.insecure) execute.push(client.allowInsecureRequests)
  return client.discovery(new URL(config.issuer), c.client_id, undefined, await authentication(c), { execute })
}

function parameters(values, resource) {
  const result = new URLSearchParams()
  for (const [name, value] of Object.entries(values)) {
    if (value !== undefined) result.set(name, String(value))
  }
  for (const one of [resource ?? []].flat()) result.append('resource', one)
  return result
}

async function signIn(config, rp, result) {
  step = 'the authorization request'
  const verifier = client.randomPKCECodeVerifier()
  const state = client.randomState()
  const nonce = client.randomNonce()
  const request = parameters(
    {
      redirect_uri: config.redirect_uri,
      scope: config.scope ?? 'openid',
      state,
      nonce,
      code_challenge: await client.calculatePKCECodeChallenge(verifier),
      code_challenge_method: 'S256',
      ...config.authorization_parameters,
    },
    config.resource,
  )
  const url = config.par
    ? await client.buildAuthorizationUrlWithPAR(rp, request)
    : client.buildAuthorizationUrl(rp, request)

  step = 'signing in'
  const browser = new Browser({ username: config.username, password: config.password, decision: config.decision ?? 'allow' })
  result.pages = browser.pages
  const callback = await browser.authorize(url, config.redirect_uri)

  step = 'the code exchange'
  const maxAge = config.authorization_parameters?.max_age
  const tokens = await client.authorizationCodeGrant(
    rp,
    callback,
    {
      pkceCodeVerifier: verifier,
      expectedState: state,
      expectedNonce: nonce,
      idTokenExpected: true,
      ...(maxAge === undefined ? {} : { maxAge: Number(maxAge) }),
    },
    parameters({}, config.resource),
  )
  return { tokens, browser }
}

function summary(tokens) {
  return {
    access_token: tokens.access_token,
    refresh_token: tokens.refresh_token ?? null,
    id_token: tokens.id_token ?? null,
    token_type: tokens.token_type,
    scope: tokens.scope ?? null,
    expires_in: tokens.expires_in ?? null,
    claims: tokens.claims() ?? null,
  }
}

// main fills in result as it goes:
//
//   server             {issuer, supports_pkce} as discovered
//   pages              what the browser filled in: "sign-in", "consent"
//   tokens             of the code exchange: access_token, refresh_token, id_token, token_type,
//                      scope, expires_in, claims (of the verified ID token); null where absent
//   userinfo           the answer, its sub checked against the ID token's; null when skipped
//   refreshed          as tokens, of one refresh; null when skipped or without a refresh token
//   introspection      {access_token, refresh_token}: the answers for the newest tokens; null when skipped
//   after_revocation   the active flags, once the access token was revoked
//                      {access_token, refresh_token}, and once the refresh token was
//                      {refresh_token_itself}; flags are null where nothing asked
//   client_credentials as tokens, for service; null without one
//   logout             true: the browser came back with its state; null without post_logout_redirect_uri
async function main(config, result) {
  const skip = new Set(config.skip ?? [])

  step = 'discovery'
  const rp = await discover(config, config)
  const metadata = rp.serverMetadata()
  result.server = { issuer: metadata.issuer, supports_pkce: metadata.supportsPKCE() }

  const { tokens, browser } = await signIn(config, rp, result)
  result.tokens = summary(tokens)

  result.userinfo = null
  if (!skip.has('userinfo')) {
    step = 'userinfo'
    result.userinfo = await client.fetchUserInfo(rp, tokens.access_token, tokens.claims().sub)
  }

  let { access_token: access, refresh_token: refresh } = tokens
  result.refreshed = null
  if (refresh && !skip.has('refresh')) {
    step = 'the refresh'
    const refreshed = await client.refreshTokenGrant(rp, refresh, parameters({}, config.resource))
    result.refreshed = summary(refreshed)
    access = refreshed.access_token
    refresh = refreshed.refresh_token ?? refresh
  }

  const introspects = !skip.has('introspection') && (config.introspection_client || authMethod(config) !== 'none')
  const resourceServer = config.introspection_client ? await discover(config, config.introspection_client) : rp
  const ask = async (token, hint) =>
    introspects && token ? client.tokenIntrospection(resourceServer, token, { token_type_hint: hint }) : null
  const active = async (token, hint) => (await ask(token, hint))?.active ?? null

  result.introspection = null
  if (introspects) {
    step = 'introspection'
    result.introspection = {
      access_token: await ask(access, 'access_token'),
      refresh_token: await ask(refresh, 'refresh_token'),
    }
  }

  result.after_revocation = null
  if (!skip.has('revocation')) {
    step = 'revocation'
    await client.tokenRevocation(rp, access, { token_type_hint: 'access_token' })
    result.after_revocation = {
      access_token: await active(access, 'access_token'),
      refresh_token: await active(refresh, 'refresh_token'),
      refresh_token_itself: null,
    }
    if (refresh) {
      await client.tokenRevocation(rp, refresh, { token_type_hint: 'refresh_token' })
      result.after_revocation.refresh_token_itself = await active(refresh, 'refresh_token')
    }
  }

  result.client_credentials = null
  if (config.service) {
    step = 'the client credentials grant'
    const service = await discover(config, config.service)
    const { scope, resource } = config.service
    result.client_credentials = summary(await client.clientCredentialsGrant(service, parameters({ scope }, resource)))
  }

  result.logout = null
  if (config.post_logout_redirect_uri) {
    step = 'the logout'
    const uri = config.post_logout_redirect_uri
    const state = client.randomState()
    const url = client.buildEndSessionUrl(rp, { id_token_hint: tokens.id_token, post_logout_redirect_uri: uri, state })
    // A page in between, which would be a question, fails here.
    const back = await browser.authorize(url, uri)
    result.logout = back.searchParams.get('state') === state
  }
}

// failure describes an error of openid-client or of ours. The server's own words
// stand in error and error_description, or in the cause.
function failure(err) {
  const out = { failed: step, name: err.name, message: err.message }
  for (const name of ['code', 'error', 'error_description', 'status']) {
    if (err[name] !== undefined) out[name] = err[name]
  }
  const cause = err.cause
  if (cause instanceof Error) out.cause = cause.message
  else if (cause instanceof Response) out.cause = `HTTP ${cause.status} ${cause.headers.get('www-authenticate') ?? ''}`.trim()
  else if (cause instanceof URLSearchParams) out.cause = Object.fromEntries(cause)
  else if (cause !== undefined) {
    try {
      out.cause = JSON.parse(JSON.stringify(cause))
    } catch {
      out.cause = String(cause)
    }
  }
  return out
}

const result = {}
try {
  await main(readConfig(), result)
  console.log(JSON.stringify(result, null, 2))
} catch (err) {
  const failed = failure(err)
  console.log(JSON.stringify(failed, null, 2))
  console.error(`openid-client failed at ${step}: ${failed.error ?? failed.name}: ${failed.error_description ?? failed.message}`)
  process.exitCode = 1
}
