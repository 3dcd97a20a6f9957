use std::time::Duration;

use humantime::DurationError;

/// Reads a length of time such as `90s` or `1h 30m`.
///
/// # Errors
/// When it is none, or one that no [`Duration`] can be.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    // humantime 2.4.0 panics where parts add up to a little more than the longest, so they are added up here.
    let (mut sum, mut rest) = (Duration::ZERO, text);
    loop {
        let unit = rest.find(char::is_alphabetic).unwrap_or(rest.len());
        let end = rest[unit..].find(|char: char| char.is_ascii_digit()).map_or(rest.len(), |length| unit + length);
        let (part, behind) = rest.split_at(end);
        sum = sum.checked_add(humantime::parse_duration(part)?).ok_or(DurationError::NumberOverflow)?;
        if behind.is_empty() {
            return Ok(sum);
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_duration_are_added_up() {
        for (text, millis) in [
            ("0s", 0),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            (" 1 h  30 min 250ms ", 5_400_250),
            ("1.5h 1s", 5_401_000),
            ("5µs 995us", 1),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        let longest = parse_duration("18446744073709551615s 999999999ns");
        assert_eq!(longest, Ok(Duration::MAX));
    }

    #[test]
    fn other_texts_and_longer_ones_are_errors() {
        for text in ["", " ", "soon", "5", "1h 5", "1h m", "-1s", "1h -1s", "1h.5m", "1h, 5m"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
        for text in ["18446744073709551615s1000ms", "1s 18446744073709551614s 1000ms", "584542046090y 19767615s 1000ms"]
        {
            assert_eq!(parse_duration(text), Err(DurationError::NumberOverflow), "{text}");
        }
    }
}
