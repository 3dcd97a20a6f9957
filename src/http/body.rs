use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};

/// Why a body was not read to its end.
#[derive(Debug)]
pub enum BodyError<E> {
    /// It has more bytes than the limit; these came before the piece that exceeds it.
    TooLarge(Bytes),
    /// It broke off.
    Broken(E),
}

/// Reads a body of at most `limit` bytes.
///
/// # Errors
/// When it is larger, or a piece of it is an error. Nothing is read beyond either.
pub async fn read_body<B: AsRef<[u8]>, E>(
    pieces: impl Stream<Item = Result<B, E>>,
    limit: usize,
) -> Result<Bytes, BodyError<E>> {
    let mut pieces = pin!(pieces);
    let mut body = BytesMut::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(BodyError::Broken)?;
        let piece = piece.as_ref();
        if piece.len() > limit - body.len() {
            return Err(BodyError::TooLarge(body.freeze()));
        }
        body.extend_from_slice(piece);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests {
    use futures_util::stream::iter;

    use super::*;

    #[tokio::test]
    async fn a_body_is_read_up_to_the_limit_and_no_further() {
        let pieces = || iter([Ok::<_, ()>("abc"), Ok("de")]);
        assert_eq!(read_body(pieces(), 5).await.unwrap(), "abcde");
        assert!(matches!(read_body(pieces(), 4).await, Err(BodyError::TooLarge(read)) if read == "abc"));
        assert!(matches!(read_body(iter([Ok("abc"), Err(7)]), 3).await, Err(BodyError::Broken(7))));
    }
}
