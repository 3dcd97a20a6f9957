//! Reply URLs: what stands in a path after `/reply/`, as the HTTP server takes it apart, and which of it is believed.

use actix_web::dev::{Path, ResourceDef};
use replyvault::domain::Target;
use replyvault::intake::{ReplyKeys, ReplyUrls, parse_quarantine_id, quarantine_id};
use secrecy::SecretString;
use url::Url;

/// A URL of ours, changed at places that the input says, and texts that are nothing of ours.
pub(crate) fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    // Whoever makes the input does not know the keys; a fuzzer that watches comparisons would learn fixed ones' work.
    let secrets = ["first", "second"].map(|name| SecretString::from(format!("{name} {text}")));
    let urls = ReplyUrls::new(Url::parse("https://vault.example.com/in").unwrap(), ReplyKeys::new(&secrets).unwrap());
    nothing_of_ours(&urls, &text);
    let targets = [Target::Channel, Target::parse("ref_01jd0000000000000000000000").unwrap()];
    for (target, other) in [(&targets[0], &targets[1]), (&targets[1], &targets[0])] {
        let issued = urls.reply_url(target);
        let path = Url::parse(&issued).unwrap().path().strip_prefix("/in").unwrap().to_owned();
        assert!(issued.len() < 1024);
        assert_eq!(believed(&urls, &path), Some(target.clone()));
        // The same in another place of the URL.
        assert_eq!(believed(&urls, &path.replace(target.as_str(), other.as_str())), None);
        let changed = changed(&path, input);
        if changed != path {
            assert_eq!(believed(&urls, &changed), None, "{changed}");
        }
    }
}

fn nothing_of_ours(urls: &ReplyUrls, text: &str) {
    let (target, signature) = text.split_once('/').unwrap_or((text, ""));
    assert_eq!(urls.verify(target, signature), None);
    assert_eq!(believed(urls, text), None);
    if let Ok(target) = Target::parse(text) {
        assert_eq!(target.as_str(), text);
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && text.len() <= 30);
    }
    if let Some(position) = parse_quarantine_id(text) {
        assert!(quarantine_id(position).eq_ignore_ascii_case(text));
    }
}

/// Whose URL this is, by the route that the service has.
fn believed(urls: &ReplyUrls, path: &str) -> Option<Target> {
    thread_local! {
        // Once, as in the service: each one leaks the names in it.
        static ROUTE: ResourceDef = ResourceDef::new("/reply/{target}/{signature}");
    }
    let mut path = Path::new(path);
    ROUTE
        .with(|route| route.capture_match_info(&mut path))
        .then(|| urls.verify(path.get("target")?, path.get("signature")?))?
}

/// `path` with what three bytes each of the input say: where, how, with what.
fn changed(path: &str, input: &[u8]) -> String {
    let mut bytes = path.as_bytes().to_vec();
    for change in input.chunks_exact(3).take(4) {
        let at = usize::from(change[0]) % (bytes.len() + 1);
        match change[1] % 4 {
            0 => bytes.insert(at, change[2]),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 if at < bytes.len() => bytes[at] = change[2],
            _ => bytes.truncate(at),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
