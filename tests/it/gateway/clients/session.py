"""What a caller does with requests. Prints the status and the body of every call. Usage: session.py BASE TOKEN"""

import json
import sys
import time

import requests

base, token = sys.argv[1] + "/v1/minimax", sys.argv[2]
headers = {"Authorization": f"Bearer {token}"}
session = requests.Session()
session.trust_env = False


def show(name, status, body):
    sys.stdout.buffer.write(f"== {name} {status}\n".encode() + body + b"\n")


def call(name, method, path, **arguments):
    answer = session.request(method, f"{base}/{path}", headers={**headers, **arguments.pop("more", {})}, **arguments)
    show(name, answer.status_code, answer.content)
    return answer


def until_over(name, path):
    for _ in range(600):
        answer = session.get(f"{base}/{path}", headers=headers)
        job = answer.json()
        if job.get("statusFinal") or job["status"] in ("completed", "failed"):
            break
        time.sleep(0.05)
    show(name, answer.status_code, answer.content)


def stream(name, path, **arguments):
    """Reads events as they come, and returns the data of those that have some."""
    with session.post(f"{base}/{path}", headers=headers, stream=True, **arguments) as answer:
        lines = []
        for line in answer.iter_lines():
            lines.append(line)
        show(name, answer.status_code, b"\n".join(lines))
    return [line.removeprefix(b"data:").strip() for line in lines if line.startswith(b"data:")]


made = call("video", "POST", "videos/create", json={"prompt": "a paper boat ✓", "promptOptimization": True}).json()
until_over("video-done", f"videos/{made['videoId']}")
body = {"prompt": "a boat", "replyUrl": "http://127.0.0.1:9/mine", "replyRef": "boat ✓"}
made = call("video-reply", "POST", "videos/create", json=body).json()
until_over("video-reply-done", f"videos/{made['videoId']}")
made = call("images", "POST", "images/create", data={"prompt": "kettle", "quantity": 2}).json()
for image in made["imageIds"]:
    until_over("image-done", f"images/{image}")
call("images-list", "GET", "images/", params={"limit": 1})

png = {"Content-Type": "image/png"}
call("upload", "POST", "files/?account=730015522", data=bytes(1_000_000), more=png)
call("upload-chunked", "POST", "files", data=(bytes(65_536) for _ in range(8)), more=png)

form = {"prompt": "rain", "models": "hailuo-2.3,minimax-music-2.0"}
call("agent", "POST", "agent", data=form, files=[("file", ("a.png", bytes(100_000), "image/png"))])
files = {name: (None, value) for name, value in {**form, "async": "true", "replyRef": "rain-kit"}.items()}
made = call("agent-async", "POST", "agent", files=files).json()
until_over("agent-done", f"agent/{made['jobId']}")
call("agent-jobs", "GET", "agent/jobs")

events = stream("stream", "videos/agent-create", json={"templateId": "610000000000000003", "prompt": "sea"})
until_over("stream-done", "videos/" + json.loads(events[-1])["videoId"])
stream("chat", "llm", files={"prompt": (None, "tell me a joke"), "stream": (None, "true")})
call("song", "GET", "music/create", params={"prompt": "la la", "styleId": "21"})
call("speech", "POST", "audio/create-mp3", json={"text": "hello", "voice_id": "1"})
call("videos", "GET", "videos/", params={"limit": 30})
call("scheduler", "GET", "scheduler")
call("bad", "POST", "videos/create", json={})
call("missing", "GET", "videos/user:1-minimax:2-video:3")
call("delete", "DELETE", "videos/user:1-minimax:2-video:3")
