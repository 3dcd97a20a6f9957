//! Chats with the language model, at once or as a stream. Retired.

mod chats;

use std::time::Instant;

use actix_web::{HttpRequest, HttpResponse, web};
use serde_json::{Value, json};

use crate::Shared;
use crate::account_data::{Chat, Message};

use super::events::{self, Event};
use super::fields::Fields;
use super::{Answer, ApiError, admit_others, rules};

/// The most messages of one chat, and files sent with one.
const MAX_MESSAGES: usize = 200;
const MAX_FILES: usize = 10;
/// In how many steps an answer grows.
const STEPS: usize = 4;

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope.route("/llm", web::post().to(say)).configure(chats::configure);
}

async fn say(http: HttpRequest, payload: web::Payload, shared: web::Data<Shared>) -> Answer {
    let fields = Fields::read(&http, payload).await?;
    let prompt = fields.required("prompt")?;
    rules::account(&shared, fields.get("account"))?;
    if fields.files().len() > MAX_FILES {
        return Err(ApiError::BadRequest(format!("More than {MAX_FILES} files")));
    }
    admit_others(&shared)?;
    let chat = chat(&fields, prompt, &shared)?;
    let turn = chat.messages.len() as u64;
    let id = |what| shared.id(what, turn.wrapping_add(chat.id.parse().unwrap_or(0)));
    let parent = chat.messages.last().map_or("0".into(), |message| message.id.clone());
    let question =
        Message { id: id("question"), parent, from_user: true, content: prompt.into(), files: fields.files().len() };
    let answer = Message {
        id: id("answer"),
        parent: question.id.clone(),
        from_user: false,
        content: format!("You said: {prompt}\n\nThat is all a simulator can make of it, in as many words as it takes."),
        files: 0,
    };
    let messages = [question.clone(), answer.clone()];
    shared.belongings.chats.change(|known| known.id == chat.id, |chat| chat.messages.extend(messages));
    if fields.get("stream") == Some("true") {
        return Ok(events::answer(&http, &shared, script(&chat, &question, &answer, &shared)));
    }
    Ok(HttpResponse::Ok().json(json!({
        "request": {"sendResult": sent(&chat, &question, &answer)},
        "response": {"messageResult": grown(&chat, &answer, &answer.content, true)},
    })))
}

/// The chat that is gone on with, or a new one.
fn chat(fields: &Fields, prompt: &str, shared: &Shared) -> Result<Chat, ApiError> {
    let Some(id) = fields.get("chatID") else {
        let chat = |number| Chat {
            id: shared.id("chat", number),
            model: fields.get("model").unwrap_or("mm-m1").into(),
            title: prompt.chars().take(40).collect(),
            made: shared.clock.now(),
            messages: Vec::new(),
        };
        return Ok(shared.belongings.chats.add(chat));
    };
    let chat = shared.belongings.chats.find(|chat| chat.id == id).ok_or(ApiError::NotFound)?;
    if chat.messages.len() >= MAX_MESSAGES {
        return Err(ApiError::BadRequest(format!("More than {MAX_MESSAGES} messages")));
    }
    Ok(chat)
}

fn sent(chat: &Chat, question: &Message, answer: &Message) -> Value {
    json!({
        "userMsgID": question.id, "chatID": chat.id, "systemMsgID": answer.id, "msgContent": question.content,
        "wordSpreadRate": 11, "chatTitle": chat.title, "canSearch": false, "canEdit": true,
        "extra": {"longCutCopyWriting": ""}, "isPreSendResult": false,
    })
}

/// The answer as far as it has grown.
fn grown(chat: &Chat, answer: &Message, content: &str, whole: bool) -> Value {
    let mut extra = json!({"netSearchStatus": {"finalStatus": {"statusCode": 0}}, "warningText": ""});
    if whole {
        extra["feedbackStatus"] = json!({});
        extra["replyMsgType"] = json!("text");
    }
    json!({
        "msgID": answer.id, "chatID": chat.id, "msgType": "system", "content": content,
        "requestStatus": if whole { 1 } else { 6 }, "isEnd": u8::from(!whole), "msgSubType": 0,
        "parentMsgID": answer.parent, "extra": extra, "canRetry": whole,
    })
}

fn script(chat: &Chat, question: &Message, answer: &Message, shared: &Shared) -> Vec<Event> {
    let status = json!({"code": 0, "message": "Success"});
    let data = |kind: u8, name: &str, value: Value| json!({"type": kind, "data": {name: value}, "statusInfo": status});
    let words: Vec<_> = answer.content.split_inclusive(' ').collect();
    let mut events = vec![("send_result", data(1, "sendResult", sent(chat, question, answer)))];
    events.extend((1..=STEPS).map(|step| {
        let content = words[..words.len() * step / STEPS].concat();
        ("message_result", data(2, "messageResult", grown(chat, answer, &content, step == STEPS)))
    }));
    events.push(("close_chunk", json!({"type": 8})));
    let (start, pause) = (Instant::now(), shared.pace / 8);
    let gap = |place| if place > 2 { shared.faults.stream_gap().unwrap_or_default() } else { Default::default() };
    let events = (0..).zip(events).map(|(place, (name, data))| {
        let at = start + pause * place + gap(place);
        Event { at, name: Some(name), data }
    });
    events.collect()
}
