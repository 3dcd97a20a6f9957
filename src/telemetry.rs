//! Logs: to stderr, as lines for people or as JSON.
//!
//! Much of what is logged was written by strangers (names, URLs, error texts of other servers), so no value may end a
//! line or speak to a terminal: control characters come out as escapes.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{FormatFields, Writer, debug_fn};
use tracing_subscriber::util::SubscriberInitExt;

/// Names what is logged, such as `info` or `replyvault=debug,warn`.
pub const FILTER_VARIABLE: &str = "REPLYVAULT_LOG";

/// What a log line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// One JSON object per line.
    Json,
}

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter makes no sense.
    #[error("{FILTER_VARIABLE}: expected a filter such as \"info\" or \"replyvault=debug,warn\"")]
    Filter,
    /// There is one already.
    #[error("the log is set up already")]
    Twice,
}

/// Starts the log of this process. `default` is the filter when [`FILTER_VARIABLE`] has none.
///
/// # Errors
/// When the filter makes no sense, or the log runs already.
pub fn init(format: Format, default: &str) -> Result<(), Error> {
    let filter = match std::env::var_os(FILTER_VARIABLE).filter(|text| !text.is_empty()) {
        Some(text) => text.into_string().map_err(|_| Error::Filter)?,
        None => default.to_owned(),
    };
    let filter = EnvFilter::builder().parse(filter).map_err(|_| Error::Filter)?;
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ansi = io::stderr().is_terminal() && !no_color;
    subscriber(format, filter, ansi, io::stderr).try_init().map_err(|_| Error::Twice)
}

fn subscriber<W>(format: Format, filter: EnvFilter, ansi: bool, writer: W) -> Box<dyn Subscriber + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi);
    match format {
        Format::Human => Box::new(builder.fmt_fields(fields()).with_writer(writer).finish()),
        // Its own escapes leave out what JSON allows and terminals obey.
        Format::Json => {
            Box::new(builder.json().with_current_span(false).with_ansi(false).with_writer(Escaping(writer)).finish())
        }
    }
}

/// `message name=value name=value`, escaped.
fn fields() -> impl for<'writer> FormatFields<'writer> + Send + Sync + 'static {
    use tracing_subscriber::field::MakeExt;
    debug_fn(|writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
        let text = escaped(&format!("{value:?}"));
        match field.name() {
            "message" => writer.write_str(&text),
            // What the bridge from the `log` crate adds; the event's head has it.
            name if name.starts_with("log.") => Ok(()),
            name => write!(writer, "{name}={text}"),
        }
    })
    .delimited(" ")
}

/// `text` with everything escaped that could end a line, steer a terminal or turn the direction of writing.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        if is_unsafe(char) {
            safe.extend(char.escape_default());
        } else {
            safe.push(char);
        }
    }
    safe
}

fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes in JSON's way what is left in a line of JSON.
struct Escaping<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Escaping<W> {
    type Writer = EscapingWriter<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        EscapingWriter(self.0.make_writer())
    }
}

struct EscapingWriter<W>(W);

impl<W: io::Write> io::Write for EscapingWriter<W> {
    /// Takes whole lines, which is how the formatter writes.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut safe = String::with_capacity(line.len());
        for char in String::from_utf8_lossy(line).chars() {
            if char != '\n' && is_unsafe(char) {
                // None of them is above U+FFFF.
                let _ = write!(safe, "\\u{:04x}", u32::from(char));
            } else {
                safe.push(char);
            }
        }
        self.0.write_all(safe.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, ansi: bool) -> String {
        const EVIL: &str = "a\nERROR forged\r\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2028}é";
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(format, EnvFilter::new("info"), ansi, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("span", name = %EVIL);
            let _entered = span.enter();
            let error = io::Error::other(EVIL);
            tracing::info!(display = %EVIL, debug = ?EVIL, plain = EVIL, error = &error as &dyn std::error::Error, "it is {EVIL}");
            tracing::debug!("not wanted");
        });
        String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn no_value_ends_a_line_or_speaks_to_a_terminal() {
        for format in [Format::Human, Format::Json] {
            let text = logged(format, false);
            let line = text.strip_suffix('\n').unwrap();
            assert!(!line.chars().any(is_unsafe), "{text:?}");
            // Seen whole in each of: span, three fields, an error, the message.
            assert_eq!(line.matches("ERROR forged").count(), 6, "{text}");
            assert!(line.contains('é'));
        }
    }

    #[test]
    fn colours_are_ours_alone() {
        let text = logged(Format::Human, true);
        assert!(text.contains("\u{1b}[32m"), "{text:?}");
        assert!(!text.contains("\u{1b}[2J") && text.lines().count() == 1, "{text:?}");
    }

    #[test]
    fn json_is_json() {
        let value: serde_json::Value = serde_json::from_str(&logged(Format::Json, true)).unwrap();
        assert_eq!(value["fields"]["message"], "it is a\nERROR forged\r\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2028}é");
    }

    #[test]
    fn escapes_are_readable() {
        assert_eq!(escaped("a\tb\n\u{1b}é"), "a\\tb\\n\\u{1b}é");
    }
}
