"""A page by wasi:http."""

from html import escape
from urllib.parse import parse_qs, urlsplit

from componentize_py_types import Ok
from wit_world import exports
from wit_world.imports import atomics, store
from wit_world.imports.types import Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam


class IncomingHandler(exports.IncomingHandler):
    """Named after the interface: this is how componentize-py finds it."""

    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        url = urlsplit(request.path_with_query() or "/")
        name = parse_qs(url.query).get("name", ["visitor"])[0]
        # A document of the plugin's own, and part of the unit: a request that fails has not been counted.
        visits = atomics.increment(store.open("visits"), url.path, 1)
        print(f"visit {visits} of {url.path}", flush=True)
        page = f"<p>Hello, {escape(name)}. You are number {visits}.</p>"

        response = OutgoingResponse(Fields.from_list([("content-type", b"text/html; charset=utf-8")]))
        body = response.body()
        ResponseOutparam.set(response_out, Ok(response))
        with body.write() as stream:
            stream.blocking_write_and_flush(page.encode())
        OutgoingBody.finish(body, None)
