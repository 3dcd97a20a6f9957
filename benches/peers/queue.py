"""What one would write with a queue in PostgreSQL: FastAPI, and procrastinate, which has committed before it answers."""

import json
import os
from contextlib import asynccontextmanager

import procrastinate
from fastapi import FastAPI, Request

queue = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ["DATABASE"], min_size=8, max_size=16)
)


@queue.task(name="archive")
async def archive(job: str, body: dict):
    pass


@asynccontextmanager
async def lifespan(_):
    async with queue.open_async():
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/reply/{target}/{signature}")
async def reply(request: Request):
    body = json.loads(await request.body())
    await archive.defer_async(job=body["videoId"], body=body)
    return {"accepted": True, "jobId": body["videoId"]}
