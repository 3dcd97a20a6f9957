"""What one would write in an afternoon: FastAPI, and SQLite that has synced before it answers."""

import json
import sqlite3

from fastapi import FastAPI, Request

database = sqlite3.connect("callbacks.db", timeout=30, isolation_level=None)
database.execute("PRAGMA journal_mode = WAL")
database.execute("PRAGMA synchronous = FULL")
database.execute("CREATE TABLE IF NOT EXISTS callbacks (id INTEGER PRIMARY KEY, job TEXT, body BLOB)")
app = FastAPI()


@app.post("/reply/{target}/{signature}")
async def reply(request: Request):
    body = await request.body()
    job = json.loads(body)["videoId"]
    database.execute("INSERT INTO callbacks (job, body) VALUES (?, ?)", (job, body))
    return {"accepted": True, "jobId": job}
