use super::Faults;

macro_rules! faults {
    ($($variant:ident $name:literal $about:literal),+ $(,)?) => {
        /// A fault with a probability.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault { $($variant),+ }

        impl Fault {
            pub(super) const ALL: [Self; [$($name),+].len()] = [$(Self::$variant),+];

            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl Faults {
            /// The names and values that are accepted.
            pub const HELP: &str = concat!($($name, ", "),+, "each with a probability from 0 to 1; \
                cdn-slow with bytes per second as in 64KiB/s; expire, slow and stream-gap with a duration as in 10s; \
                max-jobs and credits with a number; list-order with newest, oldest or shuffled");

            /// The same, a line for each that says what it does.
            pub const TABLE: &str = concat!(
                "Each with a probability from 0 to 1:\n", $("  ", $name, ": ", $about, "\n"),+,
                "With a value of its own:\n\
                \x20 cdn-slow: bytes per second of one file of the CDN, as in 64KiB/s\n\
                \x20 expire: how long a link to the CDN is good for, as in 10s; without it links are good for ever\n\
                \x20 slow: how long every call of the API waits before it is answered, as in 200ms\n\
                \x20 stream-gap: a silence in the middle of an event stream, as in 30s, and no heartbeats\n\
                \x20 max-jobs: how many videos an account may have running; the next is refused with 429\n\
                \x20 credits: how many jobs there may be; the next is refused with 412\n\
                \x20 list-order: newest, oldest or shuffled",
            );
        }
    };
}

faults! {
    Disorder "disorder" "a callback of progress comes after the final one",
    Repeat "repeat" "a callback comes twice",
    Drop "drop" "a callback never comes",
    Stale "stale" "links have expired when they are first told, where they expire; a GET has fresh ones",
    Fail "fail" "a job fails",
    Moderate "moderate" "a job is refused by moderation",
    Remove "remove" "a job is taken down when it is done: no final callback, and 404",
    NoClean "no-clean" "a job offers nothing without a watermark",
    WatermarkOnly "watermark-only" "a job offers only files that are said to have a watermark",
    Processing "processing" "an agent job is done before its first attachment is, a song before it can be downloaded where its API has a call for it",
    Inline "inline" "a job's pictures stand in its body, in base64, where its API does that",
    Create400 "400" "a call that makes jobs is refused: bad request",
    Create401 "401" "the same: bad token",
    Create404 "404" "the same: not found",
    Create412 "412" "the same: not enough credits",
    Create422 "422" "the same: moderated prompt",
    Busy "429" "the same: busy; for a video with what runs",
    Create500 "500" "the same: error; an agent job is made and fails, and its 500 has the whole job",
    Create504 "504" "the same: timeout; an agent job is made and fails, and its 504 has the whole job",
    OnHold "596" "the same: account on hold",
    Get401 "get-401" "GET of one job is refused: bad token",
    Get402 "get-402" "the same: the subscription has ended",
    Get404 "get-404" "the same: not found",
    Get429 "get-429" "the same: busy",
    Get500 "get-500" "the same: error",
    Get596 "get-596" "the same: account on hold",
    GetReset "get-reset" "GET of one job is cut off after the head",
    GetRunning "get-running" "GET of one job says that it still runs",
    GetFailed "get-failed" "GET of one job says that it failed",
    GetHost "get-host" "GET of one job has links to a host that is not the CDN",
    List401 "list-401" "a list is refused: bad token",
    List429 "list-429" "the same: busy",
    List500 "list-500" "the same: error",
    List596 "list-596" "the same: account on hold",
    Cut "cut" "an answer of the API is cut off midway",
    Odd "odd" "JSON and events are written with other spacing, order, escapes and longer numbers",
    Cdn404 "cdn-404" "a file of the CDN is not found",
    Cdn500 "cdn-500" "the CDN has an error",
    CdnReset "cdn-reset" "a file of the CDN is cut off midway",
    CdnShort "cdn-short" "the same, but ends in order",
    CdnStall "cdn-stall" "a file of the CDN stops midway and stays open",
    CdnHtml "cdn-html" "an HTML page with 200 instead of the file",
}
