#!/usr/bin/env python3
"""One unmodified slim-bindings application (1.0 to 3.x), run by a Python that has that package. It says what
happens in lines of JSON on stdout.

  slim_app.py URL ROLE org/namespace/name OPTIONS_AS_JSON

ROLE: receiver and sender (one to one), moderator and member (group); host, speaker and listener (a group in which
one only listens)."""

import asyncio
import datetime
import json
import os
import sys
import time

import slim_bindings as slim

SECRET = "a-shared-secret-of-the-tests-0123456789-abcdef"


def say(event: str, **what) -> None:
    sys.stdout.write(json.dumps({"event": event, **what}) + "\n")
    sys.stdout.flush()


def seconds(count: float) -> datetime.timedelta:
    return datetime.timedelta(seconds=count)


def name(text: str) -> slim.Name:
    return slim.Name(*text.split("/"))


class App:
    """What the four roles share; options come from the test."""

    def __init__(self, url: str, own_name: str, options: dict):
        self.url = url
        self.own_name = own_name
        self.count = options.get("count", 5)
        self.encrypted = options.get("mls", True)
        self.gap = options.get("gap", 0)
        self.idle = options.get("idle", 0)
        self.options = options

    async def connect(self) -> None:
        try:
            slim.uniffi_set_event_loop(asyncio.get_running_loop())
        except AttributeError:
            pass  # newer packages find it themselves
        tracing = slim.new_tracing_config()
        tracing.log_level = self.options.get("log", "error")
        slim.initialize_with_configs(
            runtime_config=slim.new_runtime_config(), tracing_config=tracing,
            service_config=[slim.new_service_config()])
        service = slim.get_global_service()
        self.connection = await service.connect_async(self.client_config())
        self.app = service.create_app_with_secret(name(self.own_name), SECRET)
        await self.app.subscribe_async(self.app.name(), self.connection)
        say("ready", id=str(self.app.id()), version=slim.get_version())

    def client_config(self):
        authority = self.options.get("authority")
        if authority:
            config = slim.new_secure_client_config(self.url)
            tls = config.tls
            config.tls = slim.TlsClientConfig(
                insecure=False, insecure_skip_verify=False, source=tls.source,
                ca_source=slim.CaSource.FILE(path=authority), include_system_ca_certs_pool=False,
                tls_version=tls.tls_version)
        else:
            config = slim.new_insecure_client_config(self.url)
        token_file = self.options.get("token_file")
        if token_file:
            config.auth = slim.ClientAuthenticationConfig.STATIC_JWT(
                config=slim.StaticJwtAuth(token_file=token_file, duration=seconds(3600)))
        return config

    def session_config(self, kind):
        fields = {"session_type": kind, "max_retries": self.options.get("retries", 5),
                  "interval": seconds(self.options.get("interval", 3)), "metadata": {}}
        if hasattr(slim, "MlsSettings"):
            fields["mls_settings"] = slim.MlsSettings(
                header_integrity_validation_percent=100,
                max_seen_control_message_ids_size=None) if self.encrypted else None
        else:
            fields["enable_mls"] = self.encrypted
        return slim.SessionConfig(**fields)

    async def open_session(self, kind, destination: str):
        opening = await self.app.create_session_async(self.session_config(kind), name(destination))
        await opening.completion.wait_async()
        return opening.session

    async def close_session(self, session) -> None:
        await (await self.app.delete_session_async(session)).wait_async()

    @staticmethod
    async def publish(session, payload: bytes) -> None:
        await (await session.publish_async(payload, None, None)).wait_async()

    @staticmethod
    async def next_message(session, limit: float = 30):
        return await session.get_message_async(timeout=seconds(limit))

    # --- one to one

    async def receiver(self) -> None:
        session = await self.app.listen_for_session_async(seconds(60))
        say("session")
        for _ in range(self.count):
            message = await self.next_message(session, 60)
            say("message", text=message.payload.decode())
            await self.publish(session, b"echo:" + message.payload)
        say("done")
        # Acknowledgements and the close of the session are answered until the test ends this process.
        try:
            while True:
                await self.next_message(session, 15)
        except Exception as error:
            say("end", error=str(error)[:150])

    async def sender(self) -> None:
        destination = self.options["to"]
        await self.app.set_route_async(name(destination), self.connection)
        session = await self.open_session(slim.SessionType.POINT_TO_POINT, destination)
        say("session")
        if self.idle:
            await asyncio.sleep(self.idle)
        echoed = 0
        round_trips = []
        for number in range(self.count):
            began = time.perf_counter()
            await self.publish(session, b"m%d" % number)
            message = await self.next_message(session)
            round_trips.append((time.perf_counter() - began) * 1000)
            echoed += message.payload == b"echo:m%d" % number
            if self.gap:
                await asyncio.sleep(self.gap)
        say("echoed", count=echoed, round_trips_ms=[round(t, 3) for t in round_trips])
        await self.close_session(session)
        say("done")

    # --- group

    async def member(self) -> None:
        session = await self.app.listen_for_session_async(seconds(60))
        say("session")
        tag = self.own_name.split("/")[2]
        try:
            while True:
                message = await self.next_message(session, 25 + self.idle)
                text = message.payload.decode()
                say("message", text=text)
                if not text.startswith("mod:") or "PUBLISH_TO" in message.context.metadata:
                    continue
                if self.options.get("direct"):
                    handle = await session.publish_to_async(
                        message.context, f"{tag}:direct:{text}".encode(), None, None)
                    await handle.wait_async()
                else:
                    await self.publish(session, f"{tag}:{text}".encode())
        except Exception as error:  # removed, or the session was closed
            say("end", error=str(error)[:150])

    async def moderator(self) -> None:
        members = self.options["members"]
        session = await self.open_session(slim.SessionType.GROUP, self.options["channel"])
        say("session")
        for member in members:
            await self.app.set_route_async(name(member), self.connection)
            await (await session.invite_async(name(member))).wait_async()
            say("invited", who=member)
        if self.idle:
            await asyncio.sleep(self.idle)
        replies: list[str] = []

        async def take(count: int) -> None:
            while len(replies) < count:
                replies.append((await self.next_message(session)).payload.decode())

        for number in range(self.count):
            await self.publish(session, b"mod:%d" % number)
            if self.gap:
                await asyncio.sleep(self.gap)
        await take(self.count * len(members))
        say("replies", count=len(replies), different=len(set(replies)))
        await asyncio.sleep(self.options.get("settle", 0))
        await (await session.remove_async(name(members[-1]))).wait_async()
        say("removed")
        await self.publish(session, b"mod:after-remove")
        await take(len(replies) + len(members) - 1)
        say("after", count=len(replies))
        await self.close_session(session)
        say("done")

    # --- a group in which one speaks

    async def speak(self, session) -> None:
        """Says its messages at its own pace: it does not wait until everybody has got the last one."""
        tag = self.own_name.split("/")[2]
        for number in range(self.count):
            await session.publish_async(f"{tag}:{number}".encode(), None, None)
            await asyncio.sleep(self.gap)
        say("spoken")

    async def host(self) -> None:
        """Invites the others and says go; speaks too, if there is something to say."""
        session = await self.open_session(slim.SessionType.GROUP, self.options["channel"])
        say("session")
        for member in self.options["members"]:
            await self.app.set_route_async(name(member), self.connection)
            await (await session.invite_async(name(member))).wait_async()
            say("invited", who=member)
        await self.publish(session, b"go")
        if self.count:
            await self.speak(session)
        await self.listen(session)

    async def speaker(self) -> None:
        session = await self.app.listen_for_session_async(seconds(60))
        say("session")
        while (await self.next_message(session)).payload != b"go":
            pass
        await self.speak(session)
        await self.listen(session)

    async def listener(self) -> None:
        session = await self.app.listen_for_session_async(seconds(60))
        say("session")
        await self.listen(session)

    async def listen(self, session) -> None:
        """Until the test ends this process, or the session ends."""
        while True:
            say("message", text=(await self.next_message(session, 120)).payload.decode())


async def main() -> None:
    url, role, own_name, options = sys.argv[1:5]
    app = App(url, own_name, json.loads(options))
    await app.connect()
    await {"receiver": app.receiver, "sender": app.sender, "member": app.member,
           "moderator": app.moderator, "host": app.host, "speaker": app.speaker,
           "listener": app.listener}[role]()


try:
    asyncio.run(main())
except Exception as error:
    say("error", error=f"{type(error).__name__}: {error}"[:500])
    status = 1
else:
    status = 0
sys.stdout.flush()
os._exit(status)  # the package's threads would keep the process
