use proptest::prelude::*;

use super::*;
use crate::domain::FileName;

fn job(id: &str) -> JobId {
    id.parse().unwrap()
}

fn folder(template: &str, reply_ref: Option<&str>, disambiguate: bool) -> String {
    let template: KeyTemplate = template.parse().unwrap();
    let made_on = Timestamp::parse_rfc3339("2026-01-02T23:59:59Z").unwrap();
    let reply_ref = reply_ref.map(|text| ReplyRef::new(text).unwrap());
    template
        .folder((&job("user:1-minimax:2-video:3"), Kind::Video), made_on, reply_ref.as_ref(), disambiguate)
        .to_string()
}

#[test]
fn the_default_is_what_its_text_says() {
    assert_eq!(KeyTemplate::DEFAULT.parse(), Ok(KeyTemplate::default()));
    assert_eq!(folder(KeyTemplate::DEFAULT, None, false), "video/2026/01/02/video-3");
}

#[test]
fn a_second_job_of_the_same_name_gets_its_own_folder() {
    let expected = format!("video/2026/01/02/video-3-{}", &Digest::of(b"user:1-minimax:2-video:3").to_string()[..8]);
    assert_eq!(folder(KeyTemplate::DEFAULT, None, true), expected);
}

#[test]
fn refs_are_written_plainly_or_with_a_hash() {
    let template = "{ref}/{account}/{job}/{file}";
    assert_eq!(folder(template, Some("boat-0017"), false), "boat-0017/2/video-3");
    assert_eq!(folder(template, None, false), "no-ref/2/video-3");
    let of = |text: &str| folder(template, Some(text), false).split('/').next().unwrap().to_owned();
    assert_eq!(of("a/b"), format!("a_b-{}", &Digest::of(b"a/b").to_string()[..8]));
    assert_eq!(of(".."), format!("ref-{}", &Digest::of(b"..").to_string()[..8]));
    assert_eq!(of("_journal"), format!("journal-{}", &Digest::of(b"_journal").to_string()[..8]));
    assert_ne!(of(&"a".repeat(900)), of(&"a".repeat(901)));
    assert_ne!(of("a/b"), of("a\\b"));
    let signed = |letter: &str| format!("https://v.io/reply/useapi/{}", letter.repeat(43));
    let hash = short_hash(&signed("c"));
    assert_eq!(of(&signed("c")), format!("https___v.io_reply_useapi__{hash}"));
    assert_ne!(of(&signed("c")), of(&signed("d")));
}

#[test]
fn invalid_templates_are_refused_with_the_reason() {
    use KeyTemplateError as E;
    let long = format!("{}/{{job}}/{{file}}", "abcdefg/".repeat(60));
    let wide = format!("{}{{ref}}/{{job}}/{{file}}", "a".repeat(150));
    for (bad, expected) in [
        ("", E::File),
        ("{job}", E::File),
        ("{job}/{file}.bin", E::File),
        ("{job}/x{file}", E::File),
        ("{file}/{job}/{file}", E::File),
        ("{file}", E::Job),
        ("{kind}/{file}", E::Job),
        ("/{job}/{file}", E::Path),
        ("{job}//{file}", E::Path),
        ("../{job}/{file}", E::Path),
        ("{job}/./{file}", E::Path),
        ("a b/{job}/{file}", E::Path),
        ("ä/{job}/{file}", E::Path),
        ("a\n/{job}/{file}", E::Path),
        ("a#1/{job}/{file}", E::Path),
        ("_journal/{job}/{file}", E::Journal),
        ("_replyvault/{job}/{file}", E::Journal),
        ("_Journal/{job}/{file}", E::Journal),
        ("_jour{ref}/{job}/{file}", E::Journal),
        ("{year}/{job}/{file}", E::Placeholder("year".into())),
        ("{job/{file}", E::Placeholder("job".into())),
        ("a}/{job}/{file}", E::Placeholder("/{job}".into())),
        ("{job}{job}{job}{job}/{file}", E::TooLong),
        (&long, E::TooLong),
        (&wide, E::TooLong),
    ] {
        assert_eq!(bad.parse::<KeyTemplate>(), Err(expected), "{bad:?}");
    }
    for good in
        ["{job}/{file}", "media/job={job}/{file}", "_media/{ref}/{job}/{file}", "{ref}-{account}/{job}/x/{file}"]
    {
        assert_eq!(good.parse::<KeyTemplate>().unwrap().to_string(), good);
    }
}

fn any_job() -> impl Strategy<Value = JobId> {
    ("user:[0-9]{1,40}-minimax:[0-9]{1,40}-(video|image|music|audio):[0-9]{1,40}|p[0-9]{1,40}-u1-a[0-9]{1,40}-bot:minimax")
        .prop_map(|id| job(&id))
}

proptest! {
    #[test]
    fn every_key_of_every_template_is_valid(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "{kind}", "{yyyy}", "{mm}", "{dd}", "{job}", "{account}", "{ref}", "/", "/", ".", "_", "_journal", "a", "-",
        ]), 1..12),
        job in any_job(),
        millis: u64,
        reply_ref in prop::option::of(prop_oneof![any::<String>(), "[._/a-z]{1,40}", "_journal", "nal", "\\.{1,3}", ".{1000,1024}"]),
        disambiguate: bool,
        name: String,
    ) {
        let Ok(template) = format!("{}/{{file}}", pieces.concat()).parse::<KeyTemplate>() else { return Ok(()) };
        let reply_ref = reply_ref.and_then(|text| ReplyRef::new(&text).ok());
        let folder = template.folder((&job, job.kind()), Timestamp::from_millis_clamped(millis), reply_ref.as_ref(), disambiguate);
        prop_assert_eq!(folder.as_str().parse::<ObjectFolder>(), Ok(folder.clone()));
        let key = folder.file(&FileName::clean(&name));
        prop_assert_eq!(key.as_str().parse::<ObjectKey>(), Ok(key.clone()));
        prop_assert!(key.as_str().len() <= ObjectKey::MAX_BYTES && key != folder.manifest());
        prop_assert!(folder.manifest().as_str().parse::<ObjectKey>().is_ok());
    }

    #[test]
    fn different_refs_have_different_folders(one in ".{1,1024}", other in ".{1,1024}") {
        prop_assume!(one != other);
        let plain = |text: &str| plain(&ReplyRef::new(text).unwrap());
        let (one, other) = (plain(&one), plain(&other));
        prop_assert!(one.len() <= MAX_REF && other.len() <= MAX_REF);
        prop_assert_ne!(one, other);
    }
}
