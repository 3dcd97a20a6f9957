//! Speech over a WebSocket.

use actix_http::ws::OpCode;

use super::*;
use crate::support::web_socket::WebSocket;

async fn token(bench: &Bench) -> (String, Value) {
    let body = json!({"text": "hello there", "voice_id": "209533299589001", "emotion": "happy", "speed": 1.5});
    let (status, made) = bench.post("audio/create-stream", body).await;
    assert_eq!(status, 200);
    has_keys(&made, &["token", "payload.msg_id", "payload.payload.model", "payload.payload.effects.robotic"]);
    has_keys(
        &made,
        &["payload.payload.voice_setting.voice_id", "payload.payload.er_weights", "payload.payload.stream"],
    );
    (text(&made, "token").to_owned(), made["payload"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_is_spoken_in_frames_to_whoever_has_the_token() {
    let bench = Bench::start("").await;
    let (token, payload) = token(&bench).await;
    let address = bench.simulator.addr();
    let path = format!("/v1/minimax/audio/wss?token={token}");
    let (mut socket, headers) = WebSocket::open(address, &path).await.ok().unwrap();
    assert_eq!(headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

    socket.send(OpCode::Ping, b"still there?").await;
    assert_eq!(socket.receive().await.unwrap(), (OpCode::Pong, "still there?".into()));
    socket.send(OpCode::Text, b"not json").await;
    let refused: Value = serde_json::from_slice(&socket.receive().await.unwrap().1).unwrap();
    assert_eq!(refused["base_resp"]["status_code"], 2013);

    socket.send(OpCode::Text, payload.to_string().as_bytes()).await;
    let mut sound = Vec::new();
    let last = loop {
        let (opcode, data) = socket.receive().await.unwrap();
        assert_eq!(opcode, OpCode::Text);
        let frame: Value = serde_json::from_slice(&data).unwrap();
        has_keys(
            &frame,
            &["data.audio", "data.status", "data.ced", "input_sensitive", "trace_id", "base_resp.status_msg"],
        );
        sound.extend(hex::decode(text(&frame["data"], "audio")).unwrap());
        if frame["data"]["status"] == 2 {
            break frame;
        }
    };
    has_keys(&last, &["extra_info.audio_length", "extra_info.usage_characters", "extra_info.audio_format"]);
    socket.send(OpCode::Close, &[3, 232]).await;
    assert_eq!(socket.receive().await.unwrap().0, OpCode::Close);

    let (_, list) = bench.get("audio").await;
    let (_, one) = bench.get(&format!("audio/{}", text(&list["audio_list"][0], "audio_id"))).await;
    assert_eq!(text(&one, "text"), "hello there");
    let truth = bench.simulator.truth();
    assert_eq!((truth[0].kind, truth[0].files[0].sha256), (Kind::Speech, Digest::of(&sound)));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_token_there_is_no_web_socket() {
    let bench = Bench::start("").await;
    for path in ["/v1/minimax/audio/wss", "/v1/minimax/audio/wss?token=", "/v1/minimax/audio/wss?token=other"] {
        let refused = WebSocket::open(bench.simulator.addr(), path).await.err().unwrap();
        assert_eq!((refused.status, &refused.json()["code"]), (400, &json!(400)), "{path}");
    }
    let (token, _) = token(&bench).await;
    assert_eq!(bench.get(&format!("audio/wss?token={token}")).await.0, 400);
    bench.stop().await;
}
