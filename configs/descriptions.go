package configs

// descriptions say in a sentence what each key of the file means, by the type
// it belongs to.
var descriptions = map[string]string{
	"Config.listen":                       "Address to serve on, host:port. Default: 127.0.0.1:8080.",
	"Config.public_url":                   "What browsers and clients see: scheme, host and port. https, unless the host is a loopback one. Default: http://localhost:8080.",
	"Config.base_path":                    "Path in front of /authorization-servers, such as /auth. Default: empty.",
	"Config.operations_listen":            "Address of /healthz, /readyz and /metrics, which must not be public. Empty: nowhere. Default: 127.0.0.1:9090.",
	"Config.trusted_proxies":              "Address ranges (CIDR) whose X-Forwarded-For and Forwarded are believed. Default: none.",
	"Config.tls":                          "Certificates, where the server itself speaks TLS. Default: plain HTTP, for a proxy in front.",
	"Config.database":                     "sqlite:PATH, or postgres://user@host:5432/name. Default: sqlite:gatehouse.db.",
	"Config.key_encryption_key":           "32 bytes in base64 that seal what the database holds. Required; best ${NAME} or file:PATH.",
	"Config.previous_key_encryption_keys": "Earlier key-encryption keys, which only open, until everything is sealed under the current one.",
	"Config.outgoing":                     "Limits of the requests that the server makes: logout messages, jwks_uri and the like.",
	"Config.smtp":                         "Mail server. Default: no mail is sent.",
	"Config.realms":                       "User directories with their logins, by name. Default: one named default.",
	"Config.authorization_servers":        "Issuers, by id. The issuer is {public_url}{base_path}/authorization-servers/{id}.",

	"TLS.certificate_file": "PEM file with the certificate, followed by its intermediates.",
	"TLS.key_file":         "PEM file with the private key of the certificate.",
	"TLS.client_ca_file":   "PEM file with the authorities of client certificates; certificates are asked for and checked, not demanded.",

	"Outgoing.allow_private": "Private and loopback address ranges (CIDR) that may be reached. Default: none.",

	"SMTP.address":  "host:port of the mail server.",
	"SMTP.from":     "Mail address of the sender, perhaps with a name.",
	"SMTP.username": "User name at the mail server, if it demands one.",
	"SMTP.password": "Password at the mail server; best ${NAME} or file:PATH.",
	"SMTP.tls":      "starttls: the server must offer STARTTLS; implicit: TLS from the first byte on; none: only at a loopback address. Default: starttls.",

	"Realm.login":      "Life of login sessions.",
	"Realm.throttle":   "How many attempts to sign in may fail before each further one costs a wait.",
	"Realm.audit":      "The record of who did what to whom.",
	"Realm.appearance": "Name, logo, colours and links on the realm's pages. Default: the product's own.",
	"Realm.users_api":  "The session API for users, administrators and scripts.",
	"Realm.users":      "Users that are created at start where the realm has none of the name; existing ones are left alone.",

	"Login.idle_lifetime": "A login ends when it was not used for so long. Default: 24h.",
	"Login.lifetime":      "A login ends after so long in any case. Default: 720h.",
	"Login.remember":      "Whether people may stay signed in when they close the browser. Default: true.",

	"Login.logout_ends_offline": "Whether sessions with offline_access end, too, when people sign out, instead of outliving the login. Default: false.",

	"Throttle.account": "For one account, known or not; twice as many from a browser that has signed in to it before. 1 to 1000. Default: 10.",
	"Throttle.address": "For one IPv4 address or IPv6 /64 network. 1 to 1000000. Default: 100.",
	"Throttle.window":  "The time in which they are counted, and the longest wait. 1s to 24h. Default: 15m.",

	"Audit.retention": "How long an audit event is kept. 24h to 87600h. Default: 8760h.",

	"Appearance.name":        "Name in front of every page and in its title, 1 to 60 characters. Default: Gatehouse.",
	"Appearance.logo_file":   "PNG, JPEG, WebP or SVG file of at most 256 KiB, relative to the configuration file. Default: the product's mark, or letters where name is set.",
	"Appearance.accent":      "Colour of buttons and links, #rrggbb; its contrast to white must be 4.5:1 or more. Default: the product's.",
	"Appearance.accent_dark": "The same on dark ground; contrast to #1a2126. Default: accent, lightened as far as needed.",
	"Appearance.links":       "Up to 6 links at the foot of every page: help, privacy, imprint.",

	"AppearanceLink.text": "What the link says, 1 to 40 characters.",
	"AppearanceLink.url":  "https URL, or mailto: and a mail address.",

	"UsersAPI.certificate_user": "Attribute of a verified client certificate that is a user name. Default: certificates are not taken.",

	"User.username": "Name to sign in with; unique in the realm without regard to letter case.",
	"User.password": "First password; best ${NAME} or file:PATH.",
	"User.name":     "Full name, the claim name.",
	"User.email":    "Mail address, the claim email.",
	"User.roles":    "Roles. session-admin sees and ends the sessions of others.",

	"AuthorizationServer.realm":        "Realm whose users sign in here. Default: default.",
	"AuthorizationServer.access_token": "Form and life of access tokens.",
	"AuthorizationServer.session":      "Life of OAuth 2.0 sessions.",
	"AuthorizationServer.offline":      "Life of sessions with offline_access, which may outlive their login.",
	"AuthorizationServer.pkce":         "Who must use PKCE. all: every request; nonce: unless a confidential client sends a nonce; public: public clients. Default: nonce.",
	"AuthorizationServer.resources":    "Resource servers that clients may ask tokens for (RFC 8707).",
	"AuthorizationServer.scopes":       "Words in which the consent page says scopes. Default: those of OpenID Connect are described, others are named.",
	"AuthorizationServer.registration": "Dynamic client registration. This release offers off only.",
	"AuthorizationServer.session_api":  "What the session API demands and shows.",
	"AuthorizationServer.clients":      "Clients, in the metadata names of RFC 7591.",

	"AuthorizationServer.front_channel_logout": "Whether the sign-out page tells clients in frames (OpenID Connect Front-Channel Logout 1.0). Default: false.",
	"AuthorizationServer.session_management":   "Whether clients can watch in a frame who is signed in (OpenID Connect Session Management 1.0). Default: false.",

	"AccessToken.format":      "jwt (RFC 9068) or opaque. Default: jwt.",
	"AccessToken.signing_alg": "Algorithm of JWT access tokens. Default: ES256.",
	"AccessToken.lifetime":    "From 1s to 24h; a resource server that verifies JWTs on its own takes an ended session for live at most for so long. Default: 5m.",

	"Session.idle_lifetime": "A session ends when it was not used for so long. Default: 24h.",
	"Session.lifetime":      "A session ends after so long in any case. Default: 720h.",
	"Session.refresh_grace": "How long the refresh token before the current one is answered with the current one. Default: 10s.",
	"Session.history":       "How long ended sessions are kept for operators. Default: 720h.",

	"Offline.idle_lifetime": "Such a session ends when it was not used for so long. Default: 720h.",
	"Offline.lifetime":      "Such a session ends after so long in any case. Default: 8760h.",

	"Resource.identifier":            "Absolute URI without fragment; the value of resource and of the aud claim.",
	"Resource.scopes":                "Scopes that belong to the resource.",
	"Resource.introspection_clients": "Client ids that may introspect tokens for the resource.",

	"Scope.name": "Name of the scope.",
	"Scope.text": "Words by language (en, de, ...), which complete \"would like to:\". In other languages the English ones are shown.",

	"SessionAPI.scopes":            "Scopes that calls demand.",
	"SessionAPI.visibility":        "user: a client sees and ends all sessions of its user; client: its own only. Default: user.",
	"SessionAPI.custom_attributes": "Custom attributes that sessions may carry.",

	"SessionScopes.read":   "Scope for reading. Empty: any live token of a user.",
	"SessionScopes.manage": "Scope for changing and ending. Empty: any live token of a user.",

	"CustomAttribute.name":      "At most 50 letters, digits, hyphens and underscores.",
	"CustomAttribute.pattern":   "Regular expression (RE2) that the whole value must match. Default: .{1,200}; with a source, 1 to 500 letters, marks, digits, punctuation marks, symbols and spaces.",
	"CustomAttribute.updatable": "Whether the client may change it. Default: true, with a source false.",
	"CustomAttribute.source":    "Where the server takes it from at each authorization: user_agent, client_address, claim:NAME or header:NAME. Default: only the client sets it.",

	"Metadata.client_id":                           "Identifier of the client, unique in the authorization server.",
	"Metadata.client_secret":                       "Secret of the client, for client_secret_basic and client_secret_post; best ${NAME} or file:PATH.",
	"Metadata.client_name":                         "Name that people are shown. Default: the id.",
	"Metadata.client_uri":                          "Page about the client.",
	"Metadata.logo_uri":                            "Picture of the client.",
	"Metadata.policy_uri":                          "Page on what the client does with data of its users.",
	"Metadata.tos_uri":                             "The client's terms of service.",
	"Metadata.contacts":                            "How to reach who is responsible for the client.",
	"Metadata.application_type":                    "web, or native for applications on people's devices (RFC 8252). Default: web.",
	"Metadata.redirect_uris":                       "Where answers go; compared as strings. https, http on loopback hosts, or for native clients a private-use scheme with a dot.",
	"Metadata.post_logout_redirect_uris":           "Where people may be sent after a logout that the client asked for.",
	"Metadata.backchannel_logout_uri":              "Where the server tells the client that a session has ended.",
	"Metadata.backchannel_logout_session_required": "Whether the client needs sid in logout tokens. They always have it.",
	"Metadata.grant_types":                         "How the client gets tokens. Default: authorization_code.",
	"Metadata.response_types":                      "What /authorize answers. Default: code, with the grant type authorization_code.",
	"Metadata.scope":                               "Scopes that the client may ask for, with a space between them.",
	"Metadata.token_endpoint_auth_method":          "How the client authenticates; none makes it a public client. Default: client_secret_basic.",
	"Metadata.token_endpoint_auth_signing_alg":     "Algorithm of the client's assertions, for private_key_jwt.",
	"Metadata.jwks":                                "The client's public keys, a JSON Web Key Set (RFC 7517).",
	"Metadata.jwks_uri":                            "Where the client's public keys are, instead of jwks.",
	"Metadata.id_token_signed_response_alg":        "Algorithm of the ID tokens for the client. Default: RS256.",
	"Metadata.subject_type":                        "public: all clients know a user by the same sub. Default: public.",
	"Metadata.default_max_age":                     "Seconds after which people must sign in anew, if a request says nothing else.",
	"Metadata.require_auth_time":                   "Whether ID tokens must have auth_time.",
	"Metadata.access_token_format":                 "jwt or opaque. Default: that of the authorization server.",
	"Metadata.skip_consent":                        "Whether people are not asked for consent: for clients of the house.",
	"Metadata.refresh_token_rotation":              "Whether each refresh gives a new refresh token; must be on for public clients. Default: true.",
	"Metadata.require_pkce":                        "Whether the client must use PKCE, whatever the authorization server demands.",
	"Metadata.resources":                           "Resources that the client may ask tokens for. Default: all of the authorization server.",
	"Metadata.introspection":                       "Whether the client may introspect any token of the authorization server.",

	"Metadata.frontchannel_logout_uri":              "What a frame of the sign-out page opens when a session has ended, with front_channel_logout. Scheme, host and port of a redirect URI.",
	"Metadata.frontchannel_logout_session_required": "Whether the client needs iss and sid in that request. They are always there.",
}
