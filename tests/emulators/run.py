#!/usr/bin/env python3
"""Tries `s3://` and `gs://` over the wire against emulators that others wrote.

    python3 -m venv target/emulators
    target/emulators/bin/pip install 'moto[server,s3]' gcp-storage-emulator
    cargo build
    target/emulators/bin/python tests/emulators/run.py [target/debug/replyvault [s3] [gs]]

For each store it starts the emulator, a simulated provider and a vault on loopback, archives small files, one larger than a
part and one that is stored already, reads them back through the API, runs `verify`, and rebuilds the state from the bucket.
"""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

BINARY = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "target/debug/replyvault")
TOKEN = "t" * 32
PATIENCE_SECONDS = 120


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def call(method, url, body=None, headers=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}", **(headers or {})}
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def wait_for(what, condition):
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        try:
            found = condition()
            if found:
                return found
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"{what}: not within {PATIENCE_SECONDS} s")


def listens(port):
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


class Moto:
    """Amazon S3, by moto."""

    name = "s3"

    def start(self, directory):
        self.port = free_port()
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("moto", lambda: listens(self.port))
        call("PUT", f"http://127.0.0.1:{self.port}/media", headers={"Authorization": ""})
        return process

    def settings(self):
        return (
            f'url = "s3://media/vault"\nendpoint = "http://127.0.0.1:{self.port}"\nallow_http = true\nregion = "us-east-1"\n'
            'access_key_id = "key"\nsecret_access_key = "secret"\n'
        )

    def environment(self):
        return {}


class Gcs:
    """Google Cloud Storage, by gcp-storage-emulator."""

    name = "gs"

    def start(self, directory):
        self.port = free_port()
        command = [os.path.join(os.path.dirname(sys.executable), "gcp-storage-emulator"), "start"]
        command += ["--host=127.0.0.1", f"--port={self.port}", "--in-memory", "--default-bucket=media"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("gcp-storage-emulator", lambda: listens(self.port))
        self.account = os.path.join(directory, "account.json")
        with open(self.account, "w") as file:
            json.dump(
                {
                    "gcs_base_url": f"http://127.0.0.1:{self.port}",
                    "disable_oauth": True,
                    "client_email": "nobody@example.com",
                    "private_key": "",
                    "private_key_id": "",
                },
                file,
            )
        return process

    def settings(self):
        return 'url = "gs://media/vault"\nallow_http = true\n'

    def environment(self):
        return {"GOOGLE_SERVICE_ACCOUNT": self.account}


def run(store):
    directory = tempfile.mkdtemp(prefix="replyvault-emulators-")
    processes = [store.start(directory)]
    vault, provider = free_port(), free_port()
    config = os.path.join(directory, "config.toml")
    with open(config, "w") as file:
        file.write(
            f'[server]\nlisten = "127.0.0.1:{vault}"\npublic_url = "http://127.0.0.1:{vault}"\n'
            f'[auth]\napi_tokens = ["{TOKEN}"]\n[storage]\n{store.settings()}part_size = "5MiB"\n'
            '[fetch]\nallowed_hosts = ["127.0.0.1"]\nallow_http = true\nallow_private_addresses = true\nmax_attempts = 3\n'
        )
    environment = {**os.environ, **store.environment()}
    log = open(os.path.join(directory, "log"), "w")

    def replyvault(*arguments):
        command = [BINARY, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_SECONDS)

    def serve():
        service = subprocess.Popen([BINARY, "serve", "--config", config], env=environment, stderr=log)
        wait_for("serve", lambda: call("GET", f"http://127.0.0.1:{vault}/readyz")[0] == 200)
        return service

    try:
        command = [BINARY, "simulate", "--listen", f"127.0.0.1:{provider}"]
        processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        wait_for("simulate", lambda: listens(provider))
        service = serve()
        reply_url = replyvault("reply-url", "--config", config).stdout.strip()
        api, made = f"http://127.0.0.1:{provider}/v1/minimax", []
        for path, body in [
            ("videos/create", {"prompt": "a boat"}),
            ("videos/create", {"prompt": "a boat size=12MiB"}),
            ("images/create", {"prompt": "a boat"}),
            ("agent", {"prompt": "rain", "models": "hailuo-2.3,kolors", "async": True}),
        ]:
            status, answer = call("POST", f"{api}/{path}", {**body, "replyUrl": reply_url})
            answer = json.loads(answer)
            assert status < 300, answer
            made.append(answer.get("videoId") or answer.get("jobId") or answer["imageIds"][0])

        def job(identifier):
            path = urllib.parse.quote(identifier, safe="")
            return json.loads(call("GET", f"http://127.0.0.1:{vault}/api/v1/jobs/{path}")[1])

        def archived(identifier):
            found = job(identifier)
            assert found.get("state") not in ("stuck", "failed"), found
            return found if found.get("state") == "archived" else None

        jobs = [wait_for(identifier, lambda: archived(identifier)) for identifier in made]
        # The same bytes under another name are stored once.
        source = json.loads(call("GET", f"{api}/videos/{made[0]}")[1])
        again = {"videoId": "user:1-minimax:2-video:3", "status": 2, "downloadURL": source.get("downloadURL") or source["videoURL"]}
        assert call("POST", reply_url, again)[0] == 200
        jobs.append(wait_for("the same bytes again", lambda: archived(again["videoId"])))
        assert jobs[-1]["assets"][0]["deduplicated"], jobs[-1]
        files = 0
        for asset in [asset for found in jobs for asset in found["assets"]]:
            content = f"http://127.0.0.1:{vault}/api/v1/media/{asset['sha256']}/content"
            status, bytes_ = call("GET", content)
            assert (status, hashlib.sha256(bytes_).hexdigest()) == (200, asset["sha256"]), (status, asset)
            status, part = call("GET", content, headers={"Range": "bytes=5-14"})
            assert (status, part) == (206, bytes_[5:15]), (status, part)
            files += 1
        verified = replyvault("verify", "--config", config)
        assert verified.returncode == 0, verified.stdout + verified.stderr
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
        rebuilt = replyvault("rebuild", "--config", config)
        assert rebuilt.returncode == 0, rebuilt.stdout + rebuilt.stderr
        service = serve()
        assert all(job(found["jobId"])["state"] == "archived" for found in jobs)
        service.send_signal(signal.SIGTERM)
        assert service.wait(30) == 0
        print(f"{store.name}: {len(jobs)} jobs, {files} files archived, read back, verified and rebuilt")
    except BaseException:
        print(f"{store.name}: see {directory}/log", file=sys.stderr)
        raise
    finally:
        for process in processes:
            process.terminate()


if __name__ == "__main__":
    wanted = sys.argv[2:] or ["s3"]
    for store in (Moto(), Gcs()):
        if store.name in wanted:
            run(store)
