"""A mail server for tests: aiosmtpd, which answers as a script says.

smtpd.py MODE CERT KEY, where MODE is starttls, implicit or plain. The first line on
stdout is the port; each mail that the server has seen is one line of JSON after it.
Commands come on stdin, one a line, and hold for the mails that follow:
  ok | rcpt CODE TEXT | data CODE TEXT | drop | swallow | auth USER PASSWORD
"drop" ends the connection after the text without an answer, "swallow" answers nothing.
"""
import asyncio, json, ssl, sys, threading

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

mode, cert, key = sys.argv[1:4]
now = ["ok"]
login = [None]


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if now[0] == "rcpt":
            return now[1]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        print(json.dumps({
            "from": envelope.mail_from, "to": envelope.rcpt_tos, "tls": session.ssl is not None or mode == "implicit",
            "authenticated": bool(session.authenticated), "data": envelope.original_content.decode("utf-8", "replace"),
        }), flush=True)
        if now[0] == "drop":
            server.transport.abort()
            await asyncio.sleep(3600)
        if now[0] == "swallow":
            await asyncio.sleep(3600)
        if now[0] == "data":
            return now[1]
        return "250 OK"


def authenticate(server, session, envelope, mechanism, data):
    good = isinstance(data, LoginPassword) and login[0] == (data.login.decode(), data.password.decode())
    return AuthResult(success=good)


async def main():
    context = None
    if mode != "plain":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, key)

    def make():
        return SMTP(Handler(), enable_SMTPUTF8=False, hostname="mail.test",
                    tls_context=context if mode == "starttls" else None, require_starttls=mode == "starttls",
                    authenticator=authenticate, auth_required=login[0] is not None, auth_require_tls=mode != "implicit")

    loop = asyncio.get_running_loop()
    server = await loop.create_server(make, "127.0.0.1", 0, ssl=context if mode == "implicit" else None)
    print(server.sockets[0].getsockname()[1], flush=True)

    def commands():
        for line in sys.stdin:
            word, _, rest = line.strip().partition(" ")
            if word == "auth":
                login[0] = tuple(rest.split(" ", 1))
            else:
                now[:] = [word, rest]
            print(json.dumps({"command": word}), flush=True)
        loop.call_soon_threadsafe(loop.stop)

    threading.Thread(target=commands, daemon=True).start()
    await server.serve_forever()


try:
    asyncio.run(main())
except RuntimeError:
    pass
