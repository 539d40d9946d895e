"""A bucket of Google Cloud Storage in memory, on a loopback port; clients use their own code.

It speaks as much of the JSON API (https://cloud.google.com/storage/docs/json_api) as gcsfs,
google-cloud-storage and TensorStore ask for: objects are written whole, read in ranges, listed by
prefix and deleted, each with a generation. Run as a program it prints its port.
"""

import http.server
import itertools
import json
import re
import sys
import threading
import urllib.parse

OBJECTS: dict[str, tuple[bytes, int]] = {}  # Name: content and generation.
UPLOADS: dict[str, list] = {}  # Resumable: id to name and what has come so far.
GENERATIONS = itertools.count(1)
LOCK = threading.Lock()


def described(bucket, name):
    content, generation = OBJECTS[name]
    return {
        "kind": "storage#object",
        "id": f"{bucket}/{name}/{generation}",
        "name": name,
        "bucket": bucket,
        "size": str(len(content)),
        "generation": str(generation),
        "metageneration": "1",
        "timeCreated": "2020-01-01T00:00:00.000Z",
        "updated": "2020-01-01T00:00:00.000Z",
        "storageClass": "STANDARD",
    }


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # Headers and body leave together, and at once.
    disable_nagle_algorithm = True

    def log_message(self, *arguments):
        pass

    def answer(self, status, body=b"", **headers):
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status):
        reason = {404: "notFound", 412: "conditionNotMet"}.get(status, "invalid")
        error = {"code": status, "message": reason, "errors": [{"reason": reason}]}
        self.answer(status, {"error": error})

    def handle_any(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            body = b"".join(iter(self.chunk, b""))
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with LOCK:
            self.dispatch(url.path, query, body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def chunk(self):
        content = self.rfile.read(int(self.rfile.readline().split(b";")[0], 16))
        self.rfile.readline()
        return content

    def dispatch(self, path, query, body):
        found = re.fullmatch(r"(/upload|/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?)?", path)
        if not found:
            return self.refuse(400)
        bucket, name = found[2], urllib.parse.unquote(found[3] or "")
        if found[1] == "/upload":
            return self.upload(bucket, query, body)
        if "/o" not in path:
            return self.answer(200, {"kind": "storage#bucket", "id": bucket, "name": bucket})
        if not name:
            return self.answer(200, self.listing(bucket, query))
        if name not in OBJECTS:
            return self.refuse(404)
        if not self.agrees(name, query):
            return self.refuse(412)
        if self.command == "DELETE":
            del OBJECTS[name]
            return self.answer(204)
        if query.get("alt") == "media":
            return self.content(name)
        return self.answer(200, described(bucket, name))

    def agrees(self, name, query):
        """Whether the object's generation, 0 if there is none, is the one that is asked for."""
        wanted = query.get("ifGenerationMatch")
        return wanted is None or int(wanted) == OBJECTS.get(name, (b"", 0))[1]

    def content(self, name):
        content, generation = OBJECTS[name]
        about = {"x_goog_generation": str(generation), "x_goog_metageneration": "1"}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            return self.answer(200, content, **about)
        start = int(asked[1]) if asked[1] else max(0, len(content) - int(asked[2]))
        stop = min(int(asked[2]) + 1, len(content)) if asked[1] and asked[2] else len(content)
        if start >= len(content):
            return self.refuse(416)
        about["Content_Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
        return self.answer(206, content[start:stop], **about)

    def listing(self, bucket, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        items, folders = [], set()
        for name in sorted(OBJECTS):
            inside = query.get("startOffset", "") <= name < query.get("endOffset", "\U0010ffff")
            if not name.startswith(prefix) or not inside:
                continue
            rest = name[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
            else:
                items.append(described(bucket, name))
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(folders)}

    def upload(self, bucket, query, body):
        if "upload_id" in query:
            return self.resume(bucket, UPLOADS[query["upload_id"]], body)
        name = query.get("name")
        if query["uploadType"] == "resumable":
            name = name or json.loads(body)["name"]
            number = str(next(GENERATIONS))
            UPLOADS[number] = [name, b""]
            here = f"http://{self.headers['Host']}{self.path}&upload_id={number}"
            return self.answer(200, Location=here)
        if not self.agrees(name, query):
            return self.refuse(412)
        OBJECTS[name] = body, next(GENERATIONS)
        return self.answer(200, described(bucket, name))

    def resume(self, bucket, upload, body):
        upload[1] += body
        if self.headers.get("Content-Range", "").endswith("/*"):
            return self.answer(308, Range=f"bytes=0-{len(upload[1]) - 1}")
        OBJECTS[upload[0]] = upload[1], next(GENERATIONS)
        return self.answer(200, described(bucket, upload[0]))


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A client that went away, as gcsfs does from the slower of two questions, is no error."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()  # Until the test that started it goes away.
