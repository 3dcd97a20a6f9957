//! Bodies that are multipart forms, rewritten as they come: files among the fields may be of any size.
//!
//! [`MultipartRewriter`] is given the body piece by piece and gives it back, but for the fields that hold the callback, until
//! the end of the form. There it stops, so that the caller can add the fields that are to be there instead.

use actix_web::http::header::{ContentDisposition, HeaderValue};
use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use super::{Callback, CallbackParams, Given};

/// The longest head of a part, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// The longest value of a field that is read, in bytes: several times what the provider takes.
const MAX_VALUE: usize = 16 << 10;

/// A form on its way through.
#[derive(Debug)]
pub(in crate::gateway) struct MultipartRewriter {
    /// A line break, two dashes and the boundary.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    /// What may be passed on.
    out: BytesMut,
    /// How many bytes of that do not belong to the body.
    skip: usize,
    state: State,
    callback_params: CallbackParams,
    /// The fields that were taken out, whole, in case they have to go back.
    taken: Vec<(Field, Bytes)>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Before the first delimiter.
    Preamble,
    /// Behind a delimiter: the rest of its line, and the part's head. What has been read of the part is in `buffer`.
    Head { delimiter: Bytes },
    /// In a part that is passed on.
    Passing,
    /// In a field that is read; `head` is the part up to its value.
    Parsed { head: Bytes, field: Field },
    /// Before the closing delimiter, which is in `buffer`.
    Closing,
    /// All that comes is passed on: the form is at its end, or is none.
    Plain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    ReplyUrl,
    ReplyRef,
    /// Which is only read.
    Account,
}

impl MultipartRewriter {
    /// A form whose parts are separated by `boundary`.
    pub(in crate::gateway) fn new(boundary: &str) -> Self {
        Self {
            delimiter: format!("\r\n--{boundary}").into_bytes(),
            // The first delimiter may be the first line; then no line break stands before it.
            buffer: BytesMut::from(&b"\r\n"[..]),
            out: BytesMut::new(),
            skip: 2,
            state: State::Preamble,
            callback_params: CallbackParams::default(),
            taken: Vec::new(),
        }
    }

    /// Takes a piece of the body; gives what can be passed on of it.
    pub(in crate::gateway) fn feed(&mut self, chunk: &[u8]) -> Bytes {
        if self.state == State::Plain {
            return Bytes::copy_from_slice(chunk);
        }
        self.buffer.extend_from_slice(chunk);
        while self.step() {}
        self.passed_on()
    }

    /// True once all parts have been seen: what is next is [`MultipartRewriter::close`].
    pub(in crate::gateway) fn is_closing(&self) -> bool {
        self.state == State::Closing
    }

    /// What the caller asks for, when all parts have been seen.
    pub(in crate::gateway) fn callback_params(&self) -> CallbackParams {
        self.callback_params.clone()
    }

    /// The end of the form: with `callback`, or, without one, with what was taken out.
    pub(in crate::gateway) fn close(&mut self, callback: Option<&Callback>) -> Bytes {
        for (field, part) in std::mem::take(&mut self.taken) {
            let is_replaced = match field {
                Field::ReplyUrl => callback.is_some(),
                Field::ReplyRef => callback.is_some_and(|callback| callback.made_ref.is_some()),
                Field::Account => false,
            };
            if !is_replaced {
                self.out.extend_from_slice(&part);
            }
        }
        let set = callback.map(|callback| {
            [("replyUrl", Some(callback.reply_url.as_str())), ("replyRef", callback.made_ref.as_deref())]
        });
        for (name, value) in set.into_iter().flatten() {
            if let Some(value) = value {
                self.out.extend_from_slice(&self.delimiter);
                let part = format!("\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}");
                self.out.extend_from_slice(part.as_bytes());
            }
        }
        self.finish()
    }

    /// What is left when the body ends without the end of a form.
    pub(in crate::gateway) fn finish(&mut self) -> Bytes {
        match std::mem::replace(&mut self.state, State::Plain) {
            State::Head { delimiter: start } | State::Parsed { head: start, .. } => self.out.extend_from_slice(&start),
            _ => {}
        }
        let rest = self.buffer.split();
        self.out.extend_from_slice(&rest);
        self.passed_on()
    }

    fn passed_on(&mut self) -> Bytes {
        let skipped = self.skip.min(self.out.len());
        self.out.advance(skipped);
        self.skip -= skipped;
        self.out.split().freeze()
    }

    /// One step on; false when it needs more of the body.
    fn step(&mut self) -> bool {
        match std::mem::replace(&mut self.state, State::Plain) {
            State::Preamble => self.pass_until_delimiter(State::Preamble),
            State::Passing => self.pass_until_delimiter(State::Passing),
            State::Head { delimiter } => self.head(delimiter),
            State::Parsed { head, field } => self.value(head, field),
            state @ (State::Closing | State::Plain) => {
                self.state = state;
                false
            }
        }
    }

    fn pass_until_delimiter(&mut self, here: State) -> bool {
        match memmem::find(&self.buffer, &self.delimiter) {
            Some(at) => {
                let before = self.buffer.split_to(at);
                self.out.extend_from_slice(&before);
                let delimiter = self.buffer.split_to(self.delimiter.len()).freeze();
                self.state = State::Head { delimiter };
                true
            }
            None => {
                // The end may be the beginning of a delimiter.
                let sure = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
                let before = self.buffer.split_to(sure);
                self.out.extend_from_slice(&before);
                self.state = here;
                false
            }
        }
    }

    fn head(&mut self, delimiter: Bytes) -> bool {
        if self.buffer.len() >= 2 && self.buffer.starts_with(b"--") {
            let mut closing = BytesMut::from(&delimiter[..]);
            closing.extend_from_slice(&self.buffer);
            self.buffer = closing;
            self.state = State::Closing;
            return false;
        }
        let Some(at) = memmem::find(&self.buffer, b"\r\n\r\n") else {
            if self.buffer.len() > MAX_HEAD {
                self.give_up(&delimiter);
            } else {
                self.state = State::Head { delimiter };
            }
            return false;
        };
        let mut head = BytesMut::from(&delimiter[..]);
        head.extend_from_slice(&self.buffer.split_to(at + 4));
        match field(&head) {
            Some(field) => self.state = State::Parsed { head: head.freeze(), field },
            None => {
                self.out.extend_from_slice(&head);
                self.state = State::Passing;
            }
        }
        true
    }

    fn value(&mut self, head: Bytes, field: Field) -> bool {
        // A value may be empty: its delimiter then begins with the line break that ends the head.
        match memmem::find(&self.buffer, &self.delimiter) {
            Some(at) if at <= MAX_VALUE => {
                let value = self.buffer.split_to(at);
                self.take(head, field, &value);
                let delimiter = self.buffer.split_to(self.delimiter.len()).freeze();
                self.state = State::Head { delimiter };
                true
            }
            None if self.buffer.len() <= MAX_VALUE + self.delimiter.len() => {
                self.state = State::Parsed { head, field };
                false
            }
            _ => {
                // The provider takes no such value, and will say so.
                self.note(field, Given::Odd);
                self.out.extend_from_slice(&head);
                self.state = State::Passing;
                true
            }
        }
    }

    fn take(&mut self, head: Bytes, field: Field, value: &[u8]) {
        self.note(field, std::str::from_utf8(value).map_or(Given::Odd, Given::text));
        if field == Field::Account {
            self.out.extend_from_slice(&head);
            self.out.extend_from_slice(value);
            return;
        }
        // Of a field that comes again and again, the last counts.
        if let Some(before) = self.taken.iter().position(|(known, _)| *known == field) {
            self.taken.remove(before);
        }
        let mut part = BytesMut::from(&head[..]);
        part.extend_from_slice(value);
        self.taken.push((field, part.freeze()));
    }

    fn note(&mut self, field: Field, given: Given) {
        match (field, given) {
            (Field::ReplyUrl, given) => self.callback_params.reply_url = given,
            (Field::ReplyRef, given) => self.callback_params.reply_ref = given,
            (Field::Account, Given::Text(account)) => self.callback_params.account = Some(account),
            (Field::Account, _) => {}
        }
    }

    fn give_up(&mut self, delimiter: &[u8]) {
        self.out.extend_from_slice(delimiter);
        let rest = self.buffer.split();
        self.out.extend_from_slice(&rest);
        self.state = State::Plain;
    }
}

/// Which of the callback's fields a part with this head is.
fn field(head: &[u8]) -> Option<Field> {
    let lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut value = lines.filter_map(|line| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        line[..colon].eq_ignore_ascii_case(b"content-disposition").then(|| line[colon + 1..].trim_ascii())
    });
    let value = HeaderValue::from_bytes(value.next()?).ok()?;
    let disposition = ContentDisposition::from_raw(&value).ok()?;
    // A file by that name is not the field.
    if disposition.get_filename().is_some() {
        return None;
    }
    match disposition.get_name()? {
        "replyUrl" => Some(Field::ReplyUrl),
        "replyRef" => Some(Field::ReplyRef),
        "account" => Some(Field::Account),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORM: &str = "--xyz\r\nContent-Disposition: form-data; name=\"replyUrl\"\r\n\r\nhttps://h/x\r\n--xyz\r\n\
        Content-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\
        \u{1}\r\n--xy\r\n\r\n--xyz \r\ncontent-disposition:form-data;name=replyRef\r\n\r\nmine\r\n--xyz--\r\nend";

    fn callback(made: Option<&str>) -> Callback {
        Callback { reply_url: "https://v/r".to_owned(), made_ref: made.map(str::to_owned) }
    }

    /// The body after a way through in pieces of the given size.
    fn through(body: &[u8], size: usize, callback: Option<&Callback>) -> (Vec<u8>, CallbackParams) {
        let mut parts = MultipartRewriter::new("xyz");
        let mut out = Vec::new();
        let mut chunks = body.chunks(size.max(1));
        for chunk in chunks.by_ref() {
            out.extend_from_slice(&parts.feed(chunk));
            if parts.is_closing() {
                break;
            }
        }
        let callback_params = parts.callback_params();
        out.extend_from_slice(&if parts.is_closing() { parts.close(callback) } else { parts.finish() });
        chunks.for_each(|chunk| out.extend_from_slice(&parts.feed(chunk)));
        (out, callback_params)
    }

    #[test]
    fn fields_are_replaced_and_files_stay() {
        for size in 1..FORM.len() {
            let (out, callback_params) = through(FORM.as_bytes(), size, Some(&callback(None)));
            let expected = "--xyz\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.png\"\r\n\
                Content-Type: image/png\r\n\r\n\u{1}\r\n--xy\r\n\r\n--xyz \r\ncontent-disposition:form-data;name=replyRef\r\n\
                \r\nmine\r\n--xyz\r\nContent-Disposition: form-data; name=\"replyUrl\"\r\n\r\nhttps://v/r\r\n--xyz--\r\nend";
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{size}");
            assert_eq!(
                (callback_params.reply_url, callback_params.reply_ref),
                (Given::text("https://h/x"), Given::text("mine"))
            );
        }
        let (out, _) = through(b"--xyz--", 3, Some(&callback(Some("m"))));
        let expected = "--xyz\r\nContent-Disposition: form-data; name=\"replyUrl\"\r\n\r\nhttps://v/r\r\n--xyz\r\n\
            Content-Disposition: form-data; name=\"replyRef\"\r\n\r\nm\r\n--xyz--";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_value_that_no_provider_takes_passes() {
        let long = "u".repeat(MAX_VALUE + 1);
        let body = format!("--xyz\r\nContent-Disposition: form-data; name=\"replyUrl\"\r\n\r\n{long}\r\n--xyz--");
        let (out, callback_params) = through(body.as_bytes(), 1000, None);
        assert!(out == body.as_bytes() && callback_params.reply_url == Given::Odd);
    }

    #[test]
    fn the_account_is_read_and_stays_in_its_place() {
        let body = "--xyz\r\nContent-Disposition: form-data; name=\"account\"\r\n\r\n730015522\r\n--xyz\r\n\
            Content-Disposition: form-data; name=\"prompt\"\r\n\r\nx\r\n--xyz--\r\n";
        for size in 1..body.len() {
            let (out, callback_params) = through(body.as_bytes(), size, None);
            assert_eq!(
                (String::from_utf8(out).unwrap().as_str(), callback_params.account.as_deref()),
                (body, Some("730015522"))
            );
        }
    }

    proptest! {
        #[test]
        fn without_a_callback_the_same_fields_come_out(size in 1usize..300) {
            let (out, _) = through(FORM.as_bytes(), size, None);
            prop_assert_eq!(out.len(), FORM.len());
            let (again, _) = through(&out, size, None);
            prop_assert_eq!(again.len(), FORM.len());
        }

        #[test]
        fn bodies_without_a_callback_field_pass_unchanged(
            body in prop_oneof![
                "[a-z\r\n-]{0,80}(--xyz)?[a-z\r\n-]{0,80}",
                "--xyz\r\nA: b\r\n\r\n[x\r\n-]{0,40}\r\n--xyz--[\r\n-]{0,4}",
            ],
            size in 1usize..40,
        ) {
            let (out, _) = through(body.as_bytes(), size, None);
            prop_assert_eq!(String::from_utf8(out).unwrap(), body);
        }
    }
}
