#!/usr/bin/env python3
"""Runs workflow.json in a real n8n, against a real replyvault and the simulated provider, all on loopback.

    cargo build
    npm install --prefix target/n8n n8n
    integrations/n8n/try.py --n8n target/n8n/node_modules/.bin/n8n [--replyvault target/debug/replyvault]

Without --n8n it is `npx n8n`. The workflow and its credentials are imported by n8n's command line, and run as the button of its
editor does. What is checked: the file that n8n has is the one that the manifest in the bucket tells of; an event that somebody
made up changes nothing; a job that fails, and one that is stuck, end the workflow with the reason. Takes about a minute.
"""

import argparse
import base64
import hashlib
import http.cookiejar
import json
import os
import pathlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
TOKEN = "t" * 32
START_SECONDS, RUN_SECONDS, ALL_SECONDS = 180, 120, 600
# What each provider does wrong. The first is slow, so that there is time for an event that somebody made up.
PROVIDERS = {"archived": "cdn-slow=4KiB/s", "failed": "moderate=1", "stuck": "no-clean=1"}

COOKIES = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}), COOKIES)


class Wrong(Exception):
    """Something is not as it should be."""


def expect(condition, problem):
    if not condition:
        raise Wrong(problem)


def call(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with HTTP.open(request, timeout=30) as answer:
            return answer.read()
    except urllib.error.HTTPError as error:
        raise Wrong(f"{method} {url}: {error.code} {error.read(2000).decode(errors='replace')}") from None


def wait_for(what, seconds, condition):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            found = condition()
            if found:
                return found
        except OSError:
            pass
        time.sleep(0.2)
    raise Wrong(f"{what}: not within {seconds} s")


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


class Processes:
    """What was started, each in a group of its own, and ended with all its children."""

    def __init__(self, directory):
        self.directory, self.running = directory, {}

    def start(self, name, command, environment):
        log = open(self.directory / f"{name}.log", "wb")
        self.running[name] = subprocess.Popen(
            command, cwd=self.directory, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def run(self, command, environment):
        self.start("command", command, environment)
        try:
            status = self.running["command"].wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            raise Wrong(f"{shlex.join(command)}: not within {START_SECONDS} s") from None
        del self.running["command"]
        output = (self.directory / "command.log").read_text(errors="replace")
        expect(status == 0, f"{shlex.join(command)}: exit code {status}: {output}")
        return output

    def check(self):
        for name, process in self.running.items():
            expect(process.poll() is None, f"{name} ended with exit code {process.returncode}")
        return True

    def end(self):
        for how in (signal.SIGTERM, signal.SIGKILL):
            for process in self.running.values():
                try:
                    os.killpg(process.pid, how)
                except ProcessLookupError:
                    pass
            for process in self.running.values():
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    pass

    def tell(self):
        for log in sorted(self.directory.glob("*.log")):
            print(f"--- {log.name}", log.read_text(errors="replace")[-2000:], sep="\n", file=sys.stderr)


class N8n:
    """n8n with an empty database."""

    def __init__(self, command, processes, environment):
        port, broker = free_ports(2)
        self.url, self.command, self.processes = f"http://127.0.0.1:{port}", command, processes
        home = processes.directory / "n8n"
        home.mkdir()
        ours = ("N8N_", "DB_", "EXECUTIONS_", "QUEUE_", "WEBHOOK_")
        self.environment = {name: value for name, value in environment.items() if not name.startswith(ours)}
        self.environment |= {
            "N8N_USER_FOLDER": str(home),
            "N8N_LISTEN_ADDRESS": "127.0.0.1",
            "N8N_PORT": str(port),
            "N8N_RUNNERS_BROKER_PORT": str(broker),
            "WEBHOOK_URL": f"{self.url}/",
            "N8N_SECURE_COOKIE": "false",
            "N8N_DIAGNOSTICS_ENABLED": "false",
            "N8N_VERSION_NOTIFICATIONS_ENABLED": "false",
            "N8N_TEMPLATES_ENABLED": "false",
        }

    def start(self):
        self.processes.start("n8n", [*self.command, "start"], self.environment)
        wait_for("n8n", START_SECONDS, lambda: self.processes.check() and self.answers())
        owner = {"email": "try@example.com", "firstName": "A", "lastName": "B", "password": "Paper-Boat-17"}
        call("POST", f"{self.url}/rest/owner/setup", owner)

    def answers(self):
        try:
            return call("GET", f"{self.url}/rest/settings").startswith(b"{")
        except Wrong:
            return False

    def get(self, path):
        return json.loads(call("GET", f"{self.url}/rest/{path}"))["data"]

    def bring_in(self, what, items):
        file = self.processes.directory / f"{what}.json"
        file.write_text(json.dumps(items))
        self.processes.run([*self.command, f"import:{what}", f"--input={file}"], self.environment)

    def run(self, workflow):
        """Begins an execution, and answers with its id."""
        body = {"workflowData": self.get(f"workflows/{workflow}"), "triggerToStartFrom": {"name": "Start"}}
        answer = call("POST", f"{self.url}/rest/workflows/{workflow}/run", body)
        return json.loads(answer)["data"]["executionId"]

    def until(self, execution, *wanted):
        """The execution, once its status is one of these."""

        def look():
            found = self.get(f"executions/{execution}")
            results, status = Results(json.loads(found["data"])), found["status"]
            running = status in ("new", "running", "waiting") and self.processes.check()
            expect(running or status in wanted, f"{status}: {results.at('lastNodeExecuted')}: {results.at('error', 'message')}")
            return (status, results) if status in wanted else None

        return wait_for(f"execution {execution}", RUN_SECONDS, look)


class Results:
    """The data of an execution, which n8n writes as a list: the texts in it are places in the list. It may hold circles, so one
    goes along a path in it."""

    def __init__(self, table):
        self.table = table

    def at(self, *path):
        value = self.table[0]
        for step in ("resultData", *path):
            if isinstance(value, dict) and step not in value:
                return None
            value = value[step]
            value = self.table[int(value)] if isinstance(value, str) else value
        return value


def settings(vault, bucket):
    return f"""
[server]
listen = "127.0.0.1:{vault}"
public_url = "http://127.0.0.1:{vault}"
[auth]
api_tokens = ["{TOKEN}"]
[storage]
url = "file:{bucket}"
[fetch]
allowed_hosts = ["127.0.0.1"]
allow_http = true
allow_private_addresses = true
watermark = "clean-only"
"""


def workflow(name, vault, provider):
    """The workflow as it is, with the settings that a user writes into it."""
    text = (HERE / "workflow.json").read_text()
    for url, port in (("https://vault.example.com", vault), ("https://api.useapi.net", provider)):
        expect(url in text, f"workflow.json: no {url}")
        text = text.replace(url, f"http://127.0.0.1:{port}")
    return {**json.loads(text), "id": f"try{name}", "name": f"replyvault: {name}"}


def credentials():
    def header(number, name, token):
        data = {"name": "Authorization", "value": f"Bearer {token}"}
        return {"id": f"tryCredential{number}", "name": name, "type": "httpHeaderAuth", "data": data}

    # n8n must take those that the workflow names, not the first of the type.
    names = [("another service", "wrong"), ("replyvault: Authorization", TOKEN), ("useapi.net: Authorization", "any")]
    return [header(number, *named) for number, named in enumerate(names)]


def check_archived(n8n, execution, bucket):
    _, results = n8n.until(execution, "success")
    [manifest] = [
        found
        for found in map(json.loads, (path.read_text() for path in bucket.rglob("manifest.json")))
        if found["job"]["replyRef"] == f"n8n-tryarchived-{execution}"
    ]
    file = ("runData", "Get the file", 0, "data", "main", 0, 0, "binary", "data")
    identifier = results.at(*file, "id")
    # n8n 1 keeps the bytes in the execution, n8n 2 beside it.
    if identifier is None:
        content = base64.b64decode(results.at(*file, "data"))
    else:
        content = call("GET", f"{n8n.url}/rest/binary-data?action=download&id={identifier}")
    [asset] = manifest["job"]["assets"]
    found = hashlib.sha256(content).hexdigest()
    expect(found == asset["sha256"], f"n8n has {len(content)} bytes with the SHA-256 {found}, the manifest says {asset}")
    print(f"archived: {results.at(*file, 'fileName')}, {len(content)} bytes, SHA-256 {found} as in the manifest")
    looks = len(results.at("runData", "Look at the ref"))
    expect(looks == 2, f"looked {looks} times, not once for the forged event and once for the real one")
    print("forged event: the workflow looked, and waited on")


def check_reason(n8n, name, execution, words):
    _, results = n8n.until(execution, "error")
    node, reason = results.at("lastNodeExecuted"), results.at("error", "message")
    expect(node == "Say why not" and all(word in reason for word in words), f"{node}: {reason}")
    print(f"{name}: the workflow ended with: {reason}")


def main(binary, command, processes):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REPLYVAULT_")}
    environment |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    bucket = processes.directory / "bucket"
    vault, *providers = free_ports(1 + len(PROVIDERS))
    config = processes.directory / "config.toml"
    config.write_text(settings(vault, bucket))
    processes.start("replyvault", [binary, "serve", "--config", config], environment)
    for (name, faults), port in zip(PROVIDERS.items(), providers):
        simulate = [binary, "simulate", "--listen", f"127.0.0.1:{port}", "--faults", faults]
        processes.start(f"provider-{name}", simulate, environment)
    n8n = N8n(command, processes, environment)
    print("n8n", processes.run([*command, "--version"], n8n.environment).strip())
    n8n.start()
    wait_for("replyvault", START_SECONDS, lambda: processes.check() and call("GET", f"http://127.0.0.1:{vault}/readyz"))
    n8n.bring_in("credentials", credentials())
    n8n.bring_in("workflow", [workflow(name, vault, port) for name, port in zip(PROVIDERS, providers)])

    executions = {name: n8n.run(f"try{name}") for name in PROVIDERS}
    slow = executions["archived"]
    _, results = n8n.until(slow, "waiting")
    # The number of the execution and, in newer versions of n8n, a token.
    resume_url = results.at("runData", "Register a ref", 0, "data", "main", 0, 0, "json", "notifyUrl")
    asset = {"links": {"content": "@127.0.0.1:1/forged"}}
    forged = {"type": "job.archived", "data": {"state": "archived", "assets": [asset]}}
    call("POST", resume_url, forged)
    check_archived(n8n, slow, bucket)
    check_reason(n8n, "failed", executions["failed"], ["failed", "moderat"])
    check_reason(n8n, "stuck", executions["stuck"], ["stuck"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replyvault", default="target/debug/replyvault", help="the binary")
    parser.add_argument("--n8n", default="npx n8n", help="the command that is n8n")
    given = parser.parse_args()
    words = shlex.split(given.n8n)
    found = shutil.which(given.replyvault), shutil.which(words[0])
    if not all(found):
        raise SystemExit(f"not found: {given.replyvault if not found[0] else words[0]}")
    binary, words[0] = map(os.path.abspath, found)

    def stop(number, _frame):
        raise Wrong("not within ten minutes" if number == signal.SIGALRM else "ended by a signal")

    for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    signal.alarm(ALL_SECONDS)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="replyvault-n8n-"))
    processes, failed = Processes(directory), True
    try:
        main(binary, words, processes)
        failed = False
    except Wrong as wrong:
        processes.tell()
        print(f"wrong: {wrong}", file=sys.stderr)
    finally:
        for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        processes.end()
        shutil.rmtree(directory, ignore_errors=True)
    sys.exit(failed)
