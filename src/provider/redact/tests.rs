use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn shown(body: &str) -> String {
    redacted(body.as_bytes()).unwrap().get().to_owned()
}

#[test]
fn queries_and_signatures_are_hidden_and_all_else_stays() {
    let body = r#"{ "userID":923847293472394001, "x": 1.50e+3,"downloadURL":"https:\/\/cdn.example\/v.mp4?Signature=s",
        "replyUrl":"https://vault.example.com/reply/minimax/AbC-_9", "desc":"what? \"why\" \ud800 /reply/other/x" }"#;
    let expected = r#"{ "userID":923847293472394001, "x": 1.50e+3,"downloadURL":"https://cdn.example/v.mp4?…",
        "replyUrl":"https://vault.example.com/reply/minimax/…", "desc":"what? \"why\" \ud800 /reply/other/x" }"#;
    assert_eq!(shown(body), expected);
    assert_eq!(
        shown(r#"["see /reply/minimax/abc and /reply/minimax/def."]"#),
        r#"["see /reply/minimax/… and /reply/minimax/…."]"#
    );
    for (text, expected) in [
        (r#""\u002freply\u002fminimax\u002fSECRET""#, r#""/reply/minimax/…""#),
        (r#""x%2Freply%2Fminimax%2FSECRET&""#, r#""x%2Freply%2Fminimax%2F…&""#),
        (r#""failed: https://h/v.mp4?Signature=SECRET (403)""#, r#""failed: https://h/v.mp4?… (403)""#),
        (r#""what? https://h/v.mp4""#, r#""what? https://h/v.mp4""#),
        (r#""https://h/my video.mp4?Signature=SECRET""#, r#""https://h/my video.mp4?…""#),
        (r#""https:h/v.mp4?Signature=SECRET""#, r#""https:h/v.mp4?…""#),
        (r#""https:\\\\h\\v.mp4?Signature=SECRET""#, r#""https:\\\\h\\v.mp4?…""#),
        (r#""https:/\t/h/v.mp4\n?Signature=SECRET""#, r#""https:/\t/h/v.mp4\n?…""#),
        (r#""x https%3A%2F%2Fh%2Fv%3FSECRET y""#, r#""x https%3A%2F%2Fh%2Fv%3F… y""#),
        (r#""{\"u\":\"https:\\/\\/h\\/v?SECRET\"}""#, r#""{\"u\":\"https:\\/\\/h\\/v?…\"}""#),
        (r#""\\/reply\\/minimax\\/SECRET\"""#, r#""\\/reply\\/minimax\\/…\"""#),
        (r#""https://h/reply/reply/minimax/SECRET""#, r#""https://h/reply/reply/minimax/…""#),
        (r#""/reply/minimax/reply/minimax/SECRET""#, r#""/reply/minimax/…/minimax/…""#),
        (r#""/reply/minimax/SECRET/2026-11/a""#, r#""/reply/minimax/…/2026-11/a""#),
        (r#""/reply/minimax/…/2026-11/a""#, r#""/reply/minimax/…/2026-11/a""#),
        (r#""/reply/minimax/ /reply/minimax/…""#, r#""/reply/minimax/ /reply/minimax/…""#),
    ] {
        assert_eq!(shown(text), expected);
    }
    assert!(redacted(b"{").is_none());
}

const REF: &str = "ref_01jd0000000000000000000000";

/// Texts with a secret in them, and how they are shown.
const FORMS: [(&str, &str); 80] = [
    // Queries, wherever the URL begins.
    ("https://h/v.mp4?SECRET", "https://h/v.mp4?…"),
    ("HTTPS://h/v.mp4?SECRET", "HTTPS://h/v.mp4?…"),
    ("see https://h/v.mp4?a=SECRET now", "see https://h/v.mp4?… now"),
    ("//h/v.mp4?SECRET", "//h/v.mp4?…"),
    ("src=//h/v.mp4?SECRET", "src=//h/v.mp4?…"),
    ("/v/a.mp4?SECRET", "/v/a.mp4?…"),
    ("what?https://h/v.mp4?SECRET", "what?https://h/v.mp4?…"),
    ("?.?a.mp4?SECRET", "?.?a.mp4?…"),
    ("/v/a.mp4?sig=one SECRET", "/v/a.mp4?…"),
    ("v/a.mp4?SECRET", "v/a.mp4?…"),
    ("a.mp4?Expires=SECRET", "a.mp4?…"),
    ("?Signature=SECRET", "?…"),
    ("h?x=SECRET", "h?…"),
    ("https://h?SECRET", "https://h?…"),
    ("https://h/?SECRET#SECRET", "https://h/?…"),
    ("https://h/a?x=SECRET%20SECRET", "https://h/a?…"),
    ("https://h/a?x=SECRET SECRET", "https://h/a?…"),
    ("s3://bucket/a?SECRET", "s3://bucket/a?…"),
    ("wss://h/wss?token=SECRET", "wss://h/wss?…"),
    ("<a href=\"https://h/v?SECRET\">", "<a href=\"https://h/v?…\">"),
    ("(https://h/v?SECRET)", "(https://h/v?…"),
    ("https:\\\\h\\v?SECRET", "https:\\\\h\\v?…"),
    // Users, fragments, parameters.
    ("https://user:SECRET@h/v.mp4", "https://…@h/v.mp4"),
    ("https://SECRET@h/v.mp4", "https://…@h/v.mp4"),
    ("//user:SECRET@h/v.mp4", "//…@h/v.mp4"),
    ("user:SECRET@h/v.mp4", "…@h/v.mp4"),
    ("at user:SECRET@h", "at …@h"),
    ("https://a:SECRET@h/v?SECRET", "https://…@h/v?…"),
    ("https://h/v#access_token=SECRET", "https://h/v#…"),
    ("/v#token=SECRET", "/v#…"),
    ("https://h/v;jsessionid=SECRET", "https://h/v;…"),
    ("/v;t=SECRET/x", "/v;…"),
    // Escapes of URLs.
    ("https%3A%2F%2Fh%2Fv%3FSECRET", "https%3A%2F%2Fh%2Fv%3F…"),
    ("https%3a%2f%2fh%2fv%3fSECRET", "https%3a%2f%2fh%2fv%3f…"),
    ("https%253A%252F%252Fh%252Fv%253FSECRET", "https%253A%252F%252Fh%252Fv%253F…"),
    ("%2F%2Fh%2Fv%3FSECRET", "%2F%2Fh%2Fv%3F…"),
    ("https%3A%2F%2Fh%2Fv%3Fa%3DSECRET%2520SECRET", "https%3A%2F%2Fh%2Fv%3F…"),
    ("https%3A%2F%2Fuser%3ASECRET%40h%2Fv", "https%3A%2F%2F…%40h%2Fv"),
    ("https%3A//h/v?SECRET", "https%3A//h/v?…"),
    ("https://h/v%3FSECRET", "https://h/v%3F…"),
    // Escapes of JSON and HTML, one in another.
    ("https:\\/\\/h\\/v?SECRET", "https:\\/\\/h\\/v?…"),
    ("{\\\"u\\\":\\\"https:\\/\\/h\\/v?SECRET\\\"}", "{\\\"u\\\":\\\"https:\\/\\/h\\/v?…\\\"}"),
    ("https:\\u002f\\u002fh\\u002fv\\u003fSECRET", "https:\\u002f\\u002fh\\u002fv\\u003f…"),
    ("https:\\\\u002f\\\\u002fh\\\\u002fv?SECRET", "https:\\\\u002f\\\\u002fh\\\\u002fv?…"),
    ("https:\\x2f\\x2fh\\x2fv\\x3fSECRET", "https:\\x2f\\x2fh\\x2fv\\x3f…"),
    ("https:&#47;&#47;h&#47;v&#63;SECRET", "https:&#47;&#47;h&#47;v&#63;…"),
    ("https:&#x2F;&#x2f;h&#x2f;v?SECRET", "https:&#x2F;&#x2f;h&#x2f;v?…"),
    ("https&colon;&sol;&sol;h&sol;v&quest;SECRET", "https&colon;&sol;&sol;h&sol;v&quest;…"),
    ("&amp;#47;&amp;#47;h&amp;#47;v&amp;#63;SECRET", "&amp;#47;&amp;#47;h&amp;#47;v&amp;#63;…"),
    ("https%3A\\u00252F\\u00252Fh%2Fv%3FSECRET", "https%3A\\u00252F\\u00252Fh%2Fv%3F…"),
    // Our signatures.
    ("https://vault/in/reply/minimax/SECRET", "https://vault/in/reply/minimax/…"),
    ("/reply/ref_01jd0000000000000000000000/SECRET", "/reply/ref_01jd0000000000000000000000/…"),
    ("/REPLY/minimax/SECRET", "/REPLY/minimax/…"),
    ("/Reply/REF_01JD0000000000000000000000/SECRET", "/Reply/REF_01JD0000000000000000000000/…"),
    ("//reply//minimax//SECRET", "//reply//minimax//…"),
    ("\\reply\\minimax\\SECRET", "\\reply\\minimax\\…"),
    ("reply/minimax/SECRET", "reply/minimax/…"),
    ("%2Freply%2fminimax%2FSECRET", "%2Freply%2fminimax%2F…"),
    ("%252Freply%252Fminimax%252FSECRET", "%252Freply%252Fminimax%252F…"),
    ("%72eply/mini%6dax/SECRET", "%72eply/mini%6dax/…"),
    ("&#47;reply&#47;minimax&#47;SECRET", "&#47;reply&#47;minimax&#47;…"),
    ("/r&#101;ply/minimax&sol;SECRET", "/r&#101;ply/minimax&sol;…"),
    ("&#47reply&#x2fminimax&#47SECRET", "&#47reply&#x2fminimax&#47…"),
    ("/reply/minimax/SECRE&#84", "/reply/minimax/…"),
    ("\\u002freply\\u002Fminimax\\/SECRET", "\\u002freply\\u002Fminimax\\/…"),
    ("/reply/minimax/%53ECRET", "/reply/minimax/…"),
    ("r\0e\0p\0l\0y\0/\0m\0i\0n\0i\0m\0a\0x\0/\0SECRET", "r\0e\0p\0l\0y\0/\0m\0i\0n\0i\0m\0a\0x\0/\0…"),
    // Credentials by their names.
    ("auth_key=SECRET&x=1", "auth_key=…&x=1"),
    ("x=1&X-Amz-Signature=SECRET", "x=1&X-Amz-Signature=…"),
    ("access_token%3DSECRET", "access_token%3D…"),
    ("Authorization: Bearer SECRETSECRET", "Authorization: Bearer …"),
    ("curl -u Basic U0VDUkVU0SECRET=", "curl -u Basic …"),
    ("Basic QWxhZGRpbjpvcGVu", "Basic …"),
    ("X-Api-Key: SECRETSECRET", "X-Api-Key: …"),
    ("api_token = SECRETSECRET", "api_token = …"),
    ("{\"api_token\":\"SECRET\",\"x\":1}", "{\"api_token\":\"…\",\"x\":1}"),
    ("{\\\"api_token\\\":\\\"SECRET\\\"}", "{\\\"api_token\\\":\\\"…\\\"}"),
    ("{\"x-api-key\" : [\"SECRET\"]}", "{\"x-api-key\" : [\"…\"]}"),
    ("{'clientSecret': 'SECRET'}", "{'clientSecret': '…'}"),
    ("password=\"SECRET SECRET\" x", "password=\"…\" x"),
];

#[test]
fn a_secret_is_hidden_in_every_form_and_the_rest_of_the_text_stays() {
    for (text, expected) in FORMS {
        assert_eq!(redacted_text(text), expected, "{text}");
        // The same in a body, once and once more in a text.
        let nested =
            serde_json::to_string(&serde_json::json!({"a": [text, {"b": Value::from(text).to_string()}]})).unwrap();
        assert!(!shown(&nested).contains("SECRET"), "{}", shown(&nested));
    }
}

#[test]
fn texts_without_a_secret_stay_as_they_are() {
    for text in [
        "",
        "a boat? yes",
        "{\"time_signature\":\"3/4\",\"keySignature\":\"A minor\"}",
        "{\"visual_signature\":\"neon noir glow\",\"secret\":\"she is a spy\"}",
        "Failed to refresh token: TimeoutError",
        "invalid signature: SignatureDoesNotMatch",
        "what?no",
        "50% off & more; \\o/",
        "user:923847293472394001-minimax:2-video:3",
        "https://h/reply/other/x",
        "https://h/a/b.mp4#top",
        "mailto:me@example.com",
        "me@example.com",
        "write /imagine a cat? yes",
        "a reply to minimax, said he",
        "basic composition, Basic Instructions",
        "bearer of rings",
        "2+2=4",
        "ref_01jd0000000000000000000000",
        "see https://h/@user/status",
        "token: 5 left",
        "a secret: everything is blue",
        "Signature: Photograph of \"a boat\"",
        "Basic JavaScript",
    ] {
        assert_eq!(redacted_text(text), text);
    }
}

#[test]
fn where_a_caller_wants_to_be_called_only_the_host_is_shown() {
    let body = r#"{"replyUrl" : "https://hooks.example.com/services/T0/B0/SECRET","request":{"replyUrl":"https://u:SECRET@h:8443/x/SECRET?SECRET"},
        "notify_url":"https://h/", "replyRef":"https://h/services/mine","callback":"Place your call back URL here"}"#;
    let expected = r#"{"replyUrl" : "https://hooks.example.com/…","request":{"replyUrl":"https://h:8443/…"},
        "notify_url":"https://h/", "replyRef":"https://h/services/mine","callback":"Place your call back URL here"}"#;
    assert_eq!(shown(body), expected);
}

#[test]
fn the_value_of_a_member_named_like_a_credential_is_hidden() {
    let body = r#"{"api_token":"SECRET","tokens":3,"Token":["SECRET",{"of":"SECRET","n":[1]}],"of":"a","sig":"",
        "headers":{"x-api-key" : "SECRET","accept":"b"},"secret":{},"c":{"password":null,"d":["\u0065"]}}"#;
    let expected = r#"{"api_token":"…","tokens":3,"Token":["…",{"of":"…","n":[1]}],"of":"a","sig":"",
        "headers":{"x-api-key" : "…","accept":"b"},"secret":{},"c":{"password":null,"d":["\u0065"]}}"#;
    assert_eq!(shown(body), expected);
    assert_eq!(shown(expected), expected);
}

/// Where a stretch is measured again from each of its places, it is minutes for one text, and hours for some.
#[test]
fn a_text_is_searched_in_a_time_that_grows_with_its_length() {
    const BYTES: usize = 256 << 10;
    let patience = std::time::Duration::from_secs(60);
    let repeated = |text: &str| text.repeat(BYTES / text.len());
    let texts =
        ["@", ":@", "=", "token=", "token: a=", "token='", "bearer", "bearer+", "basic+", ";", "/;a", "reply/", "ref_"];
    let texts =
        texts.map(repeated).into_iter().chain(["%2540", "&#47", "\\", "\"", "?", "#", "-=", " :"].map(repeated));
    for text in texts.chain([format!("/{}", repeated("a")), format!("reply{}", repeated("!")), repeated("é:")]) {
        let (done, is_done) = std::sync::mpsc::channel();
        let begin = text.chars().take(20).collect::<String>();
        std::thread::spawn(move || done.send(redacted_text(&text).len()));
        assert!(is_done.recv_timeout(patience).is_ok(), "{begin}");
    }
}

/// Ways to write a text in another.
#[derive(Clone, Copy, Debug)]
enum Wrapping {
    Slashes,
    Unicode,
    SomeUnicode,
    Percent,
    AllPercent,
    Entities,
    Quoted,
}

impl Wrapping {
    const ALL: [Self; 7] = [
        Self::Slashes,
        Self::Unicode,
        Self::SomeUnicode,
        Self::Percent,
        Self::AllPercent,
        Self::Entities,
        Self::Quoted,
    ];

    fn wrap(self, text: &str) -> String {
        let each = |wrap: &dyn Fn(usize, char) -> String| text.chars().enumerate().map(|(at, c)| wrap(at, c)).collect();
        match self {
            Self::Slashes => text.replace('\\', "\\\\").replace('/', "\\/"),
            Self::Unicode => each(&|_, c| format!("\\u{:04x}", u32::from(c))),
            Self::SomeUnicode => each(&|at, c| match (at % 3, c) {
                (0, _) | (_, '\\' | '"') => format!("\\u{:04X}", u32::from(c)),
                _ => c.to_string(),
            }),
            Self::Percent => {
                percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
            }
            Self::AllPercent => text.bytes().map(|byte| format!("%{byte:02x}")).collect(),
            Self::Entities => each(&|at, c| match c {
                '/' if at % 2 == 0 => "&sol;".to_owned(),
                '/' | '&' | '_' | ':' | '%' | '\\' => format!("&#{};", u32::from(c)),
                c => c.to_string(),
            }),
            Self::Quoted => Value::from(text).to_string(),
        }
    }

    /// Undoes [`Wrapping::wrap`], by other means than what is tested.
    fn unwrap(self, text: &str) -> String {
        match self {
            Self::Slashes => text.replace("\\/", "/").replace("\\\\", "\\"),
            Self::Unicode | Self::SomeUnicode => {
                let mut pieces = text.split("\\u");
                let first = pieces.next().unwrap_or_default().to_owned();
                pieces.fold(first, |text, piece| {
                    let value = piece.get(..4).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                    match value.and_then(char::from_u32) {
                        Some(c) => format!("{text}{c}{}", &piece[4..]),
                        None => format!("{text}\\u{piece}"),
                    }
                })
            }
            Self::Percent | Self::AllPercent => {
                percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
            }
            Self::Entities => {
                let all = (0..128_u8).map(|byte| (format!("&#{byte};"), char::from(byte).to_string()));
                let all = all
                    .filter(|(_, c)| c != "&")
                    .fold(text.replace("&sol;", "/"), |text, (from, to)| text.replace(&from, &to));
                all.replace("&#38;", "&")
            }
            Self::Quoted => text.replace("\\\"", "\"").replace("\\\\", "\\").trim_matches('"').to_owned(),
        }
    }
}

proptest! {
    #[test]
    fn a_redacted_body_is_json_without_secrets(before in "\\PC{0,10}", path in "[a-z/]{0,10}") {
        let url = format!("https://h/{path}?sig=SECRET");
        let reply = format!("{before} https://h/reply/minimax/SECRET{path}");
        let body = serde_json::json!({ before.clone(): [url, { "a": reply }], "b": before }).to_string();
        let shown = shown(&body);
        prop_assert!(serde_json::from_str::<Value>(&shown).is_ok());
        prop_assert!(!shown.contains("SECRET") , "{}", shown);
    }

    #[test]
    fn a_signed_url_of_ours_survives_no_wrapping(
        mac in any::<[u8; 32]>(),
        of_channel: bool,
        base in "https?://[a-z]{1,8}(:[0-9]{2,4})?(/[a-z]{1,5}){0,2}",
        around in ("[ a-z\"<(=]{0,8}", "[ a-z\"<.)]{0,8}"),
        wrappings in proptest::collection::vec(proptest::sample::select(&Wrapping::ALL[..]), 0..4),
    ) {
        let signature = BASE64_URL_SAFE_NO_PAD.encode(mac);
        let target = if of_channel { "minimax" } else { REF };
        let url = format!("{base}/reply/{target}/{signature}");
        let text = wrappings.iter().fold(url, |text, wrapping| wrapping.wrap(&text));
        let text = format!("{} {text} {}", around.0, around.1);
        let unwrapped = |text: &str| {
            let mut layers = vec![text.to_owned()];
            for wrapping in wrappings.iter().rev() {
                layers.push(wrapping.unwrap(layers.last().map_or("", String::as_str)));
            }
            layers
        };
        prop_assert!(unwrapped(&text).iter().any(|layer| layer.contains(&signature)), "{}", text);
        let body = serde_json::json!({"a": text, "b": [[{"c": text}]]}).to_string();
        for shown in [redacted_text(&text), shown(&body)] {
            for layer in unwrapped(&shown) {
                prop_assert!(!layer.contains(&signature), "{}\n{}", text, shown);
                prop_assert!(!layer.contains(&signature[..20]), "{}\n{}", text, shown);
            }
        }
    }

    #[test]
    fn any_text_is_shown_and_shown_twice_it_stays(text in "[\\PC\0]{0,40}") {
        let once = redacted_text(&text);
        prop_assert!(once.len() <= 4 * text.len() + 4);
        serde_json::from_str::<Value>(&shown(&Value::from(text).to_string())).unwrap();
    }
}
