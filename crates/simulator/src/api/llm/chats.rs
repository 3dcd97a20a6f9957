use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::Shared;
use crate::account_data::{Chat, Message};
use crate::api::{Answer, ApiError, list};
use replyvault_domain::Timestamp;

pub(super) fn configure(scope: &mut web::ServiceConfig) {
    scope
        .route("/llm", web::get().to(all))
        .route("/llm", web::delete().to(delete))
        .route("/llm/{id}", web::get().to(one));
}

#[derive(Deserialize)]
struct Query {
    limit: Option<usize>,
    #[serde(rename = "lastChatID")]
    last: Option<String>,
}

async fn all(query: web::Query<Query>, shared: web::Data<Shared>) -> Answer {
    list::refused(&shared)?;
    let mut chats = shared.belongings.chats.all();
    chats.reverse();
    let is_last = |chat: &Chat| Some(chat.id.as_str()) == query.last.as_deref();
    let from = chats.iter().position(is_last).map_or(0, |place| place + 1);
    let limit = query.limit.unwrap_or(20);
    let to = from.saturating_add(limit).min(chats.len());
    let items: Vec<_> = chats[from..to].iter().map(|chat| item(chat, &shared)).collect();
    Ok(HttpResponse::Ok().json(json!({"hasMore": to < chats.len(), "limit": limit, "items": items})))
}

fn item(chat: &Chat, shared: &Shared) -> Value {
    let made = chat.made.millis();
    let avatar = |size: &str| format!("{}/cdn/robots/{size}.png", shared.links.base());
    json!({
        "chatID": chat.id, "createTime": made, "updateTime": made, "chatTitle": chat.title,
        "chatDescription": chat.title, "requestStatus": 0, "isTop": false, "chatStyle": "pro", "robotID": 1,
        "robotName": "Robot", "isPhoneMode": false, "type": 0, "attachments": [], "canSearch": true,
        "abstractContent": chat.messages.last().map(|message| &message.content), "favoriteStatus": 0,
        "model": chat.model,
        "robotAvatar": {
            "small": avatar("small"), "medium": avatar("medium"), "large": avatar("large"),
            "oversize": avatar("oversize"),
        },
    })
}

async fn one(id: web::Path<String>, shared: web::Data<Shared>) -> Answer {
    let chat = shared.belongings.chats.find(|chat| chat.id == *id).ok_or(ApiError::NotFound)?;
    let messages: Vec<_> = chat.messages.iter().map(|message| shown(message, chat.made)).collect();
    Ok(HttpResponse::Ok().json(json!({
        "messages": messages, "title": chat.title, "characterID": "1", "canSearch": true, "model": chat.model,
    })))
}

fn shown(message: &Message, made: Timestamp) -> Value {
    let file = json!({"formType": 2, "content": "", "status": 2, "fileByte": 0});
    let mut extra = json!({
        "msgTitle": "", "audioUrl": "", "copilotHandled": false, "copilotTextLimit": 0, "feedbackStatus": {},
        "netSearchStatus": {"finalStatus": {"status": "", "statusCode": 0}, "linkDetail": []}, "responseType": "",
        "urlStatus": {}, "replyMsgType": "", "generateProcess": "", "isUserStopped": false,
        "form": vec![file; message.files],
    });
    for empty in [
        "parsedQuestion",
        "links",
        "chatBotList",
        "copilotTable",
        "followUpQuestions",
        "generateImage",
        "ciCallResults",
    ] {
        extra[empty] = json!([]);
    }
    json!({
        "msgID": message.id, "createTime": made.millis(), "content": message.content,
        "msgType": if message.from_user { "user" } else { "system" }, "feadbackType": 0,
        "requestStatus": u8::from(!message.from_user), "isEnd": 0, "chatID": "", "msgSubtype": 0, "chatStyle": "pro",
        "parentMsgID": message.parent, "otherAgentAnswer": {"botInfo": null}, "failedText": "",
        "canEdit": message.from_user, "extra": extra,
    })
}

#[derive(Deserialize)]
struct Deletion {
    #[serde(rename = "chatIDs", default)]
    chats: String,
    #[serde(rename = "msgIDs", default)]
    messages: String,
}

async fn delete(query: web::Query<Deletion>, shared: web::Data<Shared>) -> HttpResponse {
    let names = |list: &str, id: &str| list.split(',').any(|named| named.trim() == id);
    shared.belongings.chats.remove(|chat| query.chats == "all" || names(&query.chats, &chat.id));
    for chat in shared.belongings.chats.all() {
        let keep = |message: &Message| !names(&query.messages, &message.id);
        shared.belongings.chats.change(|known| known.id == chat.id, |chat| chat.messages.retain(keep));
    }
    HttpResponse::Ok().finish()
}
