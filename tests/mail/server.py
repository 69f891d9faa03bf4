"""A mail server for tests. Prints its port, then a line of JSON for each mail it took.

Usage: server.py plain|starttls|tls CERTIFICATE KEY [USER PASSWORD]

Mails are read with Python's own parser. The part of a recipient before the @ scripts what happens:
unknown, full, busy, overloaded, policy, closing, reset (at RCPT), refused-content, late-unknown (at DATA), slow (a late answer to the
content), silent (none), hang-up (after the content was taken). flaky-N meets the fault of its number the first time
and none after that.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult

RECIPIENT_FAULTS = {
    "unknown": "550 5.1.1 no such mailbox",
    "full": "552 5.2.2 mailbox full",
    "busy": "450 4.2.1 mailbox busy",
    "overloaded": "452 4.3.1 no room on this server",
    "policy": "550 5.7.1 not allowed",
    "closing": "421 4.3.2 shutting down",
}
CONTENT_FAULTS = {"refused-content": "554 5.6.0 content refused", "late-unknown": "550 5.1.1 no such mailbox"}
FLAKY_FAULTS = ["busy", "reset", "closing", "slow"]
# More seconds than any test waits for an answer.
SILENCE = 600


class Server(SMTP):
    """Keeps the recipient as the client wrote it: the library hands it on without quotes."""

    written = ""

    async def smtp_RCPT(self, arg):
        self.written = arg
        await super().smtp_RCPT(arg)


class Handler:
    def __init__(self, tried):
        self.tried = tried

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        name = address.split("@")[0]
        self.late = name == "slow"
        if name.startswith("flaky-") and name not in self.tried:
            self.tried.add(name)
            name = FLAKY_FAULTS[int(name.removeprefix("flaky-")) % len(FLAKY_FAULTS)]
            self.late = name == "slow"
        if name == "reset":
            server.transport.abort()
        if name in RECIPIENT_FAULTS:
            return RECIPIENT_FAULTS[name]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        local = envelope.rcpt_tos[0].split("@")[0]
        if local in CONTENT_FAULTS:
            return CONTENT_FAULTS[local]
        raw = envelope.original_content
        mail = email.message_from_bytes(raw, policy=email.policy.default)
        parts = {part.get_content_type(): part.get_content() for part in mail.walk() if not part.is_multipart()}
        seen = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "written_to": [server.written.split(" ")[0], email.message_from_bytes(raw)["To"]],
            "peer": session.peer[1],
            "tls": server.transport.get_extra_info("sslcontext") is not None,
            "user": getattr(session.auth_data, "login", b"").decode() if session.authenticated else None,
            "headers": {name.lower(): str(value) for name, value in mail.items()},
            "parts": parts,
            "longest_line": max(len(line) for line in raw.split(b"\r\n")),
            "ascii": raw.isascii(),
            "defects": [str(defect) for part in mail.walk() for defect in part.defects],
        }
        print(json.dumps(seen), flush=True)
        if local == "hang-up":
            server.transport.abort()
        if local == "silent":
            await asyncio.sleep(SILENCE)
        if self.late:
            await asyncio.sleep(0.3)
        return "250 2.0.0 taken"


async def main():
    mode, certificate, key, *account = sys.argv[1:]

    def authenticator(server, session, envelope, mechanism, data):
        right = [data.login.decode(), data.password.decode()] == account
        # Not handled: the server itself says 535.
        return AuthResult(success=right, handled=False, auth_data=data)

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    options = {"enable_SMTPUTF8": True}
    if account:
        options |= {"auth_required": True, "authenticator": authenticator, "auth_require_tls": mode == "starttls"}
    if mode == "starttls":
        options |= {"tls_context": context, "require_starttls": True}
    loop = asyncio.get_running_loop()
    tried = set()
    server = await loop.create_server(
        lambda: Server(Handler(tried), loop=loop, **options), "127.0.0.1", 0, ssl=context if mode == "tls" else None
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    # The test holds our standard input open for as long as it needs us.
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(main())
