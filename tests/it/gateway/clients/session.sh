#!/bin/sh
# What a caller does with curl. Prints the status and the body of every call. Usage: session.sh BASE TOKEN DIRECTORY
set -eu
base=$1/v1/minimax token=$2 dir=$3

call() {
    name=$1
    shift
    status=$(curl -sS -N --noproxy '*' -H "Authorization: Bearer $token" -o "$dir/body" -w '%{http_code}' "$@")
    printf '== %s %s\n' "$name" "$status"
    cat "$dir/body"
    echo
}

# The text of a field of the last answer.
field() { sed -n "s/.*\"$1\":\[\{0,1\}\"\([^\"]*\)\".*/\1/p" "$dir/body" | head -1; }

# Asks until the job is over, and shows only the last answer.
until_over() {
    for _ in $(seq 600); do
        answer=$(call "$@")
        case $answer in *'"statusFinal":true'* | *'"status":"completed"'* | *'"status":"failed"'*) break ;; esac
        sleep 0.05
    done
    printf '%s\n' "$answer"
}

json='Content-Type: application/json'
call video "$base/videos/create" -H "$json" -d '{"prompt": "a paper boat", "model": "T2V-2.3"}'
until_over video-done "$base/videos/$(field videoId)"
call video-reply "$base/videos/create" -H "$json" \
    -d '{"prompt": "a boat", "replyUrl": "http://127.0.0.1:9/mine", "replyRef": "boat ✓"}'
until_over video-reply-done "$base/videos/$(field videoId)"
call video-form "$base/videos/create" -d prompt=boat --data-urlencode 'replyRef=a & b'
until_over video-form-done "$base/videos/$(field videoId)"
call image "$base/images/create" -F prompt=kettle -F quantity=1
until_over image-done "$base/images/$(field imageIds)"
call images "$base/images/?limit=5"

head -c 3000000 /dev/zero >"$dir/upload"
call upload "$base/files/?account=730015522" -H 'Content-Type: image/png' --data-binary "@$dir/upload"
call upload-chunked "$base/files" -H 'Content-Type: image/png' -H 'Transfer-Encoding: chunked' -T "$dir/upload" -X POST
call files "$base/files"

call agent "$base/agent" -F prompt=rain -F models=hailuo-2.3,kolors -F "file=@$dir/upload;type=image/png"
call agent-async "$base/agent" -F prompt=rain -F models=kolors -F async=true -F replyRef=rain-kit
until_over agent-done "$base/agent/$(field jobId)"
call stream "$base/videos/agent-create" -H "$json" -d '{"templateId": "610000000000000003", "prompt": "sea"}'
until_over stream-done "$base/videos/$(field videoId)"
call chat "$base/llm" -F 'prompt=tell me a joke' -F stream=true
call song "$base/music/create?prompt=la%20la&styleId=21"
call speech "$base/audio/create-mp3" -H "$json" -d '{"text": "hello", "voice_id": "1"}'
call videos "$base/videos/?limit=30"
call scheduler "$base/scheduler/"
call bad "$base/videos/create" -H "$json" -d '{}'
call missing "$base/videos/user:1-minimax:2-video:3"
call delete -X DELETE "$base/videos/user:1-minimax:2-video:3"
