"""A server of a directory, as S3 answers (bucket = the first part of a path): GET by range, HEAD and list-type=2.

For tests and benchmarks, in a process of its own: `python object_server.py DIRECTORY [--delay SECONDS] [--fault N]`. It
prints its port. Every request is answered after the delay. With `--fault N` every Nth request goes wrong, in turn by 503, a
connection that is closed without an answer, and a body that breaks off. `GET /-/requests` tells how many requests there were,
by kind, and how many bytes of bodies were sent. After `GET /-/be/KIND` every request goes wrong: `unavailable` (503), `reset`
(closed without an answer), `short` (every body breaks off), `stalled` (so it does, and the connection stays open); `slow` bodies
come in two halves, half a second apart; `well` ends it.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
from datetime import UTC, datetime
from email.utils import formatdate
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PAGE = 1000


class Server:
    def __init__(self, root: str, delay: float, fault: int, denied: bool) -> None:
        self.root, self.delay, self.fault, self.denied = root, delay, fault, denied
        self.counts = {"get": 0, "head": 0, "list": 0, "bytes": 0, "faults": 0, "most_at_once": 0}
        self.n = self.at_once = 0
        self.state_of_health = "well"
        self.etags: dict[str, tuple[tuple[int, int, int], str]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ", 2)
                headers = {
                    name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
                }
                if target == "/-/requests":
                    self.answer(writer, method, 200, json.dumps(self.counts).encode(), {})
                    continue
                if target.startswith("/-/be/"):
                    self.state_of_health = target.removeprefix("/-/be/")
                    self.answer(writer, method, 200, b"{}", {})
                    continue
                self.at_once += 1
                self.counts["most_at_once"] = max(self.counts["most_at_once"], self.at_once)
                try:
                    await asyncio.sleep(self.delay)
                    if not await self.respond(writer, method, target, headers):
                        return
                    await writer.drain()
                finally:
                    self.at_once -= 1
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def answer(
        self, writer: asyncio.StreamWriter, method: str, status: int, body: bytes, headers: dict[str, str], cut: bool = False
    ) -> None:
        lines = [f"HTTP/1.1 {status} x", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        if method != "HEAD":
            body = body[: len(body) // 2] if cut else body
            writer.write(body)
            self.counts["bytes"] += len(body)

    async def respond(self, writer: asyncio.StreamWriter, method: str, target: str, headers: dict[str, str]) -> bool:
        """Answers; `False` where the connection is to be closed."""
        url = urlsplit(target)
        query = {key: values[0] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        kind = "list" if query.get("list-type") == "2" else method.lower()
        self.counts[kind] += 1
        self.n += 1
        is_as, cut = self.state_of_health, False
        if is_as == "unavailable":
            self.answer(writer, method, 503, b"", {})
            return True
        if is_as == "reset":
            return False
        if self.fault and self.n % self.fault == 0:
            self.counts["faults"] += 1
            nth = self.n // self.fault % 3
            if nth == 0:
                self.answer(writer, method, 503, b"", {})
                return True
            if nth == 1:
                return False
            cut = kind == "get"
        if self.denied:
            body = b"<Error><Code>InvalidAccessKeyId</Code><Message>No such key.</Message></Error>"
            self.answer(writer, method, 403, body, {})
            return True
        if kind == "list":
            self.answer(writer, method, 200, self.listing(unquote(url.path).strip("/"), query), {})
            return True
        path = os.path.join(self.root, unquote(url.path).lstrip("/"))
        if not os.path.isfile(path):
            self.answer(writer, method, 404, b"<Error><Code>NoSuchKey</Code></Error>", {})
            return True
        size, etag, when = self.state(path)
        start, end, status = 0, size, 200
        told = {"etag": etag, "last-modified": when, "accept-ranges": "bytes"}
        if "range" in headers:
            first, _, last = headers["range"].removeprefix("bytes=").partition("-")
            if first:
                start, end = int(first), min(int(last) + 1 if last else size, size)
            else:
                start = max(size - int(last), 0)
            if start >= size:
                self.answer(writer, method, 416, b"", {})
                return True
            status, told["content-range"] = 206, f"bytes {start}-{end - 1}/{size}"
        with open(path, "rb") as file:
            file.seek(start)
            body = file.read(end - start)
        if is_as not in ("short", "stalled", "slow"):
            self.answer(writer, method, status, body, told, cut)
            return not cut
        self.answer(writer, method, status, body, told, cut=True)
        if is_as == "short" or method == "HEAD":
            return method == "HEAD"
        await writer.drain()
        await asyncio.sleep(0.5)
        while self.state_of_health == "stalled":
            await asyncio.sleep(0.1)
        writer.write(body[len(body) // 2 :])
        return True

    def state(self, path: str) -> tuple[int, str, str]:
        found = os.stat(path)
        key = (found.st_ino, found.st_size, found.st_mtime_ns)
        known = self.etags.get(path)
        if known is None or known[0] != key:
            known = self.etags[path] = key, f'"{hashlib.md5(repr(key).encode()).hexdigest()}"'
        return found.st_size, known[1], formatdate(int(found.st_mtime), usegmt=True)

    def listing(self, bucket: str, query: dict[str, str]) -> bytes:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        base = os.path.join(self.root, bucket)
        folder = os.path.join(base, os.path.dirname(prefix))
        names: set[str] = set()
        if delimiter:
            for entry in os.scandir(folder) if os.path.isdir(folder) else ():
                key = os.path.relpath(entry.path, base) + ("/" if entry.is_dir() else "")
                names.add(key)
        else:
            for directory, _, files in os.walk(folder):
                names.update(os.path.relpath(os.path.join(directory, file), base) for file in files)
        keys = sorted(key for key in names if key.startswith(prefix) and key > after)
        page, more = keys[:PAGE], len(keys) > PAGE
        parts = []
        for key in page:
            if key.endswith("/"):
                parts.append(f"<CommonPrefixes><Prefix>{escape(key)}</Prefix></CommonPrefixes>")
                continue
            path = os.path.join(base, key)
            size, etag, _ = self.state(path)
            # Finer than what HEAD tells, as S3's are.
            when = datetime.fromtimestamp(int(os.stat(path).st_mtime), UTC).strftime("%Y-%m-%dT%H:%M:%S.123Z")
            parts.append(
                f"<Contents><Key>{escape(key)}</Key><LastModified>{when}</LastModified>"
                f"<ETag>{escape(etag)}</ETag><Size>{size}</Size></Contents>"
            )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        return (
            "<?xml version='1.0'?><ListBucketResult>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(parts)}</ListBucketResult>"
        ).encode()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--fault", type=int, default=0)
    parser.add_argument("--denied", action="store_true")
    args = parser.parse_args()
    server = Server(args.directory, args.delay, args.fault, args.denied)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1 << 20)
    print(listening.sockets[0].getsockname()[1], flush=True)
    # Ends with whoever started it.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
