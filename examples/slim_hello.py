#!/usr/bin/env python3
"""A SLIM app (slim-bindings from PyPI, 1.0.1 to 3.x: both wire families) at a Posthouse node.

  slim_hello.py http://127.0.0.1:5000 acme/team/bob
  slim_hello.py http://127.0.0.1:5000 acme/team/alice --to acme/team/bob --say "Hello bob"

--token FILE: a file with the JWT from POST /v1/tokens, for a node with `auth = "required"`; the first part of the
name is then the tenant's. --ca FILE: https:// with a certificate that this authority signed (slim-bindings from 1.2.0 on).
1.0.0 ignores enable_mls: what it sends is clear text to the node."""

import argparse
import asyncio
import datetime

import slim_bindings as slim

# Apps that talk to each other share it: from it comes their own end-to-end authentication, which no node sees.
SECRET = "shared by the apps, at least 32 bytes long"


def client_config(a: argparse.Namespace):
    """Where the node is, and what to show it: all that an app must know about Posthouse."""
    if a.url.startswith("https://"):
        config = slim.new_secure_client_config(a.url)
        if a.ca:
            tls = config.tls
            config.tls = slim.TlsClientConfig(
                insecure=False, insecure_skip_verify=False, source=tls.source,
                ca_source=slim.CaSource.FILE(path=a.ca), include_system_ca_certs_pool=False,
                tls_version=tls.tls_version)
    else:
        config = slim.new_insecure_client_config(a.url)
    if a.token:
        config.auth = slim.ClientAuthenticationConfig.STATIC_JWT(
            config=slim.StaticJwtAuth(token_file=a.token, duration=datetime.timedelta(hours=1)))
    return config


def session_config():
    """Point to point, with MLS; 1.x and the later packages name that differently."""
    fields = {"session_type": slim.SessionType.POINT_TO_POINT, "max_retries": 5,
              "interval": datetime.timedelta(seconds=1), "metadata": {}}
    if hasattr(slim, "MlsSettings"):
        fields["mls_settings"] = slim.MlsSettings(
            header_integrity_validation_percent=100, max_seen_control_message_ids_size=None)
    else:
        fields["enable_mls"] = True
    return slim.SessionConfig(**fields)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("url")
    parser.add_argument("name", help="org/namespace/app")
    parser.add_argument("--to", help="say something to this app; without it, wait for somebody and answer")
    parser.add_argument("--say", default="Hello")
    parser.add_argument("--token", help="file with a JWT")
    parser.add_argument("--ca", help="file with the certificate authority (PEM)")
    a = parser.parse_args()

    if hasattr(slim, "uniffi_set_event_loop"):
        slim.uniffi_set_event_loop(asyncio.get_running_loop())
    slim.initialize_with_defaults()
    service = slim.get_global_service()
    node = await service.connect_async(client_config(a))
    app = service.create_app_with_secret(slim.Name(*a.name.split("/")), SECRET)
    await app.subscribe_async(app.name(), node)
    print(f"connected as {a.name}", flush=True)

    patience = datetime.timedelta(minutes=1)
    if a.to:
        peer = slim.Name(*a.to.split("/"))
        await app.set_route_async(peer, node)
        opening = await app.create_session_async(session_config(), peer)
        await opening.completion.wait_async()
        session = opening.session
        await (await session.publish_async(a.say.encode(), None, None)).wait_async()
        answer = await session.get_message_async(timeout=patience)
        print(answer.payload.decode(), flush=True)
        await (await app.delete_session_async(session)).wait_async()
    else:
        session = await app.listen_for_session_async(patience)
        message = await session.get_message_async(timeout=patience)
        print(message.payload.decode(), flush=True)
        await (await session.publish_async(b"Hello from " + a.name.encode(), None, None)).wait_async()
        # The other side closes the session; until then its messages are acknowledged.
        await asyncio.sleep(2)


if __name__ == "__main__":
    asyncio.run(main())
