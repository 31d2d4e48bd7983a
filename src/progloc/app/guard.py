"""What stands before every route: who may ask, how much, and what browsers are told of the answers."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = ("localhost", "127.0.0.1", "[::1]", "::1")
SAFE = ("GET", "HEAD", "OPTIONS")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
DOCUMENT_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:; frame-ancestors 'self'"
)
"""Of an audit's page, which brings its own script: an origin of its own, and no network."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """ASGI middleware: refuses writes that another site's page sends, and bodies above a size; adds the headers.

    A page of another site may send a POST here, but its browser says so in `Origin`.
    """

    def __init__(self, app: ASGIApp, body_bytes: int):
        self._app, self._most = app, body_bytes
        self._too_large = f"At most {body_bytes // 1024:,} KiB are taken in one request."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        read = 0

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        async def received() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._most:
                raise HTTPException(413, self._too_large)
            return message

        headers = Headers(scope=scope)
        origin = headers.get("origin")
        length = headers.get("content-length", "0")
        if scope["method"] not in SAFE and origin is not None and urlsplit(origin).netloc != headers.get("host"):
            refusal = JSONResponse({"detail": "This came from another site's page and was refused."}, 403)
        elif not length.isdecimal() or int(length) > self._most:
            refusal = JSONResponse({"detail": self._too_large}, 413)
        else:
            await self._app(scope, received, sent)
            return
        await refusal(scope, receive, sent)
