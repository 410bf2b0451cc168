// swift-format-ignore-file
// Generated from Proto/openapi/token.yaml by ops/dev/regen. Do not edit.

/// The description of the token API, as served at `/openapi.yaml`.
let openApiText = ###"""
openapi: 3.1.0
info:
  title: Posthouse token API
  version: "1"
  license:
    name: Apache-2.0
    identifier: Apache-2.0
  description: |
    Accounts, API keys, JWTs, channels, invites and the join handshake of a Posthouse node.

    Every call but this document carries `Authorization: Bearer` and an API key (`sk_live_...`) or a JWT of
    `POST /v1/tokens`. Whatever is refused answers a JSON object with `error` (a sentence) and `code` (a
    name from the catalogue of faults). Times are RFC 3339 in UTC, days `YYYY-MM-DD` in UTC. Members that are
    not known are ignored, in requests and in answers.

    Scopes of a key: `channels`, `invites`, `keys`, `tokens`, `usage`; a key without scopes has them all.
servers:
  - url: /
security:
  - bearer: []
tags:
  - name: account
  - name: keys
  - name: tokens
  - name: channels
  - name: invites
  - name: joins
paths:
  /openapi.yaml:
    get:
      operationId: getDescription
      tags: [account]
      summary: This document
      security: []
      responses:
        "200":
          description: The description of this API.
          content:
            application/yaml:
              schema: {type: object}
  /v1/relays:
    get:
      operationId: listRelays
      tags: [account]
      summary: The nodes of this cluster, for clients that choose the nearest
      description: |
        Agents may connect to any node; each answers with the nodes it knows. A node without a cluster lists itself.
      responses:
        "200":
          description: The nodes, by name.
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Relays"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/account:
    get:
      operationId: getAccount
      tags: [account]
      summary: The tenant and the key behind the credential
      responses:
        "200":
          description: Tenant, key, quota and what was used today.
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Account"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/usage:
    get:
      operationId: getUsage
      tags: [account]
      summary: Messages, bytes and tokens by day
      description: Needs the scope `usage`. Without parameters, today; at most 366 days.
      parameters:
        - {name: from, in: query, description: The first day., schema: {$ref: "#/components/schemas/Day"}}
        - {name: to, in: query, description: The last day., schema: {$ref: "#/components/schemas/Day"}}
      responses:
        "200":
          description: One entry for each day from the first to the last.
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Usage"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/tokens:
    post:
      operationId: issueToken
      tags: [tokens]
      summary: Exchange the API key for a JWT
      description: |
        Needs the scope `tokens` and the API key itself. The JWT is signed with HS256 (`iss` skytale-api, `sub`
        the id of the key, `org`, `scope`, `iat`, `exp`) and opens gRPC streams. The body may be left out.
      requestBody:
        required: false
        content:
          application/json:
            schema:
              type: object
              properties:
                ttl_seconds:
                  type: integer
                  minimum: 1
                  maximum: 2592000
                  description: Life of the token; 300 when left out.
                scope:
                  type: string
                  pattern: "^((channels|invites|keys|tokens|usage)( (channels|invites|keys|tokens|usage))*)?$"
                  description: Scopes between single spaces; those of the key when left out or empty.
      responses:
        "200":
          description: The token.
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Token"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "413": {$ref: "#/components/responses/TooLarge"}
        "415": {$ref: "#/components/responses/NotJson"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/keys:
    get:
      operationId: listKeys
      tags: [keys]
      summary: The API keys of the tenant, oldest first
      description: Needs the scope `keys`. Secrets are not shown again.
      responses:
        "200":
          description: All keys, revoked and expired ones too.
          content:
            application/json:
              schema:
                type: object
                required: [keys]
                properties:
                  keys:
                    type: array
                    maxItems: 1000
                    items: {$ref: "#/components/schemas/Key"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
    post:
      operationId: createKey
      tags: [keys]
      summary: Make an API key
      description: Needs the scope `keys` and an API key that has every scope it gives.
      requestBody:
        required: false
        content:
          application/json:
            schema:
              type: object
              properties:
                label:
                  type: string
                  maxLength: 128
                  description: At most 128 bytes of UTF-8 without control characters.
                scopes:
                  type: array
                  items: {$ref: "#/components/schemas/Scope"}
                  description: Those of the asking key when left out or empty.
                ttl_seconds:
                  type: integer
                  minimum: 1
                  maximum: 315360000
                  description: Without it the key does not expire.
      responses:
        "201":
          description: The key. `api_key` is shown this once.
          content:
            application/json:
              schema:
                allOf:
                  - {$ref: "#/components/schemas/Key"}
                  - type: object
                    required: [api_key]
                    properties:
                      api_key: {type: string, pattern: "^sk_live_[a-z2-7]{77}$"}
          links:
            revoke:
              operationId: revokeKey
              parameters: {id: "$response.body#/id"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "409": {$ref: "#/components/responses/Conflict"}
        "413": {$ref: "#/components/responses/TooLarge"}
        "415": {$ref: "#/components/responses/NotJson"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/keys/{id}:
    delete:
      operationId: revokeKey
      tags: [keys]
      summary: Revoke an API key
      description: Needs the scope `keys`. Its streams end within seconds. Repeating it changes nothing.
      parameters:
        - {$ref: "#/components/parameters/RecordId"}
      responses:
        "200":
          description: The key, revoked.
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Key"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/channels:
    get:
      operationId: listChannels
      tags: [channels]
      summary: The tenant's own channels and those granted to it, by name
      description: Needs the scope `channels`.
      parameters:
        - {name: prefix, in: query, description: Only names that begin so., schema: {type: string}}
        - {name: after, in: query, description: "`next` of the answer before.", schema: {type: string}}
        - {name: limit, in: query, description: Rows of the answer; 1000 at most., schema: {type: integer, minimum: 1}}
      responses:
        "200":
          description: One page.
          content:
            application/json:
              schema:
                type: object
                required: [channels, next]
                properties:
                  channels:
                    type: array
                    maxItems: 1000
                    items: {$ref: "#/components/schemas/Channel"}
                  next: {type: string, description: Empty at the end.}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
    post:
      operationId: registerChannel
      tags: [channels]
      summary: Register a channel
      description: |
        Needs the scope `channels`. The channel is the tenant's own, or granted to it and registered. Idempotent.
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              required: [name]
              properties:
                name: {$ref: "#/components/schemas/ChannelName"}
      responses:
        "200":
          description: It was registered already.
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Channel"}
        "201":
          description: It is registered now.
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Channel"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "409": {$ref: "#/components/responses/Conflict"}
        "413": {$ref: "#/components/responses/TooLarge"}
        "415": {$ref: "#/components/responses/NotJson"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/channels/{name}:
    parameters:
      - {$ref: "#/components/parameters/ChannelInPath"}
    get:
      operationId: getChannel
      tags: [channels]
      summary: One channel
      description: Needs the scope `channels`.
      responses:
        "200":
          description: The registration.
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Channel"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
    delete:
      operationId: endChannel
      tags: [channels]
      summary: End a channel's registration
      description: |
        Needs the scope `channels`. Its invites, waiting joins and grants end with it; archived messages stay until
        an operator erases them.
      responses:
        "200":
          description: What the registration was.
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Channel"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/channels/{name}/grants:
    parameters:
      - {$ref: "#/components/parameters/ChannelInPath"}
    get:
      operationId: listGrants
      tags: [channels]
      summary: Other tenants that may use the channel
      description: Needs the scope `invites`. Only for the channel's own tenant.
      responses:
        "200":
          description: The grants, by tenant.
          content:
            application/json:
              schema:
                type: object
                required: [grants]
                properties:
                  grants:
                    type: array
                    items: {$ref: "#/components/schemas/Grant"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/channels/{name}/grants/{tenant}:
    parameters:
      - {$ref: "#/components/parameters/ChannelInPath"}
      - name: tenant
        in: path
        required: true
        schema: {type: string, minLength: 1}
        description: The tenant's name.
    delete:
      operationId: revokeGrant
      tags: [channels]
      summary: Take a grant back
      description: Needs the scope `invites`. The tenant's streams lose the channel within seconds.
      responses:
        "200":
          description: What the grant was.
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Grant"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/channels/invites:
    get:
      operationId: listInvites
      tags: [invites]
      summary: Open invites
      description: Needs the scope `invites`. Of one channel, or of all channels of the tenant; the newest 1000.
      parameters:
        - {name: channel, in: query, description: A channel's name., schema: {type: string}}
      responses:
        "200":
          description: Invites that are neither used up nor expired.
          content:
            application/json:
              schema:
                type: object
                required: [invites]
                properties:
                  invites:
                    type: array
                    maxItems: 1000
                    items: {$ref: "#/components/schemas/Invite"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
    post:
      operationId: createInvite
      tags: [invites]
      summary: Make an invite
      description: Needs the scope `invites`. The channel is the tenant's own; it is registered when it was not.
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              required: [channel]
              properties:
                channel: {$ref: "#/components/schemas/ChannelName"}
                max_uses: {type: integer, minimum: 1, maximum: 10000, default: 1}
                ttl_seconds: {type: integer, minimum: 1, maximum: 2592000, default: 3600}
      responses:
        "201":
          description: The invite. `token` is shown this once.
          content:
            application/json:
              schema:
                allOf:
                  - {$ref: "#/components/schemas/Invite"}
                  - type: object
                    required: [token]
                    properties:
                      token: {type: string, pattern: "^skt_inv_[a-z2-7]{77}$"}
          links:
            revoke:
              operationId: revokeInvite
              parameters: {id: "$response.body#/id"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "409": {$ref: "#/components/responses/Conflict"}
        "413": {$ref: "#/components/responses/TooLarge"}
        "415": {$ref: "#/components/responses/NotJson"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/channels/invites/{id}:
    delete:
      operationId: revokeInvite
      tags: [invites]
      summary: End an invite
      description: Needs the scope `invites`.
      parameters:
        - {$ref: "#/components/parameters/RecordId"}
      responses:
        "200":
          description: What the invite was.
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Invite"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/channels/join:
    post:
      operationId: joinChannel
      tags: [joins]
      summary: Spend an invite and ask to be added
      description: |
        Needs the scope `channels`. One use of the invite is spent, the caller's tenant is granted the channel, and
        the key package waits for the owner. Poll the welcome: a request nobody asks for expires after two minutes.
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              required: [channel, token, key_package, identity]
              properties:
                channel: {$ref: "#/components/schemas/ChannelName"}
                token: {type: string, description: The invite.}
                key_package:
                  type: string
                  maxLength: 87384
                  pattern: "^AAEAB[Q-Za-f][A-Za-z0-9+/]{2}([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
                  description: Standard base64 with padding of an MLSMessage that holds a KeyPackage, at most 64 KiB.
                identity: {type: string, description: At most 1024 bytes of UTF-8.}
      responses:
        "201":
          description: The request waits.
          content:
            application/json:
              schema:
                type: object
                required: [request_id, status]
                properties:
                  request_id: {$ref: "#/components/schemas/JoinId"}
                  status: {const: pending}
          links:
            poll:
              operationId: getWelcome
              parameters: {request_id: "$response.body#/request_id"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "409": {$ref: "#/components/responses/Conflict"}
        "413": {$ref: "#/components/responses/TooLarge"}
        "415": {$ref: "#/components/responses/NotJson"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/channels/pending:
    get:
      operationId: takePending
      tags: [joins]
      summary: The next join request of a channel
      description: |
        Needs the scope `channels`. At most one request for each call, the one served least, then the oldest; it is
        hidden from other calls for five seconds. Empty for a tenant that was granted the channel.
      parameters:
        - name: channel
          in: query
          required: true
          schema: {$ref: "#/components/schemas/ChannelName"}
      responses:
        "200":
          description: None or one.
          content:
            application/json:
              schema:
                type: object
                required: [requests]
                properties:
                  requests:
                    type: array
                    maxItems: 1
                    items: {$ref: "#/components/schemas/JoinRequest"}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/channels/welcome:
    post:
      operationId: putWelcome
      tags: [joins]
      summary: Answer a join request
      description: Needs the scope `channels`. Only for the channel's own tenant. Repeating it changes nothing.
      requestBody:
        required: true
        content:
          application/json:
            schema:
              type: object
              required: [request_id, welcome]
              properties:
                request_id: {type: string}
                welcome:
                  type: string
                  minLength: 4
                  maxLength: 699052
                  pattern: "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
                  description: Standard base64 with padding of an MLSMessage that holds a Welcome, at most 512 KiB.
      responses:
        "200":
          description: The joiner will get it.
          content:
            application/json:
              schema:
                type: object
                required: [request_id, status]
                properties:
                  request_id: {$ref: "#/components/schemas/JoinId"}
                  status: {const: completed}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "409": {$ref: "#/components/responses/Conflict"}
        "413": {$ref: "#/components/responses/TooLarge"}
        "415": {$ref: "#/components/responses/NotJson"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
  /v1/channels/welcome/{request_id}:
    get:
      operationId: getWelcome
      tags: [joins]
      summary: What became of a join request
      description: Needs the scope `channels`. Only for the tenant that joins.
      parameters:
        - name: request_id
          in: path
          required: true
          schema: {type: string, minLength: 1}
      responses:
        "200":
          description: The welcome, once it is there.
          content:
            application/json:
              schema:
                type: object
                required: [request_id, status]
                properties:
                  request_id: {$ref: "#/components/schemas/JoinId"}
                  status: {enum: [pending, completed, expired]}
                  welcome: {type: string, description: Standard base64; there when completed.}
        "400": {$ref: "#/components/responses/BadRequest"}
        "401": {$ref: "#/components/responses/Unauthorized"}
        "403": {$ref: "#/components/responses/Forbidden"}
        "404": {$ref: "#/components/responses/NotFound"}
        "429": {$ref: "#/components/responses/TooMany"}
        "503": {$ref: "#/components/responses/Unavailable"}
components:
  securitySchemes:
    bearer:
      type: http
      scheme: bearer
  parameters:
    ChannelInPath:
      name: name
      in: path
      required: true
      description: A channel's name, percent-encoded (`/` as `%2F`).
      schema: {$ref: "#/components/schemas/ChannelName"}
    RecordId:
      name: id
      in: path
      required: true
      schema: {type: string, minLength: 1}
  responses:
    BadRequest:
      description: The request breaks the contract (`bad_request`, `bad_channel_name`).
      content:
        application/json:
          schema: {$ref: "#/components/schemas/Error"}
    Unauthorized:
      description: No valid credential (`unauthorized`), or its key has ended (`key_revoked`).
      headers:
        WWW-Authenticate:
          schema: {type: string}
      content:
        application/json:
          schema: {$ref: "#/components/schemas/Error"}
    Forbidden:
      description: No right to this (`forbidden`), or the tenant is suspended (`tenant_suspended`).
      content:
        application/json:
          schema: {$ref: "#/components/schemas/Error"}
    NotFound:
      description: Nothing of that name or id (`not_found`); for joins, no such invite.
      content:
        application/json:
          schema: {$ref: "#/components/schemas/Error"}
    Conflict:
      description: Something else is there already, or a bound is reached (`conflict`, `name_collision`).
      content:
        application/json:
          schema: {$ref: "#/components/schemas/Error"}
    TooLarge:
      description: The body or a member of it is too large (`too_large`).
      content:
        application/json:
          schema: {$ref: "#/components/schemas/Error"}
    NotJson:
      description: The body has a content type that is not JSON (`bad_request`).
      content:
        application/json:
          schema: {$ref: "#/components/schemas/Error"}
    TooMany:
      description: Too many calls (`rate_limited`), or the day's quota is used (`quota_exceeded`).
      headers:
        Retry-After:
          schema: {type: string, pattern: "^[0-9]+$"}
      content:
        application/json:
          schema: {$ref: "#/components/schemas/Error"}
    Unavailable:
      description: Not now (`unavailable`, `draining`, `disk_full`).
      headers:
        Retry-After:
          schema: {type: string, pattern: "^[0-9]+$"}
      content:
        application/json:
          schema: {$ref: "#/components/schemas/Error"}
  schemas:
    Relays:
      type: object
      required: [relays]
      properties:
        relays:
          type: array
          items: {$ref: "#/components/schemas/Relay"}
    Relay:
      type: object
      required: [name, available, slots, version]
      properties:
        name: {type: string}
        node_id: {type: [string, "null"], description: "16 hex digits; null without a cluster."}
        region: {type: [string, "null"]}
        zone: {type: [string, "null"]}
        grpc: {type: [string, "null"], description: "HOST:PORT without TLS; null: it does not listen there."}
        grpc_tls: {type: [string, "null"], description: HOST:PORT over TLS.}
        http: {type: [string, "null"]}
        http_tls: {type: [string, "null"]}
        registry: {type: [string, "null"]}
        available: {type: boolean, description: As the node that answers sees it; false while it drains.}
        rtt_ms: {type: [integer, "null"], description: From the node that answers.}
        slots: {type: integer, description: Slots of the ring that it owns.}
        load:
          type: [object, "null"]
          description: As of the last seconds; null when not known.
          required: [sessions, channels]
          properties:
            sessions: {type: integer, description: Streams of agents.}
            channels: {type: integer, description: Channels in memory.}
        version: {type: string}
    Error:
      type: object
      required: [error, code]
      properties:
        error: {type: string, description: A sentence for people.}
        code: {type: string, pattern: "^[a-z_]+$", description: A name from the catalogue of faults.}
    ChannelName:
      type: string
      minLength: 5
      maxLength: 256
      pattern: "^[a-z0-9-]{1,63}/[^/]+/.+$"
      description: |
        `org/namespace/service`: split at the first two slashes, three parts that are not empty, at most 256
        bytes of UTF-8; `org` is a tenant's name.
      examples: [acme/team/general]
    Day:
      type: string
      format: date
      description: "`YYYY-MM-DD`, from 1970 on."
      examples: ["2026-11-21"]
    Time:
      type: string
      format: date-time
    OptionalTime:
      type: [string, "null"]
      format: date-time
    RecordId:
      type: string
      pattern: "^[a-z2-7]{26}$"
    JoinId:
      type: string
      pattern: "^jr_[a-z2-7]{26}$"
    Scope:
      enum: [channels, invites, keys, tokens, usage]
    Count:
      type: object
      required: [messages, bytes, tokens]
      properties:
        messages: {type: integer, minimum: 0}
        bytes: {type: integer, minimum: 0}
        tokens: {type: integer, minimum: 0}
    Account:
      type: object
      required: [tenant, tenant_id, state, created_at, quota, keys, channels, today, key]
      properties:
        tenant: {type: string}
        tenant_id: {type: string, pattern: "^[a-z2-7]{13}$"}
        state: {const: active}
        created_at: {$ref: "#/components/schemas/Time"}
        quota:
          type: object
          description: "A day's allowance; 0: no limit."
          required: [messages_per_day, bytes_per_day, tokens_per_day]
          properties:
            messages_per_day: {type: integer, minimum: 0}
            bytes_per_day: {type: integer, minimum: 0}
            tokens_per_day: {type: integer, minimum: 0}
        keys: {type: integer, minimum: 0, description: Keys that are neither revoked nor expired.}
        channels: {type: integer, minimum: 0}
        today: {$ref: "#/components/schemas/Count"}
        key: {$ref: "#/components/schemas/Key"}
    Usage:
      type: object
      required: [tenant, days, total]
      properties:
        tenant: {type: string}
        days:
          type: array
          maxItems: 366
          items:
            allOf:
              - {$ref: "#/components/schemas/Count"}
              - type: object
                required: [day]
                properties:
                  day: {$ref: "#/components/schemas/Day"}
        total: {$ref: "#/components/schemas/Count"}
    Token:
      type: object
      required: [token, token_type, expires_at, expires_in, scope]
      properties:
        token: {type: string, pattern: "^[A-Za-z0-9_-]+[.][A-Za-z0-9_-]+[.][A-Za-z0-9_-]+$"}
        token_type: {const: Bearer}
        expires_at: {$ref: "#/components/schemas/Time"}
        expires_in: {type: integer, minimum: 0, description: Seconds.}
        scope: {type: string}
    Key:
      type: object
      required: [id, label, scopes, created_at, expires_at, revoked_at, last_used_at]
      properties:
        id: {$ref: "#/components/schemas/RecordId"}
        label: {type: string}
        scopes:
          type: array
          items: {$ref: "#/components/schemas/Scope"}
        created_at: {$ref: "#/components/schemas/Time"}
        expires_at: {$ref: "#/components/schemas/OptionalTime"}
        revoked_at: {$ref: "#/components/schemas/OptionalTime"}
        last_used_at: {$ref: "#/components/schemas/OptionalTime"}
    Channel:
      type: object
      required: [id, name, tenant, owned, created_at, grants]
      properties:
        id: {type: string, pattern: "^[0-9a-f]{32}$"}
        name: {type: string}
        tenant: {type: string}
        owned: {type: boolean, description: False for a channel that another tenant granted.}
        created_at: {$ref: "#/components/schemas/Time"}
        grants:
          type: array
          description: Tenants with a grant; shown to the owner.
          items: {type: string}
    Grant:
      type: object
      required: [channel, tenant, created_at, joined]
      properties:
        channel: {type: string}
        tenant: {type: string}
        created_at: {$ref: "#/components/schemas/Time"}
        joined: {type: boolean, description: "True: by an invite; false: by an operator."}
    Invite:
      type: object
      required: [id, channel, max_uses, uses, created_at, expires_at]
      properties:
        id: {$ref: "#/components/schemas/RecordId"}
        channel: {type: string}
        max_uses: {type: integer, minimum: 1}
        uses: {type: integer, minimum: 0}
        created_at: {$ref: "#/components/schemas/Time"}
        expires_at: {$ref: "#/components/schemas/Time"}
    JoinRequest:
      type: object
      required: [id, key_package, identity, created_at]
      properties:
        id: {$ref: "#/components/schemas/JoinId"}
        key_package: {type: string, description: Standard base64.}
        identity: {type: string}
        created_at: {$ref: "#/components/schemas/Time"}

"""###
